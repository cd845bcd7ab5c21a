//! What a record costs: CPU of this process and wall time per record, appended in batches of a stated size;
//! how long one append takes, and how long a record takes to a reader of a group.
//! `cargo run --release -p tandem-log-kafka --example cost [BROKERS [KEY=VALUE…]]`, where keys are `linger_us`,
//! `compression`, or properties of librdkafka.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a tool for people"
)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tandem_chassis::{Doors, Lifecycle};
use tandem_kernel::Clock;
use tandem_log::{Log, Next, Reader, Record, Retention, Start, TopicSpec};
use tandem_log_kafka::{Compression, Config, KafkaLog};

const PARTITIONS: u32 = 6;

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |i: usize| fields[i].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn record(n: u32) -> (u32, Record) {
    let text = "See you at the station at ten, and bring the map. ".repeat(3);
    let record = Record {
        key: Bytes::from(format!("alice@example.org|bob{n}@example.org")),
        value: Bytes::from(format!("{text}{n:050}")),
        headers: vec![
            ("v".to_owned(), Bytes::from_static(b"1")),
            (
                "traceparent".to_owned(),
                Bytes::from(format!("00-{n:032x}-{n:016x}-01")),
            ),
        ],
    };
    (n % PARTITIONS, record)
}

fn config() -> Config {
    let mut args = std::env::args().skip(1);
    let mut config = Config {
        create_topics: true,
        brokers: args
            .next()
            .unwrap_or_else(|| tandem_engines::shared::KAFKA.into()),
        ..Config::default()
    };
    for arg in args {
        let (key, value) = arg.split_once('=').expect("KEY=VALUE");
        match (key, value) {
            ("linger_us", us) => config.linger_us = us.parse().unwrap(),
            ("compression", "none") => config.compression = Compression::None,
            ("compression", "lz4") => config.compression = Compression::Lz4,
            ("compression", _) => config.compression = Compression::Zstd,
            _ => {
                config.properties.insert(key.into(), value.into());
            }
        }
    }
    config
}

fn told(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let ms = |p: usize| all[(all.len() - 1) * p / 1000].as_secs_f64() * 1e3;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        ms(500),
        ms(990),
        ms(1000)
    )
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let config = config();
    let doors = Doors::real();
    let clock = doors.clock.clone();
    let topic = format!("cost-{:016x}", doors.rng.u64());
    let log = KafkaLog::connect(&config, doors, &Lifecycle::new())
        .await
        .unwrap();
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: PARTITIONS,
        retention: Retention::Delete {
            age: None,
            bytes: Some(64 << 20),
        },
    };
    log.ensure_topic(&spec).await.unwrap();
    println!(
        "linger {} µs, {:?}, {:?}",
        config.linger_us, config.compression, config.properties
    );
    tokio::time::sleep(Duration::from_secs(1)).await;

    let before = cpu();
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!("idle, no reader: {:.2} % of a core", idle(before, 10));
    let mut reader = log.subscribe(&topic, "cost", Start::Newest).await.unwrap();
    assert!(matches!(reader.next().await, Ok(Next::Assigned(_))));
    let before = cpu();
    let _ = tokio::time::timeout(Duration::from_secs(10), reader.next()).await;
    println!("idle, one reader: {:.2} % of a core", idle(before, 10));

    latencies(&log, &topic, &*clock, &mut *reader).await;
    for (batch, in_flight, total) in [
        (1, 1, 1_000),
        (1, 64, 20_000),
        (16, 8, 50_000),
        (64, 8, 100_000),
        (256, 8, 200_000),
    ] {
        throughput(
            &log,
            &topic,
            &*clock,
            &mut *reader,
            (batch, in_flight, total),
        )
        .await;
    }
    drop(reader);
    log.close().await;
}

fn idle(before: Duration, seconds: u32) -> f64 {
    (cpu().saturating_sub(before) / seconds).as_secs_f64() * 100.0
}

/// One at a time, as when little happens.
async fn latencies(log: &KafkaLog, topic: &str, clock: &dyn Clock, reader: &mut dyn Reader) {
    let (mut appends, mut seen) = (Vec::new(), Vec::new());
    for n in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let begun = clock.monotonic();
        let mut append = log.append(topic, vec![record(n)]);
        let (mut answered, mut read) = (None, None);
        while answered.is_none() || read.is_none() {
            tokio::select! {
                answer = &mut append, if answered.is_none() => {
                    answer[0].as_ref().unwrap();
                    answered = Some(clock.monotonic());
                }
                next = reader.next(), if read.is_none() => {
                    assert!(matches!(next, Ok(Next::Records(..))));
                    read = Some(clock.monotonic());
                }
            }
        }
        if n >= 100 {
            appends.push(answered.unwrap().saturating_sub(begun));
            seen.push(read.unwrap().saturating_sub(begun));
        }
    }
    println!("one append: {}", told(appends));
    println!("from the append to the reader: {}", told(seen));
}

async fn throughput(
    log: &Arc<KafkaLog>,
    topic: &str,
    clock: &dyn Clock,
    reader: &mut dyn Reader,
    (batch, in_flight, total): (u32, usize, u32),
) {
    let (cpu_before, from) = (cpu(), clock.monotonic());
    let append = async {
        let mut calls = FuturesUnordered::new();
        let mut n = 0;
        while n < total || !calls.is_empty() {
            while n < total && calls.len() < in_flight {
                calls.push(log.append(topic, (n..n + batch).map(record).collect()));
                n += batch;
            }
            let answers = calls.next().await.unwrap();
            assert!(answers.iter().all(Result::is_ok));
        }
        (cpu(), clock.monotonic())
    };
    let total = total.next_multiple_of(batch) as usize;
    let (cpu_appended, appended) = append.await;
    let mut seen = 0;
    while seen < total {
        if let Next::Records(partition, records) = reader.next().await.unwrap() {
            seen += records.len();
            let place = records.last().unwrap().place.offset + 1;
            reader.commit(partition, place).await.unwrap();
        }
    }
    let wall = appended.saturating_sub(from).as_secs_f64();
    let per = |d: Duration| d.as_secs_f64() * 1e4 / total as f64;
    println!(
        "batches of {batch:3}, {in_flight:2} in flight: {:7.0} records/s; CPU s per 10,000: appending {:.3} (with what was fetched meanwhile), reading the rest {:.3}",
        total as f64 / wall,
        per(cpu_appended.saturating_sub(cpu_before)),
        per(cpu().saturating_sub(cpu_appended)),
    );
}
