//! The program without a server: its help and its exit codes.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot run the program fails"
)]

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
