//! The long form of fuzzing: libFuzzer over `tests/fuzz`, in a target folder of its own.

use std::{fs, path::Path, process::Command};

use crate::check::{Result, sh};

/// What cargo-fuzz passes, without a sanitizer, so that the stable toolchain will do.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions=on -Ccodegen-units=1";

/// Runs one target.
pub fn run(target: &str, seconds: u64) -> Result<()> {
    let dir = "tests/fuzz";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["corpus", "artifacts"] {
        fs::create_dir_all(root.join(dir).join(folder).join(target))?;
    }
    let host = host()?;
    let mut build = Command::new("cargo");
    build
        .args(["build", "--release", "--locked", "--bin", target])
        .args(["--manifest-path", &format!("{dir}/Cargo.toml")])
        // its own, whatever the surrounding cargo was told; a target, so that build scripts go without the flags
        .args(["--target-dir", &format!("{dir}/target"), "--target", &host])
        .env("RUSTFLAGS", FLAGS);
    sh(&mut build)?;
    let mut fuzz = Command::new(format!("{dir}/target/{host}/release/{target}"));
    fuzz.arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=4096", "-timeout=10", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={dir}/artifacts/{target}/"))
        .arg(format!("{dir}/corpus/{target}"));
    sh(&mut fuzz)
}

/// The triple of this machine.
fn host() -> Result<String> {
    let version = Command::new("rustc").arg("-vV").output()?;
    let version = String::from_utf8(version.stdout)?;
    let host = version.lines().find_map(|l| l.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host")?.to_owned())
}
