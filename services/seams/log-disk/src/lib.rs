//! The log on disk: durable, grouped fsyncs, for one process.
//!
//! Appends queue in the order of the calls; one committer takes all that is queued, writes it as one
//! batch with one fsync, and answers. Groups form by themselves while the previous fsync runs.
//! Readers that have caught up read from memory.

mod codec;
mod committer;
mod disk;
mod group;
mod journal;
mod meta;
mod options;
mod reader;
mod retention;
mod tail;
mod topic;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tandem_chassis::{
    Doors, Lifecycle,
    lifecycle::OnEnd,
    metrics::{Counter, Gauge},
};
use tandem_log::{Appended, Log, LogError, Reader, Record, Start, Stored, TopicSpec};
use tokio::sync::Notify;

pub use crate::options::{Options, Stats};
use crate::{
    committer::{Committer, Queue},
    disk::{CommitKey, Disk},
    reader::DiskReader,
    topic::Topic,
};

/// The log in one folder of this machine.
///
/// [`DiskLog::close`] it, or drop it and its readers, to free the folder.
pub struct DiskLog(Arc<Inner>);

impl fmt::Debug for DiskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskLog")
    }
}

pub(crate) struct Inner {
    doors: Doors,
    options: Options,
    /// Gone once closed.
    disk: RwLock<Option<Arc<Disk>>>,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// Held while a topic is made or changed.
    making: tokio::sync::Mutex<()>,
    queue: Mutex<Queue>,
    /// The committer's.
    wake: Notify,
    /// Commits that are not on disk yet.
    dirty: Mutex<BTreeMap<CommitKey, u64>>,
    /// The committer has ended.
    ended: AtomicBool,
    has_ended: Notify,
    broken: AtomicBool,
    reserve: AtomicU64,
    counts: Counts,
}

struct Counts {
    appends: AtomicU64,
    records: Counter,
    groups: Counter,
    bytes: Counter,
    failed: Counter,
    healthy: Gauge,
}

