//! When a failed attempt is made again.

use std::time::Duration;

/// How patiently a failing channel is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Delay after the first failure; doubles with each further one.
    pub first: Duration,
    /// Longest delay.
    pub max: Duration,
    /// Most attempts in all, the first one included.
    pub attempts: u32,
    /// Longest time from the first attempt to the last.
    pub total: Duration,
}

impl Backoff {
    /// How long to wait before the next attempt; `None`: give up. `failed` attempts (at least 1) were
    /// made over `elapsed`; `after` is what the channel asked for (waited for in full or not at
    /// all); `jitter` is any number.
    pub fn next(
        &self,
        failed: u32,
        elapsed: Duration,
        after: Option<Duration>,
        jitter: u64,
    ) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let delay = self.delay(failed, jitter);
        let delay = after.map_or(delay, |after| after.max(delay));
        (elapsed + delay <= self.total).then_some(delay)
    }

    /// How long to wait before the next attempt of what is never given up.
    pub fn delay(&self, failed: u32, jitter: u64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1 << failed.saturating_sub(1).min(20));
        let most = doubled.min(self.max);
        // between half and all of it
        let half = most / 2;
        let spread = u64::try_from(most.saturating_sub(half).as_millis()).unwrap_or(u64::MAX);
        half + Duration::from_millis(jitter % spread.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const PATIENT: Backoff = Backoff {
        first: S,
        max: Duration::from_secs(8),
        attempts: 6,
        total: Duration::from_mins(1),
    };

    #[test]
    fn delays_double_with_jitter_up_to_the_longest_one() {
        for (failed, most) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8)] {
            for jitter in [0, 1, 77, 999, u64::MAX] {
                let d = PATIENT.next(failed, S, None, jitter).unwrap();
                assert!(d >= S * most / 2 && d <= S * most, "{failed} {d:?}");
            }
        }
    }

    #[test]
    fn attempts_and_total_time_are_bounded() {
        assert_eq!(PATIENT.next(6, S, None, 0), None);
        assert_eq!(PATIENT.next(1, S * 60, None, 0), None);
    }

    #[test]
    fn what_the_channel_asks_for_is_waited_for_or_given_up() {
        assert_eq!(PATIENT.next(1, S, Some(S * 30), 0), Some(S * 30));
        assert_eq!(PATIENT.next(1, S, Some(S * 90), 0), None);
    }
}
