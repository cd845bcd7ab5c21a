use proptest::prelude::*;
use tandem_kernel::event::{Body, Delete, Edit, GroupCreate, Nudge, Reaction, Receipt, TitleSet};

use super::*;

fn event(seq: u64, sender: &str, id: u64, kind: Kind) -> Event {
    Event {
        event_id: format!("id{id}"),
        conversation: "g:x".into(),
        seq,
        sender: sender.into(),
        at_ms: 1000 + seq as i64,
        body: Some(Body { kind: Some(kind) }),
        ..Event::default()
    }
}

fn text(t: &str) -> Kind {
    Kind::Text(Text {
        text: t.into(),
        ..Text::default()
    })
}

/// What a person sees, in full.
fn view(c: &Conversation) -> Vec<String> {
    let mut out: Vec<String> = c
        .messages()
        .map(|m| {
            format!(
                "{} {} {} {:?} {} {} {:?}",
                m.seq,
                m.event.at_ms,
                m.event.sender,
                m.text.map(|t| &t.text),
                m.edited,
                m.deleted,
                m.reactions
            )
        })
        .collect();
    out.push(format!("{} {:?} {:?}", c.title(), c.reach, c.unread("a")));
    out
}

#[test]
fn the_lowest_seq_of_an_id_is_its_place_whichever_comes_first() {
    let mut c = Conversation::default();
    assert_eq!(c.insert(event(7, "a", 1, text("late copy"))), Inserted::New);
    assert_eq!(c.insert(event(5, "b", 2, text("other"))), Inserted::New);
    assert_eq!(
        c.insert(event(3, "a", 1, text("late copy"))),
        Inserted::Known
    );
    assert_eq!(
        c.insert(event(9, "a", 1, text("late copy"))),
        Inserted::Known
    );
    assert_eq!(c.messages().map(|m| m.seq).collect::<Vec<_>>(), [3, 5]);
    assert_eq!((c.place("a", "id1"), c.at(9).unwrap().seq), (Some(3), 3));
}

#[test]
fn an_id_counts_for_its_sender_alone() {
    let mut c = Conversation::default();
    c.insert(event(1, "a", 1, text("mine")));
    assert_eq!(c.insert(event(2, "b", 1, text("yours"))), Inserted::New);
    assert_eq!(c.messages().count(), 2);
}

#[test]
fn only_the_author_edits_and_deletes() {
    let mut c = Conversation::default();
    c.insert(event(1, "a", 1, text("first")));
    let edit = |t: &str| {
        Kind::Edit(Edit {
            target: 1,
            text: Some(Text {
                text: t.into(),
                ..Text::default()
            }),
        })
    };
    c.insert(event(2, "b", 2, edit("forged")));
    c.insert(event(3, "b", 3, Kind::Delete(Delete { target: 1 })));
    assert_eq!(c.at(1).unwrap().text.unwrap().text, "first");
    c.insert(event(5, "a", 5, edit("second")));
    c.insert(event(4, "a", 4, edit("in between")));
    let m = c.at(1).unwrap();
    assert_eq!((m.text.unwrap().text.as_str(), m.edited), ("second", true));
    c.insert(event(6, "a", 6, Kind::Delete(Delete { target: 1 })));
    assert!(c.at(1).unwrap().deleted && c.at(1).unwrap().text.is_none());
}

#[test]
fn what_a_page_folded_and_what_came_live_agree() {
    let mut c = Conversation::default();
    let mut paged = event(1, "a", 1, text("old"));
    paged.folded = Some(Folded {
        edited: Some(Text {
            text: "new".into(),
            ..Text::default()
        }),
        edited_seq: 5,
        deleted_seq: 0,
        reactions: vec![tandem_kernel::event::ReactionBy {
            user: "b".into(),
            emoji: "👍".into(),
            seq: 6,
        }],
    });
    c.insert(paged);
    c.insert(event(
        4,
        "a",
        4,
        Kind::Edit(Edit {
            target: 1,
            text: Some(Text {
                text: "mid".into(),
                ..Text::default()
            }),
        }),
    ));
    assert_eq!(c.at(1).unwrap().text.unwrap().text, "new");
    assert_eq!(c.at(1).unwrap().reactions, BTreeMap::from([("b", "👍")]));
    let removal = Reaction {
        target: 1,
        emoji: String::new(),
    };
    c.insert(event(7, "b", 7, Kind::Reaction(removal)));
    assert!(c.at(1).unwrap().reactions.is_empty());
}

