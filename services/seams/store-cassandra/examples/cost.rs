//! What a batch costs, as history makes them: an event's row of 300 octets and a head of 400, one partition, with
//! a version. Latency, and CPU of this process. Wants the ring of `cargo xtask engines up`, or addresses of
//! another. `cargo run -p tandem-store-cassandra --example cost [ADDRESSES]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for people"
)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tandem_chassis::{Doors, Lifecycle};
use tandem_store::{Batch, Op, Store, Table};
use tandem_store_cassandra::{CassandraStore, Config};

const TABLE: Table = Table("cost");

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

fn batch(conversation: usize, version: u64) -> Batch {
    let put = |sort: Vec<u8>, octets| Op::Put {
        sort: sort.into(),
        value: Bytes::from(vec![7; octets]),
        ttl: None,
    };
    Batch {
        table: TABLE,
        partition: format!("o:alice@example.org,bob{conversation}@example.org").into(),
        ops: vec![
            put([&b"e"[..], &version.to_be_bytes()].concat(), 300),
            put(Vec::new(), 400),
        ],
        version: Some(version),
    }
}

#[tokio::main]
async fn main() {
    let mut config = Config {
        keyspace: "cost".into(),
        create_tables: true,
        contact_points: "127.0.0.1:9042,127.0.0.2:9042,127.0.0.3:9042".into(),
        ..Config::default()
    };
    if let Some(addresses) = std::env::args().nth(1) {
        config.contact_points = addresses;
    }
    let doors = Doors::real();
    let store = CassandraStore::connect(&config, doors.clone(), &Lifecycle::new())
        .await
        .unwrap();
    store.ensure_table(TABLE).await.unwrap();
    let store: Arc<dyn Store> = store;
    let mut version = doors.clock.unix().0.unsigned_abs();
    for (group, rounds) in [(1, 500), (1, 500), (16, 200), (128, 60), (1_000, 10)] {
        let (began, used) = (doors.clock.monotonic(), cpu());
        let mut took = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            version += 1;
            let batches = (0..group).map(|c| batch(c, version)).collect();
            let one = doors.clock.monotonic();
            store.write(batches).await.unwrap();
            took.push(doors.clock.monotonic().saturating_sub(one));
        }
        let all = doors.clock.monotonic().saturating_sub(began);
        let used = cpu().saturating_sub(used);
        took.sort_unstable();
        let batches = (group * rounds) as u32;
        println!(
            "groups of {group:5}: p50 {:?}, p99 {:?} a group; {:.0} batches/s; {:?} CPU a batch",
            took[rounds / 2],
            took[rounds * 99 / 100],
            f64::from(batches) / all.as_secs_f64(),
            used / batches
        );
    }
}
