//! One consumer: a member of a group, or of none. Its commits, and its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaResult, RDKafkaErrorCode as Code},
};
use tandem_chassis::Doors;
use tokio::sync::{Notify, mpsc};

use crate::{
    context::{Change, Context},
    metrics::Lags,
};

/// How long places gather until they are committed together.
const GATHER: Duration = Duration::from_millis(100);
/// How long a commit that failed waits to be tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A consumer of one topic.
pub struct Member {
    pub consumer: BaseConsumer<Context>,
    pub topic: Arc<str>,
    pub group: Arc<str>,
    /// There may be something to poll.
    pub wake: Arc<Notify>,
    lags: Arc<Lags>,
    /// Places to be committed.
    dirty: Mutex<BTreeMap<u32, u64>>,
    /// Held during a commit: places go up in the order in which they were handed in.
    committing: Mutex<()>,
    dirtied: Notify,
    /// What this member reads.
    owned: Mutex<BTreeSet<u32>>,
    gone: AtomicBool,
    going: Notify,
    /// The log's close waits until all of these are dropped.
    _alive: mpsc::Sender<()>,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Committed {
    Yes,
    /// The partitions are another member's: no use in trying again.
    NotOurs,
    NotYet,
}

impl Member {
    pub fn new(
        config: &ClientConfig,
        topic: Arc<str>,
        group: Arc<str>,
        lags: Arc<Lags>,
        alive: mpsc::Sender<()>,
    ) -> KafkaResult<Self> {
        let mut consumer: BaseConsumer<Context> = config.create_with_context(Context::default())?;
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        consumer.set_nonempty_callback(move || waker.notify_one());
        Ok(Self {
            consumer,
            topic,
            group,
            wake,
            lags,
            dirty: Mutex::default(),
            committing: Mutex::default(),
            dirtied: Notify::new(),
            owned: Mutex::default(),
            going: Notify::new(),
            gone: AtomicBool::new(false),
            _alive: alive,
        })
    }

    pub fn context(&self) -> &Context {
        self.consumer.context()
    }

    /// These partitions of the topic, for librdkafka.
    pub fn list(&self, partitions: impl IntoIterator<Item = (u32, Offset)>) -> TopicPartitionList {
        list(&self.topic, partitions)
    }

    /// The place is to be committed soon.
    pub fn commit(&self, partition: u32, offset: u64) {
        self.dirty.lock().insert(partition, offset);
        self.dirtied.notify_one();
    }

    /// These are another's: what was not committed of them is not any more.
    pub fn forget(&self, partitions: &[u32]) {
        self.dirty.lock().retain(|p, _| !partitions.contains(p));
        for partition in partitions {
            self.owned.lock().remove(partition);
            self.lags.gone(&self.topic, &self.group, *partition);
        }
    }

    /// The member reads the partition from there on.
    pub fn began(&self, partition: u32, offset: u64) {
        self.owned.lock().insert(partition);
        self.lags.at(&self.topic, &self.group, partition, offset);
    }

    /// Commits what is to be. Blocks for a round trip, longer while the group's coordinator cannot be reached.
    pub fn commit_now(&self) {
        self.try_commit();
    }

    fn try_commit(&self) -> Committed {
        let _committing = self.committing.lock();
        let places = std::mem::take(&mut *self.dirty.lock());
        if places.is_empty() {
            return Committed::Yes;
        }
        let list = self.list(places.iter().map(|(p, o)| (*p, offset(*o))));
        let Err(error) = self.consumer.commit(&list, CommitMode::Sync) else {
            let owned = self.owned.lock();
            for (partition, place) in places.into_iter().filter(|(p, _)| owned.contains(p)) {
                self.lags.at(&self.topic, &self.group, partition, place);
            }
            return Committed::Yes;
        };
        let (topic, group) = (&*self.topic, &*self.group);
        if matches!(
            error.rdkafka_error_code(),
            Some(
                Code::UnknownMemberId
                    | Code::IllegalGeneration
                    | Code::FencedMemberEpoch
                    | Code::StaleMemberEpoch
                    | Code::RebalanceInProgress
                    | Code::AssignmentLost
            )
        ) {
            tracing::info!(%error, topic, group, "places were not committed: the partitions are another's");
            return Committed::NotOurs;
        }
        tracing::warn!(%error, topic, group, "places were not committed; trying again");
        let mut dirty = self.dirty.lock();
        for (partition, place) in places {
            dirty.entry(partition).or_insert(place);
        }
        Committed::NotYet
    }

    /// Nobody reads any more: the member is to leave.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::Release);
        self.going.notify_one();
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Commits in the background until the member is to leave; then it leaves.
    pub async fn keep_committing(self: Arc<Self>, doors: Doors) {
        while !self.is_gone() {
            tokio::select! {
                () = self.going.notified() => break,
                () = self.dirtied.notified() => {}
            }
            let member = Arc::clone(&self);
            let Ok(committed) = doors.threads.run(move || member.try_commit()).await else {
                return;
            };
            let pause = match committed {
                Committed::NotYet => AGAIN,
                Committed::Yes | Committed::NotOurs => GATHER,
            };
            if tokio::time::timeout(pause, self.going.notified())
                .await
                .is_ok()
            {
                break;
            }
            if committed == Committed::NotYet {
                self.dirtied.notify_one();
            }
        }
        // it can only fail with the runtime, and then the member leaves where it is dropped
        let _ = doors.threads.run(move || drop(self)).await;
    }
}

impl Drop for Member {
    /// Leaves the group in order, which blocks for some round trips.
    fn drop(&mut self) {
        let unanswered = self.context().leave();
        self.commit_now();
        let owned: Vec<u32> = self.owned.lock().iter().copied().collect();
        self.forget(&owned);
        for change in unanswered {
            let answered = match change {
                Change::Assign(partitions) => {
                    let begin = partitions.into_iter().map(|p| (p, Offset::End));
                    self.consumer.incremental_assign(&self.list(begin))
                }
                Change::Revoke(partitions) => {
                    let lost = partitions.into_iter().map(|p| (p, Offset::Invalid));
                    self.consumer.incremental_unassign(&self.list(lost))
                }
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "the group was not answered while leaving it");
            }
        }
    }
}

/// These partitions of a topic, for librdkafka.
pub fn list(
    topic: &str,
    partitions: impl IntoIterator<Item = (u32, Offset)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        // neither can be out of librdkafka's range: partitions come from it, offsets from `offset`
        if let Ok(partition) = i32::try_from(partition) {
            let _ = list.add_partition_offset(topic, partition, offset);
        }
    }
    list
}

/// An offset, for librdkafka.
pub fn offset(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}
