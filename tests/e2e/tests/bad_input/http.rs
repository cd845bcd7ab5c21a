//! What is no request, and connections that say nothing.

use std::time::Duration;

use tandem_e2e_tests::{Up, device::PATIENCE};
use tandem_kernel::Code;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::raw::{Bystanders, refused};

/// Sends octets on a connection of their own; what comes back until the other end closes it.
async fn tell(up: &Up, octets: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", up.port))
        .await
        .expect("a connection");
    // it may close before it has read everything
    let _ = timeout(PATIENCE, stream.write_all(octets)).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an end in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(head: &str) -> Vec<u8> {
    format!("{head}\r\nhost: localhost\r\nconnection: close\r\n\r\n").into_bytes()
}

fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    let json = "content-type: application/json";
    let head = format!("POST /dev/token HTTP/1.1\r\n{json}\r\ncontent-length: {length}");
    [request(&head), body.as_bytes().to_vec()].concat()
}

const UPGRADE: &str =
    "GET /v1/connect HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_is_answered_or_closed_and_harms_nobody() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    let long = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(1 << 20));
    let two_lengths = "POST /dev/token HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2";
    let h2 = |frame: &[u8]| [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame].concat();
    let window_update = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    // where nothing is said of the answer, the connection may be reset before it is read
    let cases = [
        ("garbage", vec![0xff; 100], "HTTP/1.1 400"),
        ("tls", tls, "HTTP/1.1 400"),
        ("a long head", request(&long), "HTTP/1.1 431"),
        ("two lengths", request(two_lengths), "HTTP/1.1 400"),
        (
            "a path that is not there",
            request("GET /../../etc/passwd HTTP/1.1"),
            "HTTP/1.1 404",
        ),
        (
            "a method that is not there",
            request("DELETE /dev/token HTTP/1.1"),
            "HTTP/1.1 405",
        ),
        ("no json", post("{]"), "HTTP/1.1 400"),
        (
            "an unknown field",
            post(r#"{"user":"dan","admin":true}"#),
            "HTTP/1.1 422",
        ),
        (
            "a user that is none",
            post(r#"{"user":"a b"}"#),
            "HTTP/1.1 400",
        ),
        ("a body too large", post(&"x".repeat(5 << 20)), ""),
        ("an http/2 frame that is none", h2(&[0xff; 64]), ""),
        ("an http/2 without settings", h2(&window_update), ""),
    ];
    for (what, octets, status) in cases {
        let answer = tell(&up, &octets).await;
        assert!(answer.starts_with(status), "{what}: {answer:?}");
    }
    others.still_talk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_as_it_must_not_be_is_refused_and_counted() {
    let up = Up::start(&[]);
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let cases = [
        (request("GET /v1/connect HTTP/1.1"), "HTTP/1.1 426"),
        (
            request(&format!("{UPGRADE}\r\n{key}\r\nsec-websocket-version: 8")),
            "HTTP/1.1 426",
        ),
        (
            request(&format!("{UPGRADE}\r\nsec-websocket-version: 13")),
            "HTTP/1.1 400",
        ),
        (
            request(&format!(
                "{UPGRADE}\r\n{key}\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: mqtt"
            )),
            "HTTP/1.1 400",
        ),
    ];
    for (octets, status) in cases {
        let before = refused(&up, Code::Malformed);
        let answer = tell(&up, &octets).await;
        assert!(answer.starts_with(status), "{answer}");
        assert_eq!(
            refused(&up, Code::Malformed),
            before + 1.0,
            "{answer} is counted"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_are_let_go() {
    let up = Up::start(&[]);
    let mut others = Bystanders::new(&up).await;
    let mut silent = Vec::new();
    for i in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", up.port))
            .await
            .expect("a connection");
        let said: &[u8] = [b"".as_slice(), b"GET /v1/conn", b"PRI * HT"][i % 3];
        stream.write_all(said).await.expect("it listens");
        silent.push(stream);
    }
    others.still_talk().await;
    for mut stream in silent {
        let mut answer = Vec::new();
        let end = timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "held open");
    }
    others.still_talk().await;
}
