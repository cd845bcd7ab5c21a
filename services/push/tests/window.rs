//! What is notified, and what is not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod support;

use std::sync::atomic::Ordering;

use support::{
    Suite, alice_bob, delivered, eventually, gateway::Device, pause, quick, read, text, user,
};
use tandem_kernel::{
    ConversationId, Seq,
    event::{GroupCreate, Kind, Member, MembersAdd, Nudge, Role},
};
use tandem_proto::{client::Members, routing::MembersResponse};
use tandem_push::Config;

fn bobs(suite: &Suite, name: &str) -> Device {
    let device = Device::subscribe(&suite.gateway, name);
    suite.fakes.subscribe("bob", name, device.token.clone());
    device
}

fn friends() -> ConversationId {
    ConversationId::parse("g:018f4d2e-0000-7000-8000-000000000001@x.test").unwrap()
}

fn members(as_of: u64, names: &[(&str, u64)]) -> MembersResponse {
    let member = |n: &str| Member {
        user: user(n).to_string(),
        role: Role::Owner.into(),
    };
    MembersResponse {
        members: Some(Members {
            conversation: friends().to_string(),
            title: "friends".into(),
            members: names.iter().map(|(n, _)| member(n)).collect(),
        }),
        as_of_seq: as_of,
        joined_seqs: names.iter().map(|(_, joined)| *joined).collect(),
    }
}

#[tokio::test]
async fn what_no_device_confirmed_is_notified_after_the_window_and_not_before() {
    let suite = Suite::new(quick()).await;
    let phone = bobs(&suite, "phone");
    suite.online("bob").await;
    suite.settle();
    suite.online("bob").await;
    let seq = suite.append(&alice_bob(), "alice", text("hello")).await;
    pause(150).await;
    assert_eq!(suite.gateway.count(), 0);
    assert!(suite.committed().await <= seq.offset());
    eventually(async || suite.gateway.count() == 1).await;
    let inbox = phone.inbox(&suite.gateway);
    assert_eq!(inbox[0]["type"], "message");
    assert_eq!(inbox[0]["body"], "hello");
    assert_eq!(inbox[0]["title"], "ALICE");
    assert_eq!(inbox[0]["sender"], "alice@x.test");
    assert_eq!(inbox[0]["seq"], seq.to_string());
    assert_eq!(inbox[0]["brand"], "acme");
    suite.wait_committed(seq).await;
    pause(400).await;
    assert_eq!(suite.gateway.count(), 1);
}

#[tokio::test]
async fn what_was_confirmed_in_the_window_is_not_notified() {
    let suite = Suite::new(quick()).await;
    bobs(&suite, "phone");
    let first = suite.append(&alice_bob(), "alice", text("one")).await;
    let second = suite.append(&alice_bob(), "alice", text("two")).await;
    suite.append(&alice_bob(), "bob", delivered(second)).await;
    // the place moves on at once: nothing is undecided
    suite.wait_committed(second).await;
    pause(500).await;
    assert_eq!(suite.gateway.count(), 0, "{first}");
}

#[tokio::test]
async fn whoever_has_no_session_is_notified_at_once() {
    let suite = Suite::new(Config {
        window_ms: 30_000,
        ..quick()
    })
    .await;
    bobs(&suite, "phone");
    suite.settle();
    suite
        .append(&alice_bob(), "alice", Kind::Nudge(Nudge {}))
        .await;
    eventually(async || suite.gateway.count() == 1).await;
}

#[tokio::test]
async fn nobody_counts_as_offline_while_the_ephemeral_store_fills() {
    let suite = Suite::new(Config {
        window_ms: 30_000,
        ..quick()
    })
    .await;
    bobs(&suite, "phone");
    suite.append(&alice_bob(), "alice", text("hello")).await;
    pause(300).await;
    assert_eq!(suite.gateway.count(), 0);
}

#[tokio::test]
async fn push_killed_in_the_window_notifies_after_its_restart() {
    let mut suite = Suite::new(quick()).await;
    let phone = bobs(&suite, "phone");
    let done = suite.append(&alice_bob(), "alice", text("before")).await;
    eventually(async || suite.gateway.count() == 1).await;
    suite.wait_committed(done).await;
    suite.append(&alice_bob(), "alice", text("within")).await;
    pause(50).await;
    suite.kill().await;
    suite.append(&alice_bob(), "alice", text("down")).await;
    pause(400).await;
    assert_eq!(suite.gateway.count(), 1);
    suite.restart().await;
    eventually(async || suite.gateway.count() == 3).await;
    pause(400).await;
    let bodies: Vec<_> = phone
        .inbox(&suite.gateway)
        .iter()
        .map(|n| n["body"].to_string())
        .collect();
    assert_eq!(bodies, ["\"before\"", "\"within\"", "\"down\""]);
}

