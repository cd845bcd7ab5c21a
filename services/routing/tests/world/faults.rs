//! A log whose answers get lost, and an ephemeral store that is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tandem_ephemeral::{Ephemeral, EphemeralError, Reach, Renewal, Session, UserStatus};
use tandem_kernel::{Address, EdgeId, SessionId};
use tandem_log::{Appended, Log, LogError, Reader, Record, Start, Stored, TopicSpec};

use super::TOPIC;

/// Appends to the conversations' topic, whose answers are lost as often as told.
pub struct FaultyLog {
    log: Arc<dyn Log>,
    /// Appended, and said to be unavailable.
    pub lose: AtomicUsize,
    /// Not appended, and said to be unavailable.
    pub refuse: AtomicUsize,
    pub appends: AtomicUsize,
}

impl FaultyLog {
    pub fn new(log: Arc<dyn Log>) -> Arc<Self> {
        let zero = AtomicUsize::default;
        Arc::new(Self {
            log,
            lose: zero(),
            refuse: zero(),
            appends: zero(),
        })
    }
}

fn take(count: &AtomicUsize) -> bool {
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok()
}

#[async_trait]
impl Log for FaultyLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        self.log.ensure_topic(spec).await
    }
    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        self.log.partitions(topic).await
    }
    fn append(
        &self,
        topic: &str,
        records: Vec<(u32, Record)>,
    ) -> BoxFuture<'static, Vec<Result<Appended, LogError>>> {
        let count = records.len();
        let lost = move || {
            (0..count)
                .map(|_| Err(LogError::Unavailable("told to".into())))
                .collect()
        };
        if topic == TOPIC {
            self.appends.fetch_add(1, Ordering::SeqCst);
            if take(&self.refuse) {
                return async move { lost() }.boxed();
            }
            if take(&self.lose) {
                let append = self.log.append(topic, records);
                return append.map(move |_| lost()).boxed();
            }
        }
        self.log.append(topic, records)
    }
    async fn end_offsets(&self, topic: &str) -> Result<Vec<u64>, LogError> {
        self.log.end_offsets(topic).await
    }
    async fn committed(&self, topic: &str, group: &str) -> Result<Vec<Option<u64>>, LogError> {
        self.log.committed(topic, group).await
    }
    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, LogError> {
        self.log.read(topic, partition, from, limit).await
    }
    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
        start: Start,
    ) -> Result<Box<dyn Reader>, LogError> {
        self.log.subscribe(topic, group, start).await
    }
    async fn follow(&self, topic: &str, start: Start) -> Result<Box<dyn Reader>, LogError> {
        self.log.follow(topic, start).await
    }
}

/// An ephemeral store that can be away.
pub struct FaultyEphemeral {
    store: Arc<dyn Ephemeral>,
    pub away: AtomicBool,
}

impl FaultyEphemeral {
    pub fn new(store: Arc<dyn Ephemeral>) -> Arc<Self> {
        Arc::new(Self {
            store,
            away: AtomicBool::new(false),
        })
    }

    fn here(&self) -> Result<(), EphemeralError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(EphemeralError::Unavailable("told to".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Ephemeral for FaultyEphemeral {
    async fn renew(&self, edge: &EdgeId, registered: u64) -> Result<Renewal, EphemeralError> {
        self.store.renew(edge, registered).await
    }
    async fn release(&self, edge: &EdgeId) -> Result<(), EphemeralError> {
        self.store.release(edge).await
    }
    async fn put(&self, sessions: &[Session]) -> Result<(), EphemeralError> {
        self.store.put(sessions).await
    }
    async fn remove(
        &self,
        user: &Address,
        session: SessionId,
        at_once: bool,
    ) -> Result<(), EphemeralError> {
        self.store.remove(user, session, at_once).await
    }
    async fn reach(&self, users: &[Address]) -> Result<Vec<Reach>, EphemeralError> {
        self.here()?;
        self.store.reach(users).await
    }
    async fn flag_resync(&self, sessions: &[(Address, SessionId)]) -> Result<(), EphemeralError> {
        self.here()?;
        self.store.flag_resync(sessions).await
    }
    async fn clear_resync(&self, user: &Address, session: SessionId) -> Result<(), EphemeralError> {
        self.store.clear_resync(user, session).await
    }
    async fn statuses(&self, users: &[Address]) -> Result<Vec<Option<UserStatus>>, EphemeralError> {
        self.store.statuses(users).await
    }
    async fn settle(
        &self,
        users: &[Address],
    ) -> Result<Vec<(Address, UserStatus)>, EphemeralError> {
        self.store.settle(users).await
    }
    async fn renumber(&self, users: &[Address]) -> Result<Vec<Option<UserStatus>>, EphemeralError> {
        self.store.renumber(users).await
    }
    async fn due(&self, limit: usize) -> Result<Vec<Address>, EphemeralError> {
        self.store.due(limit).await
    }
    async fn settled(&self) -> Result<bool, EphemeralError> {
        self.store.settled().await
    }
    async fn mark(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), EphemeralError> {
        self.store.mark(key, value, ttl).await
    }
    async fn take_marks(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, EphemeralError> {
        self.store.take_marks(keys).await
    }
}
