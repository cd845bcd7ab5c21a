//! How history reads the log: once, in order, behind it, and after crashes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod world;

use std::time::Duration;

use bytes::Bytes;
use tandem_history::Config;
use tandem_kernel::event::Kind;
use tandem_log::{Log, Record};
use tandem_store::{Batch, Op, Range, Store, Table};
use tokio_stream::StreamExt;
use world::*;

fn copy_of(say: &Say) -> Say {
    say.clone()
}

fn with_id(w: &World, mut say: Say) -> Say {
    say.id = Some(w.doors.rng.event_id(w.doors.clock.unix()).to_string());
    say
}

#[tokio::test]
async fn a_copy_of_an_event_is_dropped() {
    let mut w = World::new().await;
    let one = with_id(&w, say(AB, "alice", text("one")));
    let seq = w.append(copy_of(&one)).await;
    w.append(copy_of(&one)).await;
    w.settle().await;
    w.append(copy_of(&one)).await;
    w.settle().await;
    let page = w.page("bob", AB).await;
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].seq, seq);
    assert_eq!(w.head("bob", AB).await.unread, 1);
}

#[tokio::test]
async fn nobody_hides_anothers_message_behind_its_id() {
    let mut w = World::new().await;
    let one = with_id(&w, say(AB, "alice", text("one")));
    let mut other = say(AB, "bob", text("two"));
    other.id = one.id.clone();
    w.append(one).await;
    w.append(other).await;
    w.settle().await;
    assert_eq!(all_words(&w.page("bob", AB).await), ["one", "two"]);
}

#[tokio::test]
async fn a_copy_is_recognised_by_the_reader_that_takes_over() {
    let mut w = World::new().await;
    let one = with_id(&w, say(AB, "alice", text("one")));
    w.append(copy_of(&one)).await;
    w.settle().await;
    w.restart().await;
    w.settle().await;
    w.append(copy_of(&one)).await;
    w.settle().await;
    assert_eq!(w.page("bob", AB).await.len(), 1);
}

#[tokio::test]
async fn a_late_copy_is_looked_for_in_the_store_if_its_sender_says_so() {
    let config = Config {
        copies_ms: 1_000,
        bucket_events: 3,
        ..Config::default()
    };
    let mut w = World::with(config, |s| s).await;
    let one = with_id(&w, say(AB, "alice", text("one")));
    let first = w.append(copy_of(&one)).await;
    for i in 0..10 {
        w.says(AB, "bob", text(&i.to_string())).await;
    }
    w.settle().await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    w.says(AB, "bob", text("later")).await;
    w.settle().await;
    let mut again = copy_of(&one);
    again.retry = true;
    w.append(again).await;
    w.settle().await;
    let page = w.page("bob", AB).await;
    assert_eq!(page.iter().filter(|e| words(e) == "one").count(), 1);
    assert_eq!(page[0].seq, first);
    assert_eq!(w.head("bob", AB).await.unread, 0, "bob wrote last");
    assert_eq!(w.head("alice", AB).await.unread, 11);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_parked_and_the_next_is_not_held_up() {
    let mut w = World::new().await;
    w.says(AB, "alice", text("one")).await;
    let (partition, good) = w.envelope(say(AB, "alice", text("other key")));
    let key = Bytes::from_static(AB.as_bytes());
    let bad = [
        Record {
            key: key.clone(),
            value: Bytes::from_static(b"\xff\xff"),
            headers: Vec::new(),
        },
        Record {
            key: key.clone(),
            value: Bytes::new(),
            headers: Vec::new(),
        },
        Record {
            key: Bytes::from_static(b"o:x"),
            value: good.value,
            headers: Vec::new(),
        },
    ];
    let bad = bad.into_iter().map(|r| (partition, r)).collect();
    assert!(w.log.append(TOPIC, bad).await.iter().all(Result::is_ok));
    let mut no_id = say(AB, "alice", text("no id"));
    no_id.id = Some("7".into());
    w.append(no_id).await;
    w.append(say("o:not,valid", "alice", text("no conversation")))
        .await;
    w.says(AB, "alice", text("two")).await;
    w.settle().await;
    assert_eq!(all_words(&w.page("bob", AB).await), ["one", "two"]);
    let parked = w.parked().await;
    assert_eq!(parked.len(), 5);
    assert!(
        parked
            .iter()
            .all(|p| p.service == "history" && !p.reason.is_empty())
    );
    let raw = parked
        .iter()
        .find(|p| p.value == Bytes::from_static(b"\xff\xff"))
        .unwrap();
    assert_eq!((raw.code.as_str(), raw.key.clone()), ("malformed", key));
}

#[tokio::test]
async fn a_sync_stays_open_while_the_reader_is_paused_and_completes_with_what_was_missing() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    w.settle().await;
    w.control.pause().await;
    let two = w.says(AB, "alice", text("two")).await;

    let mut parts = w.try_sync("bob", &[]).await.unwrap();
    let first = parts.next().await.unwrap().unwrap();
    assert_eq!((first.complete, first.heads.len()), (false, 1));
    assert_eq!(first.heads[0].last_seq, one);
    let waits = tokio::time::timeout(Duration::from_millis(300), parts.next()).await;
    assert!(waits.is_err(), "nothing comes while the reader is paused");

    w.control.resume();
    let last = parts.next().await.unwrap().unwrap();
    assert_eq!((last.complete, last.heads.len()), (true, 1));
    assert_eq!(last.heads[0].last_seq, two);
    assert_eq!(last.heads[0].unread, 2);
    assert!(parts.next().await.is_none());
}

