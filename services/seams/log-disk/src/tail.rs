//! What a partition keeps in memory: its bounds, and its newest records, so that readers who have
//! caught up never touch the disk.

use std::collections::VecDeque;

use tandem_kernel::UnixMillis;
use tandem_log::Stored;

use crate::codec;

/// What a record takes in memory beside its bytes, about.
const OVERHEAD: usize = 160;

/// Bounds and newest records of a partition.
#[derive(Debug, Default)]
pub struct Tail {
    /// Offsets below are forgotten.
    pub low: u64,
    /// Offset after the last durable record.
    pub end: u64,
    /// When the last record was taken.
    pub at: UnixMillis,
    /// Bytes of keys and values since the topic began.
    pub total: u64,
    /// How much of `total` had come when the topic was compacted last.
    pub compacted: u64,
    /// Bytes that were left then.
    pub live: u64,
    /// From here on `ring` is complete.
    ring_from: u64,
    ring: VecDeque<Stored>,
    ring_bytes: usize,
}

/// How much to take at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most records.
    pub records: usize,
    /// Most bytes, but always one record.
    pub bytes: usize,
}

/// Collects records up to some bounds.
#[derive(Debug)]
pub struct Taken {
    bounds: Bounds,
    bytes: usize,
    /// What was taken.
    pub records: Vec<Stored>,
}

impl Taken {
    /// Nothing yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            bytes: 0,
            records: Vec::new(),
        }
    }

    /// Whether no more fits.
    pub fn is_full(&self) -> bool {
        self.records.len() >= self.bounds.records
            || (self.bytes >= self.bounds.bytes && !self.records.is_empty())
    }

    /// Takes one more. False when nothing more fits.
    pub fn push(&mut self, stored: Stored) -> bool {
        self.bytes += codec::size(&stored.record);
        self.records.push(stored);
        !self.is_full()
    }
}

/// Where the records at an offset are.
#[derive(Debug)]
pub enum Found {
    /// In memory: here they are.
    Here(Vec<Stored>),
    /// On disk, at or above this offset.
    OnDisk(u64),
    /// Nothing there yet; reading goes on at this offset.
    Nothing(u64),
}

impl Tail {
    /// A partition as it was found on disk.
    pub fn opened(low: u64, end: u64, at: UnixMillis, total: u64) -> Self {
        Self {
            low,
            end,
            at,
            total,
            ring_from: end,
            ..Self::default()
        }
    }

    /// Adds what has just become durable; keeps at most `keep` bytes in memory.
    pub fn extend(
        &mut self,
        records: Vec<Stored>,
        end: u64,
        at: UnixMillis,
        total: u64,
        keep: usize,
    ) {
        for stored in records {
            self.ring_bytes += codec::size(&stored.record) + OVERHEAD;
            self.ring.push_back(stored);
        }
        (self.end, self.at, self.total) = (end, at, total);
        while self.ring_bytes > keep {
            self.pop();
        }
    }

    /// Forgets what lies below `low`.
    pub fn forget(&mut self, low: u64) {
        self.low = self.low.max(low);
        while self.ring.front().is_some_and(|s| s.place.offset < low) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(old) = self.ring.pop_front() {
            self.ring_bytes -= codec::size(&old.record) + OVERHEAD;
            self.ring_from = old.place.offset + 1;
        }
    }

    /// What there is at `from` and after.
    pub fn find(&self, from: u64, bounds: Bounds) -> Found {
        let from = from.max(self.low);
        if from >= self.end || bounds.records == 0 {
            return Found::Nothing(from);
        }
        if from < self.ring_from {
            return Found::OnDisk(from);
        }
        let first = self.ring.partition_point(|s| s.place.offset < from);
        let mut taken = Taken::new(bounds);
        for stored in self.ring.range(first..) {
            if !taken.push(stored.clone()) {
                break;
            }
        }
        Found::Here(taken.records)
    }

    /// The first offset whose record was taken at or after `at`, if memory can tell.
    pub fn offset_at(&self, at: UnixMillis) -> Option<u64> {
        if at > self.at || self.low >= self.end {
            return Some(self.end);
        }
        // the record before the ring may be as young as the ring's first
        if self.ring_from > self.low && self.ring.front().is_none_or(|s| s.at >= at) {
            return None;
        }
        let index = self.ring.partition_point(|s| s.at < at);
        Some(self.ring.get(index).map_or(self.end, |s| s.place.offset))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tandem_kernel::Place;
    use tandem_log::Record;

    use super::*;

    const ALL: Bounds = Bounds {
        records: 100,
        bytes: 1 << 20,
    };

    fn stored(offset: u64) -> Stored {
        let record = Record {
            value: Bytes::from_static(b"12345678"),
            ..Record::default()
        };
        Stored {
            place: Place {
                partition: 0,
                offset,
            },
            at: UnixMillis(offset as i64),
            record,
        }
    }

    fn tail(count: u64, keep: usize) -> Tail {
        let mut tail = Tail::default();
        for offset in 0..count {
            tail.extend(
                vec![stored(offset)],
                offset + 1,
                UnixMillis(offset as i64),
                0,
                keep,
            );
        }
        tail
    }

    #[test]
    fn what_fell_out_of_memory_is_on_disk_and_the_rest_is_here() {
        let tail = tail(10, 4 * (OVERHEAD + 14 + 8));
        assert!(matches!(tail.find(5, ALL), Found::OnDisk(5)));
        assert!(matches!(tail.find(6, ALL), Found::Here(r) if r.len() == 4));
        assert!(matches!(tail.find(10, ALL), Found::Nothing(10)));
        let two = Bounds {
            records: 2,
            bytes: 1 << 20,
        };
        assert!(matches!(tail.find(7, two), Found::Here(r) if r.len() == 2 && r[0] == stored(7)));
        let tiny = Bounds {
            records: 9,
            bytes: 1,
        };
        assert!(matches!(tail.find(7, tiny), Found::Here(r) if r.len() == 1));
    }

    #[test]
    fn a_forgotten_offset_goes_on_at_the_oldest_kept_one() {
        let mut tail = tail(10, 1 << 20);
        tail.forget(4);
        assert!(matches!(tail.find(0, ALL), Found::Here(r) if r[0] == stored(4)));
        tail.forget(10);
        assert!(matches!(tail.find(0, ALL), Found::Nothing(10)));
    }

    #[test]
    fn memory_tells_an_offset_by_time_only_when_it_knows() {
        let all = tail(10, 1 << 20);
        assert_eq!(all.offset_at(UnixMillis(0)), Some(0));
        assert_eq!(all.offset_at(UnixMillis(7)), Some(7));
        assert_eq!(all.offset_at(UnixMillis(99)), Some(10));
        let part = tail(10, 4 * (OVERHEAD + 14 + 8));
        assert_eq!(part.offset_at(UnixMillis(6)), None);
        assert_eq!(part.offset_at(UnixMillis(7)), Some(7));
    }
}
