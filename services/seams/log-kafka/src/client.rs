//! What librdkafka is told because of the config.

use rdkafka::ClientConfig;

use crate::{Compression, Config, Mechanism, Security};

impl Config {
    /// What all clients have in common.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut c = ClientConfig::new();
        let timeout = self.request_timeout_ms.to_string();
        c.set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("allow.auto.create.topics", "false")
            .set("socket.timeout.ms", &timeout)
            .set("socket.connection.setup.timeout.ms", &timeout)
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500")
            // a topic that was just made is waited for so long; one that is not there is known after it
            .set("topic.metadata.propagation.max.ms", "8000")
            .set("log.connection.close", "false");
        c.set(
            "security.protocol",
            match self.security {
                Security::Plaintext => "plaintext",
                Security::Tls => "ssl",
                Security::SaslPlaintext => "sasl_plaintext",
                Security::SaslTls => "sasl_ssl",
            },
        );
        if self.sasl() {
            c.set(
                "sasl.mechanism",
                match self.mechanism {
                    Mechanism::ScramSha512 => "SCRAM-SHA-512",
                    Mechanism::ScramSha256 => "SCRAM-SHA-256",
                    Mechanism::Plain => "PLAIN",
                },
            )
            .set("sasl.username", &self.username)
            .set("sasl.password", &self.password);
        }
        for (name, value) in [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.cert_file),
            ("ssl.key.location", &self.key_file),
            ("ssl.key.password", &self.key_password),
        ] {
            if !value.is_empty() {
                c.set(name, value);
            }
        }
        c
    }

    /// What appends.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut c = self.client();
        c.set("enable.idempotence", "true")
            .set("acks", "all")
            // the other half may have been spent waiting for its turn
            .set(
                "delivery.timeout.ms",
                (self.delivery_timeout_ms / 2).to_string(),
            )
            .set("request.timeout.ms", self.request_timeout_ms.to_string())
            .set("linger.ms", (self.linger_us as f64 / 1e3).to_string())
            .set(
                "compression.type",
                match self.compression {
                    Compression::None => "none",
                    Compression::Lz4 => "lz4",
                    Compression::Zstd => "zstd",
                },
            )
            .set("message.max.bytes", self.max_batch().to_string())
            .set(
                "queue.buffering.max.kbytes",
                (self.buffer_bytes >> 9).to_string(),
            )
            .set("queue.buffering.max.messages", "0");
        self.with_properties(c)
    }

    /// What reads, as `group`, beginning where it is told and ending at nothing.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut c = self.client();
        c.set("group.id", group)
            .set("group.protocol", "consumer")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // an offset that was forgotten is gone on from at the oldest one that is kept
            .set("auto.offset.reset", "earliest")
            // nothing is read before it is durable, as nobody appends in transactions
            .set("isolation.level", "read_uncommitted")
            .set("check.crcs", "true")
            // who does not ask for records so long gives its partitions to others
            .set("max.poll.interval.ms", "60000")
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "250")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.min.messages", "10000")
            .set(
                "queued.max.messages.kbytes",
                (self.fetch_bytes >> 10).to_string(),
            );
        self.with_properties(c)
    }

    fn with_properties(&self, mut c: ClientConfig) -> ClientConfig {
        for (name, value) in &self.properties {
            c.set(name, value);
        }
        c
    }
}
