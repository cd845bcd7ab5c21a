//! Four days of real conversations at once, with and without `kill -9`: nothing lost, doubled or out of
//! order on any device.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tandem_e2e_tests::{Process, Up};

/// How long a replay may take. Generous: CI's machines are busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long the server lives each time.
const EVERY: Duration = Duration::from_secs(4);

/// One replay at a time: each is a load for the whole machine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn logs() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/chatlogs");
    let entries = dir.read_dir().unwrap_or_else(|e| {
        panic!(
            "the chat logs are to lie in {} (shared/ beside the clone): {e}",
            dir.display()
        )
    });
    let mut logs: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    logs.sort();
    assert_eq!(logs.len(), 4, "four chat logs in {}", dir.display());
    logs
}

fn replay(up: &Up, speed: &str) -> Process {
    let logs = logs();
    let mut args = vec!["load", "--json", "--speed", speed, "--replay"];
    args.extend(logs.iter().map(|p| p.to_str().expect("a path in UTF-8")));
    up.spawn(&args)
}

/// The report of a replay that has ended, which says that nothing is wrong.
fn good(replay: &mut Process) -> Value {
    let status = replay.ended().expect("it has ended");
    let (output, errors) = (replay.output(), replay.errors());
    let report: Value =
        serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output}{errors}"));
    for field in ["lost", "doubled", "out_of_order", "altered", "unanswered"] {
        assert_eq!(report[field], 0, "{field}: {report:#}{errors}");
    }
    assert_eq!(report["rejected"], serde_json::json!({}), "{report:#}");
    let least = |field: &str, least: u64| {
        let there = report[field].as_u64();
        assert!(there.is_some_and(|n| n >= least), "{field}: {report:#}");
    };
    least("people", 500);
    least("sessions", 500);
    least("accepted", 7_000);
    // more than one device has each
    least("delivered", 7_000);
    least("late_devices", 1);
    assert_eq!(report["accepted"], report["submitted"], "{report:#}");
    assert_eq!(status.code(), Some(0), "{report:#}{errors}");
    report
}

#[test]
fn four_days_of_chat_at_once_lose_double_and_disorder_nothing() {
    let _alone = alone();
    let up = Up::start(&[]);
    let mut replay = replay(&up, "1000");
    let begin = Instant::now();
    while replay.ended().is_none() {
        assert!(begin.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = good(&mut replay);
    eprintln!("{report}");
    let ended = report["connections_ended"].as_object().expect("a map");
    assert!(ended.is_empty(), "nobody was cut off: {report:#}");
}

#[test]
fn four_days_of_chat_survive_a_kill_every_few_seconds() {
    let _alone = alone();
    let mut up = Up::start(&[]);
    let mut replay = replay(&up, "450");
    let begin = Instant::now();
    let (mut sending, mut kills, mut since) = (false, 0, Instant::now());
    while replay.ended().is_none() {
        assert!(
            begin.elapsed() < PATIENCE,
            "it does not end after {kills} kills"
        );
        std::thread::sleep(Duration::from_millis(50));
        let submits = up.metric("tandem_edge_submits_total", &[]);
        if !sending && submits > 100.0 {
            (sending, since) = (true, Instant::now());
        }
        if !sending || since.elapsed() < EVERY {
            continue;
        }
        if submits == 0.0 {
            // so long without a word: all is said, and must now arrive
            sending = false;
            continue;
        }
        up.kill();
        kills += 1;
        std::thread::sleep(Duration::from_millis(200));
        up.restart();
        since = Instant::now();
    }
    let report = good(&mut replay);
    eprintln!("{kills} kills: {report}");
    assert!(kills >= 5, "killed {kills} times while messages were sent");
    let opened = report["sessions_opened"].as_u64().expect("a number");
    let sessions = report["sessions"].as_u64().expect("a number");
    assert!(
        opened > 2 * sessions,
        "the devices noticed the kills: {report:#}"
    );
}
