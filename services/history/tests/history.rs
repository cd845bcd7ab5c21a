//! What people see of their conversations.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod world;

use tandem_history::Config;
use tandem_kernel::{Code, event::Kind};
use tandem_proto::history::LookupRequest;
use world::*;

#[tokio::test]
async fn a_page_shows_the_messages_in_the_order_of_the_log() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    let two = w.says(AB, "bob", text("two")).await;
    w.settle().await;
    for user in ["alice", "bob"] {
        let page = w.page(user, AB).await;
        assert_eq!(all_words(&page), ["one", "two"]);
        assert_eq!((page[0].seq, page[1].seq), (one, two));
        assert_eq!(page[0].conversation, AB);
        assert!(page[0].at_ms > 0);
    }
}

#[tokio::test]
async fn who_is_not_a_member_is_refused_with_the_code() {
    let mut w = World::new().await;
    w.says(AB, "alice", text("one")).await;
    w.says(GROUP, "alice", create("us", &["bob"])).await;
    w.settle().await;
    for conversation in [AB, GROUP] {
        let status = w
            .try_page("dan", conversation, (0, 0, 0))
            .await
            .unwrap_err();
        assert_eq!(tandem_chassis::grpc::code_of(&status), Code::NotAMember);
    }
    assert!(w.heads("dan").await.is_empty());
}

#[tokio::test]
async fn an_event_of_an_outsider_does_not_count() {
    let mut w = World::new().await;
    w.says(AB, "alice", text("one")).await;
    w.says(AB, "dan", text("spoofed")).await;
    w.says(GROUP, "alice", create("us", &["bob"])).await;
    w.says(GROUP, "dan", text("spoofed")).await;
    w.settle().await;
    assert_eq!(all_words(&w.page("bob", AB).await), ["one"]);
    assert_eq!(all_words(&w.page("bob", GROUP).await), ["<group>"]);
    assert_eq!(w.head("bob", AB).await.unread, 1);
}

#[tokio::test]
async fn unread_counts_messages_alone_and_ends_with_reading_or_writing() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    w.says(AB, "alice", Kind::Nudge(tandem_kernel::event::Nudge {}))
        .await;
    w.says(AB, "alice", edit(one, "uno")).await;
    w.says(AB, "alice", react(one, "👍")).await;
    w.settle().await;
    assert_eq!(w.head("bob", AB).await.unread, 2);
    assert_eq!(w.head("alice", AB).await.unread, 0);
    w.says(AB, "bob", receipt(0, one)).await;
    w.settle().await;
    let head = w.head("bob", AB).await;
    assert_eq!((head.unread, head.read_seq), (1, one));
    let two = w.says(AB, "bob", text("two")).await;
    w.settle().await;
    let head = w.head("bob", AB).await;
    assert_eq!((head.unread, head.read_seq), (0, two));
    assert_eq!(w.head("alice", AB).await.unread, 1);
}

#[tokio::test]
async fn reading_a_part_leaves_the_rest_unread_even_far_back() {
    let config = Config {
        bucket_events: 4,
        ..Config::default()
    };
    let mut w = World::with(config, |s| s).await;
    let mut seqs = Vec::new();
    for i in 0..40 {
        seqs.push(w.says(AB, "alice", text(&i.to_string())).await);
    }
    w.settle().await;
    w.says(AB, "bob", receipt(0, seqs[5])).await;
    w.settle().await;
    assert_eq!(w.head("bob", AB).await.unread, 34);
    w.says(AB, "bob", receipt(0, seqs[2])).await;
    w.settle().await;
    assert_eq!(w.head("bob", AB).await.unread, 34, "a mark never goes back");
    w.says(AB, "bob", receipt(0, seqs[38])).await;
    w.settle().await;
    assert_eq!(w.head("bob", AB).await.unread, 1);
}

#[tokio::test]
async fn an_author_sees_how_far_the_other_has_it() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    let two = w.says(AB, "alice", text("two")).await;
    w.says(AB, "bob", receipt(two, one)).await;
    w.settle().await;
    let marks = w.head("alice", AB).await.marks;
    assert_eq!(marks.len(), 1);
    assert_eq!(
        (marks[0].user.as_str(), marks[0].delivered, marks[0].read),
        ("bob@x.test", two, one)
    );
    assert!(
        w.head("bob", AB).await.marks.is_empty(),
        "bob wrote nothing that could be read"
    );
    let marks = w.lookup(LookupRequest {
        conversation: AB.into(),
        marks_of: at("bob"),
        ..LookupRequest::default()
    });
    let marks = marks.await.marks.unwrap();
    assert_eq!((marks.delivered, marks.read), (two, one));
}

