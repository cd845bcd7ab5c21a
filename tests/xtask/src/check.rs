//! Format, lints, docs and tests: one cargo build serves all tests.

use std::{
    env, error,
    fmt::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tandem_engines::{install, up};

use crate::python;

/// What the commands return.
pub type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

/// What everything is built with, so that nothing is built twice: the real engines' adapters, too.
const WHOLE: [&str; 4] = ["--workspace", "--locked", "--features", "tandem/engines"];

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

fn cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(subcommand);
    cargo
}

/// Installs all that the tests need, and says where it is.
pub fn install() -> Result<()> {
    install::all()?;
    println!("{}={}", python::VARIABLE, python::install()?.display());
    println!("engines: {}", install::cache()?.join("engines").display());
    Ok(())
}

/// Everything.
pub fn all() -> Result<()> {
    let mut times = Times::default();
    times.step("format", || sh(cargo("fmt").args(["--all", "--check"])))?;
    test(&mut times, None)?;
    times.step("lints", || {
        let mut clippy = cargo("clippy");
        clippy.args(WHOLE).arg("--all-targets");
        sh(clippy.args(["--", "-D", "warnings"]))
    })?;
    times.step("docs", || {
        let mut doc = cargo("doc");
        doc.args(WHOLE).args(["--no-deps", "--quiet"]);
        sh(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })
}

/// The tests whose names contain `filter`.
pub fn some(filter: &str) -> Result<()> {
    test(&mut Times::default(), Some(filter))
}

fn test(times: &mut Times, filter: Option<&str>) -> Result<()> {
    let test = || {
        let mut test = cargo("test");
        // the program itself is built along, since its package has tests
        test.args(WHOLE).args(["--lib", "--bins", "--tests"]);
        test
    };
    let python = times.step("installation", || {
        install::all()?;
        python::install()
    })?;
    times.step("build", || sh(test().arg("--no-run")))?;
    let _engines = times.step("engines up", Engines::hold)?;
    times.step("tests", || {
        sh(test().args(filter).env(python::VARIABLE, python))
    })
}

/// Builds what faults need, and becomes their program.
pub fn faults(release: bool, args: &[String]) -> Result<()> {
    let mut build = cargo("build");
    build.args(WHOLE).arg("--bins");
    if release {
        build.arg("--release");
    }
    sh(&mut build)?;
    let own = env::current_exe()?;
    let target = own.parent().and_then(Path::parent);
    let target = target.ok_or("this program is not in a target folder")?;
    let profile = if release { "release" } else { "debug" };
    let program = target.join(profile).join("tandem-faults");
    let error = Command::new(&program).args(args).exec();
    Err(format!("{}: {error}", program.display()).into())
}

/// The shared engines for as long as this lives. Those that ran before go on running.
struct Engines {
    /// Whether none ran, and whether there was none of their data either.
    ours: bool,
    fresh: bool,
}

impl Engines {
    fn hold() -> Result<Self> {
        let held = Self {
            ours: !up::any_running()?,
            fresh: !up::any_data()?,
        };
        up::up()?;
        Ok(held)
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        if self.ours
            && let Err(e) = up::down(self.fresh)
        {
            eprintln!("xtask: the engines go on running: {e}");
        }
    }
}

/// How long each step took; told at the end, however it ends.
#[derive(Default)]
struct Times {
    steps: Vec<(&'static str, Duration)>,
}

impl Times {
    fn step<T>(&mut self, what: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = step();
        self.steps.push((what, start.elapsed()));
        done
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        let mut table = String::new();
        let all = self.steps.iter().map(|(_, took)| *took).sum();
        for (what, took) in self.steps.iter().copied().chain([("all", all)]) {
            let _ = writeln!(table, "xtask: {what:<14}{:>5} s", took.as_secs());
        }
        eprint!("{table}");
    }
}
