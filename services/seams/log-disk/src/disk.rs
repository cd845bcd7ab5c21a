//! The database under the log: two keyspaces, `records` (entries, see [`crate::codec`]) and `meta`
//! (topics, where partitions begin, what groups have committed). Everything here blocks.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch,
    PersistMode, Slice,
    compaction::filter::{
        CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
    },
};
use tandem_kernel::UnixMillis;
use tandem_log::{LogError, Retention, Stored};

use crate::{
    Options, codec,
    codec::EntryHead,
    meta,
    tail::{Bounds, Tail, Taken},
};

/// A group's place in a partition: topic, group, partition.
pub type CommitKey = (u32, Arc<str>, u32);

/// A topic as it was found.
#[derive(Debug)]
pub struct FoundTopic {
    pub name: String,
    pub id: u32,
    pub retention: Retention,
    pub tails: Vec<Tail>,
    pub committed: BTreeMap<Arc<str>, Vec<Option<u64>>>,
}

/// The open database. One process has it at a time.
pub struct Disk {
    db: Database,
    records: Keyspace,
    meta: Keyspace,
    lows: Arc<Lows>,
    path: PathBuf,
    /// Last, as it is let go of when all else is closed.
    _lock: Lock,
}

/// The folder is this process'.
struct Lock(File);

impl Drop for Lock {
    /// At once, though a child that is just being spawned may have the file open, too.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Where partitions begin, for whoever rewrites tables: entries below are left out.
#[derive(Debug, Default)]
struct Lows(Mutex<BTreeMap<(u32, u32), u64>>);

impl Lows {
    fn set(&self, topic: u32, partition: u32, low: u64) {
        let mut lows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lows.insert((topic, partition), low);
    }
}

struct Forgetting(Arc<Lows>);

impl Factory for Forgetting {
    fn name(&self) -> &'static str {
        "forgotten"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        let lows = self
            .0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Box::new(Forgotten(lows))
    }
}

struct Forgotten(BTreeMap<(u32, u32), u64>);

impl CompactionFilter for Forgotten {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        // an entry of a topic that forgets is written once, so no older version can come back
        let forgotten =
            codec::parse_entry_key(item.key()).is_some_and(|(topic, partition, base)| {
                self.0
                    .get(&(topic, partition))
                    .is_some_and(|low| base < *low)
            });
        Ok(if forgotten {
            Verdict::Destroy
        } else {
            Verdict::Keep
        })
    }
}

/// What fjall says, as the log's error.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn failed(error: fjall::Error) -> LogError {
    LogError::Unavailable(format!("disk: {error}"))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> LogError {
    let path = path.display().to_string();
    move |error| LogError::Unavailable(format!("{path}: {error}"))
}

