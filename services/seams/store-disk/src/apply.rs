//! What a change makes of a table's rows, given those that its group has changed before it.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::Bytes;
use fjall::{Keyspace, UserKey, UserValue};
use tandem_kernel::UnixMillis;
use tandem_store::{Batch, DELETES_REMEMBERED, Key, Op, PutIf, StoreError};

use crate::{
    encoding::{self, Stored},
    failed,
};

/// Changed rows; `None`: removed.
pub(crate) type Rows = BTreeMap<UserKey, Option<UserValue>>;

/// A group's changes to one table.
pub(crate) struct Changes<'a> {
    pub keyspace: &'a Keyspace,
    pub rows: &'a mut Rows,
    pub folder: &'a Path,
    pub now: UnixMillis,
}

impl Changes<'_> {
    /// Applies a batch.
    pub fn batch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        match batch.version {
            None => self.plain(batch),
            Some(version) => self.versioned(batch, version),
        }
    }

    /// The last change of a row counts.
    fn plain(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for op in &batch.ops {
            match op {
                Op::Put { sort, value, ttl } => {
                    self.set(
                        key(&batch.partition, sort),
                        Stored {
                            version: None,
                            expiry: expiry(self.now, *ttl),
                            value: Some(value),
                        },
                    );
                }
                Op::Delete { sort } => {
                    self.rows.insert(key(&batch.partition, sort), None);
                }
                Op::DeletePartition => {
                    for key in self.keys(&batch.partition)? {
                        self.rows.insert(key, None);
                    }
                }
            }
        }
        Ok(())
    }

    /// The last change of those with the highest version counts.
    fn versioned(&mut self, batch: &Batch, version: u64) -> Result<(), StoreError> {
        let mark = UserKey::from(encoding::mark(&batch.partition));
        let mut deleted = self.version(&mark)?;
        let remembered = Stored {
            version: Some(version),
            expiry: Some(self.now.plus(DELETES_REMEMBERED)),
            value: None,
        };
        for op in &batch.ops {
            let (sort, stored) = match op {
                Op::Put { sort, value, ttl } => (
                    sort,
                    Stored {
                        version: Some(version),
                        expiry: expiry(self.now, *ttl),
                        value: Some(value),
                    },
                ),
                Op::Delete { sort } => (sort, remembered),
                Op::DeletePartition => {
                    for key in self.keys(&batch.partition)? {
                        if self.version(&key)? <= Some(version) {
                            self.rows.insert(key, None);
                        }
                    }
                    if deleted <= Some(version) {
                        self.set(mark.clone(), remembered);
                        deleted = Some(version);
                    }
                    continue;
                }
            };
            let key = key(&batch.partition, sort);
            if deleted <= Some(version) && self.version(&key)? <= Some(version) {
                self.set(key, stored);
            }
        }
        Ok(())
    }

    /// Sets a row if it is as expected.
    pub fn put_if(
        &mut self,
        at: &Key,
        expected: Option<&Bytes>,
        value: &Bytes,
        ttl: Option<Duration>,
    ) -> Result<PutIf, StoreError> {
        let key = key(&at.partition, &at.sort);
        let stored = self.stored(&key)?;
        let found = match &stored {
            Some(stored) => encoding::live(stored, self.now)?,
            None => None,
        };
        if found != expected.map(AsRef::as_ref) {
            return Ok(PutIf::Otherwise(found.map(Bytes::copy_from_slice)));
        }
        self.set(
            key,
            Stored {
                version: None,
                expiry: expiry(self.now, ttl),
                value: Some(value),
            },
        );
        Ok(PutIf::Done)
    }

    /// Removes those of the rows that are over; says how many. Rows that the group changes are left.
    pub fn expire(&mut self, keys: Vec<UserKey>) -> Result<u64, StoreError> {
        let mut gone = 0;
        for key in keys {
            if self.rows.contains_key(&key) {
                continue;
            }
            if let Some(stored) = self.stored(&key)?
                && encoding::over(&stored, self.now)
            {
                self.rows.insert(key, None);
                gone += 1;
            }
        }
        Ok(gone)
    }

    fn set(&mut self, key: UserKey, stored: Stored<'_>) {
        let mut octets = Vec::new();
        stored.encode_into(&mut octets);
        self.rows.insert(key, Some(octets.into()));
    }

    /// What is stored, as the group has left it so far.
    fn stored(&self, key: &UserKey) -> Result<Option<UserValue>, StoreError> {
        match self.rows.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.keyspace.get(key).map_err(|e| failed(self.folder, &e)),
        }
    }

    /// The version of what is stored, be it a delete.
    fn version(&self, key: &UserKey) -> Result<Option<u64>, StoreError> {
        // what cannot be read is written over
        let stored = self.stored(key)?;
        Ok(stored.and_then(|s| Stored::decode(&s).ok()?.version))
    }

    /// The keys of a partition's rows: those that the group has changed and those of the table.
    fn keys(&self, partition: &[u8]) -> Result<Vec<UserKey>, StoreError> {
        let prefix = encoding::prefix(partition);
        let mut keys: Vec<UserKey> = self
            .rows
            .range(UserKey::from(prefix.as_slice())..)
            .map(|(key, _)| key.clone())
            .take_while(|key| key.starts_with(&prefix))
            .collect();
        for row in self.keyspace.prefix(&prefix) {
            keys.push(row.key().map_err(|e| failed(self.folder, &e))?);
        }
        Ok(keys)
    }
}

fn key(partition: &[u8], sort: &[u8]) -> UserKey {
    encoding::key(partition, sort).into()
}

/// Whole seconds from now, at least one.
fn expiry(now: UnixMillis, ttl: Option<Duration>) -> Option<UnixMillis> {
    ttl.map(|ttl| {
        let up = u64::from(ttl.subsec_nanos() > 0);
        now.plus(Duration::from_secs(ttl.as_secs().saturating_add(up).max(1)))
    })
}
