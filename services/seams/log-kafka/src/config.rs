//! The section `kafka` of the config.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How Kafka is reached and used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Brokers to begin with, `host:port`, separated by commas; the others are found through them.
    pub brokers: String,
    /// How connections are secured: `plaintext`, `tls`, `sasl_plaintext` or `sasl_tls`.
    pub security: Security,
    /// With `sasl_…`: `SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`.
    pub mechanism: Mechanism,
    /// With `sasl_…`: who we are.
    pub username: String,
    /// With `sasl_…`: its password.
    pub password: String,
    /// PEM file of the authorities that brokers' certificates must come from; empty: the system's.
    pub ca_file: String,
    /// PEM file of our own certificate, where brokers ask for one.
    pub cert_file: String,
    /// PEM file of its key.
    pub key_file: String,
    /// The key's password; empty: it has none.
    pub key_password: String,
    /// Our name in the brokers' logs and quotas.
    pub client_id: String,
    /// Whether topics that are missing are made, and others' retention changed. `tandem migrate` does so; a
    /// service only looks whether they are there.
    pub create_topics: bool,
    /// Copies of each partition of a topic that is made.
    pub replication: u16,
    /// Copies that must have a record before it counts as appended (`min.insync.replicas` of a topic that is made).
    pub min_insync: u16,
    /// How long an append is tried before its outcome is given up as not known, in milliseconds. Well under the
    /// minute in which readers know a late first copy again.
    pub delivery_timeout_ms: u64,
    /// How long one request to a broker may take, in milliseconds; a broker that hangs is noticed after that.
    pub request_timeout_ms: u64,
    /// How long an append waits for others to go with it, in microseconds. Under load groups form by themselves.
    pub linger_us: u64,
    /// How batches are compressed: `none`, `lz4` or `zstd`.
    pub compression: Compression,
    /// Largest record, key and headers included, in bytes.
    pub max_record_bytes: usize,
    /// Most that waits in memory to be appended, in bytes; beyond it appends are refused as unavailable.
    pub buffer_bytes: u64,
    /// Most that is fetched ahead of each reader, in bytes.
    pub fetch_bytes: u64,
    /// Further properties of librdkafka, by its own names, for all clients.
    pub properties: BTreeMap<String, String>,
}

/// How connections are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Not at all.
    Plaintext,
    /// TLS.
    Tls,
    /// Authenticated, in the clear.
    SaslPlaintext,
    /// Authenticated, over TLS.
    SaslTls,
}

/// How we authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    /// RFC 7677 with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 4616: the broker sees the password.
    #[serde(rename = "PLAIN")]
    Plain,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// Quickest.
    Lz4,
    /// Smallest.
    Zstd,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            security: Security::Plaintext,
            mechanism: Mechanism::ScramSha512,
            username: String::new(),
            password: String::new(),
            ca_file: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            key_password: String::new(),
            client_id: "tandem".into(),
            create_topics: false,
            replication: 3,
            min_insync: 2,
            delivery_timeout_ms: 20_000,
            request_timeout_ms: 5_000,
            linger_us: 0,
            compression: Compression::Zstd,
            max_record_bytes: 1 << 20,
            buffer_bytes: 64 << 20,
            fetch_bytes: 16 << 20,
            properties: BTreeMap::new(),
        }
    }
}

/// Room for what Kafka puts around a record.
const FRAME: usize = 64 << 10;

/// Properties that the guarantees rest on, or that have a key of their own.
const OURS: [&str; 21] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "message.timeout.ms",
    "request.required.acks",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.key.password",
    "transactional.id",
];

