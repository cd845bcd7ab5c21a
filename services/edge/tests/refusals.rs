//! What a device may not do: each with its code, and counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    World,
    device::{Device, hello, text},
    keys::{Key, Keys},
};
use futures::SinkExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tandem_chassis::Doors;
use tandem_edge::{
    Config, Issuer, JwkSet, KeySource,
    domain::effect::Refusal,
    usecase::tokens::{Claims, Tokens},
};
use tandem_kernel::Code;
use tandem_proto::client::{
    ClientFrame, DeviceClass, Hello, Ping, RenewToken, client_frame, server_frame,
};
use tokio_tungstenite::tungstenite::Message;

async fn refused_hello(w: &World, token: &str) -> (String, String, u32) {
    let mut d = w.connect().await;
    d.hello(token, "pc").await;
    let closing = d.closing().await;
    (closing.code, closing.message, closing.reconnect_after_ms)
}

#[tokio::test(start_paused = true)]
async fn tokens_that_do_not_count_are_refused() {
    let w = World::new().await;
    let good = w.keys.claims("alice", 3600);
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[key] = value;
        w.keys.operator.sign(&claims)
    };
    let now = w.doors.clock.unix().0 / 1000;
    assert_eq!(
        refused_hello(&w, &with("exp", json!(now - 31))).await.0,
        "token_expired"
    );
    let stranger = Key::new("op-1");
    let unknown = Key::new("op-2");
    let mut dev_claims = good.clone();
    dev_claims["iss"] = json!("https://dev.test");
    let b64 = |v: &serde_json::Value| base64(v.to_string().as_bytes());
    let none = format!(
        "{}.{}.",
        b64(&json!({ "alg": "none", "typ": "JWT" })),
        b64(&good)
    );
    // the public key taken for a shared secret
    let public = serde_json::to_value(&w.keys.operator.jwk).unwrap()["x"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("op-1".into());
    let confused = encode(&header, &good, &EncodingKey::from_secret(public.as_bytes())).unwrap();
    let cases = [
        ("of another issuer", with("iss", json!("https://evil.test"))),
        ("for another audience", with("aud", json!("mail"))),
        ("not yet", with("nbf", json!(now + 3600))),
        (
            "signed by another key of the same name",
            stranger.sign(&good),
        ),
        ("signed by an unknown key", unknown.sign(&good)),
        (
            "of the development issuer",
            w.keys.development.sign(&dev_claims),
        ),
        ("alg none", none),
        ("hmac with the public key", confused),
        ("nonsense", "not a token".into()),
        ("subject is no address", with("sub", json!("a b"))),
    ];
    let count = cases.len() as u64;
    for (why, token) in cases {
        let (code, message, again) = refused_hello(&w, &token).await;
        assert_eq!(
            (code.as_str(), again),
            ("token_invalid", 0),
            "{why}: {message}"
        );
    }
    assert_eq!(
        (w.refused(Code::TokenInvalid), w.refused(Code::TokenExpired)),
        (count, 1)
    );
    assert!(w.fakes.history.syncs.lock().is_empty());
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(n >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out
}

#[tokio::test(start_paused = true)]
async fn a_development_token_counts_where_the_config_says_so() {
    let w = World::with(|c| c.dev_issuer = true).await;
    let mut claims = w.keys.claims("alice", 3600);
    claims["iss"] = json!("https://dev.test");
    let mut d = w.connect().await;
    d.hello(&w.keys.development.sign(&claims), "pc").await;
    assert_eq!(d.welcome().await.user, "alice@tandem.test");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_closes_the_connection_with_its_code() {
    let w = World::new().await;
    for (code, message) in [
        (Code::Malformed, Message::text("{}")),
        (Code::Malformed, Message::binary(vec![0x12, 0x05, 0x0a])),
        (Code::Malformed, Message::binary(vec![0xff; 16])),
        (Code::TooLarge, Message::binary(vec![0; 65 * 1024])),
    ] {
        let before = w.refused(code);
        let mut d = w.open("alice", "pc").await;
        d.ws.send(message).await.unwrap();
        assert_eq!(d.closing().await.code, code.as_str());
        assert_eq!(w.refused(code), before + 1);
    }
    let mut d = Device::json(w.socket(1 << 16)).await;
    d.ws.send(Message::text(r#"{"hello": {"tokn": "x"}}"#))
        .await
        .unwrap();
    assert_eq!(d.closing().await.code, "malformed", "an unknown field");
    let mut d = Device::json(w.socket(1 << 16)).await;
    d.ws.send(Message::binary(vec![8, 1])).await.unwrap();
    assert_eq!(d.closing().await.code, "malformed");
    assert!(
        Device::with(w.socket(1 << 16), Some("chat.v9"))
            .await
            .is_err(),
        "an unknown subprotocol"
    );
    assert!(
        Device::with(w.socket(1 << 16), None).await.is_ok(),
        "none offered: binary"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_frame_is_hello_and_comes_in_time_and_once() {
    let w = World::new().await;
    let mut d = w.connect().await;
    d.send(client_frame::Frame::Ping(Ping { nonce: 1 })).await;
    assert_eq!(d.closing().await.code, "unexpected_frame");

    let mut d = w.connect().await;
    let closing = d.next_within(Duration::from_secs(11)).await;
    assert!(matches!(closing, Some(server_frame::Frame::Closing(c)) if c.code == "idle_timeout"));

    let mut d = w.open("alice", "pc").await;
    d.hello(&w.keys.token("alice"), "pc").await;
    assert_eq!(d.closing().await.code, "unexpected_frame");

    let mut d = w.connect().await;
    d.hello(&w.keys.token("alice"), "a device with spaces")
        .await;
    assert_eq!(d.closing().await.code, "invalid_argument");
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_mobile_is_told_so_with_a_link() {
    let w = World::new().await;
    let mut claims = w.keys.claims("alice", 3600);
    claims["plan"] = json!("pc");
    let token = w.keys.operator.sign(&claims);
    let mut hello = hello(&token, "phone");
    hello.device.as_mut().unwrap().class = DeviceClass::Mobile.into();
    let mut d = w.connect().await;
    d.send(client_frame::Frame::Hello(hello)).await;
    let closing = d.closing().await;
    assert_eq!(
        (closing.code.as_str(), closing.reconnect_after_ms),
        ("not_entitled", 0)
    );
    assert!(
        closing.message.contains("https://help.test/plans"),
        "{}",
        closing.message
    );
    assert_eq!(w.refused(Code::NotEntitled), 1);
    let (code, ..) = refused_hello(&w, &w.keys.token("nobody")).await;
    assert_eq!(code, "no_account");
}

#[tokio::test(start_paused = true)]
async fn with_accounts_down_a_device_is_asked_to_come_back() {
    let w = World::new().await;
    w.peers.unset("accounts");
    let (code, _, again) = refused_hello(&w, &w.keys.token("alice")).await;
    assert_eq!(code, "unavailable");
    assert!(again >= 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_limited_and_one_that_goes_on_is_closed() {
    let w = World::new().await;
    let mut alice = w.open("alice", "pc").await;
    for i in 0..300 {
        alice.send(text("bob@tandem.test", i, "hi")).await;
    }
    let mut answers = Vec::new();
    for _ in 0..300 {
        answers.push(alice.answer().await);
    }
    let taken = answers.iter().filter(|a| a.is_ok()).count();
    assert!((200..=210).contains(&taken), "{taken}");
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().err().is_none_or(|c| c == "rate_limited"))
    );
    assert_eq!(w.refused(Code::RateLimited), 300 - taken as u64);
    tokio::time::sleep(Duration::from_secs(1)).await;
    alice.send(text("bob@tandem.test", 1000, "hi")).await;
    alice.answer().await.unwrap();

    for i in 0..3000 {
        let frame = ClientFrame {
            ack: 0,
            frame: Some(client_frame::Frame::Ping(Ping { nonce: i })),
        };
        if alice
            .ws
            .send(Message::binary(prost::Message::encode_to_vec(&frame)))
            .await
            .is_err()
        {
            break;
        }
    }
    assert_eq!(alice.closing().await.code, "rate_limited");
}

#[tokio::test(start_paused = true)]
async fn silence_closes_the_connection_and_a_token_is_renewed_or_ends_the_session() {
    let w = World::new().await;
    let mut quiet = w.open("bob", "pc").await;
    let began = tokio::time::Instant::now();
    loop {
        match quiet.next_within(Duration::from_secs(76)).await {
            Some(server_frame::Frame::Presence(_)) => {}
            Some(server_frame::Frame::Closing(c)) if c.code == "idle_timeout" => break,
            other => panic!("{other:?}"),
        }
    }
    assert!((74..=76).contains(&began.elapsed().as_secs()));

    let token = |who: &str, s: i64| w.keys.operator.sign(&w.keys.claims(who, s));
    let mut alice = w.connect().await;
    alice
        .send(client_frame::Frame::Hello(Hello {
            ..hello(&token("alice", 120), "pc")
        }))
        .await;
    alice.welcome().await;
    alice
        .send(client_frame::Frame::RenewToken(RenewToken {
            token: token("bob", 900),
        }))
        .await;
    let problem = alice.find(|f| match f {
        server_frame::Frame::Problem(p) => Some(p.code),
        _ => None,
    });
    assert_eq!(problem.await, "token_invalid", "somebody else's");
    alice
        .send(client_frame::Frame::RenewToken(RenewToken {
            token: token("alice", 240),
        }))
        .await;
    let began = tokio::time::Instant::now();
    let closing = loop {
        match alice.next_within(Duration::from_secs(1)).await {
            Some(server_frame::Frame::Closing(c)) => break c,
            Some(_) => {}
            None => {
                alice
                    .send(client_frame::Frame::Ping(Ping { nonce: 1 }))
                    .await;
            }
        }
    };
    let seconds = began.elapsed().as_secs();
    assert_eq!(closing.code, "token_expired");
    assert!(
        (240..=310).contains(&seconds),
        "after the renewed one's end and the grace, not before: {seconds}"
    );
}

/// Keys that can be had or not, and how often they were asked for.
struct Rotating {
    keys: parking_lot::Mutex<Option<JwkSet>>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl KeySource for Rotating {
    async fn fetch(&self) -> Result<JwkSet, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.keys.lock().clone().ok_or_else(|| "down".to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_found_and_unknown_ones_do_not_make_the_issuer_suffer() {
    let keys = Keys::new(Doors::for_test(1));
    let source = Arc::new(Rotating {
        keys: parking_lot::Mutex::new(None),
        asked: AtomicUsize::new(0),
    });
    let issuer = Issuer {
        keys: source.clone(),
        ..keys.issuer()
    };
    let tokens = Tokens::new(vec![issuer], &Config::default(), keys.doors.clock.clone());
    let code = |r: Result<Claims, Refusal>| r.map_err(|r| r.code);
    let alice = keys.token("alice");
    for _ in 0..5 {
        assert_eq!(code(tokens.verify(&alice).await), Err(Code::Unavailable));
    }
    *source.keys.lock() = Some(JwkSet {
        keys: vec![keys.operator.jwk.clone()],
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        tokens.verify(&alice).await.unwrap().user.as_str(),
        "alice@tandem.test"
    );

    let next = Key::new("op-2");
    let rotated = next.sign(&keys.claims("alice", 3600));
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..5 {
        assert_eq!(code(tokens.verify(&rotated).await), Err(Code::TokenInvalid));
    }
    source.keys.lock().as_mut().unwrap().keys.push(next.jwk);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(tokens.verify(&rotated).await.is_ok());
    assert!(tokens.verify(&alice).await.is_ok(), "the old one counts on");
    assert_eq!(source.asked.load(Ordering::Relaxed), 4);
}
