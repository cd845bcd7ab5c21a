//! How fast one sender may submit: a token bucket each, as a theoretical arrival time (GCRA).

use std::time::Duration;

use tandem_kernel::Address;

use super::generations::Generations;

/// The buckets of the senders seen lately.
#[derive(Debug)]
pub struct Rates {
    arrivals: Generations<Address, Duration>,
    interval: Duration,
    tolerance: Duration,
}

impl Rates {
    /// `per_s` events a second, sustained, and bursts of `burst`.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_s.max(1);
        let tolerance = interval * burst.saturating_sub(1);
        Self {
            arrivals: Generations::new(100_000),
            interval,
            tolerance,
        }
    }

    /// Takes a token of `sender` at `now`, or says after how long there is one.
    pub fn take(&mut self, sender: &Address, now: Duration) -> Result<(), Duration> {
        let arrival = self.arrivals.entry(sender, Duration::default);
        let theoretical = (*arrival).max(now);
        let wait = theoretical.saturating_sub(now + self.tolerance);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        *arrival = theoretical + self.interval;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (mut rates, a) = (Rates::new(10, 3), Address::parse("a@x.test").unwrap());
        let t = Duration::from_secs(5);
        for _ in 0..3 {
            assert_eq!(rates.take(&a, t), Ok(()));
        }
        assert_eq!(rates.take(&a, t), Err(Duration::from_millis(100)));
        assert_eq!(rates.take(&a, t + Duration::from_millis(100)), Ok(()));
        assert!(rates.take(&a, t + Duration::from_millis(100)).is_err());
        assert_eq!(rates.take(&Address::parse("b@x.test").unwrap(), t), Ok(()));
    }
}
