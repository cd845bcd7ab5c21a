//! What the tests share: a log on the shared brokers, with names that no other run has used.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle};
use tandem_log::{Log, Record, Retention, TopicSpec};
use tandem_log_kafka::{Config, KafkaLog};

/// How long whatever the tests wait for may take.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// A log on a cluster. One serves one test.
pub struct Cluster {
    pub config: Config,
    /// In the names of this test's topics.
    pub run: String,
    doors: Doors,
    lifecycle: Lifecycle,
    open: Mutex<Option<Arc<KafkaLog>>>,
}

impl Cluster {
    /// The shared brokers.
    pub fn shared() -> Self {
        Self::at(tandem_engines::shared::KAFKA)
    }

    /// The brokers at these addresses.
    pub fn at(brokers: &str) -> Self {
        Self::with(Config {
            brokers: brokers.into(),
            create_topics: true,
            ..Config::default()
        })
    }

    /// What this config says.
    pub fn with(config: Config) -> Self {
        let doors = Doors::real();
        let run = format!("{:016x}", doors.rng.u64());
        Self {
            config,
            run,
            doors,
            lifecycle: Lifecycle::new(),
            open: Mutex::default(),
        }
    }

    /// The log, anew.
    pub async fn connect(&self) -> Arc<KafkaLog> {
        let former = self.open.lock().take();
        if let Some(log) = former {
            log.close().await;
        }
        let log = self.another().await;
        *self.open.lock() = Some(Arc::clone(&log));
        log
    }

    /// The log as another process has it.
    pub async fn another(&self) -> Arc<KafkaLog> {
        let connected = KafkaLog::connect(&self.config, self.doors.clone(), &self.lifecycle);
        tokio::time::timeout(Duration::from_secs(20), connected)
            .await
            .expect("no broker answers: run `cargo xtask engines up`")
            .unwrap()
    }

    /// A new topic that keeps all.
    pub async fn topic(&self, log: &KafkaLog, name: &str, partitions: u32) -> String {
        let name = format!("t-{}-{name}", self.run);
        let spec = TopicSpec {
            name: name.clone(),
            partitions,
            retention: Retention::Delete {
                age: None,
                bytes: None,
            },
        };
        log.ensure_topic(&spec).await.unwrap();
        name
    }
}

/// A record with this value.
pub fn record(value: &str) -> Record {
    Record {
        key: "k".into(),
        value: value.to_owned().into(),
        headers: Vec::new(),
    }
}
