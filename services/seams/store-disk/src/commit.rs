//! Group commit: whoever finds nobody committing commits for all who queue meanwhile, on a blocking
//! thread, one fsync a group. Nothing is visible or acknowledged before it is durable.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fjall::{Database, Keyspace, PersistMode, UserKey};
use parking_lot::Mutex;
use tandem_chassis::metrics::Counter;
use tandem_kernel::{Clock, UnixMillis};
use tandem_store::{Batch, Key, Op, PutIf, StoreError};
use tokio::sync::oneshot;

use crate::{
    Tables,
    apply::{Changes, Rows},
    failed,
};

/// A group takes no more jobs once it has this many octets.
const GROUP_BYTES: usize = 8 << 20;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A change that waits for its fsync.
pub(crate) enum Job {
    Write {
        batches: Vec<Batch>,
        reply: Reply<()>,
    },
    PutIf {
        key: Key,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
        reply: Reply<PutIf>,
    },
    /// Removes those of the rows that have expired.
    Expire {
        table: &'static str,
        keys: Vec<UserKey>,
        reply: Reply<u64>,
    },
}

impl Job {
    fn size(&self) -> usize {
        match self {
            Self::Write { batches, .. } => batches
                .iter()
                .flat_map(|b| &b.ops)
                .map(|op| match op {
                    Op::Put { sort, value, .. } => sort.len() + value.len() + 64,
                    Op::Delete { .. } | Op::DeletePartition => 64,
                })
                .sum(),
            Self::PutIf { value, .. } => value.len() + 64,
            Self::Expire { keys, .. } => keys.len() * 64,
        }
    }

    fn refuse(self, error: StoreError) {
        match self {
            Self::Write { reply, .. } => drop(reply.send(Err(error))),
            Self::PutIf { reply, .. } => drop(reply.send(Err(error))),
            Self::Expire { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// What is told to a job's caller once the group is durable.
enum Answer {
    Write(Reply<()>),
    PutIf(Reply<PutIf>, PutIf),
    Expire(Reply<u64>, u64),
}

impl Answer {
    fn send(self, outcome: Result<(), StoreError>) {
        match self {
            Self::Write(reply) => drop(reply.send(outcome)),
            Self::PutIf(reply, put_if) => drop(reply.send(outcome.map(|()| put_if))),
            Self::Expire(reply, gone) => drop(reply.send(outcome.map(|()| gone))),
        }
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    leading: bool,
}

/// The rows that a group changes, by table; the last change of a row counts. (The engine gives all
/// changes of one batch the same place in time, so a row may be in it only once.)
#[derive(Default)]
struct Pending(BTreeMap<&'static str, (Keyspace, Rows)>);

impl Pending {
    fn rows(
        &mut self,
        tables: &Tables,
        name: &'static str,
    ) -> Result<&mut (Keyspace, Rows), StoreError> {
        use std::collections::btree_map::Entry;
        Ok(match self.0.entry(name) {
            Entry::Occupied(e) => e.into_mut(),
            Entry::Vacant(e) => e.insert((tables.get(name)?, BTreeMap::new())),
        })
    }
}

/// The committer. Shared by the store's callers and the blocking thread that commits.
pub(crate) struct Committer {
    db: Database,
    tables: Arc<Tables>,
    clock: Arc<dyn Clock>,
    folder: std::path::PathBuf,
    reserve: u64,
    queue: Mutex<Queue>,
    /// Why writes are refused for good.
    broken: Mutex<Option<StoreError>>,
    /// The time of the last commit, for the compaction filter.
    pub(crate) seen_now: Arc<AtomicI64>,
    pub(crate) jobs: Counter,
    pub(crate) groups: Counter,
}

impl Committer {
    pub(crate) fn new(
        db: Database,
        tables: Arc<Tables>,
        clock: Arc<dyn Clock>,
        folder: std::path::PathBuf,
        reserve: u64,
        seen_now: Arc<AtomicI64>,
    ) -> Self {
        Self {
            db,
            tables,
            clock,
            folder,
            reserve,
            queue: Mutex::default(),
            broken: Mutex::default(),
            seen_now,
            jobs: Counter::new(
                "tandem.store.writes",
                "{write}",
                "writes asked of the store",
                &[],
            ),
            groups: Counter::new("tandem.store.syncs", "{sync}", "fsyncs of the store", &[]),
        }
    }

    /// Why nothing can be written, if so.
    pub(crate) fn healthy(&self) -> Result<(), StoreError> {
        if let Some(error) = self.broken.lock().as_ref() {
            return Err(error.clone());
        }
        self.check_room()
    }

    /// Queues a job. True: nobody is committing, and the caller must have [`Committer::drain`] run.
    #[must_use]
    pub(crate) fn queue(&self, job: Job) -> bool {
        let mut queue = self.queue.lock();
        queue.jobs.push_back(job);
        !std::mem::replace(&mut queue.leading, true)
    }

    /// Nobody will commit what is queued: refuses it.
    pub(crate) fn abandon(&self) {
        let jobs = {
            let mut queue = self.queue.lock();
            queue.leading = false;
            std::mem::take(&mut queue.jobs)
        };
        for job in jobs {
            job.refuse(StoreError::Closed);
        }
    }

    /// Commits until nothing is queued.
    pub(crate) fn drain(&self) {
        struct Unwound<'a>(&'a Committer);
        impl Drop for Unwound<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.abandon();
                }
            }
        }
        let _unwound = Unwound(self);
        while let Some(group) = self.next_group() {
            self.commit_group(group);
        }
    }

    fn next_group(&self) -> Option<Vec<Job>> {
        let mut queue = self.queue.lock();
        let mut size = 0;
        let mut group = Vec::new();
        while size < GROUP_BYTES
            && let Some(job) = queue.jobs.pop_front()
        {
            size += job.size();
            group.push(job);
        }
        if group.is_empty() {
            queue.leading = false;
            return None;
        }
        Some(group)
    }

    fn commit_group(&self, group: Vec<Job>) {
        self.jobs.add(group.len() as u64);
        if let Err(error) = self.healthy() {
            for job in group {
                job.refuse(error.clone());
            }
            return;
        }
        let now = self.clock.unix();
        self.seen_now.store(now.0, Ordering::Relaxed);
        let mut pending = Pending::default();
        let mut answers = Vec::with_capacity(group.len());
        let mut outcome = Ok(());
        for job in group {
            let (answer, applied) = self.apply(job, &mut pending, now);
            answers.push(answer);
            outcome = outcome.and(applied);
        }
        let outcome = outcome.and_then(|()| self.persist(pending));
        for answer in answers {
            answer.send(outcome.clone());
        }
    }

    fn persist(&self, pending: Pending) -> Result<(), StoreError> {
        let rows = pending.0.values().map(|(_, rows)| rows.len()).sum();
        if rows == 0 {
            return Ok(());
        }
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), rows)
            .durability(Some(PersistMode::SyncData));
        for (keyspace, rows) in pending.0.into_values() {
            for (key, value) in rows {
                match value {
                    Some(value) => batch.insert(&keyspace, key, value),
                    None => batch.remove(&keyspace, key),
                }
            }
        }
        self.groups.add(1);
        batch.commit().map_err(|e| {
            // whether the group is in the journal is not known, so no later one may follow it
            let error = failed(&self.folder, &e);
            tracing::error!(folder = %self.folder.display(), %error, "store takes no more writes until it is opened again");
            self.broken.lock().get_or_insert(error).clone()
        })
    }

