use proptest::prelude::*;
use tandem_kernel::event::{Event, Kind, Receipt, Text};
use tandem_proto::client::{
    Accepted, Contact, Contacts, ContactsRequest, Head, Heads, Page, Presence, Rejected, Response,
    ServerFrame, Synced, Welcome, client_frame::Frame as Out, contact, server_frame::Frame,
};

use super::*;

const ME: &str = "alice@x.test";
const C: &str = "o:alice@x.test,bob@x.test";

fn frame(n: u64, frame: Frame) -> ServerFrame {
    ServerFrame {
        n,
        frame: Some(frame),
    }
}

fn welcome(session: &str, resumed: bool) -> ServerFrame {
    let limits = Limits {
        frame_bytes: 65536,
        events_per_s: 50,
        events_burst: 200,
        conversations: 64,
        page: 3,
        text_bytes: 16384,
    };
    frame(
        1,
        Frame::Welcome(Welcome {
            session: session.into(),
            user: ME.into(),
            heartbeat_ms: 30_000,
            limits: Some(limits),
            resumed,
            ..Welcome::default()
        }),
    )
}

fn body(t: &str) -> Body {
    Body {
        kind: Some(Kind::Text(Text {
            text: t.into(),
            ..Text::default()
        })),
    }
}

fn event(seq: u64) -> Event {
    Event {
        event_id: format!("id{seq}"),
        conversation: C.into(),
        seq,
        sender: "bob@x.test".into(),
        body: Some(body(&format!("t{seq}"))),
        ..Event::default()
    }
}

fn head(last_seq: u64) -> Frame {
    Frame::Heads(Heads {
        heads: vec![Head {
            conversation: C.into(),
            last_seq,
            last_content_seq: last_seq,
            ..Head::default()
        }],
    })
}

fn out(core: &mut Core) -> Vec<Out> {
    core.take_out(Duration::ZERO)
        .0
        .into_iter()
        .filter_map(|f| f.frame)
        .collect()
}

fn received(frames: &[Out]) -> Vec<(u64, Vec<u64>)> {
    let of = |f: &Out| match f {
        Out::Received(r) => Some((r.seq, r.seqs.clone())),
        _ => None,
    };
    frames.iter().filter_map(of).collect()
}

fn page_asked(frames: &[Out]) -> Option<(u64, PageRequest)> {
    frames.iter().find_map(|f| match f {
        Out::Request(Request {
            id,
            op: Some(request::Op::Page(p)),
        }) => Some((*id, p.clone())),
        _ => None,
    })
}

fn answer(id: u64, result: response::Result) -> ServerFrame {
    frame(
        0,
        Frame::Response(Response {
            id,
            result: Some(result),
        }),
    )
}

fn page(events: Vec<Event>, more: bool) -> response::Result {
    response::Result::Page(Page {
        conversation: C.into(),
        events,
        more,
    })
}

fn seqs(core: &Core) -> Vec<u64> {
    core.conversation(C)
        .map(|c| c.messages().map(|m| m.seq).collect())
        .unwrap_or_default()
}

fn opened(pages: Pages) -> Core {
    let mut core = Core::new(pages);
    core.on_frame(welcome("s1", false), Duration::ZERO);
    core
}

#[test]
fn before_synced_single_events_are_confirmed_and_the_map_stays() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, Frame::Event(event(10))), Duration::ZERO);
    assert_eq!(received(&out(&mut core)), [(0, vec![10])]);
    assert!(core.have().is_empty());
    core.on_frame(frame(3, Frame::Synced(Synced {})), Duration::ZERO);
    assert_eq!(received(&out(&mut core)), [(10, vec![])]);
    core.on_frame(frame(4, Frame::Event(event(12))), Duration::ZERO);
    assert_eq!(received(&out(&mut core)), [(12, vec![])]);
    assert_eq!(core.have(), BTreeMap::from([(C.to_owned(), 12)]));
}

