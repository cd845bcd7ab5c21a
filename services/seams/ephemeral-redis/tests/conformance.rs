//! The ephemeral store in Redis passes the whole suite, on a single Redis and on a Cluster with replicas.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::Commands;
use tandem_chassis::{Doors, Lifecycle};
use tandem_engines::shared;
use tandem_ephemeral::{Ephemeral, conformance::Harness};
use tandem_ephemeral_redis::{Config, Mode, RedisEphemeral};

/// A store with a key prefix of its own on a shared engine.
struct Redis {
    store: Arc<dyn Ephemeral>,
    primaries: Vec<String>,
    prefix: String,
}

impl Redis {
    async fn on(addresses: &[&str], mode: Mode) -> Self {
        let doors = Doors::real();
        let prefix = format!("conformance.{:016x}", doors.rng.u64());
        let config = Config {
            addresses: addresses.join(","),
            mode,
            key_prefix: prefix.clone(),
            // a busy machine is no failure here
            connect_timeout_ms: 2_000,
            answer_timeout_ms: 3_000,
            ..Config::default()
        };
        let lifecycle = Lifecycle::new();
        let store = RedisEphemeral::connect(&config, doors, &lifecycle);
        let store = tokio::time::timeout(Duration::from_secs(10), store)
            .await
            .expect("redis is not there: run `cargo xtask engines up`")
            .unwrap();
        Self {
            store,
            primaries: addresses.iter().map(|a| (*a).to_owned()).collect(),
            prefix,
        }
    }

    /// Deletes all keys of the prefix. On a replica that finds none that it may delete.
    fn delete_all(&self) {
        for address in &self.primaries {
            let client = redis::Client::open(format!("redis://{address}")).unwrap();
            let mut connection = client.get_connection().unwrap();
            let role: String = redis::cmd("INFO")
                .arg("replication")
                .query(&mut connection)
                .unwrap();
            if !role.contains("role:master") {
                continue;
            }
            let keys: Vec<Vec<u8>> = connection
                .scan_match(format!("{}*", self.prefix))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            for key in keys {
                let () = connection.del(key).unwrap();
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.delete_all();
    }
}

struct Single(Redis);
struct Cluster(Redis);

#[async_trait]
impl Harness for Single {
    async fn fresh() -> Self {
        Self(Redis::on(&[shared::REDIS], Mode::Auto).await)
    }

    fn store(&self) -> &Arc<dyn Ephemeral> {
        &self.0.store
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    async fn empty(&self) {
        self.0.delete_all();
    }
}

#[async_trait]
impl Harness for Cluster {
    async fn fresh() -> Self {
        Self(Redis::on(&shared::REDIS_CLUSTER, Mode::Auto).await)
    }

    fn store(&self) -> &Arc<dyn Ephemeral> {
        &self.0.store
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    async fn empty(&self) {
        self.0.delete_all();
    }
}

mod single {
    tandem_ephemeral::conformance_suite!(together super::Single);
}

mod cluster {
    tandem_ephemeral::conformance_suite!(together super::Cluster);
}