#[tokio::test]
async fn a_withheld_receipt_moves_ones_own_mark_and_nobody_sees_it() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    w.append(say(AB, "bob", receipt(0, one)).withheld("alice"))
        .await;
    w.settle().await;
    assert_eq!(w.head("bob", AB).await.unread, 0);
    assert!(w.head("alice", AB).await.marks.is_empty());
    let two = w.says(AB, "alice", text("two")).await;
    w.says(AB, "bob", receipt(two, 0)).await;
    w.settle().await;
    let marks = w.head("alice", AB).await.marks;
    assert_eq!(
        (marks[0].delivered, marks[0].read),
        (two, one),
        "no longer withheld"
    );
}

#[tokio::test]
async fn what_is_withheld_is_seen_by_nobody_whom_it_names() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    let hidden = w
        .append(say(AB, "bob", text("hidden")).withheld("alice"))
        .await;
    w.settle().await;
    assert_eq!(all_words(&w.page("alice", AB).await), ["one"]);
    assert_eq!(all_words(&w.page("bob", AB).await), ["one", "hidden"]);
    let head = w.head("alice", AB).await;
    assert_eq!((head.last_seq, head.unread), (one, 0));
    assert_eq!(words(head.last_message.as_ref().unwrap()), "one");
    assert_eq!(w.head("bob", AB).await.last_seq, hidden);
    assert!(w.sync("alice", &[(AB, one)]).await.is_empty());

    let three = w.says(AB, "bob", text("three")).await;
    w.settle().await;
    let head = w.head("alice", AB).await;
    assert_eq!((head.last_seq, head.unread), (three, 1));
    w.says(AB, "alice", receipt(0, three)).await;
    w.append(say(AB, "bob", text("hidden")).withheld("alice"))
        .await;
    w.says(AB, "bob", text("four")).await;
    w.settle().await;
    assert_eq!(w.head("alice", AB).await.unread, 1);
}

#[tokio::test]
async fn a_withheld_first_message_begins_no_conversation_for_whom_it_names() {
    let mut w = World::new().await;
    w.append(say(AB, "bob", text("hidden")).withheld("alice"))
        .await;
    w.settle().await;
    assert!(w.heads("alice").await.is_empty());
    assert_eq!(w.heads("bob").await.len(), 1);
    w.says(AB, "bob", text("seen")).await;
    w.settle().await;
    let head = w.head("alice", AB).await;
    assert_eq!(
        (
            head.unread,
            words(head.last_message.as_ref().unwrap()).as_str()
        ),
        (1, "seen")
    );
}

#[tokio::test]
async fn an_edit_shows_in_the_message_and_only_its_author_may() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    w.settle().await;
    w.says(AB, "bob", edit(one, "forged")).await;
    let edited = w.says(AB, "alice", edit(one, "uno")).await;
    w.says(AB, "alice", edit(one + 999, "nothing there")).await;
    w.settle().await;
    let page = w.page("bob", AB).await;
    assert_eq!(all_words(&page), ["uno", "<edit>"]);
    assert_eq!(page[0].folded.as_ref().unwrap().edited_seq, edited);
    assert_eq!(
        words(w.head("bob", AB).await.last_message.as_ref().unwrap()),
        "uno"
    );
}

#[tokio::test]
async fn of_a_deleted_message_no_text_is_left_anywhere() {
    let config = Config {
        bucket_events: 3,
        ..Config::default()
    };
    let mut w = World::with(config, |s| s).await;
    let one = w.says(AB, "alice", text("secret one")).await;
    w.settle().await;
    w.says(AB, "alice", edit(one, "secret two")).await;
    w.settle().await;
    for _ in 0..5 {
        w.says(AB, "bob", react(one, "👍")).await;
    }
    w.settle().await;
    w.says(AB, "alice", edit(one, "secret three")).await;
    let deleted = w.says(AB, "alice", delete(one)).await;
    w.settle().await;
    w.says(AB, "bob", text("and on")).await;
    w.settle().await;
    let page = w.page("bob", AB).await;
    let first = &page[0];
    assert_eq!(first.folded.as_ref().unwrap().deleted_seq, deleted);
    let shown = format!("{page:?} {:?}", w.heads("alice").await);
    assert!(!shown.contains("secret"), "{shown}");
    let rows = dump(&w).await;
    assert!(rows.len() > 5);
    let secret = rows.iter().any(|r| r.windows(6).any(|w| w == b"secret"));
    assert!(!secret, "no row holds the text");
}

