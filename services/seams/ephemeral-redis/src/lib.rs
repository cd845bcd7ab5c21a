//! The ephemeral store in Redis.

mod bucket;
pub mod config;
mod link;
mod metrics;
mod script;
mod single;
mod store;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle};
use tokio::{sync::Semaphore, time::sleep};

pub use crate::config::{Config, Mode};
use crate::{
    link::{Fault, Link, Target},
    metrics::Metrics,
    script::Scripts,
    store::Leases,
};

/// The commands that the ACL user needs, as the rule says them.
pub const COMMANDS: &str = "+ping +info +cluster|slots +evalsha +eval +time +get +set +getdel +del \
                            +exists +hget +hmget +hset +hdel +hincrby +sadd +srem +spop +smembers +zadd +zrem \
                            +zscore +zrangebyscore";

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The config is wrong; the text names the key and the fix.
    #[error("{0}")]
    Config(String),
    /// The process stops before Redis was reached.
    #[error("stopped before redis was reached")]
    Stopped,
}

/// The store.
pub struct RedisEphemeral {
    link: Link,
    scripts: Scripts,
    bases: Vec<String>,
    doors: Doors,
    metrics: Arc<Metrics>,
    permits: Semaphore,
    /// Longest time of a call.
    limit: Duration,
    leases: Mutex<Leases>,
}

impl std::fmt::Debug for RedisEphemeral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisEphemeral")
    }
}

impl RedisEphemeral {
    /// Connects, again and again until Redis is reached or `lifecycle` stops.
    pub async fn connect(
        config: &Config,
        doors: Doors,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, ConnectError> {
        config.validate().map_err(ConnectError::Config)?;
        let metrics = Arc::new(Metrics::new());
        let mut pause = Duration::from_millis(100);
        let link = loop {
            let target = Target::new(config).map_err(ConnectError::Config)?;
            match Link::open(config, target, &doors, &metrics).await {
                Ok(link) => break link,
                Err(Fault::Unreachable(error) | Fault::Refused(error) | Fault::Corrupt(error)) => {
                    tracing::warn!(%error, addresses = ?config.addresses, "redis is not reached; trying again");
                }
                Err(Fault::Timeout) => {
                    tracing::warn!(addresses = ?config.addresses, "redis does not answer in time; trying again");
                }
            }
            tokio::select! {
                () = lifecycle.stopped() => return Err(ConnectError::Stopped),
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        };
        Ok(Arc::new(Self {
            link,
            scripts: Scripts::new(),
            bases: bucket::bases(&config.key_prefix),
            doors,
            metrics,
            permits: Semaphore::new(config.in_flight),
            limit: config.connect_timeout() + config.answer_timeout(),
            leases: Mutex::default(),
        }))
    }
}
