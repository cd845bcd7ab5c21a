//! A process that appends is killed at any moment, many times over, and each time what it had been
//! told is there: the same content at the same offset, in the order of sending, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests are tests, and the child speaks to its parent"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tandem_chassis::{Doors, Lifecycle, rng::Rng};
use tandem_kernel::Place;
use tandem_log::{Log, LogError, Next, Record, Retention, Start, Stored, TopicSpec};
use tandem_log_disk::{DiskLog, Options};

const ROUNDS: usize = 20;
const PARTITIONS: u32 = 4;
const APPENDERS: usize = 8;
const TOPIC: &str = "durable";

/// Small, so that tables are written and journals go while it runs.
fn options() -> Options {
    Options {
        memtable_bytes: 512 << 10,
        tail_bytes: 64 << 10,
        ..Options::default()
    }
}

async fn open(folder: &Path) -> Arc<DiskLog> {
    let log = DiskLog::open(folder, Doors::real(), options(), &Lifecycle::new())
        .await
        .unwrap();
    let retention = Retention::Delete {
        age: None,
        bytes: None,
    };
    let spec = TopicSpec {
        name: TOPIC.into(),
        partitions: PARTITIONS,
        retention,
    };
    log.ensure_topic(&spec).await.unwrap();
    log
}

/// The `n`th record of an appender, and where it goes: known from its name alone.
fn nth(round: usize, who: usize, n: usize) -> (u32, Record) {
    let name = format!("{round} {who} {n}");
    let mut value = name.clone();
    for i in 0..(n * 37 + who * 11) % 90 {
        write!(value, " {:x}", (i + 1) * (n + 7) * 2_654_435_761).unwrap();
    }
    let headers = vec![("n".to_owned(), n.to_string().into())];
    let record = Record {
        key: name.into(),
        value: value.into(),
        headers,
    };
    (((who + n / 3) % PARTITIONS as usize) as u32, record)
}

/// What the child does, in a process of its own: the parent writes folder and round to its input. Says
/// `s who n` before each record is sent, `a who n partition offset` after it is answered, and
/// `c partition offset` before it commits.
#[test]
#[ignore = "run as a child by the tests of this file"]
fn child() {
    let Some((round, folder)) = told() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let log = open(Path::new(&folder)).await;
        let append = (0..APPENDERS).map(|who| append_for_ever(&log, round, who));
        futures::join!(futures::future::join_all(append), commit_for_ever(&log));
    });
}

async fn append_for_ever(log: &DiskLog, round: usize, who: usize) {
    let mut under_way = std::collections::VecDeque::new();
    let mut n = 0;
    loop {
        let many = 1 + n % 3;
        for n in n..n + many {
            println!("s {who} {n}");
        }
        let records = (n..n + many).map(|n| nth(round, who, n)).collect();
        under_way.push_back((n, log.append(TOPIC, records)));
        n += many;
        if under_way.len() > 3 {
            let (first, answers) = under_way.pop_front().unwrap();
            for (n, answer) in (first..).zip(answers.await) {
                let Place { partition, offset } = answer.unwrap().place;
                println!("a {who} {n} {partition} {offset}");
            }
        }
    }
}

async fn commit_for_ever(log: &DiskLog) {
    let mut reader = log.subscribe(TOPIC, "g", Start::Oldest).await.unwrap();
    loop {
        if let Next::Records(partition, records) = reader.next().await.unwrap() {
            let offset = records.last().unwrap().place.offset + 1;
            println!("c {partition} {offset}");
            reader.commit(partition, offset).await.unwrap();
        }
    }
}

/// Runs an ignored test of this file in a process of its own, after `setup` in its shell.
fn spawn(setup: &str, name: &str, folder: &Path, round: usize) -> Child {
    let mut child = Command::new("sh")
        .args(["-c", &format!("{setup} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            name,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{round} {}", folder.display()).unwrap();
    child
}

/// Round and folder, as the parent says; nothing if there is no parent.
fn told() -> Option<(usize, String)> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let (round, folder) = line.trim_end().split_once(' ')?;
    // the test runner has begun a line of its own
    println!();
    Some((round.parse().ok()?, folder.to_owned()))
}

/// All that was ever said.
#[derive(Default)]
struct Said {
    /// Number of records sent, by round and appender.
    sent: BTreeMap<(usize, usize), usize>,
    /// Name of the record at each place that was answered.
    answered: BTreeMap<Place, (usize, usize, usize)>,
    commits: BTreeMap<u32, u64>,
}

impl Said {
    fn take(&mut self, round: usize, line: &str) {
        let (what, numbers) = line.split_once(' ').unwrap_or_default();
        let numbers: Vec<u64> = numbers.split(' ').map_while(|n| n.parse().ok()).collect();
        match (what, &numbers[..]) {
            ("s", [who, n]) => {
                self.sent.insert((round, *who as usize), *n as usize + 1);
            }
            ("a", [who, n, partition, offset]) => {
                let place = Place {
                    partition: *partition as u32,
                    offset: *offset,
                };
                let before = self
                    .answered
                    .insert(place, (round, *who as usize, *n as usize));
                assert_eq!(before, None, "{place:?} was given twice");
            }
            ("c", [partition, offset]) => {
                self.commits.insert(*partition as u32, *offset);
            }
            _ => {} // what the test runner says
        }
    }
}

async fn all(log: &DiskLog) -> BTreeMap<Place, Stored> {
    let mut all = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let read = log.read(TOPIC, partition, 0, usize::MAX).await.unwrap();
        assert!(read.is_sorted_by_key(|s| (s.place, s.at)));
        all.extend(read.into_iter().map(|s| (s.place, s)));
    }
    all
}

