//! The production adapters, connected as far as a service needs them.

use std::sync::Arc;

use tandem_chassis::{Doors, Lifecycle};
use tandem_ephemeral::Ephemeral;
use tandem_ephemeral_redis::RedisEphemeral;
use tandem_log::Log;
use tandem_log_kafka::KafkaLog;
use tandem_store::Store;
use tandem_store_cassandra::CassandraStore;

use crate::settings::Settings;

/// Why an engine cannot be had.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The engines of one process. All use the log; the others are connected when they are asked for.
pub struct Engines {
    log: Arc<KafkaLog>,
    redis: tandem_ephemeral_redis::Config,
    cassandra: tandem_store_cassandra::Config,
    doors: Doors,
    lifecycle: Lifecycle,
}

impl Engines {
    /// Connects to the log. Waits for an engine that is not there yet, and says so in the log.
    pub async fn connect(
        settings: &Settings,
        doors: &Doors,
        lifecycle: &Lifecycle,
    ) -> Result<Self, Failure> {
        let log = KafkaLog::connect(&settings.kafka, doors.clone(), lifecycle).await?;
        Ok(Self {
            log,
            redis: settings.redis.clone(),
            cassandra: settings.cassandra.clone(),
            doors: doors.clone(),
            lifecycle: lifecycle.clone(),
        })
    }

    /// Kafka.
    pub fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    /// Cassandra.
    pub async fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        let doors = self.doors.clone();
        Ok(CassandraStore::connect(&self.cassandra, doors, &self.lifecycle).await?)
    }

    /// Redis.
    pub async fn ephemeral(&self) -> Result<Arc<dyn Ephemeral>, Failure> {
        let doors = self.doors.clone();
        Ok(RedisEphemeral::connect(&self.redis, doors, &self.lifecycle).await?)
    }

    /// Hands everything over that is still under way.
    pub async fn close(self) {
        self.log.close().await;
    }
}
