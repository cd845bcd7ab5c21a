//! What outlives a process: the shared engines on purpose, private ones never for long.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot look fails"
)]

use std::{env, process, process::Command};

use tandem_engines::{Process, reap, redis, shared, up};

#[test]
fn a_second_up_changes_nothing() {
    let pids = || -> Vec<_> {
        let nodes = up::status().unwrap().into_iter();
        nodes.map(|node| (node.name, node.pid)).collect()
    };
    let before = pids();
    assert!(
        before.iter().all(|(_, pid)| pid.is_some()),
        "not all engines run: `cargo xtask engines up` starts them"
    );
    let started = up::up().unwrap();
    assert!(started.iter().all(|engine| engine.nodes == 0));
    assert_eq!(pids(), before);
    assert!(shared::ca_file().unwrap().exists());
}

#[test]
fn what_a_killed_process_left_behind_is_reaped() {
    const CHILD: &str = "TANDEM_ENGINES_TEST_CHILD";
    if env::var_os(CHILD).is_some() {
        let redis = redis::Server::start(&redis::Options::default()).unwrap();
        println!("left behind: {}", redis.process(0).unwrap().pid());
        // dies without running a destructor
        process::abort();
    }
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "what_a_killed_process_left_behind_is_reaped"])
        .arg("--nocapture")
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let pid = said.split("left behind: ").nth(1).unwrap();
    let pid = pid.split_whitespace().next().unwrap().parse().unwrap();
    // another test's start may have been quicker
    reap().unwrap();
    assert_eq!(Process::of(pid), None);
}
