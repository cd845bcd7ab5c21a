//! A token bucket on injected time.

use std::time::Duration;

/// Allows `rate` a second, sustained, and `burst` at once.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// Thousandths of a token.
    level: u64,
    at: Duration,
}

impl Bucket {
    /// A full one.
    pub fn full(burst: u32, now: Duration) -> Self {
        Self {
            level: u64::from(burst) * 1000,
            at: now,
        }
    }

    /// Takes one token; or says in how many milliseconds there will be one.
    pub fn take(&mut self, rate: u32, burst: u32, now: Duration) -> Result<(), u32> {
        let passed = now.saturating_sub(self.at).as_millis() as u64;
        let gained = passed.saturating_mul(u64::from(rate));
        self.level = self
            .level
            .saturating_add(gained)
            .min(u64::from(burst) * 1000);
        // only what was counted: a part of a millisecond is not lost
        self.at += Duration::from_millis(passed);
        if self.level >= 1000 {
            self.level -= 1000;
            return Ok(());
        }
        let missing = 1000 - self.level;
        Err(missing.div_ceil(u64::from(rate.max(1))).clamp(1, 60_000) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut b = Bucket::full(3, Duration::ZERO);
        for _ in 0..3 {
            assert_eq!(b.take(10, 3, Duration::ZERO), Ok(()));
        }
        assert_eq!(b.take(10, 3, Duration::ZERO), Err(100));
        assert_eq!(b.take(10, 3, Duration::from_millis(99)), Err(1));
        assert_eq!(b.take(10, 3, Duration::from_millis(100)), Ok(()));
        let passed = (0..1000)
            .filter(|i| b.take(10, 3, Duration::from_millis(200 + i * 10)).is_ok())
            .count();
        assert!((99..=103).contains(&passed), "{passed} in ten seconds");
    }
}