fn name(stored: &Stored) -> (usize, usize, usize) {
    let key = std::str::from_utf8(&stored.record.key).unwrap();
    let numbers: Vec<usize> = key.split(' ').map(|n| n.parse().unwrap()).collect();
    (numbers[0], numbers[1], numbers[2])
}

async fn check(folder: &Path, said: &Said) -> usize {
    let log = open(folder).await;
    let all = all(&log).await;
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut order: BTreeMap<(u32, usize, usize), usize> = BTreeMap::new();
    for (place, stored) in &all {
        let (round, who, n) = name(stored);
        let (partition, record) = nth(round, who, n);
        assert_eq!(
            (partition, &record),
            (place.partition, &stored.record),
            "content at {place:?}"
        );
        *counts.entry((round, who)).or_default() += 1;
        let before = order.insert((partition, round, who), n);
        assert!(
            before < Some(n),
            "{n} after {before:?}: order, or twice, at {place:?}"
        );
    }
    for (place, name_of) in &said.answered {
        let there = all
            .get(place)
            .unwrap_or_else(|| panic!("{name_of:?} at {place:?} is lost"));
        assert_eq!(name(there), *name_of);
    }
    for ((round, who), count) in &counts {
        let sent = said.sent.get(&(*round, *who)).copied().unwrap_or(0);
        assert!(
            *count <= sent,
            "{count} records of {round} {who} are there, {sent} were sent"
        );
        // no record without those sent before it
        let highest = order
            .iter()
            .filter(|((_, r, w), _)| (r, w) == (round, who))
            .map(|(_, n)| *n);
        assert_eq!(
            highest.max().unwrap() + 1,
            *count,
            "a gap in what {round} {who} sent"
        );
    }
    for (partition, committed) in (0..).zip(log.committed(TOPIC, "g").await.unwrap()) {
        let said = said.commits.get(&partition).copied();
        assert!(
            committed <= said,
            "{committed:?} was not said yet: {said:?}"
        );
    }
    log.close().await;
    all.len()
}

