//! The one writer: takes all that is queued, writes it with one fsync, answers, wakes readers.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use futures::{FutureExt, future::BoxFuture};
use tandem_chassis::Lifecycle;
use tandem_kernel::{Place, UnixMillis};
use tandem_log::{Appended, LogError, Record, Stored};
use tokio::{sync::oneshot, time::Sleep};

use crate::{
    Inner,
    codec::{self, EntryBuilder},
    topic::Topic,
};

/// Most of one group. A group is answered as a whole, so this bounds how long its first waits.
const GROUP_RECORDS: usize = 8192;
const GROUP_BYTES: usize = 16 << 20;
/// Most of one entry, as reading any of its records reads it whole.
const ENTRY_RECORDS: usize = 1024;
const ENTRY_BYTES: usize = 256 << 10;

type Answers = Vec<Result<Appended, LogError>>;

/// What waits to be written.
#[derive(Default)]
pub struct Queue {
    appends: VecDeque<Append>,
    bytes: usize,
    /// No more are taken.
    pub closing: bool,
}

struct Append {
    topic: Arc<Topic>,
    records: Vec<(u32, Record)>,
    bytes: usize,
    /// Records that were taken out, by their place among all.
    refused: Vec<(usize, LogError)>,
    answer: oneshot::Sender<Answers>,
}

/// Queues records, in the order of the calls.
pub fn append(
    inner: &Inner,
    topic: &str,
    mut records: Vec<(u32, Record)>,
) -> BoxFuture<'static, Answers> {
    let count = records.len();
    let refuse = |error: LogError| {
        inner.counts.failed.add(count as u64);
        std::future::ready(vec![Err(error); count]).boxed()
    };
    let topic = match inner.topic(topic) {
        Ok(topic) => topic,
        Err(error) => return refuse(error),
    };
    if count == 0 {
        return std::future::ready(Vec::new()).boxed();
    }
    let mut refused = Vec::new();
    let (mut bytes, mut index) = (0, 0);
    records.retain(|(partition, record)| {
        let size = codec::size(record);
        let wrong = if *partition >= topic.partitions() {
            Some(LogError::NoTopic(format!("{}/{partition}", topic.name)))
        } else if size > inner.options.max_record_bytes || too_many_headers(record) {
            Some(LogError::TooLarge(size))
        } else {
            None
        };
        let fine = wrong.is_none();
        if let Some(error) = wrong {
            refused.push((index, error));
        } else {
            bytes += size;
        }
        index += 1;
        fine
    });
    inner.counts.failed.add(refused.len() as u64);
    let (answer, answered) = oneshot::channel();
    {
        let mut queue = inner.queue.lock();
        if queue.closing {
            drop(queue);
            return refuse(LogError::Closed);
        }
        if queue.bytes + bytes > inner.options.max_queued_bytes {
            drop(queue);
            return refuse(LogError::Unavailable(
                "too much is waiting to be written".into(),
            ));
        }
        queue.bytes += bytes;
        queue.appends.push_back(Append {
            topic,
            records,
            bytes,
            refused,
            answer,
        });
    }
    inner.wake.notify_one();
    async move {
        answered
            .await
            .unwrap_or_else(|_| vec![Err(LogError::Closed); count])
    }
    .boxed()
}

/// What the entry's fixed widths cannot hold.
fn too_many_headers(record: &Record) -> bool {
    record.headers.len() > usize::from(u16::MAX)
        || record
            .headers
            .iter()
            .any(|(name, _)| name.len() > usize::from(u16::MAX))
}

/// The task that writes.
pub struct Committer {
    inner: Arc<Inner>,
    lifecycle: Lifecycle,
    /// The lifecycle knows that the disk has failed.
    told: bool,
}

impl Committer {
    /// The committer of this log.
    pub fn new(inner: Arc<Inner>, lifecycle: Lifecycle) -> Self {
        Self {
            inner,
            lifecycle,
            told: false,
        }
    }

