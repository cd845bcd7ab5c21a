//! The program without a server: its help, its config, its exit codes.

use std::process::{Command, Output};

fn tandem(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(args)
        .env_remove("TANDEM_SERVER")
        .env_remove("TANDEM_CONFIG")
        .output()
        .unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn every_subcommand_explains_itself() {
    let help = tandem(&["--help"]);
    assert!(help.status.success());
    for command in ["up", "chat", "send", "token", "accounts", "load", "config"] {
        assert!(
            text(&help.stdout).contains(command),
            "{command} is not in the help"
        );
        let help = tandem(&[command, "--help"]);
        assert!(help.status.success());
        let options = text(&help.stdout);
        let bare: Vec<_> = options
            .lines()
            .filter(|l| l.trim_start().starts_with("--") && l.split_whitespace().count() < 2)
            .collect();
        assert!(bare.is_empty(), "{command}: {bare:?} say nothing");
    }
}

#[test]
fn config_show_names_each_value_and_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tandem.toml");
    std::fs::write(
        &file,
        "[push]\nvapid_subject = \"mailto:sre@example.com\"\nvapid_private_key = \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\"\n[edge]\nevents_per_s = 7\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let shown = tandem(&[
        "config",
        "show",
        "--config",
        file,
        "--set",
        "edge.events_burst=9",
    ]);
    let shown = text(&shown.stdout);
    assert!(
        shown.contains(&format!("edge.events_per_s = 7  # file {file}")),
        "{shown}"
    );
    assert!(shown.contains("edge.events_burst = 9  # flag"), "{shown}");
    assert!(
        shown.contains("push.vapid_private_key = \"***\"  # file"),
        "{shown}"
    );
    assert!(
        shown.contains("history.page_limit = 200  # default"),
        "{shown}"
    );
    assert!(!shown.contains("AQEBAQ"));
}

#[test]
fn a_wrong_key_is_refused_with_64_and_the_nearest_known_one() {
    for command in [
        &["config", "check"][..],
        &["up", "--data-dir", "/nowhere/at/all"],
    ] {
        let refused = tandem(&[command, &["--set", "edge.event_per_s=1"]].concat());
        assert_eq!(refused.status.code(), Some(64));
        let said = text(&refused.stderr);
        assert!(said.contains("did you mean edge.events_per_s?"), "{said}");
    }
    let refused = tandem(&["config", "check", "--set", "push.window_ms=0"]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(text(&refused.stderr).contains("push.window_ms"));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let gone = "ws://127.0.0.1:1";
    let failed = tandem(&["token", "--as", "alice", "--server", gone]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("127.0.0.1:1"));
    let refused = tandem(&[
        "accounts",
        "show",
        "alice@tandem.test",
        "--server",
        "ftp://x",
    ]);
    assert_eq!(refused.status.code(), Some(64));
}
