//! Time as services see it. The real clock and the simulated one live behind the chassis' doors.

use std::time::Duration;

/// Milliseconds since 1970-01-01 UTC. May jump; orders nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This time and `d` later.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How much later this is than `earlier`; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The two clocks.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock: for people and for expiry. Never for order.
    fn unix(&self) -> UnixMillis;

    /// Time since an arbitrary moment in this process. Never goes back.
    fn monotonic(&self) -> Duration;
}