#[test]
fn a_head_that_is_ahead_is_paged_to_its_end_before_anything_is_confirmed_up_to_there() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, head(8)), Duration::ZERO);
    let (id, asked) = page_asked(&out(&mut core)).unwrap();
    assert_eq!((asked.before, asked.limit), (0, 3));
    core.on_frame(frame(3, Frame::Synced(Synced {})), Duration::ZERO);
    core.on_frame(frame(4, Frame::Event(event(11))), Duration::ZERO);
    core.on_frame(
        answer(id, page(vec![event(2), event(4), event(5)], true)),
        Duration::ZERO,
    );
    let sent = out(&mut core);
    assert_eq!(received(&sent), [(0, vec![11])]);
    assert!(!core.is_synced());
    let (id, asked) = page_asked(&sent).unwrap();
    assert_eq!(asked.after, 5);
    core.on_frame(answer(id, page(vec![event(8)], false)), Duration::ZERO);
    assert_eq!(received(&out(&mut core)), [(11, vec![])]);
    assert!(core.is_synced());
    assert_eq!(seqs(&core), [2, 4, 5, 8, 11]);
    assert_eq!(core.conversation(C).unwrap().ranges().newest_gap(), None);
}

#[test]
fn a_page_that_fails_is_asked_for_again() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, head(8)), Duration::ZERO);
    let (id, _) = page_asked(&out(&mut core)).unwrap();
    let problem = Problem {
        code: "unavailable".into(),
        ..Problem::default()
    };
    core.on_frame(
        answer(id, response::Result::Problem(problem)),
        Duration::ZERO,
    );
    assert!(page_asked(&out(&mut core)).is_none());
    core.tick();
    assert!(page_asked(&out(&mut core)).is_some());
}

#[test]
fn the_newest_page_is_enough_for_a_device_that_scrolls() {
    let mut core = opened(Pages::Newest(2));
    core.on_frame(frame(2, head(9)), Duration::ZERO);
    core.on_frame(frame(3, Frame::Synced(Synced {})), Duration::ZERO);
    let (id, asked) = page_asked(&out(&mut core)).unwrap();
    assert_eq!((asked.before, asked.after, asked.limit), (0, 0, 2));
    core.on_frame(
        answer(id, page(vec![event(7), event(9)], true)),
        Duration::ZERO,
    );
    assert_eq!(received(&out(&mut core)), [(9, vec![])]);
    assert_eq!(
        core.conversation(C).unwrap().ranges().newest_gap(),
        Some((0, 6))
    );
    let scroll = PageRequest {
        conversation: C.into(),
        before: 7,
        after: 0,
        limit: 2,
    };
    assert!(core.ask(1, request::Op::Page(scroll)));
    let (id, _) = page_asked(&out(&mut core)).unwrap();
    core.on_frame(answer(id, page(vec![event(3)], false)), Duration::ZERO);
    assert_eq!(core.conversation(C).unwrap().ranges().newest_gap(), None);
    assert_eq!(seqs(&core), [3, 7, 9]);
}

#[test]
fn receipts_alone_need_no_page() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, Frame::Synced(Synced {})), Duration::ZERO);
    core.on_frame(frame(3, Frame::Event(event(5))), Duration::ZERO);
    core.disconnected();
    core.on_frame(welcome("s2", false), Duration::ZERO);
    let heads = Heads {
        heads: vec![Head {
            conversation: C.into(),
            last_seq: 9,
            last_content_seq: 5,
            ..Head::default()
        }],
    };
    core.on_frame(frame(2, Frame::Heads(heads)), Duration::ZERO);
    core.on_frame(frame(3, Frame::Synced(Synced {})), Duration::ZERO);
    assert!(page_asked(&out(&mut core)).is_none());
    assert_eq!(core.have(), BTreeMap::from([(C.to_owned(), 9)]));
}

