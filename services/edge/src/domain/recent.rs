//! A bounded map that forgets what was not touched for long.

use std::{borrow::Borrow, hash::Hash};

use ahash::AHashMap;

/// Holds at least the last `half` keys touched, at most twice as many. Empty, it takes no heap.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: AHashMap<K, V>,
    old: AHashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            young: AHashMap::new(),
            old: AHashMap::new(),
        }
    }
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// The value of `key`, if it is still known.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.old.is_empty()
            && !self.young.contains_key(key)
            && let Some((k, v)) = self.old.remove_entry(key)
        {
            self.young.insert(k, v);
        }
        self.young.get_mut(key)
    }

    /// The key as it is kept.
    pub fn key<Q>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.young
            .get_key_value(key)
            .or_else(|| self.old.get_key_value(key))
            .map(|(k, _)| k)
    }

    /// The value of `key`, which begins as the default.
    pub fn entry(&mut self, key: &K, half: usize) -> &mut V
    where
        K: Clone,
        V: Default,
    {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key).unwrap_or_default();
            self.insert(key.clone(), value, half);
        }
        self.young.entry(key.clone()).or_default()
    }

    /// Takes a new key in; what was not touched for `half` keys is forgotten.
    pub fn insert(&mut self, key: K, value: V, half: usize) {
        if self.young.len() >= half.max(1) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.old.iter().chain(&self.young)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_lately_is_kept_and_the_rest_is_bounded() {
        let mut r = Recent::default();
        for i in 0..100 {
            r.insert(i, i, 4);
            assert_eq!(r.get_mut(&0).copied(), Some(0), "touched each time");
        }
        assert!(r.get_mut(&50).is_none());
        assert!(r.get_mut(&98).is_some());
        assert!(r.iter().count() <= 8);
    }
}