async fn dump(w: &World) -> Vec<Vec<u8>> {
    use tandem_store::{Range, Store, Table};
    let mut out = Vec::new();
    let buckets = Table("history_buckets");
    for row in w
        .disk
        .range(buckets, AB.as_bytes(), Range::all(1000))
        .await
        .unwrap()
    {
        let Some(bucket) = row.sort.get(1..) else {
            continue;
        };
        let partition = [AB.as_bytes(), &[0], bucket].concat();
        let events = Table("history_events");
        let rows = w
            .disk
            .range(events, &partition, Range::all(1000))
            .await
            .unwrap();
        out.extend(rows.into_iter().map(|r| r.value.to_vec()));
    }
    out
}

#[tokio::test]
async fn a_reaction_is_one_a_person_and_can_be_taken_back() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    w.says(AB, "bob", react(one, "👍")).await;
    w.says(AB, "alice", react(one, "🎉")).await;
    w.says(AB, "bob", react(one, "😀")).await;
    w.settle().await;
    let reactions = |page: &[tandem_kernel::event::Event]| -> Vec<(String, String)> {
        let folded = page[0].folded.clone().unwrap_or_default();
        folded
            .reactions
            .into_iter()
            .map(|r| (r.user, r.emoji))
            .collect()
    };
    let page = w.page("bob", AB).await;
    assert_eq!(
        reactions(&page),
        [(at("bob"), "😀".into()), (at("alice"), "🎉".into())]
    );
    w.says(AB, "bob", react(one, "")).await;
    w.settle().await;
    assert_eq!(
        reactions(&w.page("bob", AB).await),
        [(at("alice"), "🎉".into())]
    );
}

#[tokio::test]
async fn pages_lead_through_all_buckets_both_ways() {
    let config = Config {
        bucket_events: 4,
        ..Config::default()
    };
    let mut w = World::with(config, |s| s).await;
    let mut seqs = Vec::new();
    for i in 0..50 {
        seqs.push(w.says(AB, "alice", text(&i.to_string())).await);
        // other conversations leave gaps
        w.says("o:bob@x.test,chloe@x.test", "bob", text("elsewhere"))
            .await;
        if i % 17 == 0 {
            w.settle().await;
        }
    }
    w.settle().await;
    let mut before = 0;
    let mut down = Vec::new();
    loop {
        let page = w.try_page("bob", AB, (before, 0, 7)).await.unwrap();
        assert!(page.events.len() == 7 || !page.more);
        before = page.events[0].seq;
        down.splice(0..0, page.events.iter().map(|e| e.seq));
        if !page.more {
            break;
        }
    }
    assert_eq!(down, seqs);
    let mut after = seqs[0] - 1;
    let mut up = Vec::new();
    loop {
        let page = w.try_page("bob", AB, (0, after.max(1), 7)).await.unwrap();
        after = page.events.last().unwrap().seq;
        up.extend(page.events.iter().map(|e| e.seq));
        if !page.more {
            break;
        }
    }
    assert_eq!(up, seqs);
    let rest = w.try_page("bob", AB, (0, seqs[46], 7)).await.unwrap();
    assert_eq!(
        rest.events.iter().map(|e| e.seq).collect::<Vec<_>>(),
        seqs[47..]
    );
    assert!(!rest.more);
}

#[tokio::test]
async fn who_joins_sees_it_from_there_on_and_who_left_up_to_there() {
    let mut w = World::new().await;
    w.says(GROUP, "alice", create("us", &["bob"])).await;
    w.says(GROUP, "alice", text("before")).await;
    let joined = w.says(GROUP, "alice", add("chloe")).await;
    w.says(GROUP, "alice", text("between")).await;
    w.settle().await;
    let head = w.head("chloe", GROUP).await;
    assert_eq!((head.unread, head.title.as_str()), (1, "us"));
    let left = w.says(GROUP, "alice", remove("chloe")).await;
    w.says(GROUP, "alice", text("after")).await;
    w.settle().await;
    let page = w.page("chloe", GROUP).await;
    assert_eq!(all_words(&page), ["<group>", "between", "<group>"]);
    assert_eq!((page[0].seq, page[2].seq), (joined, left));
    let head = w.head("chloe", GROUP).await;
    assert_eq!((head.last_seq, head.unread), (left, 1));
    assert_eq!(words(head.last_message.as_ref().unwrap()), "between");

    w.says(GROUP, "alice", add("chloe")).await;
    w.says(GROUP, "bob", text("again")).await;
    w.settle().await;
    let expected = ["<group>", "between", "<group>", "<group>", "again"];
    assert_eq!(all_words(&w.page("chloe", GROUP).await), expected);
    let first = w.try_page("chloe", GROUP, (0, 1, 200)).await.unwrap();
    assert_eq!(all_words(&first.events), expected);
    assert_eq!(w.head("chloe", GROUP).await.unread, 1);
    assert_eq!(w.page("alice", GROUP).await.len(), 8);
}

