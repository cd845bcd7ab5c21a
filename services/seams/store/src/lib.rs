//! The store seam: wide rows, (partition key, sort key) → value.
//!
//! Production is Cassandra or ScyllaDB, embedded is `tandem-store-disk`. The contract stands here;
//! every adapter passes all of [`conformance`].

use std::{ops::Bound, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tandem_kernel::Code;

pub mod conformance;

/// Octets of a partition key or sort key, at most.
pub const MAX_KEY: usize = 1_024;

/// Octets of a value, at most.
pub const MAX_VALUE: usize = 1 << 20;

/// The highest version of a [`Batch`].
pub const MAX_VERSION: u64 = i64::MAX as u64;

/// For how long, at least, it is remembered with which version a row or partition was deleted.
pub const DELETES_REMEMBERED: Duration = Duration::from_hours(24);

/// A table's name: `[a-z_]{1,40}`. One table for each access path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table(pub &'static str);

/// A row of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Sort key; rows of a partition are ordered by its octets.
    pub sort: Bytes,
    /// Value.
    pub value: Bytes,
}

/// A row's full key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Table.
    pub table: Table,
    /// Partition key, 1 to 1,024 octets.
    pub partition: Bytes,
    /// Sort key, 0 to 1,024 octets.
    pub sort: Bytes,
}

impl Key {
    /// Whether its parts are of a size that is kept.
    pub fn check(&self) -> Result<(), StoreError> {
        check_partition(&self.partition)?;
        check_sort(&self.sort)
    }
}

/// Whether a partition key is of a size that is kept.
pub fn check_partition(key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(StoreError::TooLarge(format!(
            "a partition key is 1 to {MAX_KEY} octets"
        )));
    }
    Ok(())
}

fn check_sort(key: &[u8]) -> Result<(), StoreError> {
    if key.len() > MAX_KEY {
        return Err(StoreError::TooLarge(format!(
            "a sort key is at most {MAX_KEY} octets"
        )));
    }
    Ok(())
}

/// Whether a value is of a size that is kept.
pub fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > MAX_VALUE {
        return Err(StoreError::TooLarge(format!(
            "a value is at most {MAX_VALUE} octets"
        )));
    }
    Ok(())
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets the row; with a TTL it is gone that much later.
    Put {
        /// Sort key.
        sort: Bytes,
        /// Value, at most [`MAX_VALUE`] octets.
        value: Bytes,
        /// Time to live, whole seconds, at least one; `None`: for ever.
        ttl: Option<Duration>,
    },
    /// Removes the row; no error if there is none.
    Delete {
        /// Sort key.
        sort: Bytes,
    },
    /// Removes all rows of the partition.
    DeletePartition,
}

/// Changes to one partition: all of them or none, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Table.
    pub table: Table,
    /// Partition key.
    pub partition: Bytes,
    /// Changes.
    pub ops: Vec<Op>,
    /// Of the writes to a row, one has no effect once one with a higher version was applied, in whatever
    /// order they arrive: so a writer that was replaced without knowing undoes nothing of its successor's.
    /// Of equal ones either stays, so writers make equal ones alike. Deletes count like puts; that of a
    /// partition counts for each of its rows. A row that has expired may be forgotten, version and all.
    ///
    /// Rows that are written with versions are never written without, nor with [`Store::put_if`].
    /// At most [`MAX_VERSION`].
    pub version: Option<u64>,
}

impl Batch {
    /// Whether all that is in it is of a size that is kept.
    pub fn check(&self) -> Result<(), StoreError> {
        check_partition(&self.partition)?;
        if self.version.is_some_and(|v| v > MAX_VERSION) {
            return Err(StoreError::TooLarge(format!(
                "a version is at most {MAX_VERSION}"
            )));
        }
        self.ops.iter().try_for_each(|op| match op {
            Op::Put { sort, value, .. } => {
                check_sort(sort)?;
                check_value(value)
            }
            Op::Delete { sort } => check_sort(sort),
            Op::DeletePartition => Ok(()),
        })
    }
}

/// Which rows of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Lower bound of the sort key.
    pub from: Bound<Bytes>,
    /// Upper bound of the sort key.
    pub to: Bound<Bytes>,
    /// From the highest sort key down.
    pub reverse: bool,
    /// At most this many rows, at least 1.
    pub limit: usize,
}

impl Range {
    /// All rows of a partition, from the lowest sort key up.
    pub fn all(limit: usize) -> Self {
        Self {
            from: Bound::Unbounded,
            to: Bound::Unbounded,
            reverse: false,
            limit,
        }
    }
}

/// What a conditional put came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutIf {
    /// The row is set.
    Done,
    /// The row was not as expected; this is its value (`None`: no row).
    Otherwise(Option<Bytes>),
}

/// Why the store did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A key, value or version is too large.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The store cannot be reached, or its disk is full: try again later. Whether a write was
    /// done is not known.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// What was read cannot be understood.
    #[error("store corrupt: {0}")]
    Corrupt(String),
    /// The store is closed.
    #[error("store closed")]
    Closed,
}

impl StoreError {
    /// For callers and metrics.
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge(_) => Code::TooLarge,
            Self::Unavailable(_) | Self::Closed => Code::Unavailable,
            Self::Corrupt(_) => Code::Internal,
        }
    }
}

/// The store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Once it returns, the table is there. The same again changes nothing.
    async fn ensure_table(&self, table: Table) -> Result<(), StoreError>;

    /// The value of a row. Sees every write that was acknowledged before the call. What a read returns
    /// is durable: a later one sees it too, even if its write was not acknowledged.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// The values of many rows, in the order of `keys`. Those of one partition are of one moment: of a
    /// batch, all is seen or nothing.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Rows of a partition, ordered by sort key.
    async fn range(
        &self,
        table: Table,
        partition: &[u8],
        range: Range,
    ) -> Result<Vec<Row>, StoreError>;

    /// Applies the batches, each atomically (a crash leaves all or none of a batch); several batches
    /// are not atomic together. Once it returns, all are durable. On an error any of them may have
    /// been applied. Concurrent writers of one row: one of the values stays.
    async fn write(&self, batches: Vec<Batch>) -> Result<(), StoreError>;

    /// Sets a row if it is as expected now (`None`: no row): of concurrent callers that expect the
    /// same, exactly one is done. Durable once it returns. Costly: only where one winner must
    /// be chosen, and for rows that no [`Store::write`] changes.
    async fn put_if(
        &self,
        key: &Key,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<PutIf, StoreError>;
}