#[test]
fn what_was_confirmed_in_a_connection_that_broke_is_confirmed_again() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, Frame::Synced(Synced {})), Duration::ZERO);
    core.on_frame(frame(3, Frame::Event(event(5))), Duration::ZERO);
    core.read(C, 5);
    assert_eq!(received(&out(&mut core)), [(5, vec![])]);
    core.disconnected();
    assert_eq!(
        core.hello().resume,
        Some(Resume {
            session: "s1".into(),
            n: 3
        })
    );
    let mut elsewhere = core.clone();
    core.on_frame(welcome("s1", true), Duration::ZERO);
    let sent = out(&mut core);
    assert_eq!(received(&sent), [(5, vec![])]);
    // and in a new session, once it is synced
    elsewhere.on_frame(welcome("s2", false), Duration::ZERO);
    assert_eq!(received(&out(&mut elsewhere)), []);
    elsewhere.on_frame(frame(2, Frame::Synced(Synced {})), Duration::ZERO);
    assert_eq!(received(&out(&mut elsewhere)), [(5, vec![])]);
    assert!(sent.iter().any(|f| matches!(f, Out::Read(r) if r.seq == 5)));
}

#[test]
fn what_was_confirmed_long_before_a_break_is_not_said_again() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, Frame::Synced(Synced {})), Duration::ZERO);
    core.on_frame(frame(3, Frame::Event(event(5))), Duration::ZERO);
    assert_eq!(received(&out(&mut core)), [(5, vec![])]);
    core.take_out(Duration::from_mins(1));
    core.disconnected();
    core.on_frame(welcome("s2", false), Duration::from_secs(61));
    core.on_frame(frame(2, Frame::Synced(Synced {})), Duration::from_secs(61));
    let (said, _) = core.take_out(Duration::from_secs(61));
    assert!(
        !said
            .iter()
            .any(|f| matches!(f.frame, Some(Out::Received(_))))
    );
}

#[test]
fn a_read_mark_that_got_lost_with_an_edge_is_said_again_when_a_head_shows_it() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, Frame::Synced(Synced {})), Duration::ZERO);
    core.on_frame(frame(3, Frame::Event(event(5))), Duration::ZERO);
    core.read(C, 5);
    out(&mut core);
    core.disconnected();
    core.on_frame(welcome("s2", false), Duration::ZERO);
    core.on_frame(frame(2, head(7)), Duration::ZERO);
    let sent = out(&mut core);
    assert!(sent.iter().any(|f| matches!(f, Out::Read(r) if r.seq == 5)));
}

#[test]
fn after_an_empty_heads_frame_nothing_that_comes_live_is_taken_for_complete() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, Frame::Synced(Synced {})), Duration::ZERO);
    core.on_frame(frame(3, Frame::Event(event(4))), Duration::ZERO);
    out(&mut core);
    // the edge syncs the session again: events 5 to 10 were kept from it
    core.on_frame(frame(4, Frame::Heads(Heads::default())), Duration::ZERO);
    core.on_frame(frame(5, Frame::Event(event(11))), Duration::ZERO);
    assert_eq!(received(&out(&mut core)), [(0, vec![11])]);
    core.on_frame(frame(6, head(11)), Duration::ZERO);
    core.on_frame(frame(7, Frame::Synced(Synced {})), Duration::ZERO);
    let (id, asked) = page_asked(&out(&mut core)).unwrap();
    assert_eq!(asked.after, 4);
    core.on_frame(
        answer(id, page(vec![event(5), event(10), event(11)], false)),
        Duration::ZERO,
    );
    assert_eq!(seqs(&core), [4, 5, 10, 11]);
}

#[test]
fn a_session_that_syncs_again_asks_for_the_contacts_again() {
    let mut core = opened(Pages::All);
    core.on_frame(frame(2, Frame::Synced(Synced {})), Duration::ZERO);
    out(&mut core);
    let asked = |frames: Vec<Out>| {
        let contacts = |f: &&Out| matches!(f, Out::Request(r) if matches!(r.op, Some(request::Op::Contacts(_))));
        frames.iter().filter(contacts).count()
    };
    core.on_frame(frame(3, Frame::Heads(Heads::default())), Duration::ZERO);
    core.on_frame(frame(4, head(4)), Duration::ZERO);
    assert_eq!(asked(out(&mut core)), 1);
}

