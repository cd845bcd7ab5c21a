//! The store on disk: durable, grouped fsyncs, for one process.
//!
//! One folder, one table a keyspace of the engine (`fjall`), one journal for all. A write is visible
//! and acknowledged once its fsync has returned; all that queued during the previous fsync share the
//! next. Reads are done in place: most are answered from memory.

mod apply;
mod commit;
mod encoding;
mod sweep;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable};
use parking_lot::RwLock;
use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd, metrics::Counter};
use tandem_kernel::UnixMillis;
use tandem_store::{
    Batch, Key, PutIf, Range, Row, Store, StoreError, Table, check_partition, check_value,
};
use tokio::sync::oneshot;

use crate::commit::{Committer, Job};

/// Longer reads leave the runtime's threads.
const IN_PLACE: usize = 256;

/// How much memory and disk the store may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Octets of blocks kept in memory.
    pub cache_bytes: u64,
    /// Octets of a table's newest rows that are kept in memory before they go to a file of its own. Counts
    /// when the table is made.
    pub memtable_bytes: u64,
    /// Octets of journal before the tables that hold it up are written out; at least 64 MiB.
    pub journal_bytes: u64,
    /// Threads that write out and compact.
    pub workers: usize,
    /// Octets that must stay free on the disk: with less, writes are refused.
    pub reserve_bytes: u64,
    /// How often expired rows are swept away.
    pub sweep_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            memtable_bytes: 16 << 20,
            journal_bytes: 128 << 20,
            workers: 2,
            reserve_bytes: 128 << 20,
            sweep_every: Duration::from_hours(1),
        }
    }
}

/// What the store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Writes and conditional puts that were asked for.
    pub writes: u64,
    /// Fsyncs that they took.
    pub syncs: u64,
    /// Expired rows that the sweep removed.
    pub swept: u64,
}

