//! Small marks with a time to live.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// Expired marks that one call to [`Marks::set`] clears away at most.
const SWEEP: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Marks {
    by_key: BTreeMap<Box<str>, (Bytes, u64)>,
    by_expiry: BTreeSet<(u64, Box<str>)>,
}

impl Marks {
    /// Sets a mark that is gone at `until`.
    pub(crate) fn set(&mut self, key: &str, value: Bytes, now: u64, until: u64) {
        for _ in 0..SWEEP {
            match self.by_expiry.first() {
                Some((at, _)) if *at <= now => {
                    if let Some((_, key)) = self.by_expiry.pop_first() {
                        self.by_key.remove(&key);
                    }
                }
                _ => break,
            }
        }
        self.take(key, now);
        self.by_key.insert(key.into(), (value, until));
        self.by_expiry.insert((until, key.into()));
    }

    /// Takes a mark away; `None` if there is none or it has expired.
    pub(crate) fn take(&mut self, key: &str, now: u64) -> Option<Bytes> {
        let (key, (value, until)) = self.by_key.remove_entry(key)?;
        self.by_expiry.remove(&(until, key));
        (until > now).then_some(value)
    }
}
