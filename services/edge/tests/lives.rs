//! Sessions' lives: breaks, resumes, replacements, slow readers, lost stores, drains.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::{sync::atomic::Ordering, time::Duration};

use common::{
    World,
    device::{self, Device, event_id, text},
    settle,
};
use futures::{SinkExt, StreamExt};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::Address;
use tandem_proto::{
    client::{
        Bye, ClientFrame, Event, Heads, Hello, Presence, Received, Resume, SetPresence, Status,
        client_frame, server_frame,
    },
    edge::{DeliverBatch, Delivery, delivery::What},
};
use tokio_tungstenite::tungstenite::Message;

const ALICE_BOB: &str = "o:alice@tandem.test,bob@tandem.test";

fn alice() -> Address {
    Address::parse("alice@tandem.test").unwrap()
}

fn event(seq: u64, sender: &str) -> Event {
    let frame = text("x@x", seq, "hi");
    let client_frame::Frame::Submit(submit) = frame else {
        unreachable!()
    };
    Event {
        event_id: event_id(seq),
        conversation: ALICE_BOB.into(),
        seq,
        sender: sender.into(),
        body: submit.body,
        ..Event::default()
    }
}

/// Opens a session and says its id.
async fn open(w: &World, who: &str, device: &str) -> (Device, String) {
    let mut d = w.connect().await;
    d.hello(&w.keys.token(who), device).await;
    let session = d.welcome().await.session;
    d.synced().await;
    (d, session)
}

#[tokio::test(start_paused = true)]
async fn after_a_short_break_a_device_has_what_it_missed_and_no_sync() {
    let w = World::new().await;
    let (mut d, session) = open(&w, "alice", "pc").await;
    w.fakes.routing.deliver(event(1, "bob@tandem.test")).await;
    d.event().await;
    let seen = d.n;
    w.fakes.routing.deliver(event(2, "bob@tandem.test")).await;
    drop(d);
    settle().await;
    assert_eq!(w.ephemeral.reach(&[alice()]).await.unwrap()[0].attached, 0);
    for seq in 3..=5 {
        w.fakes.routing.deliver(event(seq, "bob@tandem.test")).await;
    }
    tokio::time::sleep(Duration::from_secs(50)).await;
    let syncs = w.fakes.history.syncs.lock().len();
    let mut d = w.connect().await;
    d.n = seen;
    d.resume(&w.keys.token("alice"), "pc", &session, seen).await;
    let welcome = d.welcome().await;
    assert!(welcome.resumed);
    assert_eq!(welcome.session, session);
    for seq in 2..=5 {
        assert_eq!(d.event().await.seq, seq);
    }
    assert_eq!(
        (w.metrics.resumed.get(), w.fakes.history.syncs.lock().len()),
        (1, syncs)
    );
    assert_eq!(w.ephemeral.reach(&[alice()]).await.unwrap()[0].attached, 1);
    w.fakes.routing.deliver(event(6, "bob@tandem.test")).await;
    assert_eq!(d.event().await.seq, 6);
}

