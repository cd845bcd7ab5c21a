//! Who waits for which places of the log. Moving a place on costs nothing for those who wait for another
//! partition or a later place.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// Places of a topic's partitions, and who waits for them.
#[derive(Debug, Default)]
pub struct Barrier {
    places: Vec<u64>,
    /// By partition: the first one that a waiter's ends are ahead of; the smallest end first.
    waiting: Vec<BinaryHeap<Reverse<(u64, u64)>>>,
    ends: BTreeMap<u64, Vec<u64>>,
    next: u64,
}

impl Barrier {
    /// A barrier of `partitions`, all at 0.
    pub fn new(partitions: usize) -> Self {
        Self {
            places: vec![0; partitions],
            waiting: (0..partitions).map(|_| BinaryHeap::new()).collect(),
            ..Self::default()
        }
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.places.len()
    }

    /// The place of a partition.
    pub fn place(&self, partition: usize) -> u64 {
        self.places.get(partition).copied().unwrap_or(0)
    }

    /// Waiters.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether somebody waits for this partition.
    pub fn waits_for(&self, partition: usize) -> bool {
        self.waiting.get(partition).is_some_and(|w| !w.is_empty())
    }

    /// Waits until every place has reached its end (one for each partition). `None`: they have.
    pub fn wait(&mut self, ends: Vec<u64>) -> Option<u64> {
        let first = self.first_behind(&ends, 0)?;
        let id = self.next;
        self.next += 1;
        self.waiting[first].push(Reverse((ends[first], id)));
        self.ends.insert(id, ends);
        Some(id)
    }

    /// No longer waits.
    pub fn forget(&mut self, id: u64) {
        if let Some(ends) = self.ends.remove(&id)
            && let Some(at) = self.first_behind(&ends, 0)
        {
            self.waiting[at].retain(|Reverse((_, other))| *other != id);
        }
    }

    /// The partition's place is at least `place`. Returns who waits no longer.
    pub fn advance(&mut self, partition: usize, place: u64) -> Vec<u64> {
        let mut passed = Vec::new();
        match self.places.get_mut(partition) {
            Some(old) if *old < place => *old = place,
            _ => return passed,
        }
        while let Some(Reverse((end, id))) = self.waiting[partition].peek().copied() {
            if end > place {
                break;
            }
            self.waiting[partition].pop();
            let Some(ends) = self.ends.get(&id) else {
                continue;
            };
            if let Some(next) = self.first_behind(ends, partition + 1) {
                self.waiting[next].push(Reverse((ends[next], id)));
            } else {
                self.ends.remove(&id);
                passed.push(id);
            }
        }
        passed
    }

    fn first_behind(&self, ends: &[u64], from: usize) -> Option<usize> {
        (from..self.places.len().min(ends.len())).find(|p| self.places[*p] < ends[*p])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_asks_for_what_is_passed_does_not_wait() {
        let mut b = Barrier::new(2);
        b.advance(0, 5);
        assert_eq!(b.wait(vec![5, 0]), None);
        assert!(b.is_empty());
    }

    #[test]
    fn who_goes_away_is_forgotten() {
        let mut b = Barrier::new(2);
        let id = b.wait(vec![5, 5]).unwrap();
        b.advance(0, 5);
        b.forget(id);
        assert!(b.is_empty() && !b.waits_for(1));
        assert_eq!(b.advance(1, 5), Vec::<u64>::new());
    }

    proptest! {
        #[test]
        fn a_waiter_is_passed_exactly_when_every_place_has_reached_its_end(
            waiters in prop::collection::vec(prop::collection::vec(0u64..20, 3), 1..20),
            moves in prop::collection::vec((0usize..3, 0u64..25), 0..60),
        ) {
            let mut b = Barrier::new(3);
            let mut places = [0u64; 3];
            let mut open: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for ends in waiters {
                let done = ends.iter().all(|e| *e == 0);
                match b.wait(ends.clone()) {
                    Some(id) => { prop_assert!(!done); open.insert(id, ends); }
                    None => prop_assert!(done),
                }
            }
            for (p, place) in moves {
                places[p] = places[p].max(place);
                for id in b.advance(p, place) {
                    let ends = open.remove(&id).expect("passed once");
                    prop_assert!(ends.iter().zip(places).all(|(e, p)| *e <= p));
                }
                let late = open.values().any(|ends| ends.iter().zip(places).all(|(e, p)| *e <= p));
                prop_assert!(!late);
            }
        }
    }
}