#[test]
fn a_device_that_only_sends_asks_for_nothing_and_confirms_nothing() {
    let mut core = Core::new(Pages::None);
    core.submit("bob", "mine".into(), body("hello"), 0);
    core.on_frame(welcome("s1", false), Duration::ZERO);
    core.on_frame(frame(2, head(3)), Duration::ZERO);
    core.on_frame(frame(3, Frame::Event(event(4))), Duration::ZERO);
    core.on_frame(frame(4, Frame::Synced(Synced {})), Duration::ZERO);
    core.on_frame(frame(5, Frame::Event(event(5))), Duration::ZERO);
    let said = out(&mut core);
    assert!(
        matches!(&*said, [Out::Submit(s)] if s.event_id == "mine"),
        "{said:?}"
    );
    // its own event tells that it was accepted, as well as the answer
    let own = Event {
        event_id: "mine".into(),
        sender: ME.into(),
        ..event(6)
    };
    core.on_frame(frame(6, Frame::Event(own)), Duration::ZERO);
    assert!(core.all_answered() && core.is_synced());
    core.disconnected();
    core.on_frame(welcome("s1", true), Duration::ZERO);
    core.on_frame(frame(7, Frame::Event(event(7))), Duration::ZERO);
    assert_eq!(out(&mut core), []);
    assert!(core.have().is_empty());
}

#[test]
fn what_is_processed_is_acknowledged_even_if_nothing_is_said() {
    let mut core = opened(Pages::All);
    core.take_out(Duration::ZERO);
    for n in 2..60 {
        core.on_frame(frame(n, Frame::Synced(Synced {})), Duration::ZERO);
    }
    assert!(core.take_out(Duration::ZERO).0.is_empty());
    core.on_frame(frame(70, Frame::Synced(Synced {})), Duration::ZERO);
    let (said, _) = core.take_out(Duration::ZERO);
    assert_eq!(
        said,
        [ClientFrame {
            ack: 70,
            frame: None
        }]
    );
    assert!(core.take_out(Duration::ZERO).0.is_empty());
}

#[test]
fn unanswered_events_are_sent_again_on_return_and_shown_once() {
    let mut core = Core::new(Pages::All);
    core.submit("bob", "id1".into(), body("hello"), 0);
    core.on_frame(welcome("s1", false), Duration::ZERO);
    let submits = |frames: &[Out]| -> Vec<(String, String, bool)> {
        let of = |f: &Out| match f {
            Out::Submit(s) => Some((s.event_id.clone(), s.conversation.clone(), s.retry)),
            _ => None,
        };
        frames.iter().filter_map(of).collect()
    };
    assert_eq!(submits(&out(&mut core)), [("id1".into(), C.into(), false)]);
    core.disconnected();
    core.on_frame(welcome("s2", false), Duration::ZERO);
    assert_eq!(submits(&out(&mut core)), [("id1".into(), C.into(), true)]);
    core.take_updates();
    let accepted = Accepted {
        event_id: "id1".into(),
        conversation: C.into(),
        seq: 4,
        at_ms: 1,
    };
    core.on_frame(frame(2, Frame::Accepted(accepted)), Duration::ZERO);
    // the echo of a second copy
    let echo = Event {
        event_id: "id1".into(),
        sender: ME.into(),
        ..event(6)
    };
    core.on_frame(frame(3, Frame::Event(echo)), Duration::ZERO);
    let updates = core.take_updates();
    let count = |f: fn(&Update) -> bool| updates.iter().filter(|u| f(u)).count();
    assert_eq!(count(|u| matches!(u, Update::Accepted { seq: 4, .. })), 1);
    assert_eq!(count(|u| matches!(u, Update::Event { .. })), 1);
    assert_eq!(seqs(&core), [4]);
    assert!(core.all_answered());
}

