//! The long form of fuzzing: libFuzzer over `tests/fuzz`, in a target folder of its own.

use std::{fs, process::Command};

use crate::check::{Result, sh};

/// Runs one target.
pub fn run(target: &str, seconds: u64) -> Result<()> {
    let dir = "tests/fuzz";
    fs::create_dir_all(format!("{dir}/corpus/{target}"))?;
    let mut build = Command::new("cargo");
    build
        .args(["build", "--release", "--bin", target, "--manifest-path"])
        .arg(format!("{dir}/Cargo.toml"))
        // what cargo-fuzz passes, without a sanitizer, so that the stable toolchain will do
        .env(
            "RUSTFLAGS",
            "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
             -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
             -Cllvm-args=-sanitizer-coverage-pc-table -Cdebug-assertions=on -Ccodegen-units=1",
        );
    sh(&mut build)?;
    let mut fuzz = Command::new(format!("{dir}/target/release/{target}"));
    fuzz.arg(format!("-max_total_time={seconds}"))
        .arg("-max_len=4096");
    sh(fuzz.arg(format!("{dir}/corpus/{target}")))
}
