//! Places in the log, and an event's place in its conversation.

use std::fmt;

/// An event's place in its conversation: `generation << 48 | offset`. Only grows within a
/// conversation, and has gaps. 0 is before every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    const OFFSET_BITS: u32 = 48;

    /// The place of the record at `offset` of a topic of `generation` (at least 1).
    pub fn new(generation: u16, offset: u64) -> Self {
        debug_assert!(generation > 0 && offset < 1 << Self::OFFSET_BITS);
        Self(u64::from(generation) << Self::OFFSET_BITS | offset)
    }

    /// The topic's generation.
    pub fn generation(self) -> u16 {
        (self.0 >> Self::OFFSET_BITS) as u16
    }

    /// The record's offset in its partition.
    pub fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A record's place in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Partition of the topic, from 0.
    pub partition: u32,
    /// Offset in the partition, from 0.
    pub offset: u64,
}

/// The partition, of `partitions` (at least 1), that holds the records with this key.
/// The same in every program and for ever (xxh3-64 modulo partitions).
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (xxhash_rust::xxh3::xxh3_64(key) % u64::from(partitions.max(1))) as u32
}

/// Which of `replicas` is to handle `key`: highest random weight (rendezvous hashing). Adding or
/// removing a replica moves only the keys that it wins or had won. `None` if there are none.
pub fn rendezvous<'a, R: AsRef<str>>(
    key: &[u8],
    replicas: impl IntoIterator<Item = &'a R>,
) -> Option<&'a R> {
    let hash = xxhash_rust::xxh3::xxh3_64(key);
    replicas.into_iter().max_by_key(|r| {
        (
            xxhash_rust::xxh3::xxh3_64_with_seed(r.as_ref().as_bytes(), hash),
            r.as_ref().to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_generation_comes_after_every_offset_of_an_earlier_one() {
        let (a, b) = (Seq::new(1, (1 << 48) - 1), Seq::new(2, 0));
        assert!(a < b);
        assert_eq!((a.generation(), a.offset()), (1, (1 << 48) - 1));
        assert_eq!((b.generation(), b.offset()), (2, 0));
    }

    #[test]
    fn a_removed_replica_moves_only_its_own_keys() {
        let all = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        for key in 0u32..1000 {
            let key = key.to_be_bytes();
            let before = rendezvous(&key, &all).unwrap();
            let after = rendezvous(&key, &all[..2]).unwrap();
            assert!(before == after || before == "c");
        }
    }
}
