//! The log seam: topics of partitions, appended to, read as a group, committed.
//!
//! Production is Kafka, embedded is `tandem-log-disk`. The contract stands here; every adapter
//! passes all of [`conformance`].

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tandem_kernel::{Code, Place, UnixMillis};

pub mod conformance;
pub mod parking;

/// A topic to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name: `[a-z0-9._-]{1,249}`.
    pub name: String,
    /// Number of partitions, at least 1. Never changes once created.
    pub partitions: u32,
    /// What may be forgotten.
    pub retention: Retention,
}

/// What a topic may forget, oldest first. Never a record that is newer than both bounds allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retention {
    /// Records older than `age`, and the oldest beyond `bytes` (keys and values) in each partition.
    Delete {
        /// Longest age; `None`: for ever.
        age: Option<Duration>,
        /// Most bytes a partition; `None`: no bound.
        bytes: Option<u64>,
    },
    /// Only the last record of each key need be kept.
    Compact,
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Key; for compaction and for people.
    pub key: Bytes,
    /// Value.
    pub value: Bytes,
    /// Headers: name and value (trace context, schema version).
    pub headers: Vec<(String, Bytes)>,
}

/// A record as it stands in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place. Offsets in a partition only rise; they may have gaps.
    pub place: Place,
    /// When the log took it. Does not fall within a partition.
    pub at: UnixMillis,
    /// What was appended.
    pub record: Record,
}

/// What an append gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Where the record is.
    pub place: Place,
    /// When the log took it.
    pub at: UnixMillis,
}

/// Why the log did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// No such topic, or no such partition of it.
    #[error("no topic or partition {0}")]
    NoTopic(String),
    /// The topic is there with other properties.
    #[error("topic {0} exists otherwise: {1}")]
    Mismatch(String, String),
    /// The record is larger than the log takes.
    #[error("record of {0} bytes is too large")]
    TooLarge(usize),
    /// The log cannot be reached, or its disk is full: try again later. Whether the records were
    /// appended is not known.
    #[error("log unavailable: {0}")]
    Unavailable(String),
    /// The partition is another member's by now; what was asked for it had no effect.
    #[error("partition {0} is no longer assigned to this reader")]
    NotAssigned(u32),
    /// The log is closed.
    #[error("log closed")]
    Closed,
    /// What was read cannot be understood.
    #[error("log corrupt: {0}")]
    Corrupt(String),
}

impl LogError {
    /// For callers and metrics.
    pub fn code(&self) -> Code {
        match self {
            Self::NoTopic(_) => Code::NotFound,
            Self::Mismatch(..) => Code::Conflict,
            Self::TooLarge(_) => Code::TooLarge,
            Self::Unavailable(_) | Self::Closed | Self::NotAssigned(_) => Code::Unavailable,
            Self::Corrupt(_) => Code::Internal,
        }
    }
}

/// Where a group's reader begins in a partition that its group has never committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record.
    Oldest,
    /// With what is appended from now on.
    Newest,
}

/// The log.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Once it returns, the topic is there. The same again changes nothing; other partitions fail
    /// with [`LogError::Mismatch`]; another retention is taken over.
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), LogError>;

    /// Number of partitions of the topic.
    async fn partitions(&self, topic: &str) -> Result<u32, LogError>;

    /// Appends records, each to the partition named beside it. They are queued in the order of the
    /// calls (not of the first polls): of two records for one partition, whichever was handed over
    /// first has the lower offset, if both are appended. When the future says where a record is, that
    /// record is durable. The answers are in the order of `records`. Dropping the future
    /// cancels nothing.
    fn append(
        &self,
        topic: &str,
        records: Vec<(u32, Record)>,
    ) -> BoxFuture<'static, Vec<Result<Appended, LogError>>>;

    /// For each partition the offset that comes after everything appended (durably) before the call.
    async fn end_offsets(&self, topic: &str) -> Result<Vec<u64>, LogError>;

    /// For each partition what the group has committed: the offset to go on with; `None`: never.
    /// May lag behind commits of other processes by a second.
    async fn committed(&self, topic: &str, group: &str) -> Result<Vec<Option<u64>>, LogError>;

    /// Reads a range of a partition outside any group: records with offset at or above `from`, at
    /// most `limit`. Fewer (or none) at the end. For operators' tools and rewinds.
    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, LogError>;

    /// Joins the group as one reader more. The topic's partitions are divided among the group's
    /// readers, each partition one reader's at a time.
    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
        start: Start,
    ) -> Result<Box<dyn Reader>, LogError>;

    /// Follows all partitions of the topic outside any group, from now on (`Start::Newest`) or from
    /// the oldest record. Commits and assignments do not apply; it sees `Assigned` once at first.
    async fn follow(&self, topic: &str, start: Start) -> Result<Box<dyn Reader>, LogError>;
}

/// What a reader sees next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// These partitions are this reader's from here on, each with the offset at which reading
    /// goes on (the committed one, or where `Start` says). May be moved by [`Reader::seek`].
    Assigned(Vec<(u32, u64)>),
    /// These partitions are another's from here on; nothing more comes from them, and what was read and
    /// not committed will be read again by another. Commit before the next `next` call what is durable.
    Revoked(Vec<u32>),
    /// Records of one partition, in order, following the last ones of it. Never empty.
    Records(u32, Vec<Stored>),
}

/// One member of a group. Dropping it leaves the group.
#[async_trait]
pub trait Reader: Send {
    /// Waits for what comes next. Cancel safe: nothing is lost when the future is dropped.
    async fn next(&mut self) -> Result<Next, LogError>;

    /// The group's place in the partition is `offset` (the first one not yet handled) once this returns,
    /// or soon after; it survives a crash then, and until then an older one is gone on with.
    /// Never commit what is not durable.
    async fn commit(&mut self, partition: u32, offset: u64) -> Result<(), LogError>;

    /// Goes on reading an assigned partition at `offset`, forward or back.
    async fn seek(&mut self, partition: u32, offset: u64) -> Result<(), LogError>;

    /// The first offset of an assigned partition whose record was taken at or after `at`; the end
    /// offset if there is none.
    async fn offset_at(&mut self, partition: u32, at: UnixMillis) -> Result<u64, LogError>;

    /// Stops (true) or goes on with (false) reading an assigned partition, for back-pressure. Its place is kept.
    async fn pause(&mut self, partition: u32, paused: bool) -> Result<(), LogError>;
}