#[tokio::test(start_paused = true)]
async fn a_status_chosen_while_away_holds_in_the_resumed_session() {
    let w = World::new().await;
    let (d, session) = open(&w, "alice", "pc").await;
    let seen = d.n;
    drop(d);
    settle().await;
    let mut d = w.connect().await;
    let hello = Hello {
        status: Status::Busy.into(),
        resume: Some(Resume {
            session: session.clone(),
            n: seen,
        }),
        ..device::hello(&w.keys.token("alice"), "pc")
    };
    d.send(client_frame::Frame::Hello(hello)).await;
    assert!(d.welcome().await.resumed);
    settle().await;
    w.ephemeral.settle(&[alice()]).await.unwrap();
    let statuses = w.ephemeral.statuses(&[alice()]).await.unwrap();
    assert_eq!(statuses[0].as_ref().unwrap().status, Status::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_resume_that_cannot_be_begins_a_session_that_syncs() {
    let w = World::new().await;
    let (d, session) = open(&w, "alice", "pc").await;
    drop(d);
    settle().await;
    for (who, device, session, n) in [
        ("alice", "pc", "00000000-0000-4000-8000-000000000000", 0),
        ("bob", "pc", session.as_str(), 1),
        ("alice", "other", session.as_str(), 1),
        ("alice", "pc", session.as_str(), 1000),
    ] {
        let mut d = w.connect().await;
        d.resume(&w.keys.token(who), device, session, n).await;
        let welcome = d.welcome().await;
        assert!(!welcome.resumed);
        assert_ne!(welcome.session, session);
        d.synced().await;
    }
    assert_eq!(
        (w.metrics.resumed.get(), w.metrics.not_resumed.get()),
        (0, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_device_stays_away_or_says_bye_is_gone() {
    let w = World::new().await;
    let (d, _) = open(&w, "alice", "pc").await;
    let (mut phone, _) = open(&w, "alice", "phone").await;
    drop(d);
    phone.send(client_frame::Frame::Bye(Bye {})).await;
    settle().await;
    assert_eq!(
        w.ephemeral.reach(&[alice()]).await.unwrap()[0].sessions,
        1,
        "bye is at once"
    );
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(w.ephemeral.reach(&[alice()]).await.unwrap()[0].sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_newer_session_of_a_device_replaces_the_older_one() {
    let w = World::new().await;
    let (mut old, _) = open(&w, "alice", "pc").await;
    let (_new, _) = open(&w, "alice", "pc").await;
    let closing = old.closing().await;
    assert_eq!(
        (closing.code.as_str(), closing.reconnect_after_ms),
        ("replaced", 0)
    );
    assert_eq!(w.ephemeral.reach(&[alice()]).await.unwrap()[0].sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn events_pass_in_rising_seq_and_statuses_in_rising_version() {
    let w = World::new().await;
    let (mut d, _) = open(&w, "alice", "pc").await;
    for seq in [5, 4, 5, 7, 6, 8] {
        w.fakes.routing.deliver(event(seq, "bob@tandem.test")).await;
    }
    for seq in [5, 7, 8] {
        assert_eq!(d.event().await.seq, seq);
    }
    let live = w.ephemeral.reach(&[alice()]).await.unwrap()[0].live.clone();
    let sessions = vec![
        bytes::Bytes::from(live[0].1.to_bytes().to_vec()),
        bytes::Bytes::from_static(&[9; 16]),
        bytes::Bytes::from_static(b"bad"),
    ];
    let deliveries = [4, 6, 6, 7].map(|version| Delivery {
        sessions: sessions.clone(),
        what: Some(What::Presence(Presence {
            user: "bob@tandem.test".into(),
            version,
            ..Presence::default()
        })),
        traceparent: String::new(),
    });
    let batch = DeliverBatch {
        id: 77,
        deliveries: deliveries.into(),
    };
    let mut acks = w
        .edge_client()
        .deliver(futures::stream::iter([batch]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(acks.message().await.unwrap().unwrap().id, 77);
    for version in [6, 7] {
        let got = d.find(|f| match f {
            server_frame::Frame::Presence(p) => Some(p.version),
            _ => None,
        });
        assert_eq!(got.await, version, "the snapshot had 5");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_read_is_closed_and_has_everything_when_it_returns() {
    let w = World::with(|c| {
        c.mailbox_items = 64;
        c.stall_ms = 60_000;
    })
    .await;
    let mut d = Device::binary(w.socket(4096)).await;
    d.hello(&w.keys.token("alice"), "pc").await;
    d.welcome().await;
    d.synced().await;
    for seq in 1..=200 {
        w.fakes.routing.deliver(event(seq, "bob@tandem.test")).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(w.metrics.slow_readers.get(), 1);
    assert_eq!(w.ephemeral.reach(&[alice()]).await.unwrap()[0].sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_nothing_is_let_go_before_the_mailbox_is_full() {
    let w = World::new().await;
    let mut d = Device::binary(w.socket(1024)).await;
    d.hello(&w.keys.token("alice"), "pc").await;
    d.welcome().await;
    d.synced().await;
    for seq in 1..=50 {
        w.fakes.routing.deliver(event(seq, "bob@tandem.test")).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(w.metrics.slow_readers.get(), 0);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(w.metrics.slow_readers.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_device_resumes_on_a_new_connection_and_has_everything_once_in_order() {
    let w = World::new().await;
    let mut frozen = Device::binary(w.socket(1024)).await;
    frozen.hello(&w.keys.token("alice"), "pc").await;
    let session = frozen.welcome().await.session;
    frozen.synced().await;
    for seq in 1..=50 {
        w.fakes.routing.deliver(event(seq, "bob@tandem.test")).await;
    }
    settle().await;
    let mut d = w.connect().await;
    d.n = frozen.n;
    d.resume(&w.keys.token("alice"), "pc", &session, frozen.n)
        .await;
    assert!(d.welcome().await.resumed);
    for seq in 1..=50 {
        assert_eq!(d.event().await.seq, seq);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_ephemeral_store_is_emptied_sessions_are_registered_again_and_synced() {
    let w = World::new().await;
    let (mut d, _) = open(&w, "alice", "pc").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    w.ephemeral.empty();
    assert_eq!(w.ephemeral.reach(&[alice()]).await.unwrap()[0].sessions, 0);
    w.fakes.routing.deliver(event(1, "bob@tandem.test")).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(
        w.ephemeral.reach(&[alice()]).await.unwrap()[0].live.len(),
        1
    );
    d.synced().await;
    assert_eq!(w.fakes.history.syncs.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flagged_session_is_synced_from_what_it_holds_and_live_again() {
    let w = World::new().await;
    let (mut d, _) = open(&w, "alice", "pc").await;
    w.fakes.routing.deliver(event(7, "bob@tandem.test")).await;
    let seq = d.event().await.seq;
    d.received(ALICE_BOB, seq).await;
    settle().await;
    let id = w.ephemeral.reach(&[alice()]).await.unwrap()[0].live[0].1;
    w.ephemeral.flag_resync(&[(alice(), id)]).await.unwrap();
    assert!(
        w.ephemeral.reach(&[alice()]).await.unwrap()[0]
            .live
            .is_empty()
    );
    tokio::time::sleep(Duration::from_secs(6)).await;
    d.synced().await;
    assert_eq!(
        w.ephemeral.reach(&[alice()]).await.unwrap()[0].live.len(),
        1
    );
    let have = w.fakes.history.syncs.lock()[1].have.clone();
    assert_eq!(
        have.into_iter().collect::<Vec<_>>(),
        [(ALICE_BOB.to_owned(), 7)]
    );
}

/// The next frame that counts for what the device holds.
async fn next_of_conversations(d: &mut Device) -> server_frame::Frame {
    d.find(|f| {
        use server_frame::Frame as F;
        matches!(f, F::Heads(_) | F::Synced(_) | F::Event(_)).then_some(f)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_device_is_told_that_its_session_syncs_again_before_anything_comes_live() {
    let w = World::new().await;
    let (mut d, session) = open(&w, "alice", "pc").await;
    w.fakes.routing.deliver(event(7, "bob@tandem.test")).await;
    d.event().await;
    d.received(ALICE_BOB, 7).await;
    settle().await;
    let id = w.ephemeral.reach(&[alice()]).await.unwrap()[0].live[0].1;
    w.ephemeral.flag_resync(&[(alice(), id)]).await.unwrap();
    // kept from it
    w.fakes.routing.deliver(event(8, "bob@tandem.test")).await;
    w.fakes.history.complete.send_replace(false);
    tokio::time::sleep(Duration::from_secs(6)).await;
    w.fakes.routing.deliver(event(9, "bob@tandem.test")).await;
    let told = next_of_conversations(&mut d).await;
    assert_eq!(told, server_frame::Frame::Heads(Heads::default()));
    assert_eq!(d.event().await.seq, 9);
    // a device that has not heard of it yet claims too much
    let receipts = w.fakes.routing.receipts().len();
    let claim = Received {
        conversation: ALICE_BOB.into(),
        seq: 9,
        ..Received::default()
    };
    d.send_frame(ClientFrame {
        ack: 0,
        frame: Some(client_frame::Frame::Received(claim)),
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let said = w.fakes.routing.receipts().split_off(receipts);
    assert_eq!(said.len(), 1);
    assert_eq!(
        (said[0].1.delivered, &*said[0].1.delivered_exact),
        (0, &[9][..])
    );
    // it is told on a new connection, too
    let seen = d.n - 2;
    drop(d);
    settle().await;
    let mut d = w.connect().await;
    d.n = seen;
    d.resume(&w.keys.token("alice"), "pc", &session, seen).await;
    assert!(d.welcome().await.resumed);
    let told = next_of_conversations(&mut d).await;
    assert_eq!(told, server_frame::Frame::Heads(Heads::default()));
    assert_eq!(d.event().await.seq, 9);
    w.fakes.history.complete.send_replace(true);
    d.synced().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_is_told_that_its_session_syncs_again_when_the_store_has_lost_it() {
    let w = World::new().await;
    let (mut d, _) = open(&w, "alice", "pc").await;
    w.ephemeral.empty();
    w.fakes.routing.deliver(event(1, "bob@tandem.test")).await;
    w.fakes.history.complete.send_replace(false);
    tokio::time::sleep(Duration::from_secs(6)).await;
    w.fakes.routing.deliver(event(2, "bob@tandem.test")).await;
    let told = next_of_conversations(&mut d).await;
    assert_eq!(told, server_frame::Frame::Heads(Heads::default()));
    assert_eq!(d.event().await.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_flagged_while_it_syncs_is_synced_once_from_the_flag_on() {
    let w = World::new().await;
    w.fakes.history.complete.send_replace(false);
    let mut d = w.connect().await;
    d.hello(&w.keys.token("alice"), "pc").await;
    d.welcome().await;
    settle().await;
    let id = w.ephemeral.reach(&[alice()]).await.unwrap()[0].live[0].1;
    w.ephemeral.flag_resync(&[(alice(), id)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    w.fakes.history.complete.send_replace(true);
    d.synced().await;
    let more = d.next_within(Duration::from_secs(5)).await;
    assert!(more.is_none(), "synced once: {more:?}");
    assert_eq!(w.fakes.history.syncs.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flag_whose_clearing_is_not_answered_is_cleared_again_and_the_session_synced() {
    let w = World::new().await;
    let (mut d, _) = open(&w, "alice", "pc").await;
    let id = w.ephemeral.reach(&[alice()]).await.unwrap()[0].live[0].1;
    w.flaky.clearings.store(1, Ordering::SeqCst);
    w.ephemeral.flag_resync(&[(alice(), id)]).await.unwrap();
    let told = next_of_conversations(&mut d).await;
    assert_eq!(told, server_frame::Frame::Heads(Heads::default()));
    d.synced().await;
}

#[tokio::test(start_paused = true)]
async fn a_lapse_that_a_lost_answer_told_of_is_noticed_all_the_same() {
    let w = World::new().await;
    let (mut d, _) = open(&w, "alice", "pc").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    // as the store sees it, its time ran on meanwhile
    w.ephemeral.release(&w.id).await.unwrap();
    w.flaky.renewals.store(20, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(30)).await;
    d.synced().await;
    assert_eq!(
        w.ephemeral.reach(&[alice()]).await.unwrap()[0].live.len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_chosen_while_a_renewal_has_no_answer_lets_nothing_come_over_a_gap() {
    let w = World::new().await;
    let (mut d, _) = open(&w, "alice", "pc").await;
    w.ephemeral.release(&w.id).await.unwrap();
    w.flaky.renewals.store(20, Ordering::SeqCst);
    // the lease counts again by now, but that has no answer
    tokio::time::sleep(Duration::from_secs(6)).await;
    let busy = SetPresence {
        status: Status::Busy.into(),
        message: String::new(),
    };
    d.send(client_frame::Frame::SetPresence(busy)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let reached = w.ephemeral.reach(&[alice()]).await.unwrap();
    assert_eq!(reached[0].live.len(), 0, "it is not told of the gap yet");
    tokio::time::sleep(Duration::from_secs(15)).await;
    let told = next_of_conversations(&mut d).await;
    assert_eq!(told, server_frame::Frame::Heads(Heads::default()));
    d.synced().await;
    let reached = w.ephemeral.reach(&[alice()]).await.unwrap();
    assert_eq!(reached[0].live.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn statuses_are_shown_once_presence_can_be_asked() {
    let w = World::new().await;
    w.fakes.presence.down.store(true, Ordering::SeqCst);
    let (mut d, _) = open(&w, "alice", "pc").await;
    w.fakes.presence.down.store(false, Ordering::SeqCst);
    let bob = |f| match f {
        server_frame::Frame::Presence(p) => Some(p.version),
        _ => None,
    };
    assert_eq!(d.find(bob).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_drain_asks_devices_to_leave_at_a_pace_and_gives_the_lease_back() {
    let w = World::with(|c| c.drain_per_s = 2).await;
    let mut devices = Vec::new();
    for i in 0..4 {
        devices.push(w.open("alice", &format!("d{i}")).await);
    }
    let began = tokio::time::Instant::now();
    w.lifecycle.set_ready();
    w.lifecycle.stop();
    let mut after = Vec::new();
    let mut took = Vec::new();
    for d in &mut devices {
        let closing = d.closing().await;
        assert_eq!(closing.code, "draining");
        assert!((1_000..2_000).contains(&closing.reconnect_after_ms));
        after.push(closing.reconnect_after_ms);
        took.push(began.elapsed());
    }
    after.dedup();
    assert!(after.len() > 1, "jittered");
    assert!(
        took.iter().max().unwrap() >= &Duration::from_millis(1_400),
        "{took:?}"
    );
    assert_eq!(
        w.lifecycle.run_to_end(Duration::from_secs(20)).await.code(),
        0
    );
    assert_eq!(w.ephemeral.reach(&[alice()]).await.unwrap()[0].sessions, 0);
    assert!(
        Device::with(w.socket(1 << 16), Some("tandem.v1"))
            .await
            .is_err(),
        "no new ones"
    );
}

#[tokio::test(start_paused = true)]
async fn a_closing_handshake_is_answered_and_pings_of_the_carrier_keep_a_session() {
    let w = World::new().await;
    let (mut d, _) = open(&w, "alice", "pc").await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        d.ws.send(Message::Ping(bytes::Bytes::new())).await.unwrap();
    }
    assert_eq!(w.ephemeral.reach(&[alice()]).await.unwrap()[0].attached, 1);
    d.ws.close(None).await.unwrap();
    let mut last = None;
    while let Some(message) = d.ws.next().await {
        last = Some(message.unwrap());
    }
    assert!(matches!(last, Some(Message::Close(_))), "{last:?}");
    settle().await;
    let reach = w.ephemeral.reach(&[alice()]).await.unwrap()[0].clone();
    assert_eq!((reach.attached, reach.sessions), (0, 1), "it may resume");
}