#[test]
fn a_refusal_for_now_is_tried_again_and_a_final_one_is_told() {
    let mut core = opened(Pages::All);
    core.submit(C, "id1".into(), body("hello"), 0);
    out(&mut core);
    let rejected = |retry_after_ms| {
        frame(
            2,
            Frame::Rejected(Rejected {
                event_id: "id1".into(),
                code: "rate_limited".into(),
                message: String::new(),
                retry_after_ms,
            }),
        )
    };
    core.on_frame(rejected(500), Duration::ZERO);
    assert!(out(&mut core).is_empty());
    let (again, _) = core.take_out(Duration::from_millis(500));
    assert!(matches!(&again[0].frame, Some(Out::Submit(s)) if s.retry));
    core.take_updates();
    core.on_frame(rejected(0), Duration::ZERO);
    assert!(matches!(
        &core.take_updates()[..],
        [Update::Rejected { .. }]
    ));
}

#[test]
fn a_message_to_oneself_is_refused_at_once() {
    let mut core = opened(Pages::All);
    core.take_updates();
    core.submit("alice", "id1".into(), body("hello"), 0);
    assert!(matches!(
        &core.take_updates()[..],
        [Update::Rejected { .. }]
    ));
}

#[test]
fn a_receipt_is_no_event_for_the_person() {
    let mut core = opened(Pages::All);
    core.take_updates();
    let receipt = Receipt {
        delivered: 3,
        ..Receipt::default()
    };
    let body = Some(Body {
        kind: Some(Kind::Receipt(receipt)),
    });
    core.on_frame(
        frame(2, Frame::Event(Event { body, ..event(9) })),
        Duration::ZERO,
    );
    assert_eq!(core.take_updates(), [Update::Conversation(C.into())]);
}

#[test]
fn a_contact_who_is_told_without_presence_keeps_the_one_that_is_known() {
    let mut core = opened(Pages::All);
    let bob = |name: &str, presence| Contact {
        user: "bob@x.test".into(),
        name: name.into(),
        state: contact::State::Mutual.into(),
        presence,
    };
    let all = |contact| {
        response::Result::Contacts(Contacts {
            contacts: vec![contact],
        })
    };
    assert!(!core.knows_contacts());
    let presence = Presence {
        user: "bob@x.test".into(),
        version: 3,
        ..Presence::default()
    };
    core.on_frame(
        answer(1, all(bob("Bob", Some(presence.clone())))),
        Duration::ZERO,
    );
    assert!(core.knows_contacts());
    assert!(core.ask(7, request::Op::Contacts(ContactsRequest {})));
    core.on_frame(answer(2, all(bob("Bobby", None))), Duration::ZERO);
    assert_eq!(
        core.contacts().collect::<Vec<_>>(),
        [&bob("Bobby", Some(presence.clone()))]
    );
    // an answer that what came live has overtaken
    let newer = Presence {
        version: 4,
        ..presence.clone()
    };
    core.on_frame(frame(3, Frame::Presence(newer.clone())), Duration::ZERO);
    assert!(core.ask(8, request::Op::Contacts(ContactsRequest {})));
    core.on_frame(answer(3, all(bob("Bob", Some(presence)))), Duration::ZERO);
    assert_eq!(
        core.contacts().collect::<Vec<_>>(),
        [&bob("Bob", Some(newer))]
    );
}

#[test]
fn what_came_live_is_newer_than_an_answer_that_was_on_its_way() {
    let mut core = opened(Pages::All);
    let live = Presence {
        user: "bob@x.test".into(),
        version: 7,
        ..Presence::default()
    };
    core.on_frame(frame(1, Frame::Presence(live.clone())), Duration::ZERO);
    // settled before anything was known of him
    let answered = Contact {
        user: "bob@x.test".into(),
        state: contact::State::Mutual.into(),
        presence: Some(Presence {
            version: 0,
            ..live.clone()
        }),
        ..Contact::default()
    };
    let contacts = vec![answered];
    let answer_1 = answer(1, response::Result::Contacts(Contacts { contacts }));
    core.on_frame(answer_1, Duration::ZERO);
    let known: Vec<_> = core.contacts().map(|c| c.presence.clone()).collect();
    assert_eq!(known, [Some(live)]);
}

/// An edge with its history: connects, is cut off and comes back at any step, and the device must end
/// up with everything, once.
#[derive(Debug, Clone, Copy)]
enum Step {
    Append,
    Deliver,
    Heads,
    Answer,
    Cut,
}