#[tokio::test]
async fn what_was_confirmed_while_push_was_down_is_not_notified() {
    let mut suite = Suite::new(Config {
        window_ms: 2_000,
        ..quick()
    })
    .await;
    bobs(&suite, "phone");
    suite.kill().await;
    suite.settle();
    let seq = suite.append(&alice_bob(), "alice", text("hello")).await;
    // so much that what follows is not read together with the message; then reading stops for a while
    suite.fill(&alice_bob(), 20_000).await;
    suite.fakes.0.routing_down.store(true, Ordering::Relaxed);
    suite.append(&friends(), "alice", text("to nobody")).await;
    let last = suite.append(&alice_bob(), "bob", delivered(seq)).await;
    pause(2_500).await;
    suite.restart().await;
    eventually(async || suite.fakes.0.members_calls.load(Ordering::Relaxed) > 2).await;
    pause(100).await;
    suite.fakes.0.routing_down.store(false, Ordering::Relaxed);
    suite.wait_committed(last).await;
    assert_eq!(suite.gateway.count(), 0);
}

#[tokio::test]
async fn a_notification_that_was_not_taken_yet_is_sent_after_a_crash() {
    let mut suite = Suite::new(Config {
        retry_first_ms: 60_000,
        retry_max_ms: 60_000,
        retry_total_ms: 300_000,
        ..quick()
    })
    .await;
    bobs(&suite, "phone");
    suite.settle();
    suite.gateway.status(503);
    let seq = suite.append(&alice_bob(), "alice", text("hello")).await;
    eventually(async || suite.gateway.count() == 1).await;
    pause(100).await;
    assert!(suite.committed().await <= seq.offset());
    suite.kill().await;
    suite.gateway.status(201);
    suite.restart().await;
    eventually(async || suite.gateway.count() == 2).await;
    suite.wait_committed(seq).await;
}

#[tokio::test]
async fn a_copy_is_notified_once_even_across_a_restart() {
    let mut suite = Suite::new(quick()).await;
    bobs(&suite, "phone");
    suite.settle();
    let id = "018f4d2e-1111-7000-8000-000000000001";
    let with_id = |e: &mut tandem_kernel::event::Envelope| {
        e.event.as_mut().unwrap().event_id = id.into();
    };
    let first = suite
        .append_with(&alice_bob(), "alice", text("hello"), with_id)
        .await;
    eventually(async || suite.gateway.count() == 1).await;
    suite.wait_committed(first).await;
    suite.kill().await;
    suite.restart().await;
    let copy = suite
        .append_with(&alice_bob(), "alice", text("hello"), with_id)
        .await;
    suite.wait_committed(copy).await;
    assert_eq!(suite.gateway.count(), 1);
}

#[tokio::test]
async fn those_it_is_withheld_from_are_not_notified() {
    let suite = Suite::new(quick()).await;
    bobs(&suite, "phone");
    suite.settle();
    let seq = suite
        .append_with(&alice_bob(), "alice", text("hello"), |e| {
            e.withheld_from.push("bob@x.test".into());
        })
        .await;
    suite.wait_committed(seq).await;
    assert_eq!(suite.gateway.count(), 0);
}

#[tokio::test]
async fn neither_senders_nor_receipts_nor_edits_ring() {
    let suite = Suite::new(quick()).await;
    bobs(&suite, "phone");
    suite.settle();
    let seq = suite.append(&alice_bob(), "bob", text("mine")).await;
    let edit = tandem_kernel::event::Edit {
        target: seq.0,
        ..Default::default()
    };
    suite.append(&alice_bob(), "alice", delivered(seq)).await;
    let last = suite.append(&alice_bob(), "alice", Kind::Edit(edit)).await;
    suite.wait_committed(last).await;
    assert_eq!(suite.gateway.count(), 0);
}

