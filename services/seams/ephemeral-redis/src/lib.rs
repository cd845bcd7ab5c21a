//! The ephemeral store in Redis (7 or later), single or Cluster, over RESP3.
//!
//! # How it lies there
//! Users are spread over 64 buckets by a hash of their address. A bucket is a store by itself, in one slot:
//! its users' state, every edge's lease, who is due. So each change of a user is one run of one script, which
//! sees leases and sessions at one moment, by Redis's own clock. Calls about many users are one run a bucket, all
//! sent at once; `renew`, `release`, `due` and `settled` concern every bucket, at 5 s and more apart or a sweep.
//! The scripts are in `lua/`; `prelude.lua` says which keys there are. Marks are plain keys with a time to live.
//!
//! All keys begin with `redis.key_prefix` and a bucket's hash tag. The tags are chosen so that primaries with
//! equal shares of a Cluster's slots have equal shares of the buckets.
//!
//! # What is lost, and how that is noticed
//! Nothing here must be kept: no persistence is needed. A bucket's epoch is another one when the bucket is new, or
//! when Redis's replication id is: after a restart, and after a failover, which may have lost the newest writes.
//! [`Renewal::epoch`](tandem_ephemeral::Renewal) is that of all buckets together. In a new epoch an edge has another
//! lease: the sessions that it registers again move to it, and those that it does not know (their removal was lost)
//! go with the old lease, 15 s later. A lease is known by a number: if Redis renewed a lapsed one and the
//! answer was lost, the next answer still says that it had lapsed.
//!
//! A process's clock plays no part. When Redis's own clock jumps, leases end early and edges register again. After a
//! failover statuses get versions by the new primary's clock, so the primaries' clocks must agree to less than
//! `cluster-node-timeout`.
//!
//! # For those who run it
//! - ACL rule, the smallest that works (with `tandem` as prefix; a single Redis does without `cluster|slots`):
//!   `user tandem on >… resetchannels ~tandem* -@all` and then [`COMMANDS`].
//! - `maxmemory-policy noeviction`: an evicted index key would hide sessions from the sweep. Full, Redis refuses
//!   writes, and edges go on trying.
//! - Memory: 275 bytes for a user with one session (phone-number address, no personal message; in a
//!   Cluster 16 more a key). A user who went offline is kept for an hour. What a dead edge
//!   left is removed by presence's sweep.
//! - Moving a bucket's slot to another primary fails its calls while the slot's keys are under way, and
//!   is a new epoch for it: all sessions are registered again. Move slots in quiet hours.
//! - Redis's processor time: 12 µs to register a session, 12 to settle a status, 8 to look a user up, of
//!   256 users at once; 34 for a look-up alone. A lease's renewal takes 1.3 ms, a sweep that finds
//!   nobody 0.8 ms, spread over the primaries. (Measured by `tests/costs.rs` on a busy machine: upper bounds.)
//! - The certificates of `redis.cert_file` are read when the process starts.
//! - In a Cluster the driver sends a command again when a connection breaks. All but `take_marks` and `settle` say
//!   the same twice: a mark that was taken, or the change of a status, may go unsaid then.

mod bucket;
mod cluster;
pub mod config;
mod link;
mod metrics;
mod reply;
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

/// The commands that the ACL user needs, as an ACL rule says them. The tests hold it to be enough.
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
                    tracing::warn!(%error, addresses = config.addresses, "redis is not reached; trying again");
                }
                Err(Fault::Timeout) => {
                    tracing::warn!(
                        addresses = config.addresses,
                        "redis does not answer in time; trying again"
                    );
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
