//! Stores of the tests: one session a cluster for all cases, and a keyspace a run, whose tables the cases share.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use scylla::client::{session::Session, session_builder::SessionBuilder};
use tandem_chassis::{Doors, Lifecycle};
use tandem_engines::shared;
use tandem_store::{Batch, Key, MAX_KEY, PutIf, Range, Row, Store, StoreError, Table};
use tandem_store_cassandra::{CassandraStore, Config};
use tokio::runtime::Runtime;

/// Sessions outlive the test that makes them, so they have a runtime of their own.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

/// Keyspaces of the tests begin so, and tell when they were made.
const KEYSPACES: &str = "suite_";

/// A keyspace is left to be looked at for so long.
const LEFT: u64 = 600;

/// The ring of three.
pub fn ring() -> Config {
    Config {
        contact_points: shared::CASSANDRA_RING.join(","),
        replication: "SimpleStrategy:3".into(),
        ..Config::default()
    }
}

/// The single node, with TLS and a password.
pub fn secure() -> Config {
    Config {
        contact_points: shared::CASSANDRA.into(),
        replication: "SimpleStrategy:1".into(),
        username: shared::USER.into(),
        password: shared::PASSWORD.into(),
        tls: true,
        ca_file: shared::ca_file().unwrap().display().to_string(),
        ..Config::default()
    }
}

/// For statements that the store has none for. Panics if the cluster is not there.
pub async fn session(config: &Config) -> Session {
    let mut builder = SessionBuilder::new()
        .known_nodes(config.contact_points.split(','))
        .connection_timeout(Duration::from_secs(10));
    if !config.username.is_empty() {
        builder = builder.user(&config.username, &config.password);
    }
    match builder.build().await {
        Ok(session) => session,
        Err(e) => panic!(
            "no Cassandra at {}, run `cargo xtask engines up`: {e}",
            config.contact_points
        ),
    }
}

/// The config with a keyspace of its own, to be made. Those that earlier runs left are dropped.
pub async fn own_keyspace(config: Config) -> Config {
    let session = session(&config).await;
    let doors = Doors::real();
    let now = u64::try_from(doors.clock.unix().0).unwrap() / 1_000;
    let asked = "SELECT keyspace_name FROM system_schema.keyspaces";
    let found = session.query_unpaged(asked, ()).await.unwrap();
    let found = found.into_rows_result().unwrap();
    for row in found.rows::<(String,)>().unwrap() {
        let (name,) = row.unwrap();
        let made = name.strip_prefix(KEYSPACES).and_then(|n| n.split_once('_'));
        let made: Option<u64> = made.and_then(|(made, _)| made.parse().ok());
        if made.is_some_and(|made| made + LEFT < now) {
            // another run may drop it, too
            let drop = format!("DROP KEYSPACE IF EXISTS {name}");
            let _ = session.query_unpaged(drop, ()).await;
        }
    }
    Config {
        keyspace: format!("{KEYSPACES}{now}_{:08x}", doors.rng.u64() as u32),
        create_tables: true,
        ..config
    }
}

/// Connects on the runtime that lasts.
pub async fn connect(config: &Config) -> Arc<CassandraStore> {
    let config = config.clone();
    let connecting = async move {
        CassandraStore::connect(&config, Doors::real(), &Lifecycle::new())
            .await
            .unwrap()
    };
    RUNTIME.spawn(connecting).await.unwrap()
}

/// A store in which a case sees its own rows alone: its partitions' keys begin with octets of their own. Keys
/// that have no room for that are passed on as they are.
pub struct Apart {
    pub inner: Arc<CassandraStore>,
    pub mark: [u8; 8],
}

impl Apart {
    fn partition(&self, key: &[u8]) -> Bytes {
        if key.is_empty() || key.len() + self.mark.len() > MAX_KEY {
            return Bytes::copy_from_slice(key);
        }
        [&self.mark, key].concat().into()
    }

    fn key(&self, key: &Key) -> Key {
        Key {
            partition: self.partition(&key.partition),
            ..key.clone()
        }
    }
}

#[async_trait]
impl Store for Apart {
    async fn ensure_table(&self, table: Table) -> Result<(), StoreError> {
        self.inner.ensure_table(table).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(&self.key(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let keys: Vec<Key> = keys.iter().map(|k| self.key(k)).collect();
        self.inner.get_many(&keys).await
    }

    async fn range(&self, t: Table, p: &[u8], range: Range) -> Result<Vec<Row>, StoreError> {
        self.inner.range(t, &self.partition(p), range).await
    }

    async fn write(&self, mut batches: Vec<Batch>) -> Result<(), StoreError> {
        for batch in &mut batches {
            batch.partition = self.partition(&batch.partition);
        }
        self.inner.write(batches).await
    }

    async fn put_if(
        &self,
        key: &Key,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<PutIf, StoreError> {
        self.inner
            .put_if(&self.key(key), expected, value, ttl)
            .await
    }
}
