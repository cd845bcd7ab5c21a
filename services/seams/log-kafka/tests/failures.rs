//! Brokers that are killed, and errors that end a producer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "helpers of tests are tests"
)]

mod common;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use common::{Cluster, record};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tandem_engines::kafka;
use tandem_log::{Log, LogError};

/// How many must be appended.
const MANY: usize = 12_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_doubles_and_reorders_nothing_that_was_acknowledged() {
    let start = || kafka::Cluster::start(&kafka::Options::default());
    let brokers = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let cluster = Cluster::at(&brokers.bootstrap());
    let log = cluster.connect().await;
    let topic = cluster.topic(&log, "killed", 2).await;

    let (mut acknowledged, mut unknown, mut sent) = (Vec::new(), 0, 0);
    let (mut killed, mut longest) = (None, Duration::ZERO);
    let begun = Instant::now();
    while acknowledged.len() < MANY {
        assert!(begun.elapsed() < common::PATIENCE * 2, "appends go on");
        if acknowledged.len() > MANY / 3 && killed.is_none() {
            let leader = brokers.leader(&topic, 0).unwrap();
            brokers.kill(leader);
            killed = Some(leader);
        }
        // as routing does, several calls at once, each of several records
        let mut calls = Vec::new();
        for _ in 0..4 {
            let records = (sent..sent + 20).map(|n| ((n % 2) as u32, record(&n.to_string())));
            calls.push((sent, log.append(&topic, records.collect())));
            sent += 20;
        }
        for (first, call) in calls {
            let asked = Instant::now();
            for (n, answer) in (first..).zip(call.await) {
                match answer {
                    Ok(appended) => acknowledged.push((n, appended)),
                    Err(LogError::Unavailable(_)) => unknown += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            longest = longest.max(asked.elapsed());
        }
    }
    println!(
        "{sent} appended, {} acknowledged, {unknown} not; the longest wait was {:.2} s",
        acknowledged.len(),
        longest.as_secs_f64()
    );

    brokers
        .restart(killed.expect("a leader was killed"))
        .unwrap();
    let mut found = Vec::new();
    for partition in 0..2 {
        let read = log.read(&topic, partition, 0, usize::MAX).await.unwrap();
        let numbers = read.iter().map(|s| {
            let text = std::str::from_utf8(&s.record.value).unwrap();
            (text.parse::<usize>().unwrap(), s.place, s.at)
        });
        let numbers: Vec<_> = numbers.collect();
        assert!(numbers.is_sorted_by_key(|(n, ..)| *n), "in order");
        found.extend(numbers);
    }
    let distinct: BTreeSet<usize> = found.iter().map(|(n, ..)| *n).collect();
    assert_eq!(distinct.len(), found.len(), "nothing twice");
    let found: BTreeSet<_> = found.into_iter().collect();
    for (n, appended) in acknowledged {
        assert!(
            found.contains(&(n, appended.place, appended.at)),
            "{n} is lost"
        );
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_ends_the_producer_ends_no_appending() {
    let brokers = MockCluster::new(3).unwrap();
    brokers.create_topic("mock", 1, 3).unwrap();
    // when it asks for its id
    brokers.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED],
    );
    let mut cluster = Cluster::at(&brokers.bootstrap_servers());
    cluster.config.create_topics = false;
    let log = cluster.connect().await;
    let appended = async {
        loop {
            match log
                .append("mock", vec![(0, record("at last"))])
                .await
                .remove(0)
            {
                Ok(appended) => return appended,
                Err(LogError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let appended = tokio::time::timeout(common::PATIENCE, appended).await;
    assert_eq!(
        appended
            .expect("another producer takes over")
            .place
            .partition,
        0
    );
    log.close().await;
}
