//! Nodes that die and nodes that stand still: nothing acknowledged is lost, nobody waits for ever, and it
//! goes on by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail so; a helper of tests is a test"
)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{RUNTIME, connect};
use tandem_chassis::Doors;
use tandem_engines::cassandra::{Options, Ring};
use tandem_store::{Batch, Key, Op, PutIf, Range, Store, StoreError, Table};
use tandem_store_cassandra::{CassandraStore, Config};

const TABLE: Table = Table("faults");

/// Nobody may wait longer than this, whatever stands still.
const FOR_EVER: Duration = Duration::from_mins(1);

/// Does to a ring what takes its time.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    Doors::real().threads.run(act).await.unwrap()
}

/// Starts a ring of one's own.
async fn private(nodes: usize) -> Arc<Ring> {
    let options = Options {
        nodes,
        ..Options::default()
    };
    Arc::new(blocking(move || Ring::start(&options).unwrap()).await)
}

async fn on(ring: &Ring, more: Config) -> Arc<CassandraStore> {
    let config = Config {
        contact_points: ring.addresses().join(","),
        replication: format!("SimpleStrategy:{}", ring.addresses().len()),
        create_tables: true,
        ..more
    };
    let store = connect(&config).await;
    store.ensure_table(TABLE).await.unwrap();
    store
}

fn batch(partition: &str, version: Option<u64>, rows: &[(&str, u64)]) -> Batch {
    let put = |(sort, n): &(&str, u64)| Op::Put {
        sort: Bytes::copy_from_slice(sort.as_bytes()),
        value: Bytes::copy_from_slice(&n.to_be_bytes()),
        ttl: None,
    };
    Batch {
        table: TABLE,
        partition: Bytes::copy_from_slice(partition.as_bytes()),
        ops: rows.iter().map(put).collect(),
        version,
    }
}

fn key(partition: &str, sort: &str) -> Key {
    Key {
        table: TABLE,
        partition: Bytes::copy_from_slice(partition.as_bytes()),
        sort: Bytes::copy_from_slice(sort.as_bytes()),
    }
}

fn number(value: Option<Bytes>) -> u64 {
    value.map_or(0, |v| u64::from_be_bytes(v.as_ref().try_into().unwrap()))
}

async fn get(store: &CassandraStore, partition: &str, sort: &str) -> u64 {
    loop {
        match store.get(&key(partition, sort)).await {
            Ok(value) => return number(value),
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(e) => panic!("{e}"),
        }
    }
}

/// Writes as history does: rows and a head, by version; what fails is written again. What was acknowledged
/// must be read at once. Returns the last number acknowledged.
async fn history(store: Arc<CassandraStore>, name: String, stop: Arc<AtomicBool>) -> u64 {
    let mut n = 1;
    while !stop.load(Ordering::Relaxed) {
        let row = format!("e{n:08}");
        let rows = [(row.as_str(), n), ("head", n)];
        if store
            .write(vec![batch(&name, Some(n), &rows)])
            .await
            .is_err()
        {
            continue;
        }
        assert_eq!(get(&store, &name, "head").await, n, "an acknowledged head");
        n += 1;
    }
    n - 1
}