    /// Writes until the log is closed and all that was queued is written.
    pub async fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        let mut flush: Option<Pin<Box<Sleep>>> = None;
        loop {
            let (idle, closing) = {
                let queue = inner.queue.lock();
                (queue.appends.is_empty(), queue.closing)
            };
            let dirty = !inner.dirty.lock().is_empty();
            if !idle || (closing && dirty) {
                flush = None;
                if !self.write().await {
                    return;
                }
            } else if closing {
                return;
            } else if dirty {
                let delay = inner.options.commit_delay;
                let timer = flush.get_or_insert_with(|| Box::pin(tokio::time::sleep(delay)));
                tokio::select! {
                    () = timer => {
                        flush = None;
                        if !self.write().await {
                            return;
                        }
                    }
                    () = inner.wake.notified() => {}
                }
            } else {
                flush = None;
                inner.wake.notified().await;
            }
        }
    }

    /// Writes what is queued, and what is queued meanwhile. False if nothing can be written any more
    /// and nobody is left to be told so.
    async fn write(&mut self) -> bool {
        let inner = Arc::clone(&self.inner);
        let done = self
            .inner
            .doors
            .threads
            .run(move || inner.write_all())
            .await;
        let (failed, more) = match done {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => (error, true),
            Err(error) => (LogError::Unavailable(error.to_string()), false),
        };
        self.inner.set_broken();
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!(error = %failed, "log cannot be written any more");
            self.lifecycle.fail(failed.to_string());
        }
        more
    }
}

impl Drop for Committer {
    /// However it ends: nobody waits for it any more.
    fn drop(&mut self) {
        let left = {
            let mut queue = self.inner.queue.lock();
            queue.closing = true;
            std::mem::take(&mut queue.appends)
        };
        drop(left);
        self.inner.ended.store(true, Ordering::Release);
        self.inner.has_ended.notify_waiters();
        for topic in self.inner.all_topics() {
            topic.wake_readers();
        }
    }
}

impl Inner {
    fn take_group(&self) -> Vec<Append> {
        let mut queue = self.queue.lock();
        let (mut records, mut bytes, mut group) = (0, 0, Vec::new());
        while let Some(next) = queue.appends.front() {
            if !group.is_empty()
                && (records + next.records.len() > GROUP_RECORDS
                    || bytes + next.bytes > GROUP_BYTES)
            {
                break;
            }
            let Some(next) = queue.appends.pop_front() else {
                break;
            };
            (records, bytes) = (records + next.records.len(), bytes + next.bytes);
            queue.bytes -= next.bytes;
            group.push(next);
        }
        group
    }

    /// Writes groups until nothing is queued. An error means that the disk can take no more.
    fn write_all(&self) -> Result<(), LogError> {
        loop {
            let group = self.take_group();
            let commits = std::mem::take(&mut *self.dirty.lock());
            if group.is_empty() && commits.is_empty() {
                return Ok(());
            }
            self.write_group(group, &commits)?;
        }
    }

    fn write_group(
        &self,
        group: Vec<Append>,
        commits: &BTreeMap<crate::disk::CommitKey, u64>,
    ) -> Result<(), LogError> {
        let refused = self.refusal(&group);
        let now = self.doors.clock.unix();
        let mut stages: BTreeMap<(u32, u32), Stage> = BTreeMap::new();
        let mut answers = Vec::with_capacity(group.len());
        self.counts
            .appends
            .fetch_add(group.len() as u64, Ordering::Relaxed);
        for append in group {
            let mut results: Answers = Vec::with_capacity(append.records.len());
            for (partition, record) in append.records {
                results.push(match &refused {
                    Some(error) => Err(error.clone()),
                    None => Ok(stages
                        .entry((append.topic.id, partition))
                        .or_insert_with(|| Stage::begin(&append.topic, partition, now))
                        .add(record)),
                });
            }
            for (index, error) in append.refused {
                results.insert(index, Err(error));
            }
            answers.push((append.answer, results));
        }
        let mut entries = Vec::with_capacity(stages.len());
        let (mut records, mut bytes) = (0, 0);
        for stage in stages.values_mut() {
            stage.close_entry();
            records += stage.records.len();
            entries.append(&mut stage.entries);
        }
        bytes += entries.iter().map(|(_, e)| e.len() as u64).sum::<u64>();
        let written = match self.disk() {
            Ok(_) if entries.is_empty() && commits.is_empty() => Ok(()),
            Ok(disk) => disk.write(entries, commits),
            Err(error) => Err(error),
        };
        if let Err(error) = &written {
            self.set_broken();
            self.counts.failed.add(records as u64);
            for (_, results) in &mut answers {
                for result in results.iter_mut().filter(|r| r.is_ok()) {
                    *result = Err(error.clone());
                }
            }
        } else if records > 0 {
            self.counts.groups.add(1);
            self.counts.records.add(records as u64);
            self.counts.bytes.add(bytes);
            self.publish(stages);
        }
        for (answer, results) in answers {
            // whoever asked may be gone; the records are there all the same
            let _ = answer.send(results);
        }
        written
    }

