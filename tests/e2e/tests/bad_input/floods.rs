//! Too much at once, and too slow.

use std::time::Duration;

use prost::Message as _;
use tandem_e2e_tests::{Device, Up, device::between};
use tandem_kernel::Code;
use tandem_proto::client::{
    ClientFrame, PageRequest, Ping, client_frame::Frame, request::Op, response,
    server_frame::Frame as Answer,
};
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{Bystanders, Raw, refused, submit, text};

/// The slowest of some messages of people who mind their own business.
async fn slowest(others: &mut Bystanders, messages: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..messages {
        slowest = slowest.max(others.still_talk().await);
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_refused_with_a_time_to_wait_and_others_go_on_as_ever() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    let chloe = Device::connect(&up, "chloe", "pc");
    chloe.synced().await;
    let before = slowest(&mut others, 20).await;

    let (mut dan, welcome) = Raw::open(&up, "dan", "flood", false).await;
    let burst = welcome.limits.unwrap().events_burst as usize;
    let flood = tokio::spawn(async move {
        let (mut taken, mut refusals) = (Vec::new(), 0_usize);
        let events: Vec<_> = (0..burst + 500)
            .map(|i| (i, submit("chloe", text(i.to_string()))))
            .collect();
        // all of it before any answer is read
        for (_, event) in &events {
            dan.send(Frame::Submit(event.clone())).await;
        }
        while taken.len() + refusals < events.len() {
            match dan.receive().await.expect("the session goes on") {
                Answer::Accepted(accepted) => {
                    let i = events
                        .iter()
                        .position(|(_, e)| e.event_id == accepted.event_id);
                    taken.push(i.expect("an event of ours"));
                }
                Answer::Rejected(rejected) => {
                    assert_eq!(rejected.code, Code::RateLimited.as_str());
                    assert!(rejected.retry_after_ms > 0, "{rejected:?}");
                    refusals += 1;
                }
                _ => {}
            }
        }
        // what was refused is given up; after the time that it was told, the next is taken
        dan.acknowledge().await;
        let mut next = submit("chloe", text("later"));
        while let Err(rejected) = dan.answer(next.clone()).await {
            tokio::time::sleep(Duration::from_millis(rejected.retry_after_ms.into())).await;
            next.retry = true;
        }
        (dan, taken, refusals)
    });
    let during = slowest(&mut others, 40).await;
    let (mut dan, taken, refusals) = flood.await.unwrap();
    assert!(
        taken.len() >= burst && refusals > 100,
        "{} and {refusals}",
        taken.len()
    );
    assert!(
        refused(&up, Code::RateLimited) >= refusals as f64,
        "they are counted"
    );
    assert!(
        during < before * 4 + Duration::from_millis(500),
        "{during:?}, where {before:?} is usual"
    );
    // what was accepted is there, in order, and nothing else
    let shown = chloe
        .shows_at_least(&between("chloe", "dan"), taken.len() + 1)
        .await;
    let mut expected: Vec<_> = taken.iter().map(ToString::to_string).collect();
    expected.push("later".into());
    assert_eq!(
        shown.into_iter().map(|(_, t)| t).collect::<Vec<_>>(),
        expected
    );

    // a sender that takes no refusal for an answer is closed
    let count = refused(&up, Code::RateLimited);
    let mut sent = Vec::new();
    for nonce in 0..3000 {
        let frame = ClientFrame {
            ack: 0,
            frame: Some(Frame::Ping(Ping { nonce })),
        };
        sent.push(frame.encode_to_vec());
    }
    for frame in sent {
        dan.send_message(Message::binary(frame)).await;
    }
    let closing = dan.closing().await;
    assert_eq!(closing.code, Code::RateLimited.as_str());
    assert!(closing.reconnect_after_ms > 0);
    assert_eq!(refused(&up, Code::RateLimited), count + 1.0);
    others.still_talk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_closed_holds_up_nobody_and_has_everything_when_it_returns() {
    const MESSAGES: usize = 800;
    let fast = ["edge.events_per_s=2000", "edge.events_burst=2000"];
    let stall = ["edge.stall_ms=2000", "edge.mailbox_bytes=1000000"];
    let args: Vec<_> = fast
        .iter()
        .chain(&stall)
        .flat_map(|s| ["--set", s])
        .collect();
    let up = Up::start(&args);
    let mut others = Bystanders::new(&up).await;
    let quick = Device::connect(&up, "chloe", "quick");
    quick.synced().await;

    // a device that takes in next to nothing, and then nothing
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = Raw::connect_by(socket, &up, false).await;
    let token = crate::raw::token(&up, "chloe", 3600);
    slow.sign_in(crate::raw::hello(token.clone(), "slow")).await;
    slow.until("synced", |a| matches!(a, Answer::Synced(_)).then_some(()))
        .await;

    let dan = Device::connect(&up, "dan", "pc");
    dan.synced().await;
    let line = |i: usize| format!("{i} {}", "x".repeat(12_000));
    let sent: Vec<_> = (0..MESSAGES)
        .map(|i| dan.client.send_text("chloe", line(i)))
        .collect();
    let during = slowest(&mut others, 20).await;
    assert!(during < Duration::from_secs(10), "{during:?}");
    for sent in sent {
        sent.outcome().await.expect("accepted");
    }
    let here = between("chloe", "dan");
    let shown = quick.shows_at_least(&here, MESSAGES).await;
    assert!(
        shown
            .iter()
            .map(|(_, t)| t.clone())
            .eq((0..MESSAGES).map(line))
    );

    let closed = async {
        while up.metric("tandem_edge_slow_readers_total", &[]) < 1.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), closed)
        .await
        .expect("it is closed");
    assert_eq!(refused(&up, Code::SlowReader), 1.0);
    // what it had been sent until then is whole and in order, and then the connection has ended
    let mut last = 0;
    while let Some(frame) = slow.receive().await {
        match frame {
            Answer::Event(event) => {
                assert!(event.conversation != here || event.seq > last);
                last = event.seq;
            }
            Answer::Closing(closing) => assert_eq!(closing.code, Code::SlowReader.as_str()),
            _ => {}
        }
    }
    // it comes back and pages from where it stands
    let mut back = Raw::connect(&up, false).await;
    back.sign_in(crate::raw::hello(token, "slow")).await;
    back.until("synced", |a| matches!(a, Answer::Synced(_)).then_some(()))
        .await;
    let (mut after, mut got, mut id) = (1, Vec::new(), 0);
    loop {
        id += 1;
        let page = PageRequest {
            conversation: here.clone(),
            after,
            limit: 200,
            before: 0,
        };
        let Ok(response::Result::Page(page)) = back.ask(id, Op::Page(page)).await else {
            panic!("no page");
        };
        after = page.events.last().map_or(after, |e| e.seq);
        got.extend(page.events.into_iter().filter_map(|e| match e.body?.kind? {
            tandem_proto::client::body::Kind::Text(text) => Some(text.text),
            _ => None,
        }));
        if !page.more {
            break;
        }
    }
    assert!(
        got.into_iter().eq((0..MESSAGES).map(line)),
        "everything, once, in order"
    );
    others.still_talk().await;
}
