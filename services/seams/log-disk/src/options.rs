//! What can be set, and what is counted.

use std::time::Duration;

/// How the log uses memory and disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Cache of blocks read from disk, bytes.
    pub cache_bytes: u64,
    /// Records in memory until they are written to a table, bytes. Kept as it was when the folder was made.
    pub memtable_bytes: u64,
    /// Journals on disk together, bytes; at least 64 MiB. More of it makes opening slower.
    pub journal_bytes: u64,
    /// Newest records kept in memory for readers, bytes a partition.
    pub tail_bytes: usize,
    /// Largest record, bytes.
    pub max_record_bytes: usize,
    /// Most bytes that wait to be appended; more is refused as unavailable.
    pub max_queued_bytes: usize,
    /// Appends are refused as unavailable while less than this is free on the disk, bytes.
    pub reserve_bytes: u64,
    /// How long a commit may wait for a group of appends to be written with.
    pub commit_delay: Duration,
    /// How often what may be forgotten is forgotten; `None`: only when asked to.
    pub retention_every: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 8 << 20,
            memtable_bytes: 16 << 20,
            journal_bytes: 64 << 20,
            tail_bytes: 1 << 20,
            max_record_bytes: 1 << 20,
            max_queued_bytes: 128 << 20,
            reserve_bytes: 256 << 20,
            commit_delay: Duration::from_millis(200),
            retention_every: Some(Duration::from_mins(1)),
        }
    }
}

/// What has happened since the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Calls of `append`.
    pub appends: u64,
    /// Records appended.
    pub records: u64,
    /// Groups they were written in, each with one fsync.
    pub groups: u64,
    /// Bytes of entries written.
    pub bytes: u64,
}
