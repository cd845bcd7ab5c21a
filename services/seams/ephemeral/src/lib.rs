//! The ephemeral seam: edges' leases, sessions, statuses, each change versioned. Nothing in it may be
//! missed: emptied at any moment, it is filled again by the edges, and no message is lost.
//!
//! Production is Redis, embedded is `tandem-ephemeral-memory`. The contract stands here; every
//! adapter passes all of [`conformance`]. Each call is one round trip; time is the store's own.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tandem_kernel::{Address, Code, DeviceId, EdgeId, SessionId};
use tandem_proto::client::{DeviceClass, Status};

pub mod conformance;
pub mod status;

/// How long an edge's lease lives after its last renewal.
pub const LEASE: Duration = Duration::from_secs(15);

/// How long a session that lost its connection still counts for its user's status.
pub const DAMPING: Duration = Duration::from_secs(5);

/// A session as an edge registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user: Address,
    /// The edge that holds it.
    pub edge: EdgeId,
    /// The device it is on.
    pub device: DeviceId,
    /// The device's class.
    pub class: DeviceClass,
    /// The status that the person chose on it (online to appear offline).
    pub status: Status,
    /// Personal message.
    pub message: String,
    /// False: the connection is lost, and the edge keeps the session for a resume. It is still
    /// delivered to, and counts for the status for [`DAMPING`] from this change.
    pub attached: bool,
}

/// A user's status, as derived from the sessions that count: those of edges whose lease lives, that are
/// attached or were so less than [`DAMPING`] ago. Appear offline on any session wins; else
/// the most available one in the order online, busy, on the phone, be right back, out to lunch, away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserStatus {
    /// What others see: appear offline is `Offline` here.
    pub status: Status,
    /// The personal message of the session that gave the status.
    pub message: String,
    /// Its device class: the device one would reach.
    pub class: DeviceClass,
    /// Grows with each change, also across an emptied store.
    pub version: u64,
}

/// Where a user can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Sessions to deliver to: of edges whose lease lives and that are not flagged for resync.
    pub live: Vec<(EdgeId, SessionId)>,
    /// How many sessions there are in all (flagged and detached ones too) of edges whose lease lives.
    pub sessions: usize,
    /// How many of them are attached.
    pub attached: usize,
}

/// What an edge learns when it renews its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Identifies the store's contents: another one than last time means that the store was emptied or
    /// lost writes, and every session must be registered again.
    pub epoch: u64,
    /// The lease had lapsed or was not there: every session must be registered again.
    pub lapsed: bool,
    /// Sessions of this edge that were flagged for resync. The flag stands until
    /// [`Ephemeral::clear_resync`].
    pub resync: Vec<SessionId>,
}

/// Why the ephemeral store did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EphemeralError {
    /// It cannot be reached: try again later. Whether a change was done is not known.
    #[error("ephemeral store unavailable: {0}")]
    Unavailable(String),
    /// What was read cannot be understood.
    #[error("ephemeral store corrupt: {0}")]
    Corrupt(String),
}

impl EphemeralError {
    /// For callers and metrics.
    pub fn code(&self) -> Code {
        match self {
            Self::Unavailable(_) => Code::Unavailable,
            Self::Corrupt(_) => Code::Internal,
        }
    }
}

/// The ephemeral store.
#[async_trait]
pub trait Ephemeral: Send + Sync + 'static {
    /// Renews (or takes) the edge's lease for [`LEASE`]. `registered` is the epoch in which the edge has
    /// registered all its sessions, 0 while it has not (for [`Ephemeral::settled`]).
    async fn renew(&self, edge: &EdgeId, registered: u64) -> Result<Renewal, EphemeralError>;

    /// Ends the edge's lease and its sessions at once. Their users become due ([`Ephemeral::due`]).
    async fn release(&self, edge: &EdgeId) -> Result<(), EphemeralError>;

    /// Registers sessions or changes them. Once it returns, whoever looks a user up finds the session.
    /// Registering a session that is there clears no resync flag. Users whose status might have changed
    /// are due from then on; those who lost an attached session, [`DAMPING`] later.
    async fn put(&self, sessions: &[Session]) -> Result<(), EphemeralError>;

    /// Removes a session; no error if there is none. Its user is due [`DAMPING`] later, at once
    /// if `at_once`.
    async fn remove(
        &self,
        user: &Address,
        session: SessionId,
        at_once: bool,
    ) -> Result<(), EphemeralError>;

    /// Where each of the users can be reached, in the order of `users`.
    async fn reach(&self, users: &[Address]) -> Result<Vec<Reach>, EphemeralError>;

    /// Flags sessions for resync: from now on [`Ephemeral::reach`] leaves them out of `live` until
    /// their edge clears the flag. Sessions that are gone are passed over.
    async fn flag_resync(&self, sessions: &[(Address, SessionId)]) -> Result<(), EphemeralError>;

    /// Clears the flag. Once it returns, `reach` has the session in `live` again.
    async fn clear_resync(&self, user: &Address, session: SessionId) -> Result<(), EphemeralError>;

    /// The statuses of users as they were last settled, in the order of `users`; `None`: never online
    /// as far as the store knows (treat as offline, version 0).
    async fn statuses(&self, users: &[Address]) -> Result<Vec<Option<UserStatus>>, EphemeralError>;

    /// Derives the users' statuses anew from their sessions, stores each that changed with its next
    /// version, and returns those that changed. They are due no longer, unless a detached session of
    /// theirs still counts.
    async fn settle(&self, users: &[Address])
    -> Result<Vec<(Address, UserStatus)>, EphemeralError>;

    /// Gives the users' settled statuses their next version though nothing else changed, and returns
    /// them in the order of `users`; `None`: never settled. For a viewer to whom another status was shown
    /// (a contact ended or blocked), so that the next one shown there is above it.
    async fn renumber(&self, users: &[Address]) -> Result<Vec<Option<UserStatus>>, EphemeralError>;

    /// Users whose status is due to be settled now, at most `limit`, among them those of edges whose
    /// lease has lapsed (whose sessions this call removes). They stay due until settled.
    async fn due(&self, limit: usize) -> Result<Vec<Address>, EphemeralError>;

    /// Whether absence means offline: the store is at least [`LEASE`] old in its epoch, and every edge
    /// with a lease has registered all its sessions in it.
    async fn settled(&self) -> Result<bool, EphemeralError>;

    /// Sets a small mark for `ttl` (at most 1 KiB): resume tokens, notifications that stand.
    async fn mark(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), EphemeralError>;

    /// Takes marks away and returns what they were, in the order of `keys`. Of concurrent callers one has it.
    async fn take_marks(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, EphemeralError>;
}
