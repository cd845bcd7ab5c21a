//! Where things lie: a user's state, and a mark, in one of 64 buckets, each a store by itself.
//!
//! The hash tags are chosen so that bucket `n` lies in the `n`th 64th of a Cluster's slots: primaries
//! with equal shares of the slots have equal shares of the buckets, up to 64 of them.

use xxhash_rust::xxh3::xxh3_64;

/// How many there are. Another number makes another store.
pub(crate) const BUCKETS: usize = 64;

const TAGS: [u16; BUCKETS] = [
    10, 18, 113, 342, 29, 21, 3, 122, 69, 61, 72, 162, 50, 58, 153, 43, 11, 19, 112, 343, 28, 20,
    2, 123, 68, 60, 73, 163, 51, 59, 152, 42, 12, 102, 111, 119, 133, 23, 1, 9, 173, 63, 70, 78,
    52, 142, 49, 41, 13, 103, 110, 118, 132, 22, 0, 8, 172, 62, 71, 79, 53, 143, 48, 40,
];

/// The bucket of a user, or of a mark.
pub(crate) fn bucket_of(text: &str) -> usize {
    (xxh3_64(text.as_bytes()) >> 58) as usize
}

/// What the keys of each bucket begin with.
pub(crate) fn bases(prefix: &str) -> Vec<String> {
    TAGS.iter()
        .map(|tag| format!("{prefix}{{{tag}}}"))
        .collect()
}

/// The places (in the caller's list) of what lies in each bucket; buckets without any are left out.
pub(crate) fn grouped<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<(usize, Vec<usize>)> {
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut place = [usize::MAX; BUCKETS];
    for (i, text) in texts.enumerate() {
        let bucket = bucket_of(text);
        if place[bucket] == usize::MAX {
            place[bucket] = groups.len();
            groups.push((bucket, Vec::new()));
        }
        groups[place[bucket]].1.push(i);
    }
    groups
}

#[cfg(test)]
mod tests {
    use redis::cluster_routing::Slot;

    use super::*;

    #[test]
    fn each_bucket_lies_in_its_own_64th_of_the_slots() {
        for (n, base) in (0u16..).zip(bases("any.prefix")) {
            let slot = Slot::for_key(format!("{base}ualice@example.com"));
            let own = (n * 256..(n + 1) * 256).any(|s| Slot::new(s) == Some(slot));
            assert!(own, "{base}");
        }
    }

    #[test]
    fn users_spread_evenly() {
        let mut count = [0; BUCKETS];
        for n in 0..64_000 {
            count[bucket_of(&format!("+4479{n:08}@example.com"))] += 1;
        }
        assert!(count.iter().all(|c| (850..1_150).contains(c)), "{count:?}");
    }

    #[test]
    fn places_are_grouped_by_bucket_in_order() {
        let texts = ["a", "b", "a", "c"];
        let groups = grouped(texts.into_iter());
        for (bucket, places) in &groups {
            assert!(places.is_sorted());
            assert!(places.iter().all(|p| bucket_of(texts[*p]) == *bucket));
        }
        assert_eq!(groups.iter().map(|g| g.1.len()).sum::<usize>(), 4);
    }
}