/// Counts up by conditional puts. Returns how often it was told that one is done, and how often that it is not
/// known.
async fn counting(store: Arc<CassandraStore>, stop: Arc<AtomicBool>) -> (u64, u64) {
    let (mut done, mut unknown) = (0, 0);
    let at = key("count", "");
    while !stop.load(Ordering::Relaxed) {
        let Ok(seen) = store.get(&at).await else {
            continue;
        };
        let next = Bytes::copy_from_slice(&(number(seen.clone()) + 1).to_be_bytes());
        match store.put_if(&at, seen, next, None).await {
            Ok(PutIf::Done) => done += 1,
            Ok(PutIf::Otherwise(_)) => {}
            Err(_) => unknown += 1,
        }
    }
    (done, unknown)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nodes_killed_and_paused_nothing_acknowledged_is_lost() {
    let ring = private(3).await;
    let store = on(&ring, Config::default()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let names: Vec<String> = (0..8).map(|n| format!("conversation {n}")).collect();
    let writers: Vec<_> = names
        .iter()
        .map(|name| RUNTIME.spawn(history(Arc::clone(&store), name.clone(), Arc::clone(&stop))))
        .collect();
    let counters: Vec<_> = (0..3)
        .map(|_| RUNTIME.spawn(counting(Arc::clone(&store), Arc::clone(&stop))))
        .collect();
    let heads = async || {
        let mut all = 0;
        for name in &names {
            all += get(&store, name, "head").await;
        }
        all
    };
    let goes_on = async |what: &str| {
        let before = heads().await;
        let moved = async {
            while heads().await < before + 100 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let moved = tokio::time::timeout(FOR_EVER, moved).await;
        assert!(moved.is_ok(), "no progress while {what}");
    };
    goes_on("all is well").await;
    ring.kill(0);
    goes_on("the first node is dead").await;
    let again = Arc::clone(&ring);
    blocking(move || {
        again.restart(0).unwrap();
        again.ready().unwrap();
    })
    .await;
    ring.pause(1);
    goes_on("the second node stands still").await;
    ring.resume(1);
    goes_on("the second node is back").await;
    let again = Arc::clone(&ring);
    blocking(move || again.ready().unwrap()).await;
    ring.kill(2);
    goes_on("the third node is dead").await;
    stop.store(true, Ordering::Relaxed);

    let (mut done, mut unknown) = (0, 0);
    for counter in counters {
        let told = counter.await.unwrap();
        done += told.0;
        unknown += told.1;
    }
    let count = get(&store, "count", "").await;
    assert!(
        (done..=done + unknown).contains(&count),
        "{count} counted, {done} told, {unknown} not known"
    );
    let mut all = 0;
    for (name, writer) in names.iter().zip(writers) {
        let last = writer.await.unwrap();
        let rows = store
            .range(TABLE, name.as_bytes(), Range::all(1_000_000))
            .await
            .unwrap();
        let rows: Vec<u64> = rows
            .iter()
            .filter(|r| r.sort.starts_with(b"e"))
            .map(|r| number(Some(r.value.clone())))
            .collect();
        let acknowledged: Vec<u64> = (1..=last).collect();
        assert!(rows.starts_with(&acknowledged), "{name}: of {last} rows");
        assert!(get(&store, name, "head").await >= last);
        all += last;
    }
    println!("{all} batches acknowledged, {done} conditional puts done, {unknown} not known");
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_store_refuses_in_bounded_time_and_memory_and_recovers_by_itself() {
    let ring = private(3).await;
    let limits = Config {
        max_in_flight: 64,
        max_waiting: 256,
        wait_timeout_ms: 1_000,
        request_timeout_ms: 1_000,
        ..Config::default()
    };
    let store = on(&ring, limits).await;
    store
        .write(vec![batch("p", Some(1), &[("before", 1)])])
        .await
        .unwrap();
    for node in 0..3 {
        ring.pause(node);
    }
    let before = resident();
    let refused = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..500)
        .map(|caller| {
            let (store, refused) = (Arc::clone(&store), Arc::clone(&refused));
            RUNTIME.spawn(async move {
                // each goes on asking, as services do
                for n in 0..20_u64 {
                    let large = Op::Put {
                        sort: Bytes::copy_from_slice(&n.to_be_bytes()),
                        value: vec![7; 10_000].into(),
                        ttl: None,
                    };
                    let write = Batch {
                        ops: vec![large],
                        ..batch(&format!("caller {caller}"), Some(n), &[])
                    };
                    let answer = tokio::time::timeout(FOR_EVER, store.write(vec![write])).await;
                    let error = answer.expect("an answer in bounded time").unwrap_err();
                    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
                    refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(refused.load(Ordering::Relaxed), 10_000);
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes more while nothing answered");
    // all that was asked is 100 MB; what may be kept is what is under way and not answered yet
    assert!(grown < 64 << 20, "{grown} bytes");

    for node in 0..3 {
        ring.resume(node);
    }
    let works = async {
        while store
            .write(vec![batch("p", Some(2), &[("after", 2)])])
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let works = tokio::time::timeout(FOR_EVER, works).await;
    assert!(works.is_ok(), "it does not recover");
    assert_eq!(get(&store, "p", "before").await, 1);
    assert_eq!(get(&store, "p", "after").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_cluster_comes_later_waits_for_it() {
    let ring = private(1).await;
    let config = Config {
        contact_points: ring.address(0),
        replication: "SimpleStrategy:1".into(),
        create_tables: true,
        ..Config::default()
    };
    ring.kill(0);
    let connecting = RUNTIME.spawn(async move { connect(&config).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!connecting.is_finished());
    let again = Arc::clone(&ring);
    blocking(move || again.restart(0).unwrap()).await;
    let store = tokio::time::timeout(FOR_EVER, connecting).await;
    let store = store.unwrap().unwrap();
    store.ensure_table(TABLE).await.unwrap();
    assert_eq!(get(&store, "p", "s").await, 0);
}
