//! What is no frame, and frames that come when they must not.

use futures::SinkExt;
use prost::Message as _;
use tandem_e2e_tests::Up;
use tandem_kernel::Code;
use tandem_proto::client::{
    ClientFrame, Ping, RenewToken, Resume, ServerFrame, client_frame::Frame,
    messenger_client::MessengerClient, server_frame::Frame as Answer,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame as WsFrame,
        coding::{Data, OpCode},
    },
};

use crate::raw::{Bystanders, Raw, hello, refused, submit, text, token};

const LIMIT: usize = 64 * 1024;

fn ping() -> Vec<u8> {
    let frame = ClientFrame {
        ack: 0,
        frame: Some(Frame::Ping(Ping { nonce: 7 })),
    };
    frame.encode_to_vec()
}

fn said() -> Vec<u8> {
    let frame = ClientFrame {
        ack: 0,
        frame: Some(Frame::Submit(submit("alice", text("cut off")))),
    };
    frame.encode_to_vec()
}

fn fragment(op: Data, octets: Vec<u8>, last: bool) -> Message {
    Message::Frame(WsFrame::message(octets, OpCode::Data(op), last))
}

/// Something that is no frame: what it is, whether it goes to a JSON connection, and the code for it.
type Unreadable = (&'static str, bool, Vec<Message>, Code);

fn unreadable() -> Vec<Unreadable> {
    let whole = said();
    let cut = whole[..whole.len() - 3].to_vec();
    let binary = |octets: Vec<u8>| vec![Message::binary(octets)];
    let json = |text: &str| vec![Message::text(text.to_owned())];
    let large = "x".repeat(LIMIT);
    vec![
        ("truncated", false, binary(cut), Code::Malformed),
        ("garbage", false, binary(vec![0xff; 40]), Code::Malformed),
        (
            "a wrong wire type",
            false,
            binary(vec![0x18, 0x01]),
            Code::Malformed,
        ),
        (
            "a length beyond the end",
            false,
            binary(vec![0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            Code::Malformed,
        ),
        (
            "text that is not utf-8",
            false,
            binary(vec![0x52, 0x02, 0x0a, 0xff]),
            Code::Malformed,
        ),
        ("text on binary", false, json("{}"), Code::Malformed),
        (
            "oversize",
            false,
            binary(vec![0; LIMIT + 1]),
            Code::TooLarge,
        ),
        (
            "oversize in parts",
            false,
            vec![
                fragment(Data::Binary, vec![0; LIMIT / 2], false),
                fragment(Data::Continue, vec![0; LIMIT / 2], false),
                fragment(Data::Continue, vec![0; 2], true),
            ],
            Code::TooLarge,
        ),
        (
            "a part of nothing",
            false,
            vec![fragment(Data::Continue, ping(), true)],
            Code::Malformed,
        ),
        (
            "a reserved opcode",
            false,
            vec![fragment(Data::Reserved(5), ping(), true)],
            Code::Malformed,
        ),
        ("binary on json", true, binary(ping()), Code::Malformed),
        ("garbage in json", true, json("ping!"), Code::Malformed),
        (
            "truncated json",
            true,
            json(r#"{"ping":{"nonce":"7"}"#),
            Code::Malformed,
        ),
        (
            "an unknown json field",
            true,
            json(r#"{"ping":{"nonce":"7","sender":"bob@tandem.test"}}"#),
            Code::Malformed,
        ),
        (
            "json that is not utf-8",
            true,
            vec![fragment(Data::Text, b"{\"ping\":{}}\xff".to_vec(), true)],
            Code::Malformed,
        ),
        ("oversize json", true, json(&large), Code::Malformed),
        (
            "more oversize json",
            true,
            json(&format!("{large}x")),
            Code::TooLarge,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_cannot_be_read_closes_its_connection_with_a_code_and_is_counted() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    for signed_in in [true, false] {
        for (what, json, messages, code) in unreadable() {
            let before = refused(&up, code);
            let mut raw = if signed_in {
                Raw::open(&up, "dan", "bad", json).await.0
            } else {
                Raw::connect(&up, json).await
            };
            for message in messages {
                raw.send_message(message).await;
            }
            let closing = raw.closing().await;
            assert_eq!(closing.code, code.as_str(), "{what}: {closing:?}");
            assert!(closing.reconnect_after_ms > 0, "{what}: it may come back");
            assert_eq!(refused(&up, code), before + 1.0, "{what} is counted");
        }
        others.still_talk().await;
    }
    // a frame of which half comes, and no more: nothing to be refused, and nothing left behind
    let (mut raw, _) = Raw::open(&up, "dan", "half", false).await;
    let half: &[u8] = &[0x82, 0xfe, 0x10, 0x00, 1, 2, 3, 4, 5];
    tokio::io::AsyncWriteExt::write_all(raw.ws.get_mut(), half)
        .await
        .unwrap();
    drop(raw);
    others.still_talk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_frame_is_hello_and_it_comes_once() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    let unexpected = Code::UnexpectedFrame.as_str();
    for first in [
        Frame::Ping(Ping { nonce: 1 }),
        Frame::Submit(submit("alice", text("without a hello"))),
    ] {
        let before = refused(&up, Code::UnexpectedFrame);
        let mut raw = Raw::connect(&up, false).await;
        raw.send(first).await;
        assert_eq!(raw.closing().await.code, unexpected);
        assert_eq!(refused(&up, Code::UnexpectedFrame), before + 1.0);
    }
    let before = refused(&up, Code::UnexpectedFrame);
    let (mut raw, _) = Raw::open(&up, "dan", "twice", false).await;
    raw.send(Frame::Hello(hello(token(&up, "bob", 3600), "twice")))
        .await;
    assert_eq!(raw.closing().await.code, unexpected);
    assert_eq!(refused(&up, Code::UnexpectedFrame), before + 1.0);

    // hello itself, as it must not be
    let before = refused(&up, Code::InvalidArgument);
    let good = hello(token(&up, "dan", 3600), "ok");
    let mut bad = vec![good.clone(), good.clone(), good.clone(), good.clone(), good];
    bad[0].device = None;
    bad[1].device.as_mut().unwrap().id = "../../etc".into();
    bad[2].device.as_mut().unwrap().id = "x".repeat(65);
    bad[3].device.as_mut().unwrap().class = 9;
    bad[4].status = 8;
    for hello in bad {
        let mut raw = Raw::connect(&up, false).await;
        raw.send(Frame::Hello(hello)).await;
        assert_eq!(raw.closing().await.code, Code::InvalidArgument.as_str());
    }
    assert_eq!(refused(&up, Code::InvalidArgument), before + 5.0);
    others.still_talk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_does_not_come_in_time_is_not_waited_for() {
    let up = Up::start(&["--set", "edge.hello_ms=2000"]);
    let mut others = Bystanders::new(&up).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Raw::connect(&up, false).await);
    }
    others.still_talk().await;
    for raw in &mut silent {
        assert_eq!(raw.closing().await.code, Code::IdleTimeout.as_str());
    }
    assert_eq!(refused(&up, Code::IdleTimeout), 50.0);
    others.still_talk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_on_with_the_session_of_another() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    let (alice, welcome) = Raw::open(&up, "alice", "phone", false).await;
    drop(alice);
    let mut thief = Raw::connect(&up, false).await;
    let mut forged = hello(token(&up, "dan", 3600), "phone");
    forged.resume = Some(Resume {
        session: welcome.session.clone(),
        n: 0,
    });
    let got = thief.sign_in(forged).await;
    assert!(!got.resumed && got.session != welcome.session);
    assert_eq!(got.user, "dan@tandem.test");

    // nor renews it with a token of someone else
    let before = refused(&up, Code::TokenInvalid);
    thief
        .send(Frame::RenewToken(RenewToken {
            token: token(&up, "alice", 3600),
        }))
        .await;
    let problem = thief
        .until("a problem", |a| match a {
            Answer::Problem(problem) => Some(problem),
            _ => None,
        })
        .await;
    assert_eq!(problem.code, Code::TokenInvalid.as_str());
    assert_eq!(refused(&up, Code::TokenInvalid), before + 1.0);

    // nor acknowledges what was never sent
    let before = refused(&up, Code::InvalidArgument);
    let ack = ClientFrame {
        ack: 1 << 40,
        frame: None,
    };
    thief
        .ws
        .send(Message::binary(ack.encode_to_vec()))
        .await
        .unwrap();
    assert_eq!(thief.closing().await.code, Code::InvalidArgument.as_str());
    assert_eq!(refused(&up, Code::InvalidArgument), before + 1.0);
    others.still_talk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grpc_carrier_refuses_the_same() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{}", up.port))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let large = Frame::Submit(submit("alice", text("x".repeat(LIMIT))));
    let cases = [
        (Frame::Ping(Ping::default()), Code::UnexpectedFrame),
        (large, Code::TooLarge),
        (
            Frame::Hello(hello("garbage".into(), "grpc")),
            Code::TokenInvalid,
        ),
    ];
    for (frame, code) in cases {
        let before = refused(&up, code);
        let frame = ClientFrame {
            ack: 0,
            frame: Some(frame),
        };
        let sent = futures::stream::iter([frame]).chain_pending();
        let mut answers = MessengerClient::new(channel.clone())
            .connect(sent)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(closing_code(&mut answers).await, code.as_str());
        assert_eq!(refused(&up, code), before + 1.0);
    }
    // a message whose first field has the type of another message's
    let before = refused(&up, Code::Malformed);
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let sent = futures::stream::iter([b"as octets".to_vec()]).chain_pending();
    let path = http::uri::PathAndQuery::from_static("/tandem.client.v1.Messenger/Connect");
    let codec = tonic_prost::ProstCodec::<Vec<u8>, ServerFrame>::default();
    let answers = grpc.streaming(tonic::Request::new(sent), path, codec).await;
    assert_eq!(
        closing_code(&mut answers.unwrap().into_inner()).await,
        Code::Malformed.as_str()
    );
    assert_eq!(refused(&up, Code::Malformed), before + 1.0);
    others.still_talk().await;
}

/// A stream that stays open after its last item.
trait ChainPending: futures::Stream + Sized {
    fn chain_pending(self) -> impl futures::Stream<Item = Self::Item>;
}

impl<S: futures::Stream> ChainPending for S {
    fn chain_pending(self) -> impl futures::Stream<Item = S::Item> {
        futures::StreamExt::chain(self, futures::stream::pending())
    }
}

async fn closing_code(answers: &mut tonic::Streaming<ServerFrame>) -> String {
    let next = tokio::time::timeout(tandem_e2e_tests::device::PATIENCE, answers.message());
    let frame = next.await.expect("an answer in time").expect("a frame");
    let Some(Answer::Closing(closing)) = frame.and_then(|f| f.frame) else {
        panic!("not closed");
    };
    assert_eq!(answers.message().await.unwrap(), None);
    closing.code
}
