//! A process, known by its pid and the moment it started, so that another one that was given the same
//! pid later is never taken for it.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::error::{At, Error, Result};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// In clock ticks after the machine's start.
    started: u64,
}

impl Process {
    /// Ourselves.
    pub fn own() -> Result<Self> {
        let pid = std::process::id().cast_signed();
        Self::of(pid).ok_or_else(|| Error::Missing("/proc says nothing of this process".into()))
    }

    /// The living process of that pid.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        // one whose other threads have not ended yet still holds its ports
        let ending = || fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|t| t.count() > 1);
        let alive = match stat.state {
            'X' => false,
            'Z' => ending(),
            _ => true,
        };
        alive.then_some(Self {
            pid,
            started: stat.started,
        })
    }

    /// Reads what [`Self::save`] wrote.
    pub fn load(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
        })
    }

    /// Writes it down for whoever must find it later.
    pub fn save(self, file: &Path) -> Result<()> {
        fs::write(file, format!("{} {}\n", self.pid, self.started)).at(file)
    }

    /// Starts a command and lets it go: it outlives this value.
    #[allow(clippy::zombie_processes, reason = "kill and terminate wait for it")]
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let line = format!("{command:?}");
        let failed = |output: String| Error::Command {
            command: line.clone(),
            output,
        };
        let child = command.spawn().map_err(|e| failed(e.to_string()))?;
        let pid = child.id().cast_signed();
        // it is still there to be read, even if it has ended meanwhile
        let stat = Stat::read(pid).ok_or_else(|| failed("/proc does not show it".into()))?;
        Ok(Self {
            pid,
            started: stat.started,
        })
    }

    /// Whether it still runs (or is paused).
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Its pid.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Stops it where it stands. It answers nobody, and does not know.
    pub fn pause(self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(self) {
        self.signal(Signal::SIGCONT);
    }

    /// `kill -9`. Once this returns, it is gone and its ports are free.
    pub fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.gone_within(Duration::from_secs(10));
    }

    /// Asks it to stop, and kills it if it has not after that long.
    pub fn terminate(self, patience: Duration) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT);
        if !self.gone_within(patience) {
            self.kill();
        }
    }

    /// Resident memory in bytes, and processor time used since its start.
    pub fn usage(self) -> Option<(u64, Duration)> {
        const TICKS_A_SECOND: u64 = 100;
        const PAGE: u64 = 4096;
        let stat = Stat::read(self.pid)?;
        let cpu = Duration::from_millis(stat.cpu_ticks * 1000 / TICKS_A_SECOND);
        Some((stat.pages * PAGE, cpu))
    }

    fn signal(self, signal: Signal) {
        if self.alive() {
            // it may end between the two; then there is nothing left to tell it
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    fn gone_within(self, patience: Duration) -> bool {
        let start = Instant::now();
        loop {
            // a child of ours stays a zombie until it is waited for; another's is not ours to wait for
            let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
            if !self.alive() {
                return true;
            }
            if start.elapsed() > patience {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What `/proc/PID/stat` says (proc(5)).
struct Stat {
    state: char,
    cpu_ticks: u64,
    started: u64,
    pages: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // the name may hold spaces and parentheses; the fields after it start with the third
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            cpu_ticks: number(14)? + number(15)?,
            started: number(22)?,
            pages: number(24)?,
        })
    }
}
