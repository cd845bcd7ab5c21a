//! The doors to the outside, in one bundle that is handed down from `main`.

use std::sync::Arc;

use tandem_kernel::{Clock, UnixMillis};

use crate::{
    clock::{RuntimeClock, SystemClock},
    net::{Network, Tcp},
    rng::Rng,
    threads::Threads,
};

/// Clock, randomness, network and threads. Cheap to clone.
#[derive(Clone)]
pub struct Doors {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub rng: Rng,
    /// Sockets.
    pub net: Arc<dyn Network>,
    /// Blocking work.
    pub threads: Threads,
}

impl Doors {
    /// The real ones. Call within a tokio runtime.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            rng: Rng::from_os(),
            net: Arc::new(Tcp),
            threads: Threads::Pool,
        }
    }

    /// For tests: seeded, blocking work in place, a wall clock that moves with the (paused) runtime.
    pub fn for_test(seed: u64) -> Self {
        Self {
            clock: Arc::new(RuntimeClock::starting_at(UnixMillis(1_767_225_600_000))),
            rng: Rng::from_seed(seed),
            net: Arc::new(Tcp),
            threads: Threads::Inline,
        }
    }
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doors")
    }
}