#[tokio::test]
async fn a_sync_sends_only_what_is_ahead_newest_first() {
    let mut w = World::new().await;
    let one = w.says(AB, "alice", text("one")).await;
    w.settle().await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    w.says("o:bob@x.test,chloe@x.test", "chloe", text("hi"))
        .await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    w.says("o:bob@x.test,dan@x.test", "dan", text("hi")).await;
    let heads = w.sync("bob", &[(AB, one)]).await;
    let order: Vec<&str> = heads.iter().map(|h| h.conversation.as_str()).collect();
    assert_eq!(
        order,
        ["o:bob@x.test,dan@x.test", "o:bob@x.test,chloe@x.test"]
    );
    w.says(AB, "bob", receipt(one, one)).await;
    assert!(
        !w.sync("bob", &[(AB, one)])
            .await
            .iter()
            .any(|h| h.conversation == AB)
    );
    assert_eq!(w.sync("bob", &[(AB, one - 1)]).await.len(), 3);
}

#[tokio::test]
async fn many_syncs_wait_and_all_complete() {
    let mut w = World::new().await;
    w.says(AB, "alice", text("one")).await;
    w.settle().await;
    w.control.pause().await;
    let mut open = Vec::new();
    for i in 0..300 {
        if i % 100 == 0 {
            w.says(AB, "alice", text("more")).await;
            w.says("o:bob@x.test,dan@x.test", "dan", text("more")).await;
        }
        open.push(w.try_sync("bob", &[]).await.unwrap());
    }
    w.control.resume();
    for mut parts in open {
        let mut complete = false;
        while let Some(part) = parts.next().await {
            complete = part.unwrap().complete;
        }
        assert!(complete);
    }
}