    fn apply(
        &self,
        job: Job,
        pending: &mut Pending,
        now: UnixMillis,
    ) -> (Answer, Result<(), StoreError>) {
        match job {
            Job::Write { batches, reply } => {
                let applied = batches
                    .iter()
                    .try_for_each(|batch| self.changes(pending, batch.table.0, now)?.batch(batch));
                (Answer::Write(reply), applied)
            }
            Job::PutIf {
                key,
                expected,
                value,
                ttl,
                reply,
            } => {
                let put_if = self
                    .changes(pending, key.table.0, now)
                    .and_then(|mut c| c.put_if(&key, expected.as_ref(), &value, ttl));
                match put_if {
                    Ok(put_if) => (Answer::PutIf(reply, put_if), Ok(())),
                    Err(e) => (Answer::PutIf(reply, PutIf::Otherwise(None)), Err(e)),
                }
            }
            Job::Expire { table, keys, reply } => {
                let gone = self
                    .changes(pending, table, now)
                    .and_then(|mut c| c.expire(keys));
                match gone {
                    Ok(gone) => (Answer::Expire(reply, gone), Ok(())),
                    Err(e) => (Answer::Expire(reply, 0), Err(e)),
                }
            }
        }
    }

    /// The changes of the group to one table.
    fn changes<'a>(
        &'a self,
        pending: &'a mut Pending,
        table: &'static str,
        now: UnixMillis,
    ) -> Result<Changes<'a>, StoreError> {
        let (keyspace, rows) = pending.rows(&self.tables, table)?;
        Ok(Changes {
            keyspace,
            rows,
            folder: &self.folder,
            now,
        })
    }

    /// A write that found the disk full would leave the engine in doubt, so it is not begun.
    fn check_room(&self) -> Result<(), StoreError> {
        let free = fs4::available_space(&self.folder)
            .map_err(|e| StoreError::Unavailable(format!("{}: {e}", self.folder.display())))?;
        if free < self.reserve {
            return Err(StoreError::Unavailable(format!(
                "{}: {} MiB free, {} MiB must stay free",
                self.folder.display(),
                free >> 20,
                self.reserve >> 20
            )));
        }
        Ok(())
    }
}
