//! What an idle session costs in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::time::Duration;

use common::{World, device::hello};
use prost::Message;
use tandem_proto::client::{ClientFrame, client_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// A device that keeps nothing but its socket.
async fn open(w: &World, i: usize) -> DuplexStream {
    let mut socket = w.socket(256);
    let request = "GET /v1/connect HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut byte = [0];
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    let hello = client_frame::Frame::Hello(hello(&w.keys.token(&format!("user{i}")), "pc"));
    let frame = ClientFrame {
        ack: 0,
        frame: Some(hello),
    }
    .encode_to_vec();
    // masked with zeros (RFC 6455, section 5.3)
    let mut message = vec![
        0x82,
        0x80 | 0x7e,
        (frame.len() >> 8) as u8,
        frame.len() as u8,
        0,
        0,
        0,
        0,
    ];
    message.extend(frame);
    socket.write_all(&message).await.unwrap();
    let mut drained = [0; 4096];
    while let Ok(Ok(_)) =
        tokio::time::timeout(Duration::from_millis(20), socket.read(&mut drained)).await
    {}
    socket
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_costs_less_than_12_kib_with_what_stands_behind_it() {
    const MANY: usize = 1000;
    let w = World::new().await;
    let mut sockets = Vec::with_capacity(2 * MANY);
    for i in 0..MANY {
        sockets.push(open(&w, i).await);
    }
    let before = resident_bytes();
    for i in 0..MANY {
        sockets.push(open(&w, MANY + i).await);
    }
    let each = resident_bytes().saturating_sub(before) / MANY as u64;
    println!("{each} bytes of memory for each idle session, its in-memory socket included");
    assert!(each < 12 * 1024, "{each}");
}
