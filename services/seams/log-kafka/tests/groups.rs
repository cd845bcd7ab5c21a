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
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Cluster, PATIENCE, record};
use parking_lot::Mutex;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
};
use tandem_log::{Log, LogError, Next, Retention, Start, TopicSpec};
use tandem_log_kafka::KafkaLog;
use tokio::{sync::watch, task::JoinHandle};

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

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.unwrap().success());
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
fn tick(log: &Arc<KafkaLog>, topic: &str, begun: Instant) -> JoinHandle<()> {
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

/// A record that was read: its partition, when it was appended, and how long it took from there.
type Read = (u32, Duration, Duration);

/// A reader that reads and commits all the time.
struct Reading {
    has: watch::Receiver<BTreeSet<u32>>,
    seen: Arc<Mutex<Vec<Read>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Reading {
    async fn start(log: &Arc<KafkaLog>, topic: &str, begun: Instant) -> Self {
        let mut reader = log.subscribe(topic, "g", Start::Oldest).await.unwrap();
        let (tell, has) = watch::channel(BTreeSet::new());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stop, sees) = (watch::Sender::new(false), Arc::clone(&seen));
        let mut stopped = stop.subscribe();
        let task = tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    _ = stopped.changed() => return,
                    next = reader.next() => next.unwrap(),
                };
                match next {
                    Next::Assigned(places) => {
                        tell.send_modify(|has| has.extend(places.iter().map(|(p, _)| p)));
                    }
                    Next::Revoked(lost) => {
                        tell.send_modify(|has| has.retain(|p| !lost.contains(p)));
                    }
                    Next::Records(partition, records) => {
                        let now = begun.elapsed();
                        let place = records.last().unwrap().place.offset + 1;
                        sees.lock().extend(records.iter().map(|stored| {
                            let text = std::str::from_utf8(&stored.record.value).unwrap();
                            let sent = Duration::from_micros(text.parse().unwrap());
                            (partition, sent, now.saturating_sub(sent))
                        }));
                        reader.commit(partition, place).await.unwrap();
                    }
                }
            }
        });
        Self {
            has,
            seen,
            stop,
            task,
        }
    }

    /// Waits until it has so many partitions and has read of each of them something appended after `since`.
    async fn settled(&self, partitions: usize, since: Duration) {
        let settled = async {
            loop {
                let has = self.has.borrow().clone();
                let fresh = |p: &u32| self.seen.lock().iter().any(|r| r.0 == *p && r.1 > since);
                if has.len() == partitions && has.iter().all(fresh) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled)
            .await
            .expect("in time");
    }

    /// The longest that a record took that was appended from then on.
    fn longest(&self, since: Duration) -> f64 {
        let seen = self.seen.lock();
        let took = seen.iter().filter(|r| r.1 >= since).map(|r| r.2);
        took.max().unwrap_or_default().as_secs_f64()
    }

    /// Leaves the group.
    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

/// What a change in the group takes effect after.
const MOMENT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_in_order_hands_over_where_it_was() {
    let cluster = Cluster::shared();
    let log = cluster.connect().await;
    let topic = cluster.topic(&log, "leave", PARTITIONS).await;
    let begun = Instant::now();
    let ticking = tick(&log, &topic, begun);
    let stays = Reading::start(&log, &topic, begun).await;
    stays.settled(4, Duration::ZERO).await;
    let other = cluster.another().await;
    tokio::time::sleep(MOMENT).await;
    let quiet = begun.elapsed();
    tokio::time::sleep(MOMENT).await;
    println!(
        "one reader: a record took at most {:.2} s",
        stays.longest(quiet)
    );

    let joins = begun.elapsed();
    let leaves = Reading::start(&other, &topic, begun).await;
    tokio::join!(stays.settled(2, joins), leaves.settled(2, joins));
    tokio::time::sleep(MOMENT).await;
    let longest = stays.longest(joins).max(leaves.longest(joins));
    println!("another joins: a record took at most {longest:.2} s");

    let leaving = begun.elapsed();
    leaves.stop().await;
    other.close().await;
    let left = begun.elapsed();
    stays.settled(4, left).await;
    println!(
        "it leaves, in {:.2} s: a record took at most {:.2} s",
        left.saturating_sub(leaving).as_secs_f64(),
        stays.longest(leaving)
    );
    ticking.abort();
    stays.stop().await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_reader_is_taken_over() {
    let cluster = Cluster::shared();
    let log = cluster.connect().await;
    let topic = cluster.topic(&log, "killed", PARTITIONS).await;
    let begun = Instant::now();
    let ticking = tick(&log, &topic, begun);
    let reader = Reading::start(&log, &topic, begun).await;
    reader.settled(4, Duration::ZERO).await;
    let mut other = Other::start(&topic);
    reader.settled(2, Duration::ZERO).await;
    tokio::time::sleep(MOMENT).await;

    let killed = begun.elapsed();
    other.kill();
    reader.settled(4, killed).await;
    println!(
        "killed: taken over in {:.2} s, a record took at most {:.2} s",
        begun.elapsed().saturating_sub(killed).as_secs_f64(),
        reader.longest(killed)
    );
    ticking.abort();
    reader.stop().await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stood_still_comes_back_and_moves_no_place_back() {
    let cluster = Cluster::shared();
    let log = cluster.connect().await;
    let topic = cluster.topic(&log, "frozen", PARTITIONS).await;
    let begun = Instant::now();
    let ticking = tick(&log, &topic, begun);
    let reader = Reading::start(&log, &topic, begun).await;
    reader.settled(4, Duration::ZERO).await;
    let other = Other::start(&topic);
    reader.settled(2, Duration::ZERO).await;
    tokio::time::sleep(MOMENT).await;

    other.signal("-STOP");
    reader.settled(4, begun.elapsed()).await;
    let watch = async {
        let mut before = log.committed(&topic, "g").await.unwrap();
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = log.committed(&topic, "g").await.unwrap();
            let back = before.iter().zip(&now).any(|(before, now)| before > now);
            assert!(!back, "{before:?} came before {now:?}");
            before = now;
        }
    };
    other.signal("-CONT");
    let back = async {
        reader.settled(2, begun.elapsed()).await;
        tokio::time::sleep(MOMENT).await;
    };
    tokio::select! {
        () = back => {}
        () = watch => {}
    }
    ticking.abort();
    reader.stop().await;
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