#[tokio::test]
async fn every_member_of_a_group_is_notified_from_where_they_joined() {
    let suite = Suite::new(quick()).await;
    suite.settle();
    let bob = bobs(&suite, "phone");
    let dan = Device::subscribe(&suite.gateway, "dans");
    suite.fakes.subscribe("dan", "dans", dan.token.clone());
    let create = GroupCreate {
        title: "friends".into(),
        members: vec![user("bob").to_string()],
    };
    suite
        .append(&friends(), "alice", Kind::GroupCreate(create))
        .await;
    suite.append(&friends(), "alice", text("one")).await;
    let add = MembersAdd {
        members: vec![user("dan").to_string()],
    };
    suite
        .append(&friends(), "alice", Kind::MembersAdd(add))
        .await;
    suite.append(&friends(), "alice", text("two")).await;
    // does not count: not a member
    let last = suite.append(&friends(), "mallory", text("three")).await;
    suite.wait_committed(last).await;
    let bodies = |d: &Device| {
        let mut all: Vec<_> = d
            .inbox(&suite.gateway)
            .iter()
            .map(|n| n["body"].to_string())
            .collect();
        all.sort();
        all
    };
    assert_eq!(bodies(&bob), ["\"one\"", "\"two\""]);
    assert_eq!(bodies(&dan), ["\"two\""]);
    assert_eq!(bob.inbox(&suite.gateway)[0]["title"], "friends");
}

#[tokio::test]
async fn a_group_that_cannot_be_looked_up_is_waited_for() {
    let suite = Suite::new(quick()).await;
    suite.settle();
    bobs(&suite, "phone");
    suite.fakes.0.groups.lock().insert(
        friends().to_string(),
        members(Seq::new(1, 0).0, &[("alice", 1), ("bob", 1)]),
    );
    suite.fakes.0.routing_down.store(true, Ordering::Relaxed);
    let seq = suite.append(&friends(), "alice", text("hello")).await;
    eventually(async || suite.fakes.0.members_calls.load(Ordering::Relaxed) > 2).await;
    suite.append(&alice_bob(), "alice", text("behind it")).await;
    assert_eq!(
        (
            suite.gateway.count(),
            suite.committed().await <= seq.offset()
        ),
        (0, true)
    );
    suite.fakes.0.routing_down.store(false, Ordering::Relaxed);
    eventually(async || suite.gateway.count() == 2).await;
}

#[tokio::test]
async fn reading_elsewhere_withdraws_the_notification_and_only_then() {
    let suite = Suite::new(quick()).await;
    let (phone, tablet) = (bobs(&suite, "phone"), bobs(&suite, "tablet"));
    suite.settle();
    let first = suite.append(&alice_bob(), "alice", text("one")).await;
    eventually(async || suite.gateway.count() == 2).await;
    let second = suite.append(&alice_bob(), "alice", text("two")).await;
    eventually(async || suite.gateway.count() == 4).await;
    // the notification tells of the second by now
    let seq = suite.append(&alice_bob(), "bob", read(first)).await;
    suite.wait_committed(seq).await;
    pause(100).await;
    assert_eq!(suite.gateway.count(), 4);
    suite.append(&alice_bob(), "bob", read(second)).await;
    eventually(async || suite.gateway.count() == 6).await;
    for device in [&phone, &tablet] {
        let inbox = device.inbox(&suite.gateway);
        let last = inbox.last().unwrap();
        assert_eq!(
            (&last["type"], &last["up_to"]),
            (&"withdraw".into(), &second.to_string().into())
        );
        assert_eq!(last["tag"], inbox[0]["tag"]);
    }
    suite.append(&alice_bob(), "bob", read(second)).await;
    pause(200).await;
    assert_eq!(suite.gateway.count(), 6);
}

#[tokio::test]
async fn reading_withdraws_nothing_that_was_not_notified() {
    let suite = Suite::new(quick()).await;
    bobs(&suite, "phone");
    let seq = suite.append(&alice_bob(), "alice", text("one")).await;
    let seq = suite.append(&alice_bob(), "bob", read(seq)).await;
    suite.wait_committed(seq).await;
    pause(400).await;
    assert_eq!(suite.gateway.count(), 0);
}

#[tokio::test]
async fn an_event_too_old_to_matter_is_not_notified() {
    let mut suite = Suite::new(Config {
        ttl_ms: 700,
        ..quick()
    })
    .await;
    bobs(&suite, "phone");
    suite.kill().await;
    let seq = suite.append(&alice_bob(), "alice", text("old")).await;
    pause(800).await;
    suite.restart().await;
    suite.wait_committed(seq).await;
    assert_eq!(suite.gateway.count(), 0);
}
