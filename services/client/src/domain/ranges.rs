//! Which stretches of a conversation a device holds completely.

use std::collections::BTreeMap;

/// A set of stretches `(after, up_to]` of seqs, merged where they touch or overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Everything with `after < seq <= up_to` is held from now on.
    pub fn add(&mut self, mut after: u64, mut up_to: u64) {
        if after >= up_to {
            return;
        }
        // stretches that begin at or below `up_to` and end at or above `after` melt into one
        let touching: Vec<u64> = self
            .0
            .range(..=up_to)
            .rev()
            .take_while(|(_, end)| **end >= after)
            .map(|(start, _)| *start)
            .collect();
        for start in touching {
            if let Some(end) = self.0.remove(&start) {
                after = after.min(start);
                up_to = up_to.max(end);
            }
        }
        self.0.insert(after, up_to);
    }

    /// Whether `seq` lies in a stretch that is held.
    pub fn holds(&self, seq: u64) -> bool {
        self.0
            .range(..seq)
            .next_back()
            .is_some_and(|(_, end)| seq <= *end)
    }

    /// The end of the newest stretch; 0 if nothing is held.
    pub fn top(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// The newest gap: `(after, before)` with nothing known of `after < seq <= before`. `None` if
    /// everything up to `top` is held.
    pub fn newest_gap(&self) -> Option<(u64, u64)> {
        let (start, _) = self.0.last_key_value()?;
        if *start == 0 {
            return None;
        }
        let below = self
            .0
            .range(..*start)
            .next_back()
            .map_or(0, |(_, end)| *end);
        Some((below, *start))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stretches_that_touch_become_one() {
        let mut r = Ranges::default();
        r.add(10, 20);
        assert_eq!(r.newest_gap(), Some((0, 10)));
        r.add(0, 5);
        assert_eq!(r.newest_gap(), Some((5, 10)));
        r.add(5, 10);
        assert_eq!((r.newest_gap(), r.top()), (None, 20));
        assert!(r.holds(1) && r.holds(20) && !r.holds(21) && !r.holds(0));
    }

    proptest! {
        #[test]
        fn a_seq_is_held_exactly_if_some_stretch_had_it(
            adds in prop::collection::vec((0u64..40, 0u64..40), 0..12),
        ) {
            let mut r = Ranges::default();
            for (a, b) in &adds {
                r.add(*a, *b);
            }
            for seq in 0..45 {
                let want = adds.iter().any(|(a, b)| *a < seq && seq <= *b);
                prop_assert_eq!(r.holds(seq), want);
            }
            let ends: Vec<_> = r.0.iter().collect();
            prop_assert!(ends.windows(2).all(|w| w[0].1 < w[1].0));
        }
    }
}
