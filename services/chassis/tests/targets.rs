//! Processes that are called by their address, as edges are.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::{Server, World, change, nobody, snapshot, two};
use tandem_chassis::{grpc::Peers, server::Options};
use tonic::Code;

#[tokio::test]
async fn a_target_is_reached_by_its_address_over_one_connection() {
    let (a, b) = two().await;
    let world = World::new();
    let peers = world.peers();
    let mut who = BTreeSet::new();
    for _ in 0..3 {
        for server in [&a, &b] {
            who.insert(
                snapshot(peers.target(&server.addr.to_string()))
                    .await
                    .unwrap(),
            );
        }
    }
    assert_eq!(who.len(), 2);
    assert_eq!(*world.net.connects.borrow(), 2);
    let status = snapshot(peers.target(&nobody().await.to_string()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn no_more_targets_are_kept_than_configured_and_an_idle_one_is_let_go() {
    let (a, b) = two().await;
    let mut world = World::new();
    (world.config.targets, world.config.target_idle_ms) = (1, 1_000);
    let peers = world.peers();
    let call = |server: &Server| snapshot(peers.target(&server.addr.to_string()));
    call(&a).await.unwrap();
    call(&b).await.unwrap();
    call(&a).await.unwrap();
    assert_eq!(*world.net.connects.borrow(), 3);
    // while nobody calls
    while *world.net.connects.borrow() == 3 {
        tokio::time::sleep(Duration::from_millis(1_600)).await;
        call(&a).await.unwrap();
    }
}

#[tokio::test]
async fn a_process_that_drains_still_reaches_its_peers() {
    let a = Server::start("127.0.1.1", Options::default()).await;
    let world = World::new();
    world.stand_for(&[&a]);
    let peers = world.peers();
    world.lifecycle.stop();
    change(peers.service("presence")).await.unwrap();
    snapshot(peers.target(&a.addr.to_string())).await.unwrap();
}
