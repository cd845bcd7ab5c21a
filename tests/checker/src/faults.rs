//! Faults, and what they excuse: spans of time in which a guarantee's services are not all up.

use std::collections::{BTreeMap, HashMap};

use crate::record::{Excuse, Guarantee};

#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Those that have not ended: when they began.
    open: HashMap<u64, (u64, Vec<Excuse>)>,
    spans: BTreeMap<Guarantee, Vec<(u64, u64)>>,
    pub(crate) count: u64,
}

impl Faults {
    /// False: a fault of this number is open already.
    pub(crate) fn began(&mut self, fault: u64, at: u64, excuses: Vec<Excuse>) -> bool {
        self.count += 1;
        self.open.insert(fault, (at, excuses)).is_none()
    }

    /// False: no such fault is open.
    pub(crate) fn ended(&mut self, fault: u64, at: u64) -> bool {
        let Some((began, excuses)) = self.open.remove(&fault) else {
            return false;
        };
        for excuse in excuses {
            let until = at.saturating_add(excuse.recovery_us);
            let most = excuse.most_us.map_or(u64::MAX, |m| began.saturating_add(m));
            let spans = self.spans.entry(excuse.guarantee).or_default();
            spans.push((began, until.min(most)));
        }
        true
    }

    /// The record is complete. How many faults had not ended.
    pub(crate) fn close(&mut self) -> usize {
        let open: Vec<u64> = self.open.keys().copied().collect();
        for fault in &open {
            self.ended(*fault, u64::MAX);
        }
        for spans in self.spans.values_mut() {
            spans.sort_unstable();
            let mut merged: Vec<(u64, u64)> = Vec::with_capacity(spans.len());
            for (from, until) in spans.drain(..) {
                match merged.last_mut() {
                    Some(last) if from <= last.1 => last.1 = last.1.max(until),
                    _ => merged.push((from, until)),
                }
            }
            *spans = merged;
        }
        open.len()
    }

    /// When what began at `start` and may take `bound` must have happened: `bound` after the end of the last
    /// span that got in its way.
    pub(crate) fn due(&self, guarantee: Guarantee, start: u64, bound: u64) -> u64 {
        let spans = self.spans.get(&guarantee).map_or(&[][..], Vec::as_slice);
        let mut from = start;
        for (began, until) in &spans[spans.partition_point(|(_, until)| *until <= start)..] {
            if *began > from.saturating_add(bound) {
                break;
            }
            from = from.max(*until);
        }
        from.saturating_add(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excuse(recovery_us: u64, most_us: Option<u64>) -> Vec<Excuse> {
        vec![Excuse {
            guarantee: Guarantee::G1,
            recovery_us,
            most_us,
        }]
    }

    #[test]
    fn the_time_runs_from_the_end_of_the_last_span_in_the_way() {
        let mut faults = Faults::default();
        for (n, from, until) in [(1, 100, 200), (2, 220, 300), (3, 400, 500)] {
            assert!(faults.began(n, from, excuse(10, None)));
            assert!(faults.ended(n, until));
        }
        assert!(!faults.ended(9, 1));
        assert_eq!(faults.close(), 0);
        let due = |start| faults.due(Guarantee::G1, start, 50);
        assert_eq!(due(20), 70, "over before the first began");
        assert_eq!(
            due(60),
            360,
            "the second began before the first's time was over"
        );
        assert_eq!(due(310), 360);
        assert_eq!(due(360), 560);
        assert_eq!(due(510), 560);
        assert_eq!(faults.due(Guarantee::G4, 60, 50), 110);
    }

    #[test]
    fn an_excuse_may_end_before_its_fault() {
        let mut faults = Faults::default();
        faults.began(1, 100, excuse(0, Some(30)));
        faults.began(2, 1_000, excuse(0, None));
        assert_eq!(faults.close(), 2);
        assert_eq!(faults.due(Guarantee::G1, 100, 5), 135);
        assert_eq!(faults.due(Guarantee::G1, 1_000, 5), u64::MAX);
    }
}
