//! Topics: made and changed by who may, looked for by everybody else.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    config::FromClientConfigAndContext,
    error::RDKafkaErrorCode as Code,
};
use tandem_log::{LogError, Retention, TopicSpec};

use crate::{Config, context::Context, error, offsets::Offsets};

/// How often a topic that was made is looked for until it can be used, and the wait in between.
const LOOK: (u32, Duration) = (200, Duration::from_millis(50));
/// Smallest segment that brokers take.
const SEGMENT: u64 = 1 << 20;

/// Ensures topics.
pub struct Topics {
    offsets: Offsets,
    /// If we may make and change them.
    admin: Option<Admin>,
}

struct Admin {
    client: AdminClient<Context>,
    options: AdminOptions,
    replication: u16,
    min_insync: u16,
    max_batch: usize,
}

impl Topics {
    pub fn new(config: &Config, offsets: Offsets) -> Result<Self, LogError> {
        let admin = if config.create_topics {
            let client = AdminClient::from_config_and_context(&config.client(), Context::default())
                .map_err(error::unavailable)?;
            let timeout = Duration::from_millis(config.request_timeout_ms);
            Some(Admin {
                client,
                options: AdminOptions::new()
                    .request_timeout(Some(timeout))
                    .operation_timeout(Some(timeout)),
                replication: config.replication,
                min_insync: config.min_insync,
                max_batch: config.max_batch(),
            })
        } else {
            None
        };
        Ok(Self { offsets, admin })
    }

    /// See [`tandem_log::Log::ensure_topic`].
    pub async fn ensure(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let mismatch = |why: String| LogError::Mismatch(spec.name.clone(), why);
        if !valid_name(&spec.name) {
            return Err(mismatch("a name is [a-z0-9._-]{1,249}".into()));
        }
        if spec.partitions == 0 {
            return Err(mismatch("a topic has at least one partition".into()));
        }
        let mut there = self.offsets.led(&spec.name).await?;
        if there.is_none() {
            let Some(admin) = &self.admin else {
                return Err(LogError::NoTopic(format!(
                    "{}; run `tandem migrate` to make it",
                    spec.name
                )));
            };
            admin.create(spec).await?;
            for _ in 0..LOOK.0 {
                there = self.offsets.led(&spec.name).await?;
                if there.is_some_and(|(partitions, led)| partitions == led) {
                    break;
                }
                tokio::time::sleep(LOOK.1).await;
            }
        }
        let (partitions, _) =
            there.ok_or_else(|| error::unavailable("the topic is not made yet"))?;
        if partitions != spec.partitions {
            return Err(mismatch(format!("it has {partitions} partitions")));
        }
        match &self.admin {
            Some(admin) => admin.adjust(spec).await,
            None => Ok(()),
        }
    }
}

impl Admin {
    /// Makes it, unless another does so first.
    async fn create(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let (Ok(partitions), replication) =
            (i32::try_from(spec.partitions), i32::from(self.replication))
        else {
            return Err(LogError::Mismatch(
                spec.name.clone(),
                "that many partitions are not possible".into(),
            ));
        };
        let wanted = self.wanted(spec);
        let mut new = NewTopic::new(&spec.name, partitions, TopicReplication::Fixed(replication));
        for (name, value) in &wanted {
            new = new.set(name, value);
        }
        let made = self.client.create_topics([&new], &self.options).await;
        for result in made.map_err(error::unavailable)? {
            match result {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(error::unavailable(code)),
            }
        }
        Ok(())
    }

    /// Brings its settings to what is wanted; what else was set by hand stays.
    async fn adjust(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let topic = [ResourceSpecifier::Topic(&spec.name)];
        let described = self.client.describe_configs(&topic, &self.options).await;
        let described = described.map_err(error::unavailable)?.into_iter().next();
        let described = described
            .ok_or_else(|| error::unavailable("the topic was not described"))?
            .map_err(|code| error::of_code(code, &spec.name))?;
        let entries = described.entry_map();
        let wanted = self.wanted(spec);
        let now = |name: &str| entries.get(name).and_then(|e| e.value.as_deref());
        if wanted.iter().all(|(name, value)| now(name) == Some(value)) {
            return Ok(());
        }
        // the request that librdkafka makes sets all that it does not name back to the default
        let mut all: BTreeMap<&str, &str> = entries
            .values()
            .filter(|e| e.source == ConfigSource::DynamicTopic)
            .filter_map(|e| Some((e.name.as_str(), e.value.as_deref()?)))
            .collect();
        all.extend(wanted.iter().map(|(name, value)| (*name, value.as_str())));
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(&spec.name));
        for (name, value) in all {
            change = change.set(name, value);
        }
        let altered = self.client.alter_configs([&change], &self.options).await;
        for result in altered.map_err(error::unavailable)? {
            result.map_err(|(_, code)| error::of_code(code, &spec.name))?;
        }
        tracing::info!(topic = spec.name, "a topic's settings were changed");
        Ok(())
    }

    fn wanted(&self, spec: &TopicSpec) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("min.insync.replicas", self.min_insync.to_string()),
            ("max.message.bytes", self.max_batch.to_string()),
            // one clock, the leader's, stamps a partition's records
            ("message.timestamp.type", "LogAppendTime".into()),
            ("unclean.leader.election.enable", "false".into()),
            // as the producer compressed it
            ("compression.type", "producer".into()),
        ];
        all.extend(retention(&spec.retention));
        all
    }
}

/// Kafka forgets whole segments only, so these are a fraction of what is kept.
fn retention(retention: &Retention) -> Vec<(&'static str, String)> {
    const HOUR: u64 = 3_600_000;
    const WEEK: u64 = 7 * 24 * HOUR;
    const GIB: u64 = 1 << 30;
    let (policy, age, bytes, roll, segment) = match retention {
        Retention::Delete { age, bytes } => {
            let age = age.map(|a| u64::try_from(a.as_millis()).unwrap_or(u64::MAX));
            let roll = age.map_or(WEEK, |a| (a / 8).clamp(HOUR, WEEK));
            let segment = bytes.map_or(GIB, |b| (b / 8).clamp(SEGMENT, GIB));
            ("delete", age, *bytes, roll, segment)
        }
        // what was superseded goes within hours, so that who reads from the oldest reads little
        Retention::Compact => ("compact", None, None, HOUR, 64 << 20),
    };
    let or_ever = |bound: Option<u64>| {
        let bound = bound.and_then(|b| i64::try_from(b).ok());
        bound.map_or_else(|| "-1".to_owned(), |b| b.to_string())
    };
    vec![
        ("cleanup.policy", policy.into()),
        ("retention.ms", or_ever(age)),
        ("retention.bytes", or_ever(bytes)),
        ("segment.ms", roll.to_string()),
        ("segment.bytes", segment.to_string()),
        ("min.cleanable.dirty.ratio", "0.2".into()),
        ("delete.retention.ms", (24 * HOUR).to_string()),
    ]
}

fn valid_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}
