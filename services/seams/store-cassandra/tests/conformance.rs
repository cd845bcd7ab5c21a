//! The store passes the whole suite, on a ring of three and on a single node (with TLS and a password).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail so; a helper of tests is a test"
)]

mod common;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_chassis::Doors;
use tandem_store::{
    Store,
    conformance::{Harness, ONE, TWO},
};
use tandem_store_cassandra::{CassandraStore, Config};
use tokio::sync::OnceCell;

use common::{Apart, connect, own_keyspace, ring, secure};

/// The config of a run and its session.
type Run = OnceCell<(Config, Arc<CassandraStore>)>;

async fn open(config: &Config) -> Arc<CassandraStore> {
    let store = connect(config).await;
    store.ensure_table(ONE).await.unwrap();
    store.ensure_table(TWO).await.unwrap();
    store
}

struct Suite {
    config: Config,
    mark: [u8; 8],
    store: Mutex<Arc<CassandraStore>>,
}

impl Suite {
    async fn new(run: &Run, config: fn() -> Config) -> Self {
        let (config, store) = run
            .get_or_init(|| async {
                let config = own_keyspace(config()).await;
                let store = open(&config).await;
                (config, store)
            })
            .await;
        Self {
            config: config.clone(),
            mark: Doors::real().rng.u64().to_be_bytes(),
            store: Mutex::new(Arc::clone(store)),
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(Apart {
            inner: Arc::clone(&self.store.lock()),
            mark: self.mark,
        })
    }

    async fn reopen(&self) {
        let again = Config {
            create_tables: false,
            ..self.config.clone()
        };
        let store = open(&again).await;
        *self.store.lock() = store;
    }
}

macro_rules! suite {
    ($name:ident, $config:expr) => {
        mod $name {
            use super::*;

            static RUN: Run = OnceCell::const_new();

            struct On(Suite);

            #[async_trait]
            impl Harness for On {
                async fn fresh() -> Self {
                    Self(Suite::new(&RUN, $config).await)
                }

                fn store(&self) -> Arc<dyn Store> {
                    self.0.store()
                }

                async fn advance(&self, by: Duration) {
                    tokio::time::sleep(by).await;
                }

                async fn reopen(&self) {
                    self.0.reopen().await;
                }
            }

            tandem_store::conformance_suite!(On);
        }
    };
}

suite!(on_three_nodes, ring);
suite!(on_one_node, secure);
