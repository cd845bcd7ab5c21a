//! What a record costs: CPU of the whole process and wall time per record, appended in groups of a stated size,
//! with three readers who keep up. `cargo run --release -p tandem-log-disk --example cost [FOLDER]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for people"
)]

use std::time::Duration;

use bytes::Bytes;
use tandem_chassis::{Doors, Lifecycle};
use tandem_log::{Log, Next, Record, Retention, Start, TopicSpec};
use tandem_log_disk::{DiskLog, Options};

const PARTITIONS: u32 = 16;
const TOPIC: &str = "cost";

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
    let record = Record {
        key: Bytes::from(format!("alice@example.org|bob{n}@example.org")),
        value: Bytes::from(vec![n as u8; 200]),
        headers: vec![("v".to_owned(), Bytes::from_static(b"1"))],
    };
    (n % PARTITIONS, record)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "cost.log".to_owned());
    let doors = Doors::real();
    let clock = doors.clock.clone();
    let path = std::path::Path::new(&folder);
    let log = DiskLog::open(path, doors, Options::default(), &Lifecycle::new())
        .await
        .unwrap();
    let retention = Retention::Delete {
        age: None,
        bytes: Some(64 << 20),
    };
    let spec = TopicSpec {
        name: TOPIC.into(),
        partitions: PARTITIONS,
        retention,
    };
    log.ensure_topic(&spec).await.unwrap();
    let runs = [
        (0, 1, 3_000),
        (0, 8, 24_000),
        (0, 64, 192_000),
        (0, 512, 768_000),
        (3, 64, 192_000),
        (3, 512, 768_000),
    ];
    for (readers, group, total) in runs {
        let mut tasks = Vec::new();
        for _ in 0..readers {
            let mut reader = log.follow(TOPIC, Start::Newest).await.unwrap();
            tasks.push(tokio::spawn(async move {
                let mut seen = 0;
                while seen < total {
                    if let Next::Records(_, records) = reader.next().await.unwrap() {
                        seen += records.len();
                    }
                }
            }));
        }
        let (before, cpu_before, from) = (log.stats(), cpu(), clock.monotonic());
        for call in 0..(total / group) as u32 {
            // as many callers as the group has records, each with one
            let calls: Vec<_> = (0..group as u32)
                .map(|i| log.append(TOPIC, vec![record(call * 31 + i)]))
                .collect();
            for answer in futures::future::join_all(calls).await {
                assert!(answer[0].is_ok());
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        let wall = clock.monotonic().saturating_sub(from);
        let (cpu, after) = (cpu().saturating_sub(cpu_before), log.stats());
        println!(
            "{readers} readers, groups of {group:3}: {:6.2} µs CPU, {:7.2} µs wall a record, {:6.1} records an fsync",
            cpu.as_secs_f64() * 1e6 / total as f64,
            wall.as_secs_f64() * 1e6 / total as f64,
            total as f64 / (after.groups - before.groups) as f64,
        );
    }
    log.close().await;
}
