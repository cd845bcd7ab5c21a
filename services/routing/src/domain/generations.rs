//! A bounded map that forgets what was not used for longest, roughly: two generations, the older one
//! dropped whole when the younger is full.

use std::{borrow::Borrow, hash::Hash, mem};

use ahash::AHashMap;

/// Keeps at least the `size` entries used last, and at most twice as many.
#[derive(Debug)]
pub struct Generations<K, V> {
    young: AHashMap<K, V>,
    old: AHashMap<K, V>,
    size: usize,
}

impl<K: Hash + Eq + Clone, V> Generations<K, V> {
    /// An empty map.
    pub fn new(size: usize) -> Self {
        Self {
            young: AHashMap::new(),
            old: AHashMap::new(),
            size: size.max(1),
        }
    }

    /// The value, which counts as used.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// The value, made if it is not there. It counts as used.
    pub fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        let older = if self.young.contains_key(key) {
            None
        } else {
            self.old.remove(key)
        };
        if older.is_some() || !self.young.contains_key(key) {
            self.rotate();
        }
        self.young
            .entry(key.clone())
            .or_insert_with(|| older.unwrap_or_else(make))
    }

    /// Sets the value.
    pub fn insert(&mut self, key: K, value: V) {
        self.rotate();
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Removes the value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let young = self.young.remove(key);
        let old = self.old.remove(key);
        young.or(old)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rotate(&mut self) {
        if self.young.len() >= self.size {
            self.old = mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut map = Generations::new(4);
        for i in 0..100 {
            *map.entry(&i, || 0) += 1;
            *map.entry(&-1, || 0) += 1;
        }
        assert_eq!(map.get_mut(&-1), Some(&mut 100));
        assert_eq!(map.get_mut(&99), Some(&mut 1));
        assert_eq!(map.get_mut(&1), None);
        assert!(map.len() <= 8);
        assert_eq!(map.remove(&99), Some(1));
        assert_eq!(map.get_mut(&99), None);
    }
}
