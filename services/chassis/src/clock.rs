//! The real clock.

#![allow(clippy::disallowed_methods, reason = "this is the door to the clock")]

use std::time::{Duration, SystemTime};

use tandem_kernel::{Clock, UnixMillis};

/// The machine's clocks. `monotonic` is tokio's, so a paused runtime stops it, too.
#[derive(Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// The clock of this process.
    pub fn new() -> Self {
        Self {
            start: tokio::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn unix(&self) -> UnixMillis {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves with the (paused) tokio runtime, from a fixed date on: for tests and simulation.
#[derive(Debug)]
pub struct RuntimeClock {
    start: tokio::time::Instant,
    epoch: UnixMillis,
}

impl RuntimeClock {
    /// A clock that shows `epoch` now.
    pub fn starting_at(epoch: UnixMillis) -> Self {
        Self {
            start: tokio::time::Instant::now(),
            epoch,
        }
    }
}

impl Clock for RuntimeClock {
    fn unix(&self) -> UnixMillis {
        self.epoch.plus(self.start.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
