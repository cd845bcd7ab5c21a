//! Peers in other processes, over real sockets: who is called, and what becomes of calls when peers come,
//! go, die and freeze.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use common::{NAME, Server, World, change, nobody, snapshot, two, until};
use tandem_chassis::{grpc::Peers, server::Options};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::Code;

/// An address where connections are accepted and nothing is ever said.
#[allow(clippy::disallowed_methods, reason = "the socket is what is tested")]
async fn frozen() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.1.8:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

#[tokio::test]
async fn calls_spread_over_all_replicas() {
    let (a, b) = two().await;
    let c = Server::start("127.0.1.3", Options::default()).await;
    let world = World::new();
    world.stand_for(&[&a, &b, &c]);
    let peers = world.peers();
    // all of them are there before the first call
    let replicas = peers
        .replicas("presence")
        .wait_for(|r| r.len() == 3)
        .await
        .unwrap()
        .clone();
    for replica in replicas.iter() {
        snapshot(replica.channel.clone()).await.unwrap();
    }
    for _ in 0..90 {
        snapshot(peers.service("presence")).await.unwrap();
    }
    for server in [&a, &b, &c] {
        assert!(server.fake.calls() > 10, "{}", server.fake.calls());
    }
}

#[tokio::test]
async fn a_busy_replica_is_passed_over() {
    let (a, b) = two().await;
    let world = World::new();
    world.stand_for(&[&a, &b]);
    let peers = world.peers();
    let replicas = peers
        .replicas("presence")
        .wait_for(|r| r.len() == 2)
        .await
        .unwrap()
        .clone();
    for replica in replicas.iter() {
        snapshot(replica.channel.clone()).await.unwrap();
    }
    a.fake.answers.send_replace(false);
    let busy = replicas
        .iter()
        .find(|r| r.name == a.addr.to_string())
        .unwrap()
        .channel
        .clone();
    let waiting = tokio::spawn(snapshot(busy));
    until(|| a.fake.calls() == 2).await;
    for _ in 0..20 {
        let who = snapshot(peers.service("presence")).await.unwrap();
        assert_eq!(who, "127.0.1.2:0");
    }
    a.fake.answers.send_replace(true);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn replicas_are_ordered_by_name_and_keep_their_connection_while_others_come_and_go() {
    let (a, b) = two().await;
    let world = World::new();
    world.stand_for(&[&b]);
    let peers = world.peers();
    let mut replicas = peers.replicas("presence");
    let kept = replicas.wait_for(|r| r.len() == 1).await.unwrap()[0].clone();
    snapshot(kept.channel.clone()).await.unwrap();
    world.stand_for(&[&b, &a]);
    let both = replicas.wait_for(|r| r.len() == 2).await.unwrap().clone();
    let names: Vec<_> = both.iter().map(|r| r.name.clone()).collect();
    assert_eq!(names, [a.addr.to_string(), b.addr.to_string()]);
    for replica in both.iter() {
        snapshot(replica.channel.clone()).await.unwrap();
    }
    world.stand_for(&[&b]);
    replicas.wait_for(|r| r.len() == 1).await.unwrap();
    snapshot(kept.channel).await.unwrap();
    assert_eq!(*world.net.connects.borrow(), 2, "one to each");
}

#[tokio::test]
async fn a_replica_that_came_gets_calls_and_one_that_left_gets_none_but_ends_what_it_has() {
    let (a, b) = two().await;
    let world = World::new();
    world.stand_for(&[&a]);
    let peers = world.peers();
    assert_eq!(
        snapshot(peers.service("presence")).await.unwrap(),
        "127.0.1.1:0"
    );
    a.fake.answers.send_replace(false);
    let under_way = tokio::spawn(snapshot(peers.service("presence")));
    until(|| a.fake.calls() == 2).await;
    world.stand_for(&[&b]);
    let b_alone = |r: &std::sync::Arc<Vec<tandem_chassis::grpc::Replica>>| {
        r.len() == 1 && r[0].name == b.addr.to_string()
    };
    peers.replicas("presence").wait_for(b_alone).await.unwrap();
    for _ in 0..20 {
        assert_eq!(
            snapshot(peers.service("presence")).await.unwrap(),
            "127.0.1.2:0"
        );
    }
    a.fake.answers.send_replace(true);
    assert_eq!(under_way.await.unwrap().unwrap(), "127.0.1.1:0");
    assert_eq!(a.fake.calls(), 2);
}

#[tokio::test]
async fn while_a_name_cannot_be_resolved_the_last_known_replicas_stay() {
    let (a, _) = two().await;
    let world = World::new();
    world.stand_for(&[&a]);
    let peers = world.peers();
    snapshot(peers.service("presence")).await.unwrap();
    world.names.set(NAME, &[]);
    let failed = *world.net.lookups.borrow() + 2;
    world
        .net
        .lookups
        .subscribe()
        .wait_for(|n| *n >= failed)
        .await
        .unwrap();
    snapshot(peers.service("presence")).await.unwrap();
    assert_eq!(*world.net.connects.borrow(), 1);
}

#[tokio::test]
async fn a_lost_connection_has_the_name_resolved_at_once() {
    let (a, b) = two().await;
    let mut world = World::new();
    world.config.resolve_ms = 3_600_000;
    world.stand_for(&[&a]);
    let peers = world.peers();
    snapshot(peers.service("presence")).await.unwrap();
    world.stand_for(&[&b]);
    a.kill();
    while snapshot(peers.service("presence")).await.is_err() {}
    assert_eq!(b.fake.calls(), 1);
}

#[tokio::test]
async fn a_service_without_replicas_is_unavailable_at_once() {
    let world = World::new();
    world.names.set(NAME, &[]);
    for name in ["presence", "history"] {
        let status = snapshot(world.peers().service(name)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains(name), "{}", status.message());
    }
}

#[tokio::test]
async fn a_replica_where_nobody_listens_costs_no_call_of_any_kind() {
    let a = Server::start("127.0.1.1", Options::default()).await;
    let world = World::new();
    world.names.set(NAME, &[a.addr, nobody().await]);
    let peers = world.peers();
    for _ in 0..20 {
        change(peers.service("presence")).await.unwrap();
    }
    assert_eq!(a.fake.changes.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_replica_that_accepts_connections_and_says_nothing_costs_no_call_of_any_kind() {
    let a = Server::start("127.0.1.1", Options::default()).await;
    let mut world = World::new();
    world.config.connect_ms = 1_500;
    let (silent, _listener) = frozen().await;
    world.names.set(NAME, &[a.addr, silent]);
    let peers = world.peers();
    for _ in 0..20 {
        change(peers.service("presence")).await.unwrap();
    }
    assert_eq!(a.fake.changes.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn what_a_killed_replica_had_goes_to_another_if_it_may_be_done_twice_and_else_nowhere() {
    let (a, b) = two().await;
    let world = World::new();
    world.stand_for(&[&a]);
    let peers = world.peers();
    a.fake.answers.send_replace(false);
    let twice = tokio::spawn(snapshot(peers.service("presence")));
    let once = tokio::spawn(change(peers.service("presence")));
    until(|| a.fake.calls() == 2).await;
    world.stand_for(&[&a, &b]);
    peers
        .replicas("presence")
        .wait_for(|r| r.len() == 2)
        .await
        .unwrap();
    a.kill();
    assert_eq!(twice.await.unwrap().unwrap(), "127.0.1.2:0");
    assert_eq!(once.await.unwrap().unwrap_err().code(), Code::Unavailable);
    for _ in 0..20 {
        change(peers.service("presence")).await.unwrap();
    }
    assert_eq!(a.fake.changes.load(Ordering::SeqCst), 1);
    assert_eq!(
        b.fake.changes.load(Ordering::SeqCst),
        20,
        "and none of it twice"
    );
}

#[tokio::test]
async fn a_replica_that_comes_back_is_called_again() {
    let a = Server::start("127.0.1.1", Options::default()).await;
    let world = World::new();
    world.stand_for(&[&a]);
    let peers = world.peers();
    snapshot(peers.service("presence")).await.unwrap();
    a.kill();
    until(|| a.lifecycle.stopping()).await;
    while snapshot(peers.service("presence")).await.is_ok() {}
    let again = Server::start_at(&a.addr.to_string(), Options::default()).await;
    while change(peers.service("presence")).await.is_err() {}
    assert_eq!(again.fake.changes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_without_a_deadline_has_the_configured_one_and_is_told_when_it_is_over() {
    let a = Server::start("127.0.1.1", Options::default()).await;
    let mut world = World::new();
    world.stand_for(&[&a]);
    let peers = world.peers();
    snapshot(peers.service("presence")).await.unwrap();
    assert_eq!(a.fake.timeout.lock().as_deref(), Some("60000m"));
    a.fake.answers.send_replace(false);
    world.config.deadline_ms = 50;
    let status = change(world.peers().service("presence")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_calls_own_deadline_is_kept() {
    let a = Server::start("127.0.1.1", Options::default()).await;
    let world = World::new();
    world.stand_for(&[&a]);
    a.fake.answers.send_replace(false);
    let channel = world.peers().service("presence");
    let mut request = tonic::Request::new(tandem_proto::presence::ChangedRequest::default());
    request.set_timeout(Duration::from_millis(50));
    let mut client = tandem_proto::presence::presence_client::PresenceClient::new(channel);
    let status = client.changed(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

/// Carries octets to `to`, until it is told to freeze: then it holds its connections and does nothing.
#[allow(clippy::disallowed_methods, reason = "the socket is what is tested")]
async fn freezable(to: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.1.7:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let freeze = watch::Sender::new(false);
    let frozen = freeze.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut frozen = frozen.subscribe();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let frozen = frozen.wait_for(|f| *f);
                tokio::select! {
                    biased;
                    _ = frozen => {}
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                }
                let _ = far.shutdown().await;
                let _held = near;
                std::future::pending::<()>().await;
            });
        }
    });
    (addr, freeze)
}

#[tokio::test]
async fn a_peer_that_freezes_is_noticed_by_calls_that_wait_and_passed_over_by_new_ones() {
    let (a, b) = two().await;
    let mut world = World::new();
    (world.config.keepalive_ms, world.config.keepalive_timeout_ms) = (500, 4_000);
    world.config.connect_ms = 1_000;
    let (proxy, freeze) = freezable(a.addr).await;
    world.names.set(NAME, &[proxy]);
    let peers = world.peers();
    a.fake.answers.send_replace(false);
    let waiting = tokio::spawn(change(peers.service("presence")));
    until(|| a.fake.calls() == 1).await;
    world.names.set(NAME, &[proxy, b.addr]);
    peers
        .replicas("presence")
        .wait_for(|r| r.len() == 2)
        .await
        .unwrap();
    freeze.send_replace(true);
    let status = waiting.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    for _ in 0..20 {
        change(peers.service("presence")).await.unwrap();
    }
    assert_eq!(b.fake.changes.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn connections_that_are_renewed_for_their_age_cost_no_call() {
    let options = Options {
        max_connection_age: Some(Duration::from_millis(30)),
        ..Options::default()
    };
    let a = Server::start("127.0.1.1", options).await;
    let world = World::new();
    world.stand_for(&[&a]);
    let peers = world.peers();
    let mut calls = 0;
    while *world.net.connects.borrow() < 8 {
        let four = (0..4).map(|_| change(peers.service("presence")));
        futures::future::try_join_all(four).await.unwrap();
        calls += 4;
    }
    assert_eq!(a.fake.changes.load(Ordering::SeqCst), calls);
}
