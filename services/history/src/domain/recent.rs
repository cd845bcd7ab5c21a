//! The memory by which copies of an event are recognised.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use tandem_kernel::EventId;

/// An event's identity: its id, which counts for its sender in its conversation alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u64; 3]);

/// What one partition has seen lately.
#[derive(Debug)]
pub struct Recent {
    seen: HashMap<Identity, u64, RandomState>,
    order: VecDeque<(i64, Identity)>,
    hasher: RandomState,
    window_ms: i64,
}

impl Recent {
    /// Remembers for `window_ms` of the records' time. `seed` is secret, so that nobody can make
    /// two identities look the same.
    pub fn new(window_ms: i64, seed: [u64; 4]) -> Self {
        let hasher = RandomState::with_seeds(seed[0], seed[1], seed[2], seed[3]);
        Self {
            seen: HashMap::with_hasher(hasher.clone()),
            order: VecDeque::new(),
            hasher,
            window_ms,
        }
    }

    /// The identity of an event.
    pub fn identity(&self, conversation: &[u8], sender: &str, id: EventId) -> Identity {
        let (high, low) = id.0.as_u64_pair();
        Identity([high, low, self.hasher.hash_one((conversation, sender))])
    }

    /// Where the event is, if it was seen.
    pub fn get(&self, identity: &Identity) -> Option<u64> {
        self.seen.get(identity).copied()
    }

    /// Where the event was seen first: `seq`, if it is new.
    pub fn see(&mut self, identity: Identity, seq: u64, at_ms: i64) -> u64 {
        while let Some((at, old)) = self.order.front() {
            if at_ms.saturating_sub(*at) <= self.window_ms {
                break;
            }
            self.seen.remove(old);
            self.order.pop_front();
        }
        let first = *self.seen.entry(identity).or_insert(seq);
        if first == seq && self.order.back().is_none_or(|(_, last)| *last != identity) {
            self.order.push_back((at_ms, identity));
        }
        first
    }

    /// The event was found further back, at `seq`.
    pub fn found(&mut self, identity: Identity, seq: u64) {
        if let Some(first) = self.seen.get_mut(&identity) {
            *first = seq.min(*first);
        }
    }

    /// Events remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EventId {
        EventId::new(u64::from(n), &[n; 10])
    }

    #[test]
    fn a_copy_is_recognised_for_its_sender_alone() {
        let mut recent = Recent::new(60_000, [1, 2, 3, 4]);
        let alices = recent.identity(b"c", "alice@x.test", id(1));
        let bobs = recent.identity(b"c", "bob@x.test", id(1));
        assert_eq!(recent.see(alices, 5, 0), 5);
        assert_eq!(recent.see(alices, 9, 10), 5);
        assert_eq!(recent.see(bobs, 10, 10), 10);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut recent = Recent::new(60_000, [1, 2, 3, 4]);
        let one = recent.identity(b"c", "alice@x.test", id(1));
        let two = recent.identity(b"c", "alice@x.test", id(2));
        recent.see(one, 5, 0);
        recent.see(two, 6, 60_000);
        assert_eq!(recent.get(&one), Some(5));
        recent.see(two, 7, 60_001);
        assert_eq!((recent.get(&one), recent.len()), (None, 1));
    }
}