proptest! {
    #[test]
    fn whatever_is_cut_off_a_synced_device_holds_everything(
        steps in prop::collection::vec(
            prop_oneof![
                4 => Just(Step::Append), 4 => Just(Step::Deliver), 2 => Just(Step::Heads),
                3 => Just(Step::Answer), 1 => Just(Step::Cut),
            ],
            1..60,
        ),
        newest in any::<bool>(),
    ) {
        let pages = if newest { Pages::Newest(3) } else { Pages::All };
        let mut core = Core::new(pages);
        let mut log: Vec<Event> = Vec::new();
        let mut n = 0;
        // where live delivery stands; the barrier; requests under way
        let (mut live, mut barrier, mut synced) = (0usize, 0usize, false);
        let mut asked: Vec<(u64, PageRequest)> = Vec::new();
        let collect = |core: &mut Core, asked: &mut Vec<_>, log: &[Event], synced: bool| {
            for f in out(core) {
                match f {
                    Out::Request(Request { id, op: Some(request::Op::Page(p)) }) => {
                        asked.push((id, p));
                    }
                    // with everything fetched, a cumulative confirmation is a promise
                    Out::Received(r) if !r.exact && !newest => {
                        let held = seqs(core);
                        for e in log.iter().filter(|e| e.seq <= r.seq) {
                            assert!(held.contains(&e.seq), "confirmed {} without {}", r.seq, e.seq);
                        }
                        assert!(synced);
                    }
                    _ => {}
                }
            }
        };
        let reply = |core: &mut Core, log: &[Event], (id, p): (u64, PageRequest)| {
            let mut events: Vec<Event> = log.iter()
                .filter(|e| e.seq > p.after && (p.before == 0 || e.seq < p.before)).cloned().collect();
            let limit = p.limit as usize;
            let more = events.len() > limit;
            if p.after > 0 { events.truncate(limit) } else if more { events.drain(..events.len() - limit); }
            core.on_frame(answer(id, page(events, more)), Duration::ZERO);
        };
        let mut connected = false;
        let tail = [Step::Heads, Step::Heads];
        for step in steps.into_iter().chain(tail) {
            if !connected {
                core.on_frame(welcome("s", false), Duration::ZERO);
                (live, barrier, synced, connected, n) = (log.len(), log.len(), false, true, 1);
                asked.clear();
            }
            n += 1;
            match step {
                Step::Append => log.push(event(10 + 3 * log.len() as u64)),
                Step::Deliver if live < log.len() => {
                    core.on_frame(frame(n, Frame::Event(log[live].clone())), Duration::ZERO);
                    live += 1;
                }
                Step::Heads if !synced => {
                    if barrier > 0 {
                        core.on_frame(frame(n, head(log[barrier - 1].seq)), Duration::ZERO);
                    }
                    core.on_frame(frame(n + 1, Frame::Synced(Synced {})), Duration::ZERO);
                    n += 1;
                    synced = true;
                }
                Step::Answer if !asked.is_empty() => reply(&mut core, &log, asked.remove(0)),
                Step::Cut => {
                    core.disconnected();
                    core.forget_session();
                    connected = false;
                    continue;
                }
                _ => {}
            }
            collect(&mut core, &mut asked, &log, synced);
        }
        // let everything that is under way arrive
        while live < log.len() || !asked.is_empty() {
            if live < log.len() {
                n += 1;
                core.on_frame(frame(n, Frame::Event(log[live].clone())), Duration::ZERO);
                live += 1;
            }
            for a in std::mem::take(&mut asked) {
                reply(&mut core, &log, a);
            }
            collect(&mut core, &mut asked, &log, synced);
        }
        prop_assert!(core.is_synced());
        let want: Vec<u64> = log.iter().map(|e| e.seq).collect();
        let have = seqs(&core);
        if newest {
            prop_assert!(want.ends_with(&have) || have.len() >= 3.min(want.len()));
        } else {
            prop_assert_eq!(&have, &want);
        }
        let top = log.last().map_or(0, |e| e.seq);
        prop_assert_eq!(core.have().get(C).copied().unwrap_or(0), top);
    }
}
