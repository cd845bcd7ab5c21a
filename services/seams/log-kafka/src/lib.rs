//! The log on Kafka: idempotent appends, broker-driven groups.
//!
//! Appends go through one idempotent producer with `acks=all`. A reader is one consumer with
//! `group.protocol=consumer`; its group in Kafka is `<group>.<topic>`, so that groups of different topics do
//! not move each other. Records are stamped by the broker (`message.timestamp.type=LogAppendTime`).
//!
//! # What the brokers need
//!
//! Kafka 4.0 or newer. Heartbeats and sessions are the brokers' with this protocol, and their defaults (5 s
//! and 45 s) are too long here: a member learns what it gains and loses with its next heartbeat, and a dead one
//! is given up when its session ends. For hand-overs well under a second and take-overs within 10 s:
//!
//! ```text
//! group.consumer.heartbeat.interval.ms=500      group.consumer.min.heartbeat.interval.ms=500
//! group.consumer.session.timeout.ms=6000        group.consumer.min.session.timeout.ms=6000
//! ```
//!
//! And, so that a killed broker's partitions have another leader within seconds:
//! `broker.session.timeout.ms=3000`, `broker.heartbeat.interval.ms=500`.
//!
//! With ACLs: Write, Read and Describe on the topics, Read on the groups, Describe on the group `tandem.none`;
//! `tandem migrate` also needs Create, `DescribeConfigs` and `AlterConfigs`.

mod aside;
mod client;
mod config;
mod context;
mod error;
mod lane;
mod member;
mod metrics;
mod offsets;
mod producer;
mod range;
mod reader;
mod record;
mod topics;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd};
use tandem_log::{Appended, Log, LogError, Reader, Record, Start, Stored, TopicSpec};
use tokio::sync::{mpsc, watch};

pub use crate::config::{Compression, Config, Mechanism, Security};
use crate::{
    aside::Aside, member::Member, metrics::Lags, offsets::Offsets, producer::Appender,
    reader::KafkaReader, topics::Topics,
};

/// First and longest wait for a broker.
const WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How often clients that nobody polls are polled.
const SERVE: Duration = Duration::from_secs(1);
/// Every how many of these lag is measured.
const MEASURE: u32 = 5;
/// How long members may take to leave when the log is closed.
const LEAVE: Duration = Duration::from_secs(10);

/// The log on a Kafka cluster.
pub struct KafkaLog(Arc<Inner>);

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaLog")
    }
}

pub(crate) struct Inner {
    config: Config,
    doors: Doors,
    lifecycle: Lifecycle,
    timeout: Duration,
    appender: Appender,
    offsets: Offsets,
    topics: Topics,
    lags: Arc<Lags>,
    closed: watch::Sender<bool>,
    members: Mutex<Members>,
}

/// Each member holds a clone of the sender; the receiver's end says that the last one is gone.
struct Members {
    join: Option<mpsc::Sender<()>>,
    left: Option<mpsc::Receiver<()>>,
}

