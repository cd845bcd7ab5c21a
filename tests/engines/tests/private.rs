//! Private engines: started, killed, paused, restarted, and gone when they are dropped.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot look fails, and looks in real time"
)]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use tandem_engines::{cassandra, kafka, redis};

/// Waits for what must come, however busy the machine is.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_mins(1), "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_kafka_cluster_elects_another_controller_when_its_own_is_killed() {
    let kafka = kafka::Cluster::start(&kafka::Options::default()).unwrap();
    let old = kafka.controller().unwrap();
    kafka.kill(old);
    assert!(!kafka.running(old));
    assert!(kafka.answers(old).is_err());
    eventually("another controller", || {
        kafka.controller().is_ok_and(|new| new != old)
    });
    kafka.restart(old).unwrap();
    kafka.ready().unwrap();
}

#[test]
fn a_cassandra_ring_sees_a_killed_node_come_back() {
    let ring = cassandra::Ring::start(&cassandra::Options::default()).unwrap();
    ring.kill(2);
    eventually("the others miss it", || ring.works().is_err());
    ring.restart(2).unwrap();
    ring.ready().unwrap();
}

#[test]
fn one_cassandra_node_stands_alone() {
    let options = cassandra::Options {
        nodes: 1,
        ..cassandra::Options::default()
    };
    let one = cassandra::Ring::start(&options).unwrap();
    assert_eq!(one.len(), 1);
    one.answers(0).unwrap();
}

#[test]
fn a_redis_cluster_promotes_a_replica_when_a_primary_is_killed() {
    let redis = redis::Cluster::start(&redis::Options::default()).unwrap();
    assert_eq!(redis.primaries(), [0, 1, 2]);
    redis.kill(1);
    eventually("another primary", || redis.primaries().len() == 3);
    redis.restart(1).unwrap();
    redis.ready().unwrap();
    assert!(!redis.primaries().contains(&1));
}

#[test]
fn a_redis_server_keeps_what_it_holds_when_it_stops_in_order() {
    let redis = redis::Server::start(&redis::Options::default()).unwrap();
    assert_eq!(redis.ask("SET a 1").unwrap(), "OK");
    redis.pause(0);
    assert!(redis.running(0));
    assert!(redis.ask("GET a").is_err());
    redis.resume(0);
    assert_eq!(redis.ask("GET a").unwrap(), "1");
    redis.terminate(0);
    assert!(!redis.running(0));
    redis.restart(0).unwrap();
    assert_eq!(redis.ask("GET a").unwrap(), "1");
}

#[test]
fn a_dropped_engine_leaves_no_process_and_no_file() {
    let redis = redis::Server::start(&redis::Options::default()).unwrap();
    let process = redis.process(0).unwrap();
    // another engine may take the folder over at once, but will not have this in it
    let file = redis.dir(0).join("file");
    fs::write(&file, "").unwrap();
    assert!(process.alive());
    drop(redis);
    assert!(!process.alive() && !file.exists());
}