impl Disk {
    /// Opens the folder, making it if need be. Fails if another process has it, or if what was
    /// acknowledged cannot be read back.
    pub fn open(path: &Path, options: &Options) -> Result<Self, LogError> {
        std::fs::create_dir_all(path).map_err(io(path))?;
        let lock = Lock(File::create(path.join("lock")).map_err(io(path))?);
        lock.0.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LogError::Unavailable(format!(
                "the log in {} is in use by another process",
                path.display()
            )),
            TryLockError::Error(error) => io(path)(error),
        })?;
        // made aside and moved into place, so that a crash in between leaves nothing half made
        let (home, making) = (path.join("db"), path.join("db.making"));
        if !home.try_exists().map_err(io(path))? {
            if making.try_exists().map_err(io(path))? {
                std::fs::remove_dir_all(&making).map_err(io(path))?;
            }
            drop(Self::database(&making, options, &Arc::default())?);
            std::fs::rename(&making, &home).map_err(io(path))?;
            File::open(path)
                .and_then(|f| f.sync_all())
                .map_err(io(path))?;
        }
        crate::journal::mend(&home)?;
        let lows = Arc::new(Lows::default());
        let (db, records, meta) = Self::database(&home, options, &lows)?;
        let path = path.to_owned();
        Ok(Self {
            db,
            records,
            meta,
            lows,
            path,
            _lock: lock,
        })
    }

    fn database(
        home: &Path,
        options: &Options,
        lows: &Arc<Lows>,
    ) -> Result<(Database, Keyspace, Keyspace), LogError> {
        let filter = Arc::new(Forgetting(Arc::clone(lows)));
        let db = Database::builder(home)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes.max(64 << 20))
            .journal_compression(CompressionType::None)
            .worker_threads(2)
            .with_compaction_filter_factories(Arc::new(move |keyspace| {
                (keyspace == "records").then(|| Arc::clone(&filter) as Arc<dyn Factory>)
            }))
            .open()
            .map_err(|error| match error {
                fjall::Error::JournalRecovery(_) | fjall::Error::Unrecoverable => {
                    LogError::Corrupt(format!("{}: {error}", home.display()))
                }
                other => LogError::Unavailable(format!("{}: {other}", home.display())),
            })?;
        let (memtable, small) = (options.memtable_bytes, options.memtable_bytes / 4);
        let records = db.keyspace("records", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(memtable)
                .expect_point_read_hits(true)
        });
        let meta = db.keyspace("meta", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(small)
                .expect_point_read_hits(true)
        });
        let (records, meta) = (records.map_err(failed)?, meta.map_err(failed)?);
        db.persist(PersistMode::SyncAll).map_err(failed)?;
        Ok((db, records, meta))
    }

    /// Bytes that are free on the disk.
    pub fn free(&self) -> Result<u64, LogError> {
        fs4::available_space(&self.path).map_err(io(&self.path))
    }

    /// All topics.
    pub fn load(&self) -> Result<Vec<FoundTopic>, LogError> {
        let mut topics = Vec::new();
        for item in self.meta.prefix(meta::TOPICS) {
            let (key, value) = item.into_inner().map_err(failed)?;
            let name = String::from_utf8(key[1..].to_vec())
                .map_err(|_| LogError::Corrupt("topic name".into()))?;
            let (id, partitions, retention) = meta::decode_topic(&value)
                .ok_or_else(|| LogError::Corrupt(format!("description of topic {name}")))?;
            let mut tails = Vec::new();
            for partition in 0..partitions {
                tails.push(self.tail(id, partition)?);
            }
            let mut committed = BTreeMap::new();
            for item in self.meta.prefix(meta::commit_prefix(id)) {
                let (key, value) = item.into_inner().map_err(failed)?;
                let (group, partition) = meta::decode_commit_key(&key)
                    .ok_or_else(|| LogError::Corrupt("key of a commit".into()))?;
                let offset = meta::decode_u64(&value)?;
                let places = committed
                    .entry(group)
                    .or_insert_with(|| vec![None; partitions as usize]);
                if let Some(place) = places.get_mut(partition as usize) {
                    *place = Some(offset);
                }
            }
            topics.push(FoundTopic {
                name,
                id,
                retention,
                tails,
                committed,
            });
        }
        Ok(topics)
    }

    fn tail(&self, topic: u32, partition: u32) -> Result<Tail, LogError> {
        let low = match self
            .meta
            .get(meta::low_key(topic, partition))
            .map_err(failed)?
        {
            Some(value) => meta::decode_u64(&value)?,
            None => 0,
        };
        self.lows.set(topic, partition, low);
        let last = self.last_at_or_below(topic, partition, u64::MAX)?;
        Ok(last.map_or_else(
            || Tail::opened(low, low, UnixMillis(0), 0),
            |(head, _)| Tail::opened(low, head.next.max(low), head.at, head.total),
        ))
    }

    /// The entry with the highest first offset at or below `offset`.
    fn last_at_or_below(
        &self,
        topic: u32,
        partition: u32,
        offset: u64,
    ) -> Result<Option<(EntryHead, Bytes)>, LogError> {
        let (from, to) = (
            codec::entry_key(topic, partition, 0),
            codec::entry_key(topic, partition, offset),
        );
        self.records
            .range(from..=to)
            .next_back()
            .map(entry)
            .transpose()
    }

    /// The topic is as described, durably.
    pub fn put_topic(
        &self,
        name: &str,
        id: u32,
        partitions: u32,
        retention: &Retention,
    ) -> Result<(), LogError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(
            &self.meta,
            meta::topic_key(name),
            meta::encode_topic(id, partitions, retention),
        );
        batch.commit().map_err(failed)
    }

    /// Writes entries and commits, all or none; durably.
    pub fn write(
        &self,
        entries: Vec<([u8; codec::KEY], Vec<u8>)>,
        commits: &BTreeMap<CommitKey, u64>,
    ) -> Result<(), LogError> {
        let batch = OwnedWriteBatch::with_capacity(self.db.clone(), entries.len() + commits.len());
        let mut batch = batch.durability(Some(PersistMode::SyncData));
        for (key, value) in entries {
            batch.insert(&self.records, key, value);
        }
        for ((topic, group, partition), offset) in commits {
            let key = meta::commit_key(*topic, group, *partition);
            batch.insert(&self.meta, key, offset.to_be_bytes());
        }
        batch.commit().map_err(failed)
    }

    /// Entries of a partition from the one that holds `from`, oldest first.
    pub fn entries(
        &self,
        topic: u32,
        partition: u32,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<(EntryHead, Bytes), LogError>> + use<>, LogError> {
        let first = self
            .last_at_or_below(topic, partition, from)?
            .map_or(0, |(head, _)| head.base);
        Ok(self.all_entries(topic, partition, first).map(entry))
    }

    fn all_entries(&self, topic: u32, partition: u32, base: u64) -> fjall::Iter {
        let from = codec::entry_key(topic, partition, base);
        self.records
            .range(from..=codec::entry_key(topic, partition, u64::MAX))
    }

    /// Records at or above `from` within bounds, and the offset at which to go on.
    pub fn read(
        &self,
        topic: u32,
        partition: u32,
        from: u64,
        bounds: Bounds,
    ) -> Result<(Vec<Stored>, u64), LogError> {
        let (mut taken, mut next) = (Taken::new(bounds), from);
        for item in self.entries(topic, partition, from)? {
            let (head, value) = item?;
            if head.next <= from {
                continue;
            }
            codec::records(partition, &head, value, from, |stored| taken.push(stored))?;
            if taken.is_full() {
                break;
            }
            next = head.next;
        }
        if let (true, Some(last)) = (taken.is_full(), taken.records.last()) {
            next = last.place.offset + 1;
        }
        Ok((taken.records, next))
    }

    /// The first offset at or above `low` of a record taken at or after `at`.
    pub fn offset_at(
        &self,
        topic: u32,
        partition: u32,
        (low, end): (u64, u64),
        at: UnixMillis,
    ) -> Result<u64, LogError> {
        // below `from` all are older; those at `to` and above are not
        let (mut from, mut to) = (low, end);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.last_at_or_below(topic, partition, middle)? {
                Some((head, _)) if head.next > from => {
                    if head.at < at {
                        from = head.next.max(middle + 1);
                    } else {
                        to = head.base.max(from);
                    }
                }
                // nothing left of what lay there
                _ => from = middle + 1,
            }
        }
        Ok(from.min(end))
    }

    /// From now on the partitions begin where said; what lies below may go. Durable when it returns.
    pub fn forget(&self, topic: u32, lows: &[(u32, u64)]) -> Result<(), LogError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for (partition, low) in lows {
            batch.insert(
                &self.meta,
                meta::low_key(topic, *partition),
                low.to_be_bytes(),
            );
        }
        batch.commit().map_err(failed)?;
        for (partition, low) in lows {
            self.lows.set(topic, *partition, *low);
            // whole tables at once; what shares a table with younger records goes when that is rewritten
            let (from, to) = (
                codec::entry_key(topic, *partition, 0),
                codec::entry_key(topic, *partition, *low),
            );
            self.records
                .tree
                .drop_range(from..to)
                .map_err(|e| failed(e.into()))?;
        }
        Ok(())
    }

    /// Keeps the last record of each key, and forgets a key whose last value is empty and older than
    /// `tombstones`. Returns the bytes of keys and values that are left.
    pub fn compact(
        &self,
        topic: u32,
        partition: u32,
        low: u64,
        tombstones: UnixMillis,
    ) -> Result<u64, LogError> {
        let mut seen = std::collections::HashSet::new();
        let (mut newest, mut live) = (true, 0);
        // synced like every other, so that no more than one batch can be torn
        let synced = || self.db.batch().durability(Some(PersistMode::SyncData));
        let mut batch = synced();
        for item in self.all_entries(topic, partition, low).rev() {
            let (head, value) = entry(item)?;
            let mut records = Vec::new();
            codec::records(partition, &head, value, 0, |stored| {
                records.push(stored);
                true
            })?;
            let mut kept = Vec::new();
            for stored in records.iter().rev() {
                let last = seen.insert(xxhash_rust::xxh3::xxh3_128(&stored.record.key));
                let gone = stored.record.value.is_empty() && stored.at < tombstones;
                if last && !gone {
                    live += codec::weight(&stored.record);
                    kept.push(stored);
                }
            }
            let key = codec::entry_key(topic, partition, head.base);
            // the newest entry stays, if empty, as it tells the end
            if kept.is_empty() && !newest {
                batch.remove(&self.records, key);
            } else if kept.len() < records.len() {
                let mut builder = codec::EntryBuilder::new(head.base);
                for stored in kept.into_iter().rev() {
                    builder.push(stored.place.offset, &stored.record);
                }
                batch.insert(
                    &self.records,
                    key,
                    builder.finish(head.at, head.total, head.next),
                );
            }
            newest = false;
            if batch.len() >= 256 {
                std::mem::replace(&mut batch, synced())
                    .commit()
                    .map_err(failed)?;
            }
        }
        batch.commit().map_err(failed)?;
        Ok(live)
    }
}

fn entry(item: fjall::Guard) -> Result<(EntryHead, Bytes), LogError> {
    let (key, value): (Slice, Slice) = item.into_inner().map_err(failed)?;
    let (_, _, base) =
        codec::parse_entry_key(&key).ok_or_else(|| LogError::Corrupt("key of an entry".into()))?;
    Ok((codec::head(base, &value)?, Bytes::from_owner(value)))
}