impl KafkaLog {
    /// Reaches the cluster. Waits, and says so, while no broker answers; ends with [`LogError::Closed`] when
    /// `lifecycle` stops meanwhile.
    ///
    /// What runs in the background does so in `lifecycle` through its soft stop, until [`KafkaLog::close`], the
    /// drop of the log, or the hard stop; so that it can serve those who drain, close it after them.
    pub async fn connect(
        config: &Config,
        doors: Doors,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, LogError> {
        config.validate().map_err(LogError::Unavailable)?;
        let offsets = Offsets::new(config, doors.clone())?;
        let aside = Aside::new(doors.clone(), lifecycle.clone());
        let (join, left) = mpsc::channel(1);
        let inner = Arc::new(Inner {
            appender: Appender::new(config, doors.clone(), aside)?,
            topics: Topics::new(config, offsets.clone())?,
            offsets,
            timeout: Duration::from_millis(config.request_timeout_ms),
            config: config.clone(),
            doors,
            lifecycle: lifecycle.clone(),
            lags: Arc::default(),
            closed: watch::Sender::new(false),
            members: Mutex::new(Members {
                join: Some(join),
                left: Some(left),
            }),
        });
        inner.reach().await?;
        let weak = Arc::downgrade(&inner);
        lifecycle.spawn("kafka upkeep", OnEnd::Fine, keep_up(weak));
        Ok(Arc::new(Self(inner)))
    }

    /// Takes no more appends, answers those that were taken, and waits until readers have left their groups.
    /// Readers end with [`LogError::Closed`]; drop them.
    pub async fn close(&self) {
        self.0.closed.send_replace(true);
        self.0.appender.close().await;
        let left = {
            let mut members = self.0.members.lock();
            members.join = None;
            members.left.take()
        };
        if let Some(mut left) = left
            && tokio::time::timeout(LEAVE, left.recv()).await.is_err()
        {
            tracing::warn!(
                "a reader has not left its group; others take over when its session ends"
            );
        }
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.0.closed.send_replace(true);
    }
}

/// Polls what nobody polls, and measures lag, until the log is closed or gone.
async fn keep_up(log: Weak<Inner>) {
    for round in 1u32.. {
        tokio::time::sleep(SERVE).await;
        let Some(log) = log.upgrade() else { return };
        if *log.closed.borrow() {
            return;
        }
        log.offsets.serve().await;
        if round.is_multiple_of(MEASURE) {
            for topic in log.lags.topics() {
                match log.offsets.ends(&topic).await {
                    Ok(ends) => log.lags.ends(&topic, &ends),
                    Err(error) => tracing::debug!(%error, topic = &*topic, "lag was not measured"),
                }
            }
        }
    }
}

impl Inner {
    async fn reach(&self) -> Result<(), LogError> {
        let mut wait = WAIT.0;
        loop {
            let reached = tokio::select! {
                () = self.lifecycle.stopped() => return Err(LogError::Closed),
                reached = self.offsets.reach() => reached,
            };
            let Err(reason) = reached else { return Ok(()) };
            tracing::warn!(
                reason,
                brokers = self.config.brokers,
                "no broker of kafka.brokers is reached; trying again"
            );
            tokio::select! {
                () = self.lifecycle.stopped() => return Err(LogError::Closed),
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT.1),
            }
        }
    }

    /// A consumer for the topic; `group` may be empty.
    fn join(&self, topic: &str, group: &str) -> Result<Arc<Member>, LogError> {
        let alive = self.members.lock().join.clone().ok_or(LogError::Closed)?;
        let id = if group.is_empty() {
            offsets::NO_GROUP.to_owned()
        } else {
            group_id(topic, group)
        };
        let member = Member::new(
            &self.config.consumer(&id),
            topic.into(),
            group.into(),
            Arc::clone(&self.lags),
            alive,
        );
        let member = Arc::new(member.map_err(error::unavailable)?);
        let (committing, doors) = (Arc::clone(&member), self.doors.clone());
        self.lifecycle.spawn(
            "kafka commits",
            OnEnd::Fine,
            committing.keep_committing(doors),
        );
        Ok(member)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let done = self.doors.threads.run(work).await;
        done.map_err(error::unavailable).flatten()
    }
}

/// The group's name in Kafka.
fn group_id(topic: &str, group: &str) -> String {
    format!("{group}.{topic}")
}

#[async_trait]
impl Log for KafkaLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        self.0.topics.ensure(spec).await
    }

    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        self.0.offsets.partitions(topic).await
    }

    fn append(
        &self,
        topic: &str,
        records: Vec<(u32, Record)>,
    ) -> BoxFuture<'static, Vec<Result<Appended, LogError>>> {
        self.0.appender.append(topic, records)
    }

    async fn end_offsets(&self, topic: &str) -> Result<Vec<u64>, LogError> {
        self.0.offsets.ends(topic).await
    }

    async fn committed(&self, topic: &str, group: &str) -> Result<Vec<Option<u64>>, LogError> {
        let group = group_id(topic, group);
        self.0.offsets.committed(topic, &group).await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, LogError> {
        self.0.offsets.read(topic, partition, from, limit).await
    }

    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
        start: Start,
    ) -> Result<Box<dyn Reader>, LogError> {
        self.0.offsets.partitions(topic).await?;
        let inner = Arc::clone(&self.0);
        let reader = KafkaReader::member(inner, topic, group, start).await?;
        Ok(Box::new(reader))
    }

    async fn follow(&self, topic: &str, start: Start) -> Result<Box<dyn Reader>, LogError> {
        let inner = Arc::clone(&self.0);
        let reader = KafkaReader::follower(inner, topic, start).await?;
        Ok(Box::new(reader))
    }
}
