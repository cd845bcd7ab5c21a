//! Format, lints, docs and tests: one cargo build serves all tests.

use std::{
    env, error,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::python;

/// What the commands return.
pub type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

/// Runs a command at the root of the repo; an exit code other than 0 is an error.
pub fn sh(command: &mut Command) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    eprintln!("xtask: {command:?}");
    let status = command
        .current_dir(root)
        .status()
        .map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn timed(what: &str, step: impl FnOnce() -> Result<()>) -> Result<(String, Duration)> {
    let start = Instant::now();
    step()?;
    Ok((what.to_owned(), start.elapsed()))
}

/// Installs all that the tests need, and says where it is.
pub fn install() -> Result<()> {
    tandem_engines::install::all()?;
    println!("{}={}", python::VARIABLE, python::install()?.display());
    println!(
        "engines: {}",
        tandem_engines::install::cache()?.join("engines").display()
    );
    Ok(())
}

/// Everything.
pub fn all() -> Result<()> {
    let steps = [
        timed("format", || sh(cargo().args(["fmt", "--all", "--check"])))?,
        timed("tests", || tests(None))?,
        timed("lints", || {
            let mut clippy = cargo();
            clippy.args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ]);
            sh(&mut clippy)
        })?,
        timed("docs", || {
            let mut doc = cargo();
            doc.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
            sh(doc.env("RUSTDOCFLAGS", "-D warnings"))
        })?,
    ];
    for (what, took) in steps {
        eprintln!("xtask: {what}: {} s", took.as_secs());
    }
    Ok(())
}

/// The tests, or those whose names contain `filter`.
pub fn tests(filter: Option<&str>) -> Result<()> {
    let python = python::install()?;
    let mut test = cargo();
    // the program itself is built along, since its package has tests
    test.args([
        "test",
        "--workspace",
        "--locked",
        "--lib",
        "--bins",
        "--tests",
    ]);
    if let Some(filter) = filter {
        test.arg(filter);
    }
    sh(test.env(python::VARIABLE, python))
}