impl DiskLog {
    /// Opens the log in folder `path`, making it if need be. Fails at once, and says so, if another
    /// process has it. What was acknowledged before is there; a torn end is cut off.
    ///
    /// The committer runs in `lifecycle` through its soft stop, until [`DiskLog::close`], the drop of
    /// the log, or the hard stop; so that it can serve those who drain, close it after them.
    pub async fn open(
        path: &Path,
        doors: Doors,
        options: Options,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, LogError> {
        let (path, opening) = (path.to_owned(), options.clone());
        let opened = doors.threads.run(move || {
            let disk = Disk::open(&path, &opening)?;
            let topics = disk.load()?;
            Ok((disk, topics))
        });
        let (disk, found) = opened
            .await
            .map_err(|e| LogError::Unavailable(e.to_string()))
            .flatten()?;
        let topics = found
            .into_iter()
            .map(|f| (f.name.clone(), Arc::new(Topic::found(f))))
            .collect();
        let counts = Counts::new();
        counts.healthy.set(1);
        let inner = Arc::new(Inner {
            reserve: AtomicU64::new(options.reserve_bytes),
            doors,
            disk: RwLock::new(Some(Arc::new(disk))),
            topics: RwLock::new(topics),
            making: tokio::sync::Mutex::default(),
            queue: Mutex::default(),
            wake: Notify::new(),
            dirty: Mutex::default(),
            ended: AtomicBool::new(false),
            has_ended: Notify::new(),
            broken: AtomicBool::new(false),
            counts,
            options,
        });
        let committer = Committer::new(Arc::clone(&inner), lifecycle.clone());
        lifecycle.spawn("log committer", OnEnd::Fine, committer.run());
        if let Some(every) = inner.options.retention_every {
            let weak = Arc::downgrade(&inner);
            let stopping = lifecycle.clone();
            lifecycle.spawn("log retention", OnEnd::Fine, async move {
                tokio::select! {
                    () = stopping.stopped() => {}
                    () = retention::keep_running(weak, every) => {}
                }
            });
        }
        Ok(Arc::new(Self(inner)))
    }

    /// Takes no more appends, answers those that are queued, makes commits durable, and frees the folder.
    /// Readers end with [`LogError::Closed`].
    pub async fn close(&self) {
        self.0.begin_close();
        loop {
            let ended = self.0.has_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.0.ended.load(Ordering::Acquire) {
                break;
            }
            ended.await;
        }
        let Some(mut disk) = self.0.disk.write().take() else {
            return;
        };
        // a read that is under way has it for a moment longer
        let disk = loop {
            match Arc::try_unwrap(disk) {
                Ok(disk) => break disk,
                Err(shared) => disk = shared,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let _ = self.0.doors.threads.run(move || drop(disk)).await;
    }

    /// False once the disk has failed: nothing can be appended any more, and the process should stop.
    /// (The lifecycle is told so, too.) Never true again.
    pub fn healthy(&self) -> bool {
        !self.0.broken.load(Ordering::Acquire)
    }

    /// Counts since it was opened.
    pub fn stats(&self) -> Stats {
        let counts = &self.0.counts;
        Stats {
            appends: counts.appends.load(Ordering::Relaxed),
            records: counts.records.get(),
            groups: counts.groups.get(),
            bytes: counts.bytes.get(),
        }
    }

    /// Appends fail with [`LogError::Unavailable`] while less than this is free on the disk.
    pub fn set_reserve(&self, bytes: u64) {
        self.0.reserve.store(bytes, Ordering::Relaxed);
    }

    /// Forgets now what the topics' retention lets it forget.
    pub async fn retain_now(&self) -> Result<(), LogError> {
        retention::run(&self.0, true).await
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        self.0.begin_close();
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            appends: AtomicU64::new(0),
            records: Counter::new("tandem.log.records", "{record}", "records appended", &[]),
            groups: Counter::new(
                "tandem.log.groups",
                "{fsync}",
                "groups of appends, each one fsync",
                &[],
            ),
            bytes: Counter::new("tandem.log.bytes", "By", "bytes appended", &[]),
            failed: Counter::new(
                "tandem.log.failed",
                "{record}",
                "records refused or failed",
                &[],
            ),
            healthy: Gauge::new(
                "tandem.log.healthy",
                "1",
                "1 while the disk takes appends",
                &[],
            ),
        }
    }
}

impl Inner {
    fn begin_close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        let topics = self.topics.read();
        topics
            .get(name)
            .cloned()
            .ok_or_else(|| LogError::NoTopic(name.to_owned()))
    }

    fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    fn disk(&self) -> Result<Arc<Disk>, LogError> {
        self.disk.read().clone().ok_or(LogError::Closed)
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Runs what blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let disk = self.disk()?;
        let done = self.doors.threads.run(move || work(&disk)).await;
        done.map_err(|e| LogError::Unavailable(e.to_string()))
            .flatten()
    }
}

fn valid_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

#[async_trait]
impl Log for DiskLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let mismatch = |why: String| LogError::Mismatch(spec.name.clone(), why);
        if !valid_name(&spec.name) {
            return Err(mismatch("a name is [a-z0-9._-]{1,249}".into()));
        }
        if spec.partitions == 0 {
            return Err(mismatch("a topic has at least one partition".into()));
        }
        let _making = self.0.making.lock().await;
        let there = self.0.topics.read().get(&spec.name).cloned();
        let id = if let Some(topic) = &there {
            let partitions = topic.partitions();
            if partitions != spec.partitions {
                return Err(mismatch(format!("it has {partitions} partitions")));
            }
            if *topic.retention.lock() == spec.retention {
                return Ok(());
            }
            topic.id
        } else {
            self.0
                .topics
                .read()
                .values()
                .map(|t| t.id + 1)
                .max()
                .unwrap_or(1)
        };
        let put = spec.clone();
        let write = self
            .0
            .blocking(move |disk| disk.put_topic(&put.name, id, put.partitions, &put.retention));
        write.await?;
        if let Some(topic) = there {
            *topic.retention.lock() = spec.retention.clone();
        } else {
            let topic = Arc::new(Topic::new(id, spec));
            self.0.topics.write().insert(spec.name.clone(), topic);
        }
        Ok(())
    }

    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        Ok(self.0.topic(topic)?.partitions())
    }

    fn append(
        &self,
        topic: &str,
        records: Vec<(u32, Record)>,
    ) -> BoxFuture<'static, Vec<Result<Appended, LogError>>> {
        committer::append(&self.0, topic, records)
    }

    async fn end_offsets(&self, topic: &str) -> Result<Vec<u64>, LogError> {
        Ok(self
            .0
            .topic(topic)?
            .tails
            .iter()
            .map(|t| t.lock().end)
            .collect())
    }

    async fn committed(&self, topic: &str, group: &str) -> Result<Vec<Option<u64>>, LogError> {
        let topic = self.0.topic(topic)?;
        let group = topic.groups.lock().get(group).cloned();
        Ok(group.map_or_else(|| vec![None; topic.tails.len()], |g| g.lock().committed()))
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, LogError> {
        let topic = self.0.topic(topic)?;
        topic.tail(partition)?;
        reader::read(&self.0, &topic, partition, from, limit).await
    }

    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
        start: Start,
    ) -> Result<Box<dyn Reader>, LogError> {
        let topic = self.0.topic(topic)?;
        Ok(Box::new(DiskReader::member(
            Arc::clone(&self.0),
            topic,
            group,
            start,
        )))
    }

    async fn follow(&self, topic: &str, start: Start) -> Result<Box<dyn Reader>, LogError> {
        let topic = self.0.topic(topic)?;
        Ok(Box::new(DiskReader::follower(
            Arc::clone(&self.0),
            topic,
            start,
        )))
    }
}
