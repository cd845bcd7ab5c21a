//! People talk through an edge.
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
    device::{Device, event_id, hello, text},
    fakes::Mode,
    settle,
};
use tandem_kernel::{Code, Seq};
use tandem_proto::client::{
    ClientFrame, Head, PageRequest, Ping, Received, Request, SetPresence, Status, Submit, Typing,
    body::Kind, client_frame, messenger_client::MessengerClient, request::Op, response,
    server_frame,
};

const ALICE_BOB: &str = "o:alice@tandem.test,bob@tandem.test";

#[tokio::test(start_paused = true)]
async fn what_alice_sends_reaches_every_device_of_both_in_order() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    let mut others = [
        w.open("alice", "phone").await,
        w.open("bob", "pc").await,
        w.open("bob", "phone").await,
    ];
    for i in 0..50 {
        alice
            .send(text("bob@tandem.test", i, &format!("m{i}")))
            .await;
    }
    for _ in 0..50 {
        alice.answer().await.unwrap();
    }
    for device in &mut others {
        let mut last = 0;
        for i in 0..50 {
            let event = device.event().await;
            assert_eq!(
                (event.event_id, event.sender.as_str()),
                (event_id(i), "alice@tandem.test")
            );
            assert!(event.seq > last);
            last = event.seq;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_json_mapping_and_the_grpc_stream_carry_the_same() {
    let w = World::new().await;
    let mut bob = Device::json(w.socket(1 << 20)).await;
    bob.hello(&w.keys.token("bob"), "terminal").await;
    bob.welcome().await;
    bob.synced().await;

    let socket = parking_lot::Mutex::new(Some(w.socket(1 << 20)));
    let channel = tonic::transport::Endpoint::from_static("http://edge.test")
        .connect_with_connector(tower::service_fn(move |_: http::Uri| {
            let socket = socket.lock().take();
            async move {
                socket
                    .map(hyper_util::rt::TokioIo::new)
                    .ok_or_else(|| std::io::Error::other("once"))
            }
        }))
        .await
        .unwrap();
    let (tx, rx) = tokio::sync::mpsc::channel(8);
    let hello = client_frame::Frame::Hello(hello(&w.keys.token("alice"), "grpc"));
    tx.send(ClientFrame {
        ack: 0,
        frame: Some(hello),
    })
    .await
    .unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(rx);
    let mut frames = MessengerClient::new(channel)
        .connect(stream)
        .await
        .unwrap()
        .into_inner();
    let first = frames.message().await.unwrap().unwrap();
    assert!(
        matches!(first.frame, Some(server_frame::Frame::Welcome(_))),
        "{first:?}"
    );
    tx.send(ClientFrame {
        ack: 0,
        frame: Some(text("bob@tandem.test", 1, "over grpc")),
    })
    .await
    .unwrap();
    let event = bob.event().await;
    assert_eq!(event.event_id, event_id(1));
    tx.send(ClientFrame {
        ack: 0,
        frame: Some(client_frame::Frame::Bye(tandem_proto::client::Bye {})),
    })
    .await
    .unwrap();
    while frames.message().await.unwrap().is_some() {}
}

#[tokio::test(start_paused = true)]
async fn confirmations_become_one_receipt_of_the_user_and_none_of_lies() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    let mut bob = w.open("bob", "pc").await;
    let mut seq = 0;
    for i in 0..3 {
        alice.send(text("bob@tandem.test", i, "hi")).await;
        seq = bob.event().await.seq;
        bob.received(ALICE_BOB, seq).await;
    }
    bob.received(ALICE_BOB, seq + 1000).await;
    bob.received("o:alice@tandem.test,chloe@tandem.test", 7)
        .await;
    bob.send(client_frame::Frame::Read(tandem_proto::client::Read {
        conversation: ALICE_BOB.into(),
        seq: seq - 1,
    }))
    .await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(w.fakes.routing.receipts().is_empty(), "merged for 200 ms");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let receipts = w.fakes.routing.receipts();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(receipts[0].0, "bob@tandem.test");
    assert_eq!(
        (receipts[0].1.delivered, receipts[0].1.read),
        (seq, seq - 1)
    );

    // the receipt itself reaches alice, and confirming it makes no receipt
    let receipt = alice.find(|f| match f {
        server_frame::Frame::Event(e) => {
            matches!(e.body.as_ref().unwrap().kind, Some(Kind::Receipt(_))).then_some(e)
        }
        _ => None,
    });
    let receipt = receipt.await;
    alice.received(ALICE_BOB, receipt.seq).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(w.fakes.routing.receipts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn before_it_is_synced_a_device_confirms_single_events_only() {
    let w = World::new().await;
    w.fakes.history.complete.send_replace(false);
    let mut alice = w.connect().await;
    alice.hello(&w.keys.token("alice"), "pc").await;
    alice.welcome().await;
    let mut bob = w.connect().await;
    bob.hello(&w.keys.token("bob"), "pc").await;
    bob.welcome().await;
    settle().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    alice.send(text("bob@tandem.test", 1, "hi")).await;
    let seq = bob.event().await.seq;
    bob.received(ALICE_BOB, seq).await;
    bob.send(client_frame::Frame::Received(Received {
        conversation: ALICE_BOB.into(),
        exact: true,
        seqs: vec![seq, seq + 9],
        ..Received::default()
    }))
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let receipts = w.fakes.routing.receipts();
    assert_eq!(receipts.len(), 1);
    assert_eq!(
        (
            receipts[0].1.delivered,
            receipts[0].1.delivered_exact.clone()
        ),
        (0, vec![seq])
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_says_who_the_session_is_whatever_the_device_writes() {
    let w = World::new().await;
    let mut mallory = w.open("mallory", "pc").await;
    let client_frame::Frame::Submit(mut submit) = text("", 1, "i am alice") else {
        unreachable!()
    };
    submit.conversation = ALICE_BOB.into();
    mallory.send(client_frame::Frame::Submit(submit)).await;
    assert_eq!(mallory.answer().await, Err("not_a_member".into()));
    mallory.send(text("bob@tandem.test", 2, "hi")).await;
    mallory.answer().await.unwrap();
    let seen = w.fakes.routing.0.seen.lock().clone();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].user.as_str(), seen[0].device.as_str()),
        ("mallory@tandem.test", "pc")
    );
}

#[tokio::test(start_paused = true)]
async fn when_routing_breaks_what_is_unanswered_is_sent_again_in_order() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    w.fakes.routing.set(Mode::Silent);
    for i in 0..5 {
        alice.send(text("bob@tandem.test", i, "hi")).await;
    }
    settle().await;
    assert_eq!(w.fakes.routing.texts().len(), 5);
    w.fakes.routing.set(Mode::Break);
    settle().await;
    alice.send(text("bob@tandem.test", 5, "hi")).await;
    settle().await;
    w.fakes.routing.set(Mode::Accept);
    let mut last = 0;
    for _ in 0..6 {
        let seq = alice.answer().await.unwrap();
        assert!(seq > last, "in order");
        last = seq;
    }
    let expected: Vec<_> = (0..6).map(|i| (event_id(i), i < 5)).collect();
    assert_eq!(w.fakes.routing.texts()[5..], expected);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_reached_no_replica_is_rejected_and_may_be_sent_again() {
    let w = World::new().await;
    w.peers.unset("routing");
    let mut alice = w.open("alice", "pc").await;
    alice.send(text("bob@tandem.test", 1, "hi")).await;
    let rejected = alice.find(|f| match f {
        server_frame::Frame::Rejected(r) => Some(r),
        _ => None,
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (rejected, ()) = tokio::join!(rejected, async {});
    assert_eq!(rejected.code, "unavailable");
    assert!(rejected.retry_after_ms > 0);
    w.routing_up();
    settle().await;
    alice.send(text("bob@tandem.test", 1, "hi")).await;
    alice.answer().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn typing_goes_to_routing_as_a_signal_and_questions_are_answered() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    alice
        .send(client_frame::Frame::Typing(Typing {
            conversation: ALICE_BOB.into(),
            active: true,
        }))
        .await;
    alice
        .send(client_frame::Frame::Ping(Ping { nonce: 9 }))
        .await;
    let pong = alice.find(|f| match f {
        server_frame::Frame::Pong(p) => Some(p.nonce),
        _ => None,
    });
    assert_eq!(pong.await, 9);
    let ask = |id, op| client_frame::Frame::Request(Request { id, op });
    let page = PageRequest {
        conversation: ALICE_BOB.into(),
        limit: 100_000,
        ..PageRequest::default()
    };
    alice.send(ask(1, Some(Op::Page(page)))).await;
    alice
        .send(ask(
            2,
            Some(Op::Contacts(tandem_proto::client::ContactsRequest {})),
        ))
        .await;
    alice
        .send(ask(
            3,
            Some(Op::Members(tandem_proto::client::MembersRequest {
                conversation: ALICE_BOB.into(),
            })),
        ))
        .await;
    alice.send(ask(4, None)).await;
    let mut answers = std::collections::BTreeMap::new();
    while answers.len() < 4 {
        let (id, result) = alice
            .find(|f| match f {
                server_frame::Frame::Response(r) => Some((r.id, r.result)),
                _ => None,
            })
            .await;
        answers.insert(id, result.unwrap());
    }
    let code = |r: &response::Result| match r {
        response::Result::Problem(p) => p.code.clone(),
        other => format!("{other:?}"),
    };
    match &answers[&1] {
        response::Result::Page(p) => assert_eq!(p.events[0].seq, 200, "the limit is clamped"),
        other => panic!("{other:?}"),
    }
    match &answers[&2] {
        response::Result::Contacts(c) => {
            assert_eq!(c.contacts[0].presence.as_ref().unwrap().version, 5);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(code(&answers[&3]), "invalid_argument");
    assert_eq!(code(&answers[&4]), "malformed");
    let seen = w.fakes.routing.0.seen.lock().clone();
    assert!(
        seen.iter()
            .any(|i| i.r#ref == 0 && i.user == "alice@tandem.test"),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_is_registered_and_presence_is_told() {
    use tandem_ephemeral::Ephemeral;
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    let busy = SetPresence {
        status: Status::Busy.into(),
        message: "on a call".into(),
    };
    alice.send(client_frame::Frame::SetPresence(busy)).await;
    settle().await;
    let user = [tandem_kernel::Address::parse("alice@tandem.test").unwrap()];
    let settled = w.ephemeral.settle(&user).await.unwrap();
    assert_eq!(
        (settled[0].1.status, settled[0].1.message.as_str()),
        (Status::Busy, "on a call")
    );
    assert!(
        w.fakes
            .presence
            .changed
            .lock()
            .iter()
            .filter(|u| *u == "alice@tandem.test")
            .count()
            >= 2
    );
    alice
        .send(client_frame::Frame::SetPresence(SetPresence {
            status: 99,
            message: String::new(),
        }))
        .await;
    let code = alice.find(|f| match f {
        server_frame::Frame::Problem(p) => Some(p.code),
        _ => None,
    });
    assert_eq!(code.await, "invalid_argument");
}

#[tokio::test(start_paused = true)]
async fn with_history_stopped_people_chat_and_synced_comes_when_it_is_back() {
    let w = World::new().await;
    w.peers.unset("history");
    let (mut alice, mut bob) = (w.connect().await, w.connect().await);
    for (device, who) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        device.hello(&w.keys.token(who), "pc").await;
        device.welcome().await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    alice.send(text("bob@tandem.test", 1, "hi")).await;
    alice.answer().await.unwrap();
    bob.event().await;
    w.fakes.history.heads.lock().push(Head {
        conversation: ALICE_BOB.into(),
        last_seq: 9,
        ..Head::default()
    });
    w.history_up();
    let heads = bob.find(|f| match f {
        server_frame::Frame::Heads(h) => Some(h.heads.len()),
        server_frame::Frame::Synced(_) => panic!("before the heads"),
        _ => None,
    });
    assert_eq!(heads.await, 1);
    bob.synced().await;
    let sync = w.fakes.history.syncs.lock()[0].clone();
    assert_eq!((sync.ends, sync.generation), (vec![1], 1));
}

#[tokio::test(start_paused = true)]
async fn one_fetch_of_end_offsets_serves_all_who_asked_before_it_began() {
    let w = World::new().await;
    let mut devices = Vec::new();
    for i in 0..20 {
        let mut d = w.connect().await;
        d.hello(&w.keys.token("alice"), &format!("d{i}")).await;
        devices.push(d);
    }
    for d in &mut devices {
        d.welcome().await;
        d.synced().await;
    }
    let fetches = w
        .fakes
        .log
        .fetches
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..=4).contains(&fetches), "{fetches}");
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_event_that_cannot_be_is_rejected_with_its_code() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    alice
        .send(text("bob@tandem.test", 1, &"x".repeat(20_000)))
        .await;
    assert_eq!(alice.answer().await, Err("too_large".into()));
    alice
        .send(client_frame::Frame::Submit(Submit {
            event_id: event_id(2),
            to: "bob@tandem.test".into(),
            ..Submit::default()
        }))
        .await;
    assert_eq!(alice.answer().await, Err("invalid_argument".into()));
    assert_eq!(
        (w.refused(Code::TooLarge), w.refused(Code::InvalidArgument)),
        (1, 1)
    );
    assert!(w.fakes.routing.0.seen.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_read_while_away_is_confirmed_though_no_head_spoke_of_it() {
    let w = World::new().await;
    w.fakes
        .log
        .end
        .store(10, std::sync::atomic::Ordering::Relaxed);
    let mut bob = w.open("bob", "pc").await;
    let read = Seq::new(1, 5).0;
    bob.send(client_frame::Frame::Read(tandem_proto::client::Read {
        conversation: ALICE_BOB.into(),
        seq: read,
    }))
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let receipts = w.fakes.routing.receipts();
    assert_eq!((receipts.len(), receipts[0].1.read), (1, read));
}
