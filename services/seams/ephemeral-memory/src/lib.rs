//! The ephemeral store in memory, for one process.
//!
//! One lock holds everything but the marks; lookups take it shared. Times are milliseconds of the
//! doors' monotonic clock.

mod marks;
mod state;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tandem_chassis::Doors;
use tandem_ephemeral::{Ephemeral, EphemeralError, Reach, Renewal, Session, UserStatus};
use tandem_kernel::{Address, EdgeId, SessionId};

use crate::{marks::Marks, state::State};

/// The store. Dropped, everything in it is gone.
pub struct MemoryEphemeral {
    doors: Doors,
    state: RwLock<State>,
    marks: Mutex<Marks>,
}

impl std::fmt::Debug for MemoryEphemeral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryEphemeral")
    }
}

impl MemoryEphemeral {
    /// An empty store in a new epoch.
    pub fn new(doors: Doors) -> Arc<Self> {
        let state = State::new(&doors, 0);
        Arc::new(Self {
            doors,
            state: RwLock::new(state),
            marks: Mutex::default(),
        })
    }

    /// Empties the store, as a lost Redis would be: everything is gone, a new epoch begins.
    pub fn empty(&self) {
        let mut state = self.state.write();
        let versions = state.next_version();
        *state = State::new(&self.doors, versions);
        *self.marks.lock() = Marks::default();
    }

    fn now(&self) -> u64 {
        millis(self.doors.clock.monotonic())
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Ephemeral for MemoryEphemeral {
    async fn renew(&self, edge: &EdgeId, registered: u64) -> Result<Renewal, EphemeralError> {
        Ok(self.state.write().renew(edge, registered, self.now()))
    }

    async fn release(&self, edge: &EdgeId) -> Result<(), EphemeralError> {
        self.state.write().release(edge, self.now());
        Ok(())
    }

    async fn put(&self, sessions: &[Session]) -> Result<(), EphemeralError> {
        let mut state = self.state.write();
        let now = self.now();
        for session in sessions {
            state.put(session, now);
        }
        Ok(())
    }

    async fn remove(
        &self,
        user: &Address,
        session: SessionId,
        at_once: bool,
    ) -> Result<(), EphemeralError> {
        self.state
            .write()
            .remove(user, session, at_once, self.now());
        Ok(())
    }

    async fn reach(&self, users: &[Address]) -> Result<Vec<Reach>, EphemeralError> {
        let state = self.state.read();
        let now = self.now();
        Ok(users.iter().map(|u| state.reach(u, now)).collect())
    }

    async fn flag_resync(&self, sessions: &[(Address, SessionId)]) -> Result<(), EphemeralError> {
        let mut state = self.state.write();
        for (user, session) in sessions {
            state.set_resync(user, *session, true);
        }
        Ok(())
    }

    async fn clear_resync(&self, user: &Address, session: SessionId) -> Result<(), EphemeralError> {
        self.state.write().set_resync(user, session, false);
        Ok(())
    }

    async fn statuses(&self, users: &[Address]) -> Result<Vec<Option<UserStatus>>, EphemeralError> {
        let state = self.state.read();
        Ok(users.iter().map(|u| state.status(u)).collect())
    }

    async fn settle(
        &self,
        users: &[Address],
    ) -> Result<Vec<(Address, UserStatus)>, EphemeralError> {
        let mut state = self.state.write();
        let now = self.now();
        Ok(users
            .iter()
            .filter_map(|u| Some((u.clone(), state.settle(u, now)?)))
            .collect())
    }

    async fn renumber(&self, users: &[Address]) -> Result<Vec<Option<UserStatus>>, EphemeralError> {
        let mut state = self.state.write();
        Ok(users.iter().map(|u| state.renumber(u)).collect())
    }

    async fn due(&self, limit: usize) -> Result<Vec<Address>, EphemeralError> {
        let now = self.now();
        if self.state.read().idle(now) {
            return Ok(Vec::new());
        }
        Ok(self.state.write().due(limit, now))
    }

    async fn settled(&self) -> Result<bool, EphemeralError> {
        Ok(self.state.read().settled(self.now()))
    }

    async fn mark(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), EphemeralError> {
        let now = self.now();
        self.marks
            .lock()
            .set(key, value, now, now.saturating_add(millis(ttl)));
        Ok(())
    }

    async fn take_marks(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, EphemeralError> {
        let mut marks = self.marks.lock();
        let now = self.now();
        Ok(keys.iter().map(|k| marks.take(k, now)).collect())
    }
}
