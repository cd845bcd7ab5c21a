//! Randomness: from the operating system, or from a seed.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tandem_kernel::{EventId, SessionId, UnixMillis};

/// A source of random numbers, cryptographically strong when it comes from the operating system's seed.
#[derive(Clone)]
pub struct Rng(Arc<Mutex<ChaCha12Rng>>);

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}

impl Rng {
    /// Seeded by the operating system.
    pub fn from_os() -> Self {
        Self(Arc::new(Mutex::new(ChaCha12Rng::from_os_rng())))
    }

    /// The same numbers for the same seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha12Rng::seed_from_u64(seed))))
    }

    /// Fills `out`.
    pub fn fill(&self, out: &mut [u8]) {
        self.0.lock().fill_bytes(out);
    }

    /// Any number.
    pub fn u64(&self) -> u64 {
        self.0.lock().next_u64()
    }

    /// A number below `n` (0 if `n` is 0).
    pub fn below(&self, n: u64) -> u64 {
        if n == 0 {
            0
        } else {
            ((u128::from(self.u64()) * u128::from(n)) >> 64) as u64
        }
    }

    /// A new event id for an event made at `at`.
    pub fn event_id(&self, at: UnixMillis) -> EventId {
        let mut random = [0; 10];
        self.fill(&mut random);
        EventId::new(u64::try_from(at.0).unwrap_or(0), &random)
    }

    /// A new session id.
    pub fn session_id(&self) -> SessionId {
        let mut octets = [0; 16];
        self.fill(&mut octets);
        SessionId(u128::from_be_bytes(octets))
    }

    /// A random UUIDv4 (RFC 9562, section 5.4).
    pub fn uuid(&self) -> uuid::Uuid {
        let mut octets = [0; 16];
        self.fill(&mut octets);
        uuid::Builder::from_random_bytes(octets).into_uuid()
    }
}
