//! Whether this process stood still a moment ago (stopped, starved, or its machine asleep).
//!
//! What such a process finds in its queues and sockets when it goes on may have waited there for any time.
//! Whoever sent it has given up on it and sent it to another, so it may be in the log by now, further back
//! than copies are known without asking.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How often to beat.
pub const BEAT: Duration = Duration::from_secs(1);
/// A pulse that has not beaten for so long stood still. Well below the time in which copies are known
/// without asking.
const STILL: Duration = Duration::from_secs(10);
/// For so long after that, what is found may be old.
const AFTER: Duration = Duration::from_secs(20);

/// A process's pulse. Times are those of its monotonic clock.
#[derive(Debug)]
pub struct Pulse {
    /// Milliseconds.
    beaten: AtomicU64,
    late_until: AtomicU64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Pulse {
    /// One that beats now.
    pub fn new(now: Duration) -> Self {
        Self {
            beaten: AtomicU64::new(millis(now)),
            late_until: AtomicU64::new(0),
        }
    }

    /// To be called every [`BEAT`].
    pub fn beat(&self, now: Duration) {
        if self.is_still(now) {
            self.late_until.store(millis(now + AFTER), Relaxed);
        }
        self.beaten.fetch_max(millis(now), Relaxed);
    }

    /// Whether what is found now may have waited for long.
    pub fn is_late(&self, now: Duration) -> bool {
        self.is_still(now) || millis(now) < self.late_until.load(Relaxed)
    }

    fn is_still(&self, now: Duration) -> bool {
        millis(now).saturating_sub(self.beaten.load(Relaxed)) > millis(STILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_standing_still_what_is_found_is_late_for_a_while() {
        let s = Duration::from_secs;
        let pulse = Pulse::new(s(100));
        for now in 101..200 {
            pulse.beat(s(now));
            assert!(!pulse.is_late(s(now)));
        }
        assert!(pulse.is_late(s(270)), "whoever looks first");
        pulse.beat(s(270));
        pulse.beat(s(271));
        assert!(pulse.is_late(s(271)));
        for now in 272..300 {
            pulse.beat(s(now));
        }
        assert!(!pulse.is_late(s(299)));
    }
}