#[tokio::test]
async fn what_was_answered_survives_a_kill_at_any_moment_and_nothing_is_invented() {
    let folder = tempfile::tempdir().unwrap();
    let rng = Rng::from_seed(20);
    let mut said = Said::default();
    let mut all = 0;
    for round in 0..ROUNDS {
        let mut child = spawn("", "child", folder.path(), round);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // some rounds end while it opens, or between its first records
        let until = if round % 5 == 4 { 0 } else { rng.below(6000) };
        let mut answers = 0;
        let mut line = String::new();
        while answers < until && lines.read_line(&mut line).unwrap() > 0 {
            answers += u64::from(line.starts_with("a "));
            said.take(round, line.trim_end());
            line.clear();
        }
        tokio::time::sleep(Duration::from_micros(rng.below(30_000))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        while lines.read_line(&mut line).unwrap() > 0 {
            // the last line may be cut off
            if line.ends_with('\n') {
                said.take(round, line.trim_end());
            }
            line.clear();
        }
        let now = check(folder.path(), &said).await;
        assert!(now >= all);
        all = now;
    }
    assert!(
        said.answered.len() > 10_000,
        "{} answers are too few to tell",
        said.answered.len()
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

fn newest_journal(folder: &Path) -> std::path::PathBuf {
    let id = |path: &std::path::PathBuf| -> u64 {
        path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
    };
    let items = std::fs::read_dir(folder.join("db"))
        .unwrap()
        .map(|i| i.unwrap().path());
    items
        .filter(|p| p.extension().is_some_and(|e| e == "jnl"))
        .max_by_key(id)
        .unwrap()
}

async fn append(log: &DiskLog, round: usize) {
    let records = (0..40).map(|n| nth(round, 0, n)).collect();
    assert!(log.append(TOPIC, records).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_what_was_before_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut ends = Vec::new();
    for round in 0..3 {
        let log = open(folder.path()).await;
        if round > 0 {
            append(&log, round).await;
        }
        log.close().await;
        ends.push(
            std::fs::metadata(newest_journal(folder.path()))
                .unwrap()
                .len(),
        );
    }
    let (from, to) = (ends[1], ends[2]);
    assert!(
        to > from + 1000,
        "the last round is the journal's end: {ends:?}"
    );
    let rng = Rng::from_seed(3);
    for case in 0..60 {
        let copied = tempfile::tempdir().unwrap();
        copy(folder.path(), copied.path());
        let path = newest_journal(copied.path());
        let mut journal = std::fs::read(&path).unwrap();
        let at = (from + rng.below(to - from)) as usize;
        match case % 4 {
            0 => journal.truncate(at),
            1 => journal[at..].fill(0),
            // written out of order: a hole before an end that is there
            2 => {
                let end = journal.len().min(at + 64);
                journal[at..end].fill(0);
            }
            _ => journal[at] ^= 1 << rng.below(8),
        }
        if case % 8 < 4 {
            journal.resize(journal.len() + 4096, 0);
        }
        std::fs::write(&path, &journal).unwrap();
        let log = open(copied.path()).await;
        let found = all(&log).await;
        let of = |round| found.values().filter(|s| name(s).0 == round).count();
        assert_eq!(of(1), 40, "case {case}: what lay before the tear");
        assert!(
            of(2) == 0 || of(2) == 40,
            "case {case}: a group is there as a whole or not at all"
        );
        for stored in found.values() {
            let (round, who, n) = name(stored);
            assert_eq!(nth(round, who, n).1, stored.record);
        }
        // and it goes on from there
        append(&log, 3).await;
        log.close().await;
        let log = open(copied.path()).await;
        assert_eq!(all(&log).await.len(), found.len() + 40);
        log.close().await;
    }
}

/// Appends until the disk refuses, and says so as [`child`] does.
#[tokio::test]
#[ignore = "run as a child by the tests of this file"]
async fn child_that_fails() {
    let Some((_, folder)) = told() else { return };
    let lifecycle = Lifecycle::new();
    // no table is written, so the journal grows to the limit
    let options = Options {
        memtable_bytes: 1 << 30,
        ..options()
    };
    let log = DiskLog::open(Path::new(&folder), Doors::real(), options, &lifecycle)
        .await
        .unwrap();
    let retention = Retention::Delete {
        age: None,
        bytes: None,
    };
    let spec = TopicSpec {
        name: TOPIC.into(),
        partitions: PARTITIONS,
        retention,
    };
    log.ensure_topic(&spec).await.unwrap();
    for n in 0..10_000 {
        let value = vec![n as u8; 500_000].into();
        let record = Record {
            key: n.to_string().into(),
            value,
            headers: Vec::new(),
        };
        match log.append(TOPIC, vec![(0, record)]).await.remove(0) {
            Ok(answer) => println!("a 0 {n} 0 {}", answer.place.offset),
            Err(error) => {
                assert!(matches!(error, LogError::Unavailable(_)), "{error}");
                break;
            }
        }
        assert!(log.healthy());
    }
    assert!(!log.healthy());
    tokio::time::timeout(Duration::from_secs(10), lifecycle.stopped())
        .await
        .unwrap();
    let (_, record) = nth(0, 0, 0);
    let answers = log
        .append(TOPIC, vec![(0, record.clone()), (1, record)])
        .await;
    assert!(
        answers
            .iter()
            .all(|a| matches!(a, Err(LogError::Unavailable(_)))),
        "{answers:?}"
    );
    assert_eq!(log.end_offsets(TOPIC).await.unwrap()[1], 0);
    log.close().await;
    println!("failed as it should");
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    // files end at 66 MiB, which is an error to who ignores the signal
    let setup = "trap '' XFSZ; ulimit -f $((66 * 1024 * 1024 / 512)) && ";
    let mut child = spawn(setup, "child_that_fails", folder.path(), 0);
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .collect();
    assert!(child.wait().unwrap().success(), "{lines:?}");
    assert!(
        lines.iter().any(|l| l == "failed as it should"),
        "{lines:?}"
    );
    let answered = lines.iter().filter(|l| l.starts_with("a ")).count();
    assert!(answered > 50, "{answered}");
    let log = open(folder.path()).await;
    let read = log.read(TOPIC, 0, 0, usize::MAX).await.unwrap();
    // what was being written when it failed may be there
    assert!(
        read.len() == answered || read.len() == answered + 1,
        "{answered}, {}",
        read.len()
    );
    for (n, stored) in read.iter().enumerate() {
        assert_eq!(
            stored.place,
            Place {
                partition: 0,
                offset: n as u64
            }
        );
        assert!(
            stored.record.key == n.to_string() && stored.record.value == vec![n as u8; 500_000]
        );
    }
    append(&log, 1).await;
    log.close().await;
}
