//! Whatever was acknowledged is there after a crash, batches are whole or absent, nothing is invented.
//!
//! A child process (this test binary again, see [`writer`]) writes and says what it tries and what was
//! acknowledged; the parent kills it at random moments and opens the store after it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail so"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tandem_chassis::{Doors, Lifecycle};
use tandem_store::{Batch, Key, Op, PutIf, Range, Row, Store, Table};
use tandem_store_disk::{DiskStore, Options};

const ROUNDS: u64 = 20;
const WRITERS: u64 = 8;
const TABLE: Table = Table("rows");
const HEADS: Table = Table("heads");

async fn open(folder: &Path) -> Arc<DiskStore> {
    // small, so that the kills also meet flushes and compactions
    let options = Options {
        memtable_bytes: 128 << 10,
        ..Options::default()
    };
    let store = DiskStore::open(folder, Doors::real(), &Lifecycle::new(), &options).unwrap();
    store.ensure_table(TABLE).await.unwrap();
    store.ensure_table(HEADS).await.unwrap();
    store
}

fn partition(writer: u64, n: u64) -> Bytes {
    [writer.to_be_bytes(), n.to_be_bytes()].concat().into()
}

/// What a batch must be, from its name alone: 1 to 5 rows of 1 to 3,000 octets.
fn rows(writer: u64, n: u64) -> Vec<Row> {
    let dice = Doors::for_test(writer << 40 | n).rng;
    (0..=dice.below(5) as u8)
        .map(|i| {
            let mut value = vec![0; 1 + dice.below(3_000) as usize];
            dice.fill(&mut value);
            Row {
                sort: vec![i].into(),
                value: value.into(),
            }
        })
        .collect()
}

fn put(row: Row) -> Op {
    Op::Put {
        sort: row.sort,
        value: row.value,
        ttl: None,
    }
}

/// Each write: a batch of its own, and both rows of the writer's head. Each fifth write is deleted again by
/// the next but one. And a counter that is only changed conditionally.
async fn write_on(store: Arc<DiskStore>, writer: u64, from: u64) {
    let head = |sort: &'static [u8], n: u64| Op::Put {
        sort: Bytes::from_static(sort),
        value: Bytes::copy_from_slice(&n.to_be_bytes()),
        ttl: None,
    };
    for n in from.. {
        println!("try write {writer} {n}");
        let ops = rows(writer, n).into_iter().map(put).collect();
        let mut batches = vec![
            Batch {
                version: None,
                table: TABLE,
                partition: partition(writer, n),
                ops,
            },
            Batch {
                version: None,
                table: HEADS,
                partition: partition(writer, 0),
                ops: vec![head(b"a", n), head(b"b", n)],
            },
        ];
        let deleted = n.checked_sub(2).filter(|d| *d >= from && d % 5 == 0);
        if let Some(d) = deleted {
            println!("try delete {writer} {d}");
            let ops = vec![Op::DeletePartition];
            batches.push(Batch {
                version: None,
                table: TABLE,
                partition: partition(writer, d),
                ops,
            });
        }
        store.write(batches).await.unwrap();
        println!("ack write {writer} {n}");
        if let Some(d) = deleted {
            println!("ack delete {writer} {d}");
        }
        let key = Key {
            table: HEADS,
            partition: partition(writer, 1),
            sort: Bytes::new(),
        };
        let seen = store.get(&key).await.unwrap();
        println!("try count {writer} {n}");
        let next = Bytes::copy_from_slice(&n.to_be_bytes());
        assert_eq!(
            store.put_if(&key, seen, next, None).await.unwrap(),
            PutIf::Done
        );
        println!("ack count {writer} {n}");
    }
}

/// The child: runs in a folder with the data and a file that says at which number to begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of what_was_acknowledged_survives_kills_at_any_moment"]
async fn writer() {
    let from: u64 = fs::read_to_string("from").unwrap().parse().unwrap();
    let store = open(Path::new("data")).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_on(Arc::clone(&store), writer, from));
    }
    writers.join_all().await;
}

/// What the children said, by writer and number.
#[derive(Default)]
struct Said {
    tried: BTreeSet<(String, u64, u64)>,
    acknowledged: BTreeSet<(String, u64, u64)>,
}

impl Said {
    fn read(&mut self, said: &str) {
        // a line that was cut off by the kill was not said
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [verb @ ("try" | "ack"), what, writer, n] = words[..] else {
                continue;
            };
            let entry = (what.to_owned(), writer.parse().unwrap(), n.parse().unwrap());
            if verb == "try" {
                self.tried.insert(entry);
            } else {
                assert!(self.tried.contains(&entry));
                self.acknowledged.insert(entry);
            }
        }
    }

    fn last(set: &BTreeSet<(String, u64, u64)>, what: &str, writer: u64) -> Option<u64> {
        set.iter()
            .filter(|(w, by, _)| w == what && *by == writer)
            .map(|(_, _, n)| *n)
            .max()
    }
}

fn number(value: Option<Bytes>) -> Option<u64> {
    value.map(|v| u64::from_be_bytes(v.as_ref().try_into().unwrap()))
}

