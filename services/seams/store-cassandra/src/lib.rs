//! The store on Cassandra 5 or ScyllaDB.
//!
//! **Tables.** Each [`Table`] is one CQL table, `part blob, sort blob, value blob`, the partition by `part` and
//! its rows in the order of `sort`. Partitions must be bounded by who writes them.
//!
//! **Reads and writes** are at `LOCAL_QUORUM`: with three replicas, one may be away. A quorum read repairs what
//! it found on fewer replicas before it returns. What several partitions are to be written or read goes out at
//! once, within bounds: at most `max_in_flight` requests are under way and `max_waiting` wait, and the others are
//! refused as unavailable.
//!
//! **Versions** are the cluster's write times. Never mix them with writes that have none. `tandem` writes to a
//! table with them or without.
//!
//! **Writes without a version** get their time from the node that coordinates them. The same replica is asked
//! each time as long as it is there, and a node's times only grow, so of two writes of a row by one process
//! the second stays. After that node is gone, it stays only if the clocks of the two nodes differ by less than
//! what lies between the writes. A write that was reported as failed may still come into effect, even after
//! later ones, if a node was stopped with it in hand: where that matters, use versions or [`Store::put_if`].
//!
//! **Conditional puts** are lightweight transactions at `LOCAL_SERIAL`, ordered by the cluster's consensus and not
//! by clocks. When the answer is lost, the row is read back: [`PutIf::Done`] is told if the row is this very put's,
//! and an error if it cannot be told.
//!
//! **Durability** is the cluster's: with `commitlog_sync: periodic`, a quorum of nodes that lose power within the
//! same 10 seconds lose what they acknowledged in them; put replicas in different racks, or use `batch`.
//!
//! **Expiry.** Rows with a time to live carry a TTL; longer than 20 years is for ever. Deletes are remembered for the
//! table's `gc_grace_seconds`, ten days unless changed: repair within them.

mod config;
mod connect;
mod error;
mod fold;
mod gate;
mod put_if;
mod read;
mod schema;
mod statements;
mod tls;
mod write;

pub use config::Config;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use scylla::client::session::Session;
use tandem_chassis::{Doors, Lifecycle};
use tandem_store::{
    Batch, Key, PutIf, Range, Row, Store, StoreError, Table, check_partition, check_value,
};

use crate::{
    connect::{Profiles, connect},
    gate::Gate,
    put_if::TURNS,
    schema::Schema,
    statements::Statements,
};

/// The store.
pub struct CassandraStore {
    session: Session,
    profiles: Profiles,
    doors: Doors,
    keyspace: String,
    schema: Schema,
    tables: RwLock<BTreeMap<&'static str, Arc<Statements>>>,
    gate: Gate,
    /// By row: conditional puts one after the other.
    turns: Vec<tokio::sync::Mutex<()>>,
    hasher: ahash::RandomState,
    /// How long a conditional put waits for its turn.
    patience: Duration,
}

impl std::fmt::Debug for CassandraStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CassandraStore")
            .field("keyspace", &self.keyspace)
            .finish_non_exhaustive()
    }
}

impl CassandraStore {
    /// Connects to the cluster. While it cannot be reached, that is logged and tried again until the lifecycle
    /// stops. Errors: a config that cannot be right, a keyspace that is not there.
    pub async fn connect(
        config: &Config,
        doors: Doors,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, StoreError> {
        config.validate().map_err(StoreError::Unavailable)?;
        let (session, profiles) = connect(config, lifecycle).await?;
        let schema = Schema::new(config);
        schema.keyspace(&session).await?;
        let seeds = std::array::from_fn::<u64, 4, _>(|_| doors.rng.u64());
        Ok(Arc::new(Self {
            session,
            profiles,
            keyspace: config.keyspace.clone(),
            schema,
            tables: RwLock::default(),
            gate: Gate::new(config, doors.clone()),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            hasher: ahash::RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]),
            patience: config.request_timeout() * config.attempts
                + Duration::from_millis(config.wait_timeout_ms),
            doors,
        }))
    }

    fn statements(&self, table: Table) -> Result<Arc<Statements>, StoreError> {
        self.tables.read().get(table.0).cloned().ok_or_else(|| {
            StoreError::Unavailable(format!(
                "there is no table {}, it must be ensured first",
                table.0
            ))
        })
    }
}

#[async_trait]
impl Store for CassandraStore {
    async fn ensure_table(&self, table: Table) -> Result<(), StoreError> {
        if self.tables.read().contains_key(table.0) {
            return Ok(());
        }
        self.schema.table(&self.session, table).await?;
        let statements =
            Statements::prepare(&self.session, &self.profiles, &self.keyspace, table.0).await?;
        self.tables
            .write()
            .entry(table.0)
            .or_insert_with(|| Arc::new(statements));
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        key.check()?;
        self.get_one(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().try_for_each(Key::check)?;
        self.get_all(keys).await
    }

    async fn range(
        &self,
        table: Table,
        partition: &[u8],
        range: Range,
    ) -> Result<Vec<Row>, StoreError> {
        check_partition(partition)?;
        self.read_range(table, partition, &range).await
    }

    async fn write(&self, batches: Vec<Batch>) -> Result<(), StoreError> {
        batches.iter().try_for_each(Batch::check)?;
        self.write_all(&batches).await
    }

    async fn put_if(
        &self,
        key: &Key,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<PutIf, StoreError> {
        key.check()?;
        check_value(&value)?;
        self.put_in_turn(key, expected.as_ref(), &value, ttl).await
    }
}