/// The tables that were ensured.
#[derive(Default)]
struct Tables(RwLock<BTreeMap<&'static str, Keyspace>>);

impl Tables {
    fn get(&self, name: &str) -> Result<Keyspace, StoreError> {
        self.0.read().get(name).cloned().ok_or_else(|| {
            StoreError::Unavailable(format!(
                "there is no table {name}, it must be ensured first"
            ))
        })
    }

    fn all(&self) -> Vec<(&'static str, Keyspace)> {
        self.0
            .read()
            .iter()
            .map(|(name, k)| (*name, k.clone()))
            .collect()
    }
}

/// The store. Once dropped (and its last write has returned), the folder can be opened again.
pub struct DiskStore {
    db: Database,
    doors: Doors,
    folder: PathBuf,
    memtable_bytes: u64,
    tables: Arc<Tables>,
    committer: Arc<Committer>,
    swept: Counter,
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStore")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl DiskStore {
    /// Opens the store in a folder, which is made if it is not there. Blocks. A folder that another
    /// process has open is refused. A write that was not acknowledged when the process was killed is
    /// there whole or not at all. A journal that a power cut left with a hole in the middle of its last
    /// group is refused as corrupt: the engine cannot tell it from damage.
    pub fn open(
        folder: &Path,
        doors: Doors,
        lifecycle: &Lifecycle,
        options: &Options,
    ) -> Result<Arc<Self>, StoreError> {
        let seen_now = Arc::new(AtomicI64::new(doors.clock.unix().0));
        let filter: Arc<dyn fjall::compaction::filter::Factory> =
            Arc::new(sweep::DropExpired(Arc::clone(&seen_now)));
        let db = Database::builder(folder)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes.max(64 << 20))
            .worker_threads(options.workers.max(1))
            .manual_journal_persist(true)
            .with_compaction_filter_factories(Arc::new(move |_| Some(Arc::clone(&filter))))
            .open()
            .map_err(|e| failed(folder, &e))?;
        let tables = Arc::new(Tables::default());
        let committer = Arc::new(Committer::new(
            db.clone(),
            Arc::clone(&tables),
            Arc::clone(&doors.clock),
            folder.to_path_buf(),
            options.reserve_bytes,
            seen_now,
        ));
        let swept = Counter::new("tandem.store.swept", "{row}", "expired rows removed", &[]);
        let folder = folder.to_path_buf();
        let memtable_bytes = options.memtable_bytes;
        let store = Arc::new(Self {
            db,
            doors,
            folder,
            memtable_bytes,
            tables,
            committer,
            swept,
        });
        lifecycle.spawn(
            "store sweep",
            OnEnd::Fine,
            sweep::run(
                Arc::downgrade(&store),
                options.sweep_every,
                lifecycle.clone(),
            ),
        );
        Ok(store)
    }

    /// What it has done.
    pub fn stats(&self) -> Stats {
        Stats {
            writes: self.committer.jobs.get(),
            syncs: self.committer.groups.get(),
            swept: self.swept.get(),
        }
    }

    /// Why writes are refused, if so. After a failed write they are until the store is opened again; for
    /// lack of room, until there is.
    pub fn healthy(&self) -> Result<(), StoreError> {
        self.committer.healthy()
    }

    /// Queues a job and waits until it is durable. If nobody is committing, it begins to.
    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        if self.committer.queue(job(reply)) {
            let committer = Arc::clone(&self.committer);
            // polled once, it runs to its end, whether or not its future is still there
            let drain = self.doors.threads.run(move || committer.drain());
            tokio::select! {
                biased;
                drained = drain => if drained.is_err() {
                    self.committer.abandon();
                },
                answer = &mut answer => return answer.unwrap_or(Err(StoreError::Closed)),
            }
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// The contract's error for the engine's.
fn failed(folder: &Path, error: &fjall::Error) -> StoreError {
    let at = folder.display();
    match error {
        fjall::Error::Locked => {
            StoreError::Unavailable(format!("{at} is in use by another process"))
        }
        fjall::Error::Io(e) => StoreError::Unavailable(format!("{at}: {e}")),
        fjall::Error::Poisoned => StoreError::Unavailable(format!(
            "{at}: an earlier write failed, check the disk and start again"
        )),
        fjall::Error::Storage(fjall::LsmError::Io(e)) => {
            StoreError::Unavailable(format!("{at}: {e}"))
        }
        e => StoreError::Corrupt(format!("{at}: {e:?}")),
    }
}

fn get(
    from: &impl Readable,
    table: &Keyspace,
    folder: &Path,
    key: &Key,
    now: UnixMillis,
) -> Result<Option<Bytes>, StoreError> {
    let at = encoding::key(&key.partition, &key.sort);
    match from.get(table, at).map_err(|e| failed(folder, &e))? {
        Some(stored) => Ok(encoding::live(&stored, now)?.map(Bytes::copy_from_slice)),
        None => Ok(None),
    }
}

fn range(
    snapshot: &fjall::Snapshot,
    table: &Keyspace,
    folder: &Path,
    partition: &[u8],
    range: &Range,
    now: UnixMillis,
) -> Result<Vec<Row>, StoreError> {
    let prefix = encoding::prefix(partition);
    let Some(bounds) = encoding::bounds(&prefix, &range.from, &range.to) else {
        return Ok(Vec::new());
    };
    let mut iter = snapshot.range(table, bounds);
    let mut out = Vec::new();
    while out.len() < range.limit {
        let Some(row) = (if range.reverse {
            iter.next_back()
        } else {
            iter.next()
        }) else {
            break;
        };
        let (key, stored) = row.into_inner().map_err(|e| failed(folder, &e))?;
        if let Some(value) = encoding::live(&stored, now)? {
            let value = Bytes::copy_from_slice(value);
            out.push(Row {
                sort: encoding::sort_of(&key, &prefix),
                value,
            });
        }
    }
    Ok(out)
}

#[async_trait]
impl Store for DiskStore {
    async fn ensure_table(&self, table: Table) -> Result<(), StoreError> {
        let name = table.0;
        if self.tables.0.read().contains_key(name) {
            return Ok(());
        }
        let ok = |c: char| c.is_ascii_lowercase() || c == '_';
        if name.is_empty() || name.len() > 40 || !name.chars().all(ok) {
            return Err(StoreError::TooLarge(format!(
                "table {name}: a name is 1 to 40 of a-z _"
            )));
        }
        let (db, memtable_bytes) = (self.db.clone(), self.memtable_bytes);
        let keyspace = self
            .doors
            .threads
            .run(move || {
                db.keyspace(name, || {
                    KeyspaceCreateOptions::default()
                        .manual_journal_persist(true)
                        .max_memtable_size(memtable_bytes)
                })
            })
            .await
            .map_err(|_| StoreError::Closed)?
            .map_err(|e| failed(&self.folder, &e))?;
        self.tables.0.write().entry(name).or_insert(keyspace);
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let mut found = self.get_many(std::slice::from_ref(key)).await?;
        Ok(found.pop().flatten())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().try_for_each(Key::check)?;
        let (snapshot, now) = (self.db.snapshot(), self.doors.clock.unix());
        if keys.len() <= IN_PLACE {
            return keys
                .iter()
                .map(|k| {
                    let table = self.tables.get(k.table.0)?;
                    get(&snapshot, &table, &self.folder, k, now)
                })
                .collect();
        }
        let (tables, folder, keys) = (Arc::clone(&self.tables), self.folder.clone(), keys.to_vec());
        self.doors
            .threads
            .run(move || {
                keys.iter()
                    .map(|k| get(&snapshot, &tables.get(k.table.0)?, &folder, k, now))
                    .collect()
            })
            .await
            .map_err(|_| StoreError::Closed)?
    }

    async fn range(
        &self,
        table: Table,
        partition: &[u8],
        bounds: Range,
    ) -> Result<Vec<Row>, StoreError> {
        check_partition(partition)?;
        let table = self.tables.get(table.0)?;
        let (snapshot, now) = (self.db.snapshot(), self.doors.clock.unix());
        if bounds.limit <= IN_PLACE {
            return range(&snapshot, &table, &self.folder, partition, &bounds, now);
        }
        let (folder, partition) = (self.folder.clone(), partition.to_vec());
        self.doors
            .threads
            .run(move || range(&snapshot, &table, &folder, &partition, &bounds, now))
            .await
            .map_err(|_| StoreError::Closed)?
    }

    async fn write(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        for batch in &batches {
            self.tables.get(batch.table.0)?;
            batch.check()?;
        }
        self.submit(|reply| Job::Write { batches, reply }).await
    }

    async fn put_if(
        &self,
        key: &Key,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<PutIf, StoreError> {
        self.tables.get(key.table.0)?;
        key.check()?;
        check_value(&value)?;
        let key = key.clone();
        self.submit(|reply| Job::PutIf {
            key,
            expected,
            value,
            ttl,
            reply,
        })
        .await
    }
}
