//! A process of the suite: started, killed, frozen, thawed, started again. Dropping it kills it.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use parking_lot::Mutex;

use crate::Result;

/// How a process is started.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Where it writes what it has to say; added to at each start.
    pub log: PathBuf,
}

/// A process.
pub struct Process {
    /// What it is called.
    pub name: String,
    spec: Spec,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// One that does not run yet.
    pub fn new(name: impl Into<String>, spec: Spec) -> Self {
        Self {
            name: name.into(),
            spec,
            child: Mutex::new(None),
        }
    }

    /// Starts it, unless it runs.
    pub fn start(&self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts it, unless it runs, with this added to its environment.
    pub fn start_with(&self, env: &[(&str, &OsStr)]) -> Result<()> {
        let mut child = self.child.lock();
        if child
            .as_mut()
            .is_some_and(|c| matches!(c.try_wait(), Ok(None)))
        {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.spec.log)?;
        let (program, args) = self.spec.command.split_first().ok_or("an empty command")?;
        let started = Command::new(program)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        *child = Some(started.map_err(|e| format!("{}: {e}", self.name))?);
        Ok(())
    }

    /// How it ended, if it ran and runs no more.
    pub fn ended(&self) -> Option<String> {
        let status = self.child.lock().as_mut()?.try_wait();
        status.ok().flatten().map(|s| s.to_string())
    }

    /// `kill -9`, and it is gone.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Freezes it.
    pub fn freeze(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// Asks it to end.
    pub fn terminate(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().as_ref().map(Child::id)
    }

    /// Where it writes.
    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    fn signal(&self, name: &str) -> Result<()> {
        let pid = self
            .pid()
            .ok_or_else(|| format!("{} does not run", self.name))?;
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid.to_string()])
            .status()?;
        if sent.success() {
            Ok(())
        } else {
            Err(format!("kill -{name} of {}: {sent}", self.name).into())
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
