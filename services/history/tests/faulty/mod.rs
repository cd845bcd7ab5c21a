//! A store that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tandem_chassis::rng::Rng;
use tandem_store::{Batch, Key, PutIf, Range, Row, Store, StoreError, Table};

/// A store of which any call may fail, and a write after any part of its batches.
pub struct Faulty {
    pub inner: Arc<dyn Store>,
    pub rng: Rng,
    pub on: Arc<AtomicBool>,
    /// The next write gets half way, and then nothing goes any more.
    pub dying: Arc<AtomicBool>,
    pub dead: Arc<AtomicBool>,
    pub failed: Arc<AtomicU64>,
}

impl Faulty {
    fn fails(&self, one_in: u64) -> bool {
        let dead = self.dead.load(Ordering::Relaxed);
        let fails = dead || self.on.load(Ordering::Relaxed) && self.rng.below(one_in) == 0;
        if fails {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        fails
    }

    fn check(&self) -> Result<(), StoreError> {
        // a group takes many reads, and all must succeed
        if self.fails(32) {
            Err(StoreError::Unavailable("test".into()))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn ensure_table(&self, table: Table) -> Result<(), StoreError> {
        self.inner.ensure_table(table).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.check()?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.check()?;
        self.inner.get_many(keys).await
    }

    async fn range(&self, t: Table, p: &[u8], range: Range) -> Result<Vec<Row>, StoreError> {
        self.check()?;
        self.inner.range(t, p, range).await
    }

    async fn write(&self, mut batches: Vec<Batch>) -> Result<(), StoreError> {
        if self.dead.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("dead".into()));
        }
        let fails = self.fails(3) || self.dying.load(Ordering::Relaxed);
        if self.dying.load(Ordering::Relaxed) {
            self.dead.store(true, Ordering::Relaxed);
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if fails {
            batches.retain(|_| self.rng.below(2) == 0);
        }
        if !batches.is_empty() {
            self.inner.write(batches).await?;
        }
        if fails {
            Err(StoreError::Unavailable("test".into()))
        } else {
            Ok(())
        }
    }

    async fn put_if(
        &self,
        key: &Key,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<PutIf, StoreError> {
        self.inner.put_if(key, expected, value, ttl).await
    }
}
