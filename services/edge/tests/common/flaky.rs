//! An ephemeral store whose answers can get lost.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tandem_ephemeral::{Ephemeral, EphemeralError, Reach, Renewal, Session, UserStatus};
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_kernel::{Address, EdgeId, SessionId};

type Answer<T> = Result<T, EphemeralError>;

/// Does everything, and sometimes says that it did not.
pub struct Flaky {
    store: Arc<MemoryEphemeral>,
    /// So many renewals, and clearings of a flag, are done without an answer.
    pub renewals: AtomicUsize,
    pub clearings: AtomicUsize,
    /// So many registrations have no answer, and are done seconds later.
    pub late: AtomicUsize,
}

fn lose<T>(count: &AtomicUsize, answer: Answer<T>) -> Answer<T> {
    let less = |n: usize| n.checked_sub(1);
    match count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
        Ok(_) => Err(EphemeralError::Unavailable("lost".into())),
        Err(_) => answer,
    }
}

impl Flaky {
    pub fn new(store: Arc<MemoryEphemeral>) -> Arc<Self> {
        Arc::new(Self {
            store,
            renewals: AtomicUsize::new(0),
            clearings: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl Ephemeral for Flaky {
    async fn renew(&self, edge: &EdgeId, registered: u64) -> Answer<Renewal> {
        lose(&self.renewals, self.store.renew(edge, registered).await)
    }
    async fn release(&self, edge: &EdgeId) -> Answer<()> {
        self.store.release(edge).await
    }
    async fn put(&self, sessions: &[Session]) -> Answer<()> {
        let answer = lose(&self.late, Ok(()));
        if answer.is_err() {
            let (store, sessions) = (Arc::clone(&self.store), sessions.to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_secs(3)).await;
                store.put(&sessions).await
            });
            return answer;
        }
        self.store.put(sessions).await
    }
    async fn remove(&self, user: &Address, session: SessionId, at_once: bool) -> Answer<()> {
        self.store.remove(user, session, at_once).await
    }
    async fn reach(&self, users: &[Address]) -> Answer<Vec<Reach>> {
        self.store.reach(users).await
    }
    async fn flag_resync(&self, sessions: &[(Address, SessionId)]) -> Answer<()> {
        self.store.flag_resync(sessions).await
    }
    async fn clear_resync(&self, user: &Address, session: SessionId) -> Answer<()> {
        let done = self.store.clear_resync(user, session).await;
        lose(&self.clearings, done)
    }
    async fn statuses(&self, users: &[Address]) -> Answer<Vec<Option<UserStatus>>> {
        self.store.statuses(users).await
    }
    async fn settle(&self, users: &[Address]) -> Answer<Vec<(Address, UserStatus)>> {
        self.store.settle(users).await
    }
    async fn renumber(&self, users: &[Address]) -> Answer<Vec<Option<UserStatus>>> {
        self.store.renumber(users).await
    }
    async fn due(&self, limit: usize) -> Answer<Vec<Address>> {
        self.store.due(limit).await
    }
    async fn settled(&self) -> Answer<bool> {
        self.store.settled().await
    }
    async fn mark(&self, key: &str, value: Bytes, ttl: std::time::Duration) -> Answer<()> {
        self.store.mark(key, value, ttl).await
    }
    async fn take_marks(&self, keys: &[String]) -> Answer<Vec<Option<Bytes>>> {
        self.store.take_marks(keys).await
    }
}
