//! `tandem-checker FILE.jsonl [--json]`.

use std::{fs, path::Path, process::Command};

use tandem_checker::{Record, Verdict, What};

use crate::world::{Plan, World};

fn write(dir: &Path, name: &str, records: &[Record]) -> String {
    let path = dir.join(name);
    let lines = records
        .iter()
        .map(|r| serde_json::to_string(r).unwrap() + "\n");
    fs::write(&path, lines.collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Exit code, and what it wrote.
fn run(arguments: &[&str]) -> (i32, String) {
    let program = env!("CARGO_BIN_EXE_tandem-checker");
    let output = Command::new(program).args(arguments).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), out)
}

#[test]
fn the_exit_code_says_whether_there_is_a_violation_and_the_evidence_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = World::record(3, Plan::default());
    let clean = write(dir.path(), "clean.jsonl", &records);
    let (code, out) = run(&[&clean]);
    assert_eq!(code, 0, "{out}");
    let shown = |r: &Record| matches!(r.what, What::Seen { shown: true, .. });
    let at = records.iter().position(shown).unwrap();
    records.insert(at + 1, records[at].clone());
    let broken = write(dir.path(), "broken.jsonl", &records);
    let (code, out) = run(&[&broken]);
    let evidence = format!(
        "\n{}: {}\n",
        at + 2,
        serde_json::to_string(&records[at]).unwrap()
    );
    assert!(code == 1 && out.contains(&evidence), "{out}");
    let (code, json) = run(&["--json", &broken]);
    let verdict: Verdict = serde_json::from_str(&json).unwrap();
    assert_eq!((code, verdict.violations()), (1, 1));
}

#[test]
fn what_cannot_be_read_is_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "{\"at\":1,\"what\":{\"unheard_of\":{}}}\n").unwrap();
    assert_eq!(run(&[path.to_str().unwrap()]).0, 2);
    assert_eq!(run(&[]).0, 2);
}