#[tokio::test]
async fn a_change_of_a_group_that_is_refused_at_its_place_is_not_stored() {
    let mut w = World::new().await;
    w.says(GROUP, "alice", create("us", &["bob"])).await;
    w.says(GROUP, "bob", add("dan")).await;
    w.says(GROUP, "bob", leave()).await;
    w.says(GROUP, "bob", text("gone")).await;
    w.settle().await;
    assert_eq!(w.page("alice", GROUP).await.len(), 2);
    assert!(w.heads("dan").await.is_empty());
}

#[tokio::test]
async fn marks_of_a_large_group_are_kept_however_many_there_are() {
    let mut w = World::new().await;
    let names: Vec<String> = (0..20).map(|i| format!("m{i:02}")).collect();
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    w.says(GROUP, "alice", create("us", &members)).await;
    let mut last = 0;
    for name in &names {
        last = w.says(GROUP, name, text("hello")).await;
        w.settle().await;
    }
    for (i, name) in names.iter().enumerate() {
        assert_eq!(w.head(name, GROUP).await.unread, (19 - i) as u64, "{name}");
    }
    for name in &names {
        w.says(GROUP, name, receipt(0, last)).await;
    }
    w.settle().await;
    w.restart().await;
    w.settle().await;
    for name in &names {
        assert_eq!(w.head(name, GROUP).await.unread, 0, "{name}");
    }
    assert_eq!(w.head("m19", GROUP).await.marks.len(), 19);
}

#[tokio::test]
async fn a_message_from_a_stranger_is_a_request_until_it_is_answered() {
    let mut w = World::new().await;
    let mut request = say(AB, "alice", text("hello"));
    request.request = true;
    w.append(request).await;
    w.settle().await;
    assert!(w.head("bob", AB).await.request);
    assert!(!w.head("alice", AB).await.request);
    w.says(AB, "bob", text("hello yourself")).await;
    w.settle().await;
    assert!(!w.head("bob", AB).await.request);
}

#[tokio::test]
async fn heads_come_newest_first_and_page_by_time() {
    let mut w = World::new().await;
    let others = [
        "o:alice@x.test,chloe@x.test",
        "o:alice@x.test,dan@x.test",
        AB,
    ];
    for c in others {
        w.says(c, "alice", text("hi")).await;
        w.settle().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let heads = w.heads("alice").await;
    let order: Vec<&str> = heads.iter().map(|h| h.conversation.as_str()).collect();
    assert_eq!(order, [AB, others[1], others[0]]);
    let older = tandem_proto::client::HeadsRequest {
        limit: 1,
        before_ms: heads[0].last_message.as_ref().unwrap().at_ms,
    };
    let request = tandem_proto::history::HeadsRequest {
        user: at("alice"),
        heads: Some(older),
    };
    let older = w.history.heads(request).await.unwrap().into_inner().heads;
    assert_eq!(older.len(), 1);
    assert_eq!(older[0].conversation, others[1]);
}

#[tokio::test]
async fn lookups_tell_authors_and_where_an_event_is() {
    let mut w = World::new().await;
    let mut one = say(AB, "alice", text("one"));
    let id = w.doors.rng.event_id(w.doors.clock.unix()).to_string();
    one.id = Some(id.clone());
    let one = w.append(one).await;
    let two = w.says(AB, "bob", text("two")).await;
    w.settle().await;
    for round in 0..2 {
        let found = w.lookup(LookupRequest {
            conversation: AB.into(),
            author_of: two,
            event_id: id.clone(),
            sender: at("alice"),
            authors_after: one,
            authors_up_to: two,
            marks_of: String::new(),
        });
        let found = found.await;
        assert_eq!(
            (found.author.as_str(), found.seq),
            ("bob@x.test", one),
            "round {round}"
        );
        assert_eq!(found.authors, [at("bob")]);
        let of_bob = w.lookup(LookupRequest {
            conversation: AB.into(),
            event_id: id.clone(),
            sender: at("bob"),
            ..LookupRequest::default()
        });
        assert_eq!(of_bob.await.seq, 0, "an id counts for its sender alone");
        w.restart().await;
        w.settle().await;
    }
}