    fn set_broken(&self) {
        self.broken.store(true, Ordering::Release);
        self.counts.healthy.set(0);
    }

    /// Why nothing can be appended at the moment, without the disk having failed.
    fn refusal(&self, group: &[Append]) -> Option<LogError> {
        if group.is_empty() {
            return None;
        }
        let free = self.disk().and_then(|disk| disk.free());
        let reserve = self.reserve.load(Ordering::Relaxed);
        let error = match free {
            Ok(free) if free >= reserve => return None,
            Ok(free) => LogError::Unavailable(format!(
                "disk full: {free} bytes are free, and {reserve} are kept in reserve"
            )),
            Err(error) => error,
        };
        self.counts
            .failed
            .add(group.iter().map(|a| a.records.len() as u64).sum());
        Some(error)
    }

    fn publish(&self, stages: BTreeMap<(u32, u32), Stage>) {
        let mut last: Option<Arc<Topic>> = None;
        for stage in stages.into_values() {
            if let Some(tail) = stage.topic.tails.get(stage.partition as usize) {
                let keep = self.options.tail_bytes;
                tail.lock()
                    .extend(stage.records, stage.next, stage.at, stage.total, keep);
            }
            if let Some(topic) = last.replace(stage.topic)
                && last.as_ref().is_some_and(|l| l.id != topic.id)
            {
                topic.wake_readers();
            }
        }
        if let Some(topic) = last {
            topic.wake_readers();
        }
    }
}

/// What a group adds to a partition.
struct Stage {
    topic: Arc<Topic>,
    partition: u32,
    at: UnixMillis,
    next: u64,
    total: u64,
    open: Option<EntryBuilder>,
    entries: Vec<([u8; codec::KEY], Vec<u8>)>,
    records: Vec<Stored>,
}

impl Stage {
    fn begin(topic: &Arc<Topic>, partition: u32, now: UnixMillis) -> Self {
        let (next, at, total) = topic.tails.get(partition as usize).map_or_else(
            || (0, now, 0),
            |tail| {
                let tail = tail.lock();
                (tail.end, tail.at.max(now), tail.total)
            },
        );
        let topic = Arc::clone(topic);
        let (entries, records) = (Vec::new(), Vec::new());
        Self {
            topic,
            partition,
            at,
            next,
            total,
            open: None,
            entries,
            records,
        }
    }

    fn add(&mut self, record: Record) -> Appended {
        if self
            .open
            .as_ref()
            .is_some_and(|e| e.len() >= ENTRY_RECORDS || e.size() >= ENTRY_BYTES)
        {
            self.close_entry();
        }
        let place = Place {
            partition: self.partition,
            offset: self.next,
        };
        let entry = self
            .open
            .get_or_insert_with(|| EntryBuilder::new(place.offset));
        entry.push(place.offset, &record);
        self.next += 1;
        self.total += codec::weight(&record);
        self.records.push(Stored {
            place,
            at: self.at,
            record,
        });
        Appended { place, at: self.at }
    }

    fn close_entry(&mut self) {
        if let Some(entry) = self.open.take() {
            let key = codec::entry_key(self.topic.id, self.partition, entry.base());
            self.entries
                .push((key, entry.finish(self.at, self.total, self.next)));
        }
    }
}