impl Config {
    /// Says which key is wrong and what to do about it.
    pub fn validate(&self) -> Result<(), String> {
        if self.brokers.split(',').any(|b| !is_host_port(b.trim())) {
            return Err(format!(
                "kafka.brokers is {:?}: set it to host:port, or several separated by commas",
                self.brokers
            ));
        }
        if self.sasl() && (self.username.is_empty() || self.password.is_empty()) {
            return Err(
                "kafka.security asks for authentication: set kafka.username and kafka.password"
                    .into(),
            );
        }
        if self.cert_file.is_empty() != self.key_file.is_empty() {
            return Err("set both of kafka.cert_file and kafka.key_file, or neither".into());
        }
        for (key, file) in [
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
        ] {
            if !file.is_empty() && !self.tls() {
                return Err(format!(
                    "kafka.{key} is of no use without TLS: set kafka.security to tls or sasl_tls"
                ));
            }
        }
        if self.replication == 0 || self.min_insync == 0 || self.min_insync > self.replication {
            return Err(format!(
                "kafka.min_insync is {}: set it to at least 1 and at most kafka.replication ({})",
                self.min_insync, self.replication
            ));
        }
        if !(1_000..=20_000).contains(&self.request_timeout_ms) {
            return Err(format!(
                "kafka.request_timeout_ms is {}: set it to 1000 up to 20000",
                self.request_timeout_ms
            ));
        }
        if self.delivery_timeout_ms < 2 * self.request_timeout_ms
            || self.delivery_timeout_ms > 40_000
        {
            return Err(format!(
                "kafka.delivery_timeout_ms is {}: set it to at least twice kafka.request_timeout_ms ({}) and at most 40000",
                self.delivery_timeout_ms, self.request_timeout_ms
            ));
        }
        if self.linger_us > 1_000_000 {
            return Err(format!(
                "kafka.linger_us is {}: set it to at most 1000000",
                self.linger_us
            ));
        }
        if !(1 << 10..=64 << 20).contains(&self.max_record_bytes) {
            return Err(format!(
                "kafka.max_record_bytes is {}: set it to 1024 up to 67108864",
                self.max_record_bytes
            ));
        }
        for (key, bytes) in [
            ("buffer_bytes", self.buffer_bytes),
            ("fetch_bytes", self.fetch_bytes),
        ] {
            if !(1 << 20..=1 << 30).contains(&bytes) {
                return Err(format!(
                    "kafka.{key} is {bytes}: set it to 1048576 up to 1073741824"
                ));
            }
        }
        if let Some(key) = self.properties.keys().find(|k| OURS.contains(&k.as_str())) {
            return Err(format!(
                "kafka.properties.{key} is not to be set: remove it, or use the key of kafka that is for it"
            ));
        }
        Ok(())
    }

    pub(crate) fn tls(&self) -> bool {
        matches!(self.security, Security::Tls | Security::SaslTls)
    }

    pub(crate) fn sasl(&self) -> bool {
        matches!(self.security, Security::SaslPlaintext | Security::SaslTls)
    }

    /// The largest batch, bytes.
    pub(crate) fn max_batch(&self) -> usize {
        self.max_record_bytes + FRAME
    }
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_known_to_librdkafka() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        for c in [config.producer(), config.consumer("g")] {
            c.create_native_config().unwrap();
        }
    }

    #[test]
    fn a_bad_value_names_its_key() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 10] = [
            ("kafka.brokers", |c| c.brokers = "broker".into()),
            ("kafka.brokers", |c| c.brokers = "a:1,,b:2".into()),
            ("kafka.username", |c| c.security = Security::SaslTls),
            ("kafka.key_file", |c| {
                c.security = Security::Tls;
                c.cert_file = "c".into();
            }),
            ("kafka.ca_file", |c| c.ca_file = "c".into()),
            ("kafka.min_insync", |c| c.min_insync = 4),
            ("kafka.request_timeout_ms", |c| c.request_timeout_ms = 1),
            ("kafka.delivery_timeout_ms", |c| {
                c.delivery_timeout_ms = 60_000;
            }),
            ("kafka.buffer_bytes", |c| c.buffer_bytes = 0),
            ("kafka.properties.acks", |c| {
                c.properties.insert("acks".into(), "1".into());
            }),
        ];
        for (key, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            let said = config.validate().unwrap_err();
            assert!(said.contains(key), "{said}");
        }
    }
}
