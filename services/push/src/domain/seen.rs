//! Which events of a partition were seen lately.

use ahash::{HashSet, RandomState};
use tandem_kernel::{Address, EventId, UnixMillis};

/// Ids seen in the last 60 s by record time, or somewhat longer. An id counts for its sender alone.
#[derive(Debug)]
pub struct Seen {
    young: HashSet<u128>,
    old: HashSet<u128>,
    since: UnixMillis,
    keep_ms: i64,
    hasher: RandomState,
}

impl Seen {
    /// Nothing was seen; ids are kept for at least `keep_ms` milliseconds.
    pub fn new(keep_ms: i64) -> Self {
        Self {
            young: HashSet::default(),
            old: HashSet::default(),
            since: UnixMillis(i64::MIN),
            keep_ms,
            hasher: RandomState::with_seeds(7, 11, 13, 17),
        }
    }

    /// Whether this is the first copy as far as is remembered. `at` does not fall.
    pub fn first(&mut self, at: UnixMillis, sender: &Address, id: EventId) -> bool {
        if at.0.saturating_sub(self.since.0) > self.keep_ms {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
            if at.0.saturating_sub(self.since.0) > self.keep_ms.saturating_mul(2) {
                self.old.clear();
            }
            self.since = at;
        }
        let sender = self.hasher.hash_one(sender);
        let key = id.0.as_u128() ^ (u128::from(sender) << 64 | u128::from(sender));
        !self.old.contains(&key) && self.young.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EventId {
        EventId::new(1, &[n; 10])
    }

    #[test]
    fn a_copy_within_a_minute_is_known_and_a_much_later_one_is_not() {
        let a = Address::parse("a@x.test").unwrap();
        let mut seen = Seen::new(60_000);
        assert!(seen.first(UnixMillis(0), &a, id(1)));
        assert!(seen.first(UnixMillis(50_000), &a, id(2)));
        assert!(!seen.first(UnixMillis(59_999), &a, id(1)));
        assert!(!seen.first(UnixMillis(109_000), &a, id(2)));
        assert!(seen.first(UnixMillis(400_000), &a, id(1)));
    }

    #[test]
    fn nobody_hides_anothers_event_behind_its_id() {
        let (a, b) = (
            Address::parse("a@x.test").unwrap(),
            Address::parse("b@x.test").unwrap(),
        );
        let mut seen = Seen::new(60_000);
        assert!(seen.first(UnixMillis(0), &b, id(1)));
        assert!(seen.first(UnixMillis(0), &a, id(1)));
    }
}