#[tokio::test]
async fn a_sync_of_another_generation_or_of_too_few_ends_is_refused() {
    let mut w = World::new().await;
    w.settle().await;
    let request = tandem_proto::history::SyncRequest {
        user: at("bob"),
        ends: w.ends().await,
        generation: 2,
        ..Default::default()
    };
    let status = w.history.sync(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let request = tandem_proto::history::SyncRequest {
        generation: 1,
        ends: vec![0],
        ..request
    };
    let mut parts = w.history.sync(request).await.unwrap().into_inner();
    let status = parts.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn a_replay_of_everything_changes_nothing() {
    let config = Config {
        bucket_events: 3,
        ..Config::default()
    };
    let mut w = World::with(config, |s| s).await;
    let one = w.says(AB, "alice", text("one")).await;
    w.says(AB, "bob", receipt(one, one)).await;
    w.says(AB, "bob", text("two")).await;
    w.settle().await;
    w.says(AB, "alice", edit(one, "uno")).await;
    w.says(GROUP, "alice", create("us", &["bob"])).await;
    w.says(GROUP, "bob", text("hello")).await;
    w.says(GROUP, "alice", add("chloe")).await;
    w.says(GROUP, "alice", remove("bob")).await;
    w.says(AB, "bob", react(one, "👍")).await;
    w.says(AB, "bob", Kind::Nudge(tandem_kernel::event::Nudge {}))
        .await;
    w.settle().await;
    let mut before = Vec::new();
    for user in ["alice", "bob", "chloe"] {
        before.push((w.heads(user).await, w.page(user, GROUP).await));
    }
    before.push((Vec::new(), w.page("bob", AB).await));

    // the group's place goes back to the beginning
    w.lifecycle.abort();
    w.lifecycle.run_to_end(Duration::from_secs(5)).await;
    let mut reader = w
        .log
        .subscribe(TOPIC, "history", tandem_log::Start::Oldest)
        .await
        .unwrap();
    let mut left = PARTITIONS;
    while left > 0 {
        if let tandem_log::Next::Assigned(partitions) = reader.next().await.unwrap() {
            for (partition, _) in partitions {
                reader.commit(partition, 0).await.unwrap();
                left -= 1;
            }
        }
    }
    drop(reader);
    assert_eq!(
        w.log.committed(TOPIC, "history").await.unwrap(),
        vec![Some(0); 3]
    );
    w.restart().await;
    w.settle().await;
    let mut after = Vec::new();
    for user in ["alice", "bob", "chloe"] {
        after.push((w.heads(user).await, w.page(user, GROUP).await));
    }
    after.push((Vec::new(), w.page("bob", AB).await));
    assert_eq!(before, after);
}

#[tokio::test]
async fn two_readers_share_the_partitions_and_a_sync_at_one_waits_for_the_other() {
    let mut w = World::new().await;
    w.settle().await;
    let second = tandem_chassis::Lifecycle::new();
    let deps = tandem_history::Deps {
        doors: w.doors.clone(),
        log: std::sync::Arc::clone(&w.log) as _,
        store: std::sync::Arc::clone(&w.store),
    };
    let served = tandem_history::serve(deps, w.config.clone(), &second)
        .await
        .unwrap();
    let conversations: Vec<String> = (0..30)
        .map(|i| format!("o:alice@x.test,p{i:02}@x.test"))
        .collect();
    for round in 0..5 {
        for c in &conversations {
            w.says(c, "alice", text(&round.to_string())).await;
        }
        // a head that changed between the two parts comes twice, and the later one counts
        let parts = w.sync("alice", &[]).await;
        let heads: std::collections::BTreeMap<_, _> =
            parts.iter().map(|h| (&h.conversation, h)).collect();
        assert_eq!(heads.len(), conversations.len());
        let last = heads
            .values()
            .all(|h| words(h.last_message.as_ref().unwrap()) == round.to_string());
        assert!(last, "round {round}");
    }
    // the second one goes, and the first takes its partitions over
    served.control.pause().await;
    second.abort();
    second.run_to_end(Duration::from_secs(5)).await;
    for c in &conversations {
        w.says(c, "alice", text("after")).await;
    }
    let parts = w.sync("alice", &[]).await;
    let heads: std::collections::BTreeMap<_, _> =
        parts.iter().map(|h| (&h.conversation, h)).collect();
    assert!(
        heads
            .values()
            .all(|h| words(h.last_message.as_ref().unwrap()) == "after")
    );
    for c in &conversations {
        assert_eq!(w.page("alice", c).await.len(), 6);
    }
}

#[tokio::test]
async fn an_id_that_another_repeats_does_not_hide_a_late_copy() {
    let config = Config {
        copies_ms: 1_000,
        ..Config::default()
    };
    let mut w = World::with(config, |s| s).await;
    let one = with_id(&w, say(AB, "alice", text("one")));
    w.append(one.clone()).await;
    w.settle().await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    w.says(AB, "bob", text("later")).await;
    w.settle().await;
    w.control.pause().await;
    let mut again = one.clone();
    again.retry = true;
    let mut of_bob = say(AB, "bob", text("two"));
    of_bob.id = one.id.clone();
    of_bob.retry = true;
    w.append(again).await;
    w.append(of_bob).await;
    w.control.resume();
    w.settle().await;
    assert_eq!(all_words(&w.page("bob", AB).await), ["one", "later", "two"]);
}

#[tokio::test]
async fn a_reader_whose_control_is_gone_goes_on() {
    let mut w = World::new().await;
    w.settle().await;
    let second = tandem_chassis::Lifecycle::new();
    w.lifecycle.abort();
    w.lifecycle.run_to_end(Duration::from_secs(5)).await;
    let deps = tandem_history::Deps {
        doors: w.doors.clone(),
        log: std::sync::Arc::clone(&w.log) as _,
        store: std::sync::Arc::clone(&w.store),
    };
    drop(
        tandem_history::serve(deps, w.config.clone(), &second)
            .await
            .unwrap()
            .control,
    );
    for i in 0..3 {
        w.says(AB, "alice", text(&i.to_string())).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..200 {
        if w.log.committed(TOPIC, "history").await.unwrap() == ends_as_places(&w).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the reader does not go on");
}

async fn ends_as_places(w: &World) -> Vec<Option<u64>> {
    let committed = w.log.committed(TOPIC, "history").await.unwrap();
    let ends = w.ends().await;
    // a partition to which nothing was appended needs no commit
    let place = |(end, committed): (u64, Option<u64>)| if end == 0 { committed } else { Some(end) };
    ends.into_iter().zip(committed).map(place).collect()
}

#[tokio::test]
async fn reading_up_to_what_is_no_message_counts_right_even_beside_newer_ones() {
    let mut w = World::new().await;
    w.says(GROUP, "alice", create("us", &["bob"])).await;
    w.says(GROUP, "alice", text("one")).await;
    let added = w.says(GROUP, "alice", add("chloe")).await;
    w.settle().await;
    // in one group, by a reader that knows nothing of it yet
    w.restart().await;
    w.settle().await;
    w.control.pause().await;
    w.says(GROUP, "alice", text("two")).await;
    w.says(GROUP, "bob", receipt(added, added)).await;
    w.control.resume();
    w.settle().await;
    assert_eq!(w.head("bob", GROUP).await.unread, 1);
}

/// Breaks a row of the first bucket of a conversation.
async fn break_row(w: &World, bucket: u64, sort: Vec<u8>) {
    let partition = [AB.as_bytes(), &[0], &bucket.to_be_bytes()].concat().into();
    let value = Bytes::from_static(b"\xff");
    let ops = vec![Op::Put {
        sort: sort.into(),
        value,
        ttl: None,
    }];
    let table = Table("history_events");
    w.disk
        .write(vec![Batch {
            version: None,
            table,
            partition,
            ops,
        }])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_group_that_was_begun_and_never_written_hides_no_head() {
    let config = Config {
        bucket_events: 1,
        ..Config::default()
    };
    let mut w = World::with(config, |s| s).await;
    let one = w.says(AB, "alice", text("one")).await;
    w.says(AB, "alice", text("two")).await;
    w.settle().await;
    let last = w.says(AB, "alice", text("three")).await;
    w.settle().await;
    // what a reader writes first that dies with five more events in its hands
    let ahead = last + 5;
    let mut pointer = Vec::new();
    prost::encoding::uint64::encode(1, &ahead, &mut pointer);
    prost::encoding::uint64::encode(2, &one, &mut pointer);
    let bucket = [&b"b"[..], &ahead.to_be_bytes()].concat();
    let ops = [(bucket, Vec::new()), (Vec::new(), pointer)].map(|(sort, value)| Op::Put {
        sort: sort.into(),
        value: value.into(),
        ttl: None,
    });
    let batch = Batch {
        table: Table("history_buckets"),
        partition: AB.into(),
        ops: ops.into(),
        version: Some(ahead),
    };
    w.disk.write(vec![batch]).await.unwrap();
    assert_eq!(w.head("bob", AB).await.unread, 3);
    for n in 4..12 {
        w.restart().await;
        w.says(AB, "alice", text("more")).await;
        w.settle().await;
        assert_eq!(w.head("bob", AB).await.unread, n);
    }
    assert_eq!(w.page("bob", AB).await.len(), 11);
}

#[tokio::test]
async fn a_conversation_whose_rows_cannot_be_read_is_parked_and_others_go_on() {
    let mut w = World::new().await;
    let other = "o:bob@x.test,dan@x.test";
    let one = w.says(AB, "alice", text("one")).await;
    w.says(AB, "alice", text("two")).await;
    w.settle().await;
    break_row(&w, one, [&b"e"[..], &one.to_be_bytes()].concat()).await;
    w.says(AB, "alice", edit(one, "uno")).await;
    w.says(other, "dan", text("three")).await;
    w.settle().await;
    assert_eq!(w.page("bob", other).await.len(), 1);
    assert_eq!(w.parked().await.len(), 1);

    break_row(&w, one, Vec::new()).await;
    w.restart().await;
    w.says(AB, "alice", text("four")).await;
    w.says(other, "dan", text("five")).await;
    w.settle().await;
    assert_eq!(w.page("bob", other).await.len(), 2);
    assert_eq!(w.heads("bob").await.len(), 1);
    let parked = w.parked().await;
    assert_eq!(parked.len(), 2);
    assert!(
        parked
            .iter()
            .all(|p| p.code == "internal" && p.key == AB.as_bytes())
    );
}

#[tokio::test]
async fn events_are_kept_as_long_as_the_config_says() {
    let config = Config {
        retention_days: 1,
        bucket_events: 2,
        ..Config::default()
    };
    let mut w = World::with(config, |s| s).await;
    let one = w.says(AB, "alice", text("secret")).await;
    w.says(AB, "alice", text("secret")).await;
    w.says(AB, "bob", text("secret")).await;
    w.says(AB, "alice", edit(one, "secret too")).await;
    w.settle().await;
    assert_eq!(w.page("bob", AB).await.len(), 4);
    let head = w.head("bob", AB).await;
    assert_eq!(words(head.last_message.as_ref().unwrap()), "secret");
    // what has no end holds no text
    let mut heads = 0;
    for row in w
        .disk
        .range(Table("history_buckets"), AB.as_bytes(), Range::all(9))
        .await
        .unwrap()
    {
        let Some(bucket) = row.sort.get(1..) else {
            continue;
        };
        let partition = [AB.as_bytes(), &[0], bucket].concat();
        let rows = w
            .disk
            .range(Table("history_events"), &partition, Range::all(9))
            .await
            .unwrap();
        for row in rows.iter().filter(|r| r.sort.is_empty()) {
            heads += 1;
            assert!(!row.value.windows(6).any(|w| w == b"secret"));
        }
    }
    assert!(heads > 0);
}
