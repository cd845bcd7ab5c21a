//! Hand-overs and take-overs between processes, and what services see of topics. How long a partition is
//! without a reader is printed, not asserted: `cargo test -p tandem-log-kafka --test groups -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "helpers of tests are tests, and one of them is the other process"
)]

mod common;

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Cluster, PATIENCE, record};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
};
use tandem_log::{Log, LogError, Next, Reader, Retention, Start, TopicSpec};
use tandem_log_kafka::KafkaLog;

const PARTITIONS: u32 = 4;
const TOPIC: &str = "TANDEM_TEST_TOPIC";

/// Reads as one more of the group, and commits as it goes, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of the tests of take-overs"]
async fn the_other_process() {
    let topic = std::env::var(TOPIC).expect("started by a test");
    let log = Cluster::shared().another().await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    loop {
        if let Next::Records(partition, records) = reader.next().await.unwrap() {
            let place = records.last().unwrap().place.offset + 1;
            reader.commit(partition, place).await.unwrap();
        }
    }
}

/// A process that is killed with the test.
struct Other(Child);

impl Other {
    fn start(topic: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_other_process", "--ignored"])
            .env(TOPIC, topic)
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Appends the time to each partition, many times a second, until dropped.
fn tick(log: &Arc<KafkaLog>, topic: &str, begun: Instant) -> tokio::task::JoinHandle<()> {
    let (log, topic) = (Arc::clone(log), topic.to_owned());
    tokio::spawn(async move {
        loop {
            let now = begun.elapsed().as_micros().to_string();
            let records = (0..PARTITIONS).map(|p| (p, record(&now))).collect();
            assert!(log.append(&topic, records).await.iter().all(Result::is_ok));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

/// Reads, until `done` says so of what it has, and tells for each partition the longest that a record took.
async fn read_until(
    reader: &mut dyn Reader,
    begun: Instant,
    done: impl Fn(&BTreeMap<u32, u64>) -> bool,
) -> BTreeMap<u32, Duration> {
    let (mut has, mut longest) = (BTreeMap::new(), BTreeMap::new());
    let read = async {
        while !done(&has) {
            match reader.next().await.unwrap() {
                Next::Assigned(places) => has.extend(places.into_iter().map(|(p, _)| (p, 0))),
                Next::Revoked(lost) => has.retain(|p, _| !lost.contains(p)),
                Next::Records(partition, records) => {
                    let now = begun.elapsed();
                    for stored in &records {
                        let text = std::str::from_utf8(&stored.record.value).unwrap();
                        let sent = Duration::from_micros(text.parse().unwrap());
                        let took: &mut Duration = longest.entry(partition).or_default();
                        *took = now.saturating_sub(sent).max(*took);
                    }
                    *has.entry(partition).or_default() += records.len() as u64;
                    let place = records.last().unwrap().place.offset + 1;
                    reader.commit(partition, place).await.unwrap();
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("in time");
    longest
}

fn worst(longest: &BTreeMap<u32, Duration>) -> String {
    let worst = longest.values().max().unwrap();
    format!("{:.2} s", worst.as_secs_f64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_in_order_hands_over_where_it_was() {
    let cluster = Cluster::shared();
    let log = cluster.connect().await;
    let topic = cluster.topic(&log, "leave", PARTITIONS).await;
    let begun = Instant::now();
    let ticking = tick(&log, &topic, begun);
    let mut stays = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    read_until(&mut *stays, begun, |has| {
        has.len() == 4 && has.values().all(|n| *n > 50)
    })
    .await;

    let other = cluster.another().await;
    let mut leaves = other.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    let settled = |has: &BTreeMap<u32, u64>| has.len() == 2 && has.values().all(|n| *n > 100);
    let (at_one, at_other) = tokio::join!(
        // what it keeps goes on; what it gives up is another's
        read_until(&mut *stays, begun, |has| has.len() == 2
            && has.values().all(|n| *n > 200)),
        read_until(&mut *leaves, begun, settled)
    );
    println!(
        "another joins: a record waited at most {} at the one, {} at the other",
        worst(&at_one),
        worst(&at_other)
    );

    let left = Instant::now();
    drop(leaves);
    other.close().await;
    println!("leaving took {:.2} s", left.elapsed().as_secs_f64());
    let longest = read_until(&mut *stays, begun, |has| {
        has.len() == 4 && has.values().all(|n| *n > 100)
    })
    .await;
    println!(
        "another leaves: a record waited at most {}",
        worst(&longest)
    );
    ticking.abort();
    drop(stays);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_reader_is_taken_over() {
    let cluster = Cluster::shared();
    let log = cluster.connect().await;
    let topic = cluster.topic(&log, "killed", PARTITIONS).await;
    let begun = Instant::now();
    let ticking = tick(&log, &topic, begun);
    let mut other = Other::start(&topic);
    let committed = async {
        while log.committed(&topic, "g").await.unwrap().contains(&None) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, committed)
        .await
        .expect("the other reads");
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    read_until(&mut *reader, begun, |has| {
        has.len() == 2 && has.values().all(|n| *n > 20)
    })
    .await;

    other.kill();
    let killed = Instant::now();
    let longest = read_until(&mut *reader, begun, |has| {
        has.len() == 4 && has.values().all(|n| *n > 20)
    })
    .await;
    println!(
        "a killed reader was taken over in {:.2} s; a record waited at most {}",
        killed.elapsed().as_secs_f64(),
        worst(&longest)
    );
    ticking.abort();
    drop(reader);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_makes_no_topics_says_what_does() {
    let mut cluster = Cluster::shared();
    let maker = cluster.another().await;
    cluster.config.create_topics = false;
    let log = cluster.connect().await;
    let spec = TopicSpec {
        name: format!("t-{}-made", cluster.run),
        partitions: 3,
        retention: Retention::Compact,
    };
    let refused = log.ensure_topic(&spec).await.unwrap_err();
    assert!(refused.to_string().contains("tandem migrate"), "{refused}");
    maker.ensure_topic(&spec).await.unwrap();
    log.ensure_topic(&spec).await.unwrap();
    let other = TopicSpec {
        partitions: 4,
        ..spec
    };
    let refused = log.ensure_topic(&other).await;
    assert!(
        matches!(refused, Err(LogError::Mismatch(..))),
        "{refused:?}"
    );
    maker.close().await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_the_brokers_forgot_are_gone_over() {
    let cluster = Cluster::shared();
    let log = cluster.connect().await;
    let topic = cluster.topic(&log, "forgotten", 1).await;
    let records = (0..100).map(|n| (0, record(&n.to_string()))).collect();
    let appended = log.append(&topic, records).await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assert!(matches!(reader.next().await, Ok(Next::Assigned(_))));
    reader.commit(0, 10).await.unwrap();
    drop(reader);

    let kept = appended[60].as_ref().unwrap().place.offset;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &cluster.config.brokers)
        .create()
        .unwrap();
    let mut up_to = TopicPartitionList::new();
    let offset = Offset::Offset(i64::try_from(kept).unwrap());
    up_to.add_partition_offset(&topic, 0, offset).unwrap();
    admin
        .delete_records(&up_to, &AdminOptions::new())
        .await
        .unwrap();

    let read = log.read(&topic, 0, 0, 1000).await.unwrap();
    assert_eq!((read.len(), read[0].place.offset), (40, kept));
    let mut reader = log.subscribe(&topic, "g", Start::Newest).await.unwrap();
    for from in [None, Some(3)] {
        if let Some(from) = from {
            reader.seek(0, from).await.unwrap();
        }
        let first = loop {
            let next = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap();
            if let Next::Records(_, records) = next.unwrap() {
                break records[0].place.offset;
            }
        };
        assert_eq!(first, kept);
    }
    drop(reader);
    log.close().await;
}
