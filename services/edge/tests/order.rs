//! One device's sending order, whatever is refused for now on the way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::time::Duration;

use common::{
    World,
    device::{Device, event_id, text},
    fakes::Mode,
    settle,
};
use tandem_proto::client::{ClientFrame, Rejected, client_frame, server_frame};

/// Sends as a device does that acknowledges nothing.
async fn send(device: &mut Device, frame: client_frame::Frame) {
    let frame = ClientFrame {
        ack: 0,
        frame: Some(frame),
    };
    device.send_frame(frame).await;
}

async fn say(device: &mut Device, events: impl IntoIterator<Item = u64>) {
    for i in events {
        send(device, text("bob@tandem.test", i, "hi")).await;
    }
}

async fn accepted(device: &mut Device) -> String {
    let accepted = |frame| match frame {
        server_frame::Frame::Accepted(a) => Some(a.event_id),
        server_frame::Frame::Rejected(r) => panic!("rejected: {r:?}"),
        _ => None,
    };
    device.find(accepted).await
}

async fn rejected(device: &mut Device) -> Rejected {
    let rejected = |frame| match frame {
        server_frame::Frame::Rejected(r) => Some(r),
        server_frame::Frame::Accepted(a) => panic!("accepted: {a:?}"),
        _ => None,
    };
    let rejected = device.find(rejected).await;
    assert!(rejected.retry_after_ms > 0);
    rejected
}

async fn all_rejected(device: &mut Device, events: impl IntoIterator<Item = u64>) {
    for i in events {
        assert_eq!(rejected(device).await.event_id, event_id(i));
    }
}

async fn all_accepted(device: &mut Device, events: impl IntoIterator<Item = u64>) {
    for i in events {
        assert_eq!(accepted(device).await, event_id(i));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_behind_an_event_that_routing_refuses_for_now_does_not_overtake_it() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    w.fakes.routing.set(Mode::Refuse);
    say(&mut alice, [1]).await;
    settle().await;
    w.fakes.routing.set(Mode::Accept);
    // sent before the device knows
    say(&mut alice, [2, 3]).await;
    all_rejected(&mut alice, [1, 2, 3]).await;
    // another conversation, and another device, go on
    send(&mut alice, text("chloe@tandem.test", 4, "hi")).await;
    all_accepted(&mut alice, [4]).await;
    let mut phone = w.open("alice", "phone").await;
    say(&mut phone, [5]).await;
    all_accepted(&mut phone, [5]).await;
    // nothing new comes before the three
    say(&mut alice, [6, 1, 6, 2, 3, 6]).await;
    all_rejected(&mut alice, [6]).await;
    assert_eq!(rejected(&mut alice).await.event_id, event_id(6));
    all_accepted(&mut alice, [1, 2, 3, 6]).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_above_the_rate_is_not_overtaken_either() {
    let w = World::with(|c| (c.events_burst, c.events_per_s) = (2, 1)).await;
    let mut alice = w.open("alice", "pc").await;
    say(&mut alice, 1..=2).await;
    all_accepted(&mut alice, [1, 2]).await;
    say(&mut alice, [3]).await;
    all_rejected(&mut alice, [3]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    say(&mut alice, [4, 3]).await;
    assert_eq!(rejected(&mut alice).await.code, "rate_limited");
    all_accepted(&mut alice, [3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_knows_of_the_refusal_may_give_the_event_up() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    w.fakes.routing.set(Mode::Refuse);
    say(&mut alice, [1, 2]).await;
    all_rejected(&mut alice, [1, 2]).await;
    w.fakes.routing.set(Mode::Accept);
    say(&mut alice, [3]).await;
    all_rejected(&mut alice, [3]).await;
    // acknowledges all it has seen
    alice.send(text("bob@tandem.test", 4, "hi")).await;
    all_accepted(&mut alice, [4]).await;
    say(&mut alice, [5]).await;
    all_accepted(&mut alice, [5]).await;
}

#[tokio::test(start_paused = true)]
async fn with_no_routing_what_waited_and_what_follows_are_sent_again_in_order() {
    let w = World::with(|c| c.submit_wait_ms = 2_000).await;
    let mut alice = w.open("alice", "pc").await;
    w.peers.unset("routing");
    settle().await;
    say(&mut alice, 1..=2).await;
    all_rejected(&mut alice, [1, 2]).await;
    w.routing_up();
    settle().await;
    say(&mut alice, [3]).await;
    all_rejected(&mut alice, [3]).await;
    say(&mut alice, [1, 2, 3]).await;
    all_accepted(&mut alice, [1, 2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_never_sends_again_what_was_refused_begins_anew() {
    let w = World::with(|c| {
        (c.events_burst, c.events_per_s) = (10_000, 10_000);
    })
    .await;
    let mut alice = w.open("alice", "pc").await;
    w.fakes.routing.set(Mode::Refuse);
    say(&mut alice, 0..1_030).await;
    let closing = alice.closing().await;
    assert_eq!(closing.code, "rate_limited");
    assert!(closing.reconnect_after_ms > 0);
}

#[tokio::test(start_paused = true)]
async fn what_an_edge_finds_after_it_stood_still_may_be_in_the_log_already() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    say(&mut alice, [1]).await;
    all_accepted(&mut alice, [1]).await;
    say(&mut alice, [2]).await;
    // nothing of the edge runs meanwhile
    tokio::time::advance(Duration::from_secs(70)).await;
    all_accepted(&mut alice, [2]).await;
    let seen = w.fakes.routing.texts();
    assert_eq!(seen, [(event_id(1), false), (event_id(2), true)]);
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    say(&mut alice, [3]).await;
    all_accepted(&mut alice, [3]).await;
    assert_eq!(w.fakes.routing.texts()[2], (event_id(3), false));
}