/// Checks the store against what was said; returns how many rows it has found.
async fn check(store: &DiskStore, said: &Said) -> usize {
    let mut found = 0;
    for (what, writer, n) in &said.tried {
        if what != "write" {
            continue;
        }
        let is = |set: &BTreeSet<_>, what: &str| set.contains(&(what.to_owned(), *writer, *n));
        let there = store
            .range(TABLE, &partition(*writer, *n), Range::all(100))
            .await
            .unwrap();
        let whole = there == rows(*writer, *n);
        assert!(
            whole || there.is_empty(),
            "batch {writer}/{n} is neither whole nor absent"
        );
        if is(&said.acknowledged, "delete") {
            assert!(!whole, "batch {writer}/{n} was deleted");
        } else if is(&said.acknowledged, "write") && !is(&said.tried, "delete") {
            assert!(whole, "batch {writer}/{n} was acknowledged");
        }
        found += there.len();
    }
    for writer in 0..WRITERS {
        for (what, at) in [("write", 0), ("count", 1)] {
            let rows = store
                .range(HEADS, &partition(writer, at), Range::all(9))
                .await
                .unwrap();
            let values: BTreeSet<_> = rows.iter().map(|r| number(Some(r.value.clone()))).collect();
            assert!(
                values.len() <= 1,
                "the head of {writer} is torn: {values:?}"
            );
            let value = values.into_iter().next().flatten();
            assert!(value >= Said::last(&said.acknowledged, what, writer));
            assert!(value <= Said::last(&said.tried, what, writer));
        }
    }
    found
}

/// All rows of the table, read past the store.
fn count(folder: &Path) -> usize {
    let db = fjall::Database::builder(folder).open().unwrap();
    db.keyspace(TABLE.0, fjall::KeyspaceCreateOptions::default)
        .unwrap()
        .len()
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let dice = Doors::for_test(20).rng;
    let mut said = Said::default();
    for round in 0..ROUNDS {
        fs::write(dir.path().join("from"), format!("{}", round * 1_000_000)).unwrap();
        let out = dir.path().join("out");
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .current_dir(dir.path())
            .stdout(Stdio::from(File::create(&out).unwrap()))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(60 + dice.below(300))).await;
        child.start_kill().unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(status.code(), None, "the child ended before it was killed");
        said.read(&fs::read_to_string(&out).unwrap());

        let store = open(&data).await;
        let found = check(&store, &said).await;
        drop(store);
        assert_eq!(count(&data), found, "rows that nobody wrote");
    }
    let acknowledged = said.acknowledged.len() as u64;
    assert!(
        acknowledged > ROUNDS * 50,
        "only {acknowledged} writes were acknowledged"
    );
    println!("{acknowledged} acknowledged, {} tried", said.tried.len());
}

/// The newest journal, and where its content ends.
fn journal(folder: &Path) -> (PathBuf, u64) {
    let journals: BTreeMap<u64, PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jnl"))
        .map(|path| {
            (
                path.file_stem().unwrap().to_str().unwrap().parse().unwrap(),
                path,
            )
        })
        .collect();
    let path = journals.into_values().next_back().unwrap();
    let mut content = Vec::new();
    File::open(&path)
        .unwrap()
        .read_to_end(&mut content)
        .unwrap();
    let end = content.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    (path, end as u64)
}

async fn batches_there(store: &DiskStore, upto: u64) -> Vec<u64> {
    let mut there = Vec::new();
    for n in 0..upto {
        let found = store
            .range(TABLE, &partition(0, n), Range::all(100))
            .await
            .unwrap();
        assert!(found.is_empty() || found == rows(0, n), "batch {n} is torn");
        if !found.is_empty() {
            there.push(n);
        }
    }
    there
}

async fn write_batch(store: &DiskStore, n: u64) {
    let ops = rows(0, n).into_iter().map(put).collect();
    store
        .write(vec![Batch {
            version: None,
            table: TABLE,
            partition: partition(0, n),
            ops,
        }])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_torn_tail_of_the_journal_is_cut_off_cleanly() {
    let dice = Doors::for_test(7).rng;
    for round in 0..12_u64 {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let store = open(&data).await;
        for n in 0..9 {
            write_batch(&store, n).await;
        }
        let (_, before) = journal(&data);
        write_batch(&store, 9).await;
        drop(store);
        let (path, end) = journal(&data);
        // the last batch ends in an octet that is not zero, so the last octets are truly of it
        let cut = before + 1 + dice.below(end - before - 1);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        match round % 3 {
            // the file ends in the middle of the batch
            0 => file.set_len(cut).unwrap(),
            // its rest was never written
            1 => {
                file.set_len(cut).unwrap();
                file.set_len(64 << 20).unwrap();
            }
            // rubbish lies behind the last whole batch
            _ => {
                file.set_len(before).unwrap();
                let mut rubbish = vec![0; 1 + dice.below(5_000) as usize];
                dice.fill(&mut rubbish);
                (&file).seek(SeekFrom::Start(before)).unwrap();
                (&file).write_all(&rubbish).unwrap();
            }
        }
        drop(file);
        let store = open(&data).await;
        assert_eq!(
            batches_there(&store, 12).await,
            (0..9).collect::<Vec<_>>(),
            "round {round}"
        );
        write_batch(&store, 10).await;
        drop(store);
        let store = open(&data).await;
        let expected: Vec<u64> = (0..9).chain([10]).collect();
        assert_eq!(batches_there(&store, 12).await, expected, "round {round}");
    }
}
