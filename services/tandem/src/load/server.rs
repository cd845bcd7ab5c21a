//! What the server's process costs: CPU seconds and resident memory, through restarts.

use std::{fs, time::Duration};

use parking_lot::Mutex;
use serde::Deserialize;
use tandem_chassis::Doors;
use tandem_client::token::http;

/// Kernel clock ticks a second in `/proc/<pid>/stat`: `USER_HZ`, 100 on every Linux that we run on.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds (user and system) that a process has used so far; `None` if it is not here.
pub fn cpu_s(pid: u32) -> Option<f64> {
    cpu_of_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 14 and 15 of proc(5) `stat`; the second field may hold anything, in parentheses.
fn cpu_of_stat(stat: &str) -> Option<f64> {
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_S)
}

/// Resident memory of a process in bytes.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[derive(Deserialize)]
struct Info {
    pid: u32,
}

/// The server's process id, as its development endpoint says it.
pub async fn find_pid(doors: &Doors, authority: &str) -> Option<u32> {
    let answer = http(doors, authority, http::Method::GET, "/dev/info", Vec::new())
        .await
        .ok()?;
    let info: Info = serde_json::from_slice(answer.body()).ok()?;
    fs::metadata(format!("/proc/{}/stat", info.pid))
        .ok()
        .map(|_| info.pid)
}

/// Adds up the CPU of the server's process and of those that follow it.
#[derive(Debug)]
pub struct Meter {
    doors: Doors,
    authority: String,
    fixed: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<u32>,
    last: f64,
    total: f64,
}

impl Meter {
    /// Of the process `pid`, or of that which the server names.
    pub async fn new(doors: &Doors, authority: &str, pid: Option<u32>) -> Self {
        let fixed = pid.is_some();
        let pid = match pid {
            Some(pid) => Some(pid),
            None => find_pid(doors, authority).await,
        };
        let last = pid.and_then(cpu_s).unwrap_or(0.0);
        let state = Mutex::new(State {
            pid,
            last,
            total: 0.0,
        });
        Self {
            doors: doors.clone(),
            authority: authority.to_owned(),
            fixed,
            state,
        }
    }

    /// The process, if it is on this machine.
    pub fn pid(&self) -> Option<u32> {
        self.state.lock().pid
    }

    /// CPU seconds since the meter was made; `None` if the process is not on this machine.
    pub fn cpu_s(&self) -> Option<f64> {
        let mut state = self.state.lock();
        let now = cpu_s(state.pid?)?;
        state.total += (now - state.last).max(0.0);
        state.last = now;
        Some(state.total)
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> Option<u64> {
        rss_bytes(self.pid()?)
    }

    /// Looks from time to time, and follows the server into its next process. Never ends.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            if self.cpu_s().is_some() || self.fixed {
                continue;
            }
            if let Some(pid) = find_pid(&self.doors, &self.authority).await {
                let mut state = self.state.lock();
                // it began at zero, and all of it counts
                state.pid = Some(pid);
                state.last = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_whatever_the_program_is_called() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_of_stat(stat), Some(3.0));
        assert_eq!(cpu_of_stat("42 (x"), None);
    }

    #[test]
    fn a_process_knows_its_own_memory() {
        assert!(rss_bytes(std::process::id()).unwrap() > 1 << 20);
        assert!(cpu_s(std::process::id()).is_some());
    }
}
