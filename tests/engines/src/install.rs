//! What the engines are made of, installed once into a cache outside the repo.
//!
//! An installation is complete when its stamp is there, and the stamp names what was installed; an
//! interrupted one, or another version, is done anew. Two processes at once wait for one another.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::unistd::geteuid;

use crate::{
    cassandra,
    error::{At, Error, Result},
    kafka, toxiproxy,
};

const STAMP: &str = ".complete";

/// Installs whatever is missing, all at once. Quick when nothing is.
pub fn all() -> Result<()> {
    let steps: [fn() -> Result<()>; 5] = [
        || redis().map(drop),
        || netns_tools().map(drop),
        || kafka::install().map(drop),
        || cassandra::install().map(drop),
        || toxiproxy::install().map(drop),
    ];
    thread::scope(|scope| {
        let running = steps.map(|step| scope.spawn(step));
        running.into_iter().try_for_each(|step| {
            let ended = step.join();
            ended.unwrap_or_else(|_| Err(Error::Missing("an installation panicked".into())))
        })
    })
}

/// `~/.cache/tandem`, or under `XDG_CACHE_HOME`.
pub fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")));
    let missing = || Error::Missing("neither XDG_CACHE_HOME nor HOME is set".into());
    let cache = base.ok_or_else(missing)?.join("tandem");
    fs::create_dir_all(&cache).at(&cache)?;
    Ok(cache)
}

/// Holds a file's lock until the result is dropped; waits while another process has it.
pub(crate) fn lock(file: &Path) -> Result<File> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).at(dir)?;
    }
    let lock = File::create(file).at(file)?;
    lock.lock().at(file)?;
    Ok(lock)
}

/// Where `name` is installed, or will be.
pub(crate) fn home(name: &str) -> Result<PathBuf> {
    Ok(cache()?.join("engines").join(name))
}

/// The folder [`home`] of `name`, filled by `install` unless its stamp says that `what` is there.
pub(crate) fn once(
    name: &str,
    what: &str,
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let dir = home(name)?;
    let stamp = dir.join(STAMP);
    let complete = || fs::read_to_string(&stamp).is_ok_and(|found| found == what);
    if complete() {
        return Ok(dir);
    }
    let _lock = lock(&dir.with_file_name(format!("{name}.lock")))?;
    if !complete() {
        if dir.exists() {
            fs::remove_dir_all(&dir).at(&dir)?;
        }
        fs::create_dir_all(&dir).at(&dir)?;
        install(&dir)?;
        fs::write(&stamp, what).at(&stamp)?;
    }
    Ok(dir)
}

/// Runs a command to its end; what it said is told only if it failed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}");
    let failed = |output: String| Error::Command {
        command: line.clone(),
        output,
    };
    let output = command.output().map_err(|e| failed(e.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let all = said + &String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}\n{}", output.status, tail(&all))))
}

/// The last lines of a text.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The jars of a pom and all that they need, in `dir`.
pub(crate) fn jars(pom: &str, dir: &Path) -> Result<()> {
    let mvn = program("mvn", "maven")?;
    let file = dir.join("pom.xml");
    fs::write(&file, pom).at(&file)?;
    let mut copy = Command::new(mvn);
    copy.args(["-q", "-B", "-f"]).arg(&file);
    copy.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    copy.arg(format!("-DoutputDirectory={}", dir.display()));
    run(&mut copy).map(drop)
}

/// Java 17: Cassandra runs on no other.
pub fn java() -> Result<PathBuf> {
    if let Some(home) = env::var_os("JAVA17_HOME") {
        let java = PathBuf::from(home).join("bin/java");
        let wrong = || Error::Missing(format!("JAVA17_HOME: there is no {}", java.display()));
        return java.exists().then(|| java.clone()).ok_or_else(wrong);
    }
    if let Some(java) = java_of_the_system() {
        return Ok(java);
    }
    apt("openjdk-17-jre-headless")?;
    java_of_the_system().ok_or_else(|| {
        Error::Missing(
            "no Java 17 in /usr/lib/jvm: install one, or set JAVA17_HOME to its folder".into(),
        )
    })
}

fn java_of_the_system() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib/jvm").ok()?.flatten();
    let mut found: Vec<PathBuf> = found
        .filter(|e| e.file_name().to_string_lossy().contains("17"))
        .map(|e| e.path().join("bin/java"))
        .filter(|java| java.exists())
        .collect();
    found.sort();
    found.into_iter().next()
}

/// `redis-server`; `redis-cli` comes with it.
pub(crate) fn redis() -> Result<PathBuf> {
    program("redis-server", "redis-server")
}

/// `ip` and `nft`.
pub(crate) fn netns_tools() -> Result<(PathBuf, PathBuf)> {
    Ok((program("ip", "iproute2")?, program("nft", "nftables")?))
}

/// A program of the system, from its Debian package if it is not there.
pub(crate) fn program(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(found) = find(name) {
        return Ok(found);
    }
    apt(package)?;
    find(name).ok_or_else(|| {
        Error::Missing(format!(
            "{name} is not there though {package} is installed: look at PATH"
        ))
    })
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut dirs = env::split_paths(&path).chain(usual);
    dirs.find_map(|dir| Some(dir.join(name)).filter(|p| p.is_file()))
}

fn apt(package: &str) -> Result<()> {
    let by_hand = format!("apt-get install --no-install-recommends {package}");
    if !geteuid().is_root() {
        return Err(Error::Missing(format!(
            "{package} is missing and only root can install it: `{by_hand}`"
        )));
    }
    // one at a time, for the policy's sake
    let _lock = lock(&cache()?.join("engines/apt.lock"))?;
    let _policy = NoServices::hold()?;
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=180"]);
        run(apt.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = ["install", "--no-install-recommends", package];
    if apt(&install).is_err() {
        // a machine that has never asked knows no packages
        apt(&["update"])?;
        apt(&install)?;
    }
    Ok(())
}

/// While it lives, a package that is installed starts no service (invoke-rc.d's policy layer).
struct NoServices {
    file: Option<PathBuf>,
}

impl NoServices {
    fn hold() -> Result<Self> {
        let file = PathBuf::from("/usr/sbin/policy-rc.d");
        if file.exists() {
            // the machine has a policy of its own, which stays
            return Ok(Self { file: None });
        }
        fs::write(&file, "#!/bin/sh\nexit 101\n").at(&file)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).at(&file)?;
        Ok(Self { file: Some(file) })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
    }
}