#[test]
fn unread_counts_what_others_wrote_after_the_mark_and_their_nudges_as_history_does() {
    let mut c = Conversation::default();
    c.take_head(
        Head {
            last_seq: 10,
            unread: 3,
            read_seq: 4,
            ..Head::default()
        },
        "a",
    );
    assert_eq!(c.unread("a"), 3);
    c.insert(event(11, "b", 1, text("one more")));
    c.insert(event(12, "b", 2, Kind::Nudge(Nudge {})));
    c.insert(event(9, "b", 9, text("counted by the head already")));
    assert_eq!(c.unread("a"), 5);
    assert!(c.read_up_to("a", 10));
    assert_eq!(c.unread("a"), 2);
    c.insert(event(13, "a", 3, text("an answer")));
    assert_eq!(c.unread("a"), 0);
    c.insert(event(14, "b", 4, text("and again")));
    assert_eq!(c.unread("a"), 1);
    assert!(!c.read_up_to("a", 5));
}

#[test]
fn receipts_show_who_has_it() {
    let mut c = Conversation::default();
    c.insert(event(5, "a", 1, text("hello")));
    let exact = Receipt {
        delivered: 0,
        delivered_exact: vec![5],
        read: 0,
    };
    assert_eq!(
        c.insert(event(6, "b", 2, Kind::Receipt(exact.clone()))),
        Inserted::New
    );
    assert_eq!(
        c.insert(event(7, "b", 3, Kind::Receipt(exact))),
        Inserted::Known
    );
    assert_eq!(c.seen_by("a", 5), (vec!["b"], vec![]));
    let read = Receipt {
        read: 6,
        ..Receipt::default()
    };
    c.insert(event(8, "b", 4, Kind::Receipt(read)));
    assert_eq!(c.seen_by("a", 5), (vec!["b"], vec!["b"]));
    assert_eq!(c.newest().0, 5);
}

/// A plausible log of a conversation, with further copies of some events.
fn log() -> impl Strategy<Value = Vec<Event>> {
    let one = (0usize..3, 0u8..8, 0u64..12, 0u8..3);
    prop::collection::vec(one, 1..14).prop_map(|events| {
        let mut out = Vec::new();
        let mut seq = 0;
        for (i, (who, what, target, copies)) in events.into_iter().enumerate() {
            let sender = ["a", "b", "c"][who];
            let target = target + 1;
            for _ in 0..=copies {
                seq += 1;
                let kind = match what {
                    0..3 => text(&format!("t{i}")),
                    3 => Kind::Edit(Edit {
                        target,
                        text: Some(Text {
                            text: format!("e{i}"),
                            ..Text::default()
                        }),
                    }),
                    4 => Kind::Delete(Delete { target }),
                    5 => Kind::Reaction(Reaction {
                        target,
                        emoji: if i % 2 == 0 {
                            "👍".into()
                        } else {
                            String::new()
                        },
                    }),
                    6 => Kind::Receipt(Receipt {
                        delivered: target,
                        delivered_exact: vec![target + 2],
                        read: target / 2,
                    }),
                    _ if i == 0 => Kind::GroupCreate(GroupCreate {
                        title: "t".into(),
                        members: vec![],
                    }),
                    _ => Kind::TitleSet(TitleSet {
                        title: format!("title {i}"),
                    }),
                };
                out.push(event(seq, sender, i as u64, kind));
            }
        }
        out
    })
}

proptest! {
    #[test]
    fn what_is_seen_depends_on_the_events_alone_not_on_their_order(
        log in log(), order in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let mut straight = Conversation::default();
        for e in &log {
            straight.insert(e.clone());
        }
        // some shuffled with repeats, then whatever was left out
        let mut mixed = Conversation::default();
        for i in order {
            mixed.insert(i.get(&log).clone());
        }
        for e in log.iter().rev() {
            mixed.insert(e.clone());
        }
        prop_assert_eq!(view(&straight), view(&mixed));
        let ids: Vec<_> = straight.messages().map(|m| m.event.event_id.clone()).collect();
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        prop_assert_eq!(ids.len(), unique.len());
    }
}
