//! routing's section of the config.

use serde::{Deserialize, Serialize};

/// routing's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Partitions of the conversations' topic; only takes effect when the topic is made.
    pub partitions: u32,
    /// How long the log keeps events, in milliseconds; readers that lag more than that lose events.
    pub log_retention_ms: u64,
    /// Largest text, in bytes of UTF-8.
    pub text_bytes: usize,
    /// Events a second that one sender may submit through this replica, sustained. Receipts and
    /// resent events are not counted.
    pub events_per_s: u32,
    /// Burst of one sender's events.
    pub events_burst: u32,
    /// Most events that go to the log in one append.
    pub append_group: usize,
    /// Items that a submit stream may have waiting before it is no longer read.
    pub stream_queue: usize,
    /// Longest wait for an answer of accounts, in milliseconds.
    pub accounts_timeout_ms: u64,
    /// Longest wait for an answer of history at admission, in milliseconds.
    pub history_timeout_ms: u64,
    /// Longest wait for an answer of history at delivery, in milliseconds; without one, delivery goes on.
    pub deliver_lookup_timeout_ms: u64,
    /// How long accounts or history is not asked again after it did not answer, in milliseconds.
    pub peer_cooldown_ms: u64,
    /// What a sender is told to wait when a service behind routing does not answer, in milliseconds.
    pub retry_after_ms: u32,
    /// Subscribers whose relations are kept in memory.
    pub relations_cached: u64,
    /// How long relations are used without having been confirmed, in milliseconds; changes arrive at once
    /// through the topic `accounts`.
    pub relations_refresh_ms: u64,
    /// How long a group's row may have been read before while another replica reads its partition, in
    /// milliseconds.
    pub directory_fresh_ms: u64,
    /// Conversations, for each partition, whose newest events and marks are kept in memory for receipts.
    pub recent_conversations: usize,
    /// How far back copies of an event are found in memory, in milliseconds of the log's time.
    pub dedupe_ms: u64,
    /// What waited here longer than this is appended as what may be in the log already, in milliseconds. Less
    /// than edges wait for an answer.
    pub late_ms: u64,
    /// How long an edge may take to acknowledge a batch before its sessions are flagged for resync, in
    /// milliseconds.
    pub edge_ack_timeout_ms: u64,
    /// How long an edge that did not acknowledge is not tried again, in milliseconds.
    pub edge_cooldown_ms: u64,
    /// How long a stream to an edge stays open without use, in milliseconds.
    pub edge_idle_ms: u64,
    /// Most events delivered as one batch.
    pub deliver_group: usize,
    /// Batches of a partition that may be on their way to edges at once.
    pub deliver_in_flight: usize,
    /// Events of a partition that may wait in memory before reading it pauses.
    pub partition_queue: usize,
    /// Typing signals that may wait; more are dropped.
    pub typing_queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partitions: 16,
            log_retention_ms: 7 * 24 * 3_600_000,
            text_bytes: 16 * 1024,
            events_per_s: 200,
            events_burst: 1_000,
            append_group: 1_024,
            stream_queue: 16_384,
            accounts_timeout_ms: 1_000,
            history_timeout_ms: 1_000,
            deliver_lookup_timeout_ms: 300,
            peer_cooldown_ms: 1_000,
            retry_after_ms: 1_000,
            relations_cached: 200_000,
            relations_refresh_ms: 600_000,
            directory_fresh_ms: 2_000,
            recent_conversations: 20_000,
            dedupe_ms: 60_000,
            late_ms: 10_000,
            edge_ack_timeout_ms: 3_000,
            edge_cooldown_ms: 5_000,
            edge_idle_ms: 60_000,
            deliver_group: 512,
            deliver_in_flight: 64,
            partition_queue: 8_192,
            typing_queue: 1_024,
        }
    }
}

impl Config {
    /// Names the key that is wrong and how to put it right.
    pub fn validate(&self) -> Result<(), String> {
        if self.partitions == 0 || self.partitions > 4_096 {
            return Err("routing.partitions: write 1 to 4096".into());
        }
        if self.text_bytes == 0 || self.text_bytes > 60 * 1024 {
            return Err("routing.text_bytes: write 1 to 61440".into());
        }
        let positive = [
            ("events_per_s", u64::from(self.events_per_s)),
            ("events_burst", u64::from(self.events_burst)),
            ("append_group", self.append_group as u64),
            ("stream_queue", self.stream_queue as u64),
            ("accounts_timeout_ms", self.accounts_timeout_ms),
            ("history_timeout_ms", self.history_timeout_ms),
            ("deliver_lookup_timeout_ms", self.deliver_lookup_timeout_ms),
            ("retry_after_ms", u64::from(self.retry_after_ms)),
            ("relations_cached", self.relations_cached),
            ("relations_refresh_ms", self.relations_refresh_ms),
            ("directory_fresh_ms", self.directory_fresh_ms),
            ("recent_conversations", self.recent_conversations as u64),
            ("edge_ack_timeout_ms", self.edge_ack_timeout_ms),
            ("edge_idle_ms", self.edge_idle_ms),
            ("deliver_group", self.deliver_group as u64),
            ("deliver_in_flight", self.deliver_in_flight as u64),
            ("partition_queue", self.partition_queue as u64),
            ("typing_queue", self.typing_queue as u64),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("routing.{key}: write at least 1"));
        }
        if self.dedupe_ms < 60_000 {
            return Err(
                "routing.dedupe_ms: write at least 60000, as resends are bounded by it".into(),
            );
        }
        if self.late_ms >= self.dedupe_ms {
            return Err("routing.late_ms: write less than routing.dedupe_ms".into());
        }
        if self.log_retention_ms < 2 * self.dedupe_ms {
            return Err("routing.log_retention_ms: write at least twice routing.dedupe_ms".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_wrong_key_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let wrong = Config {
            deliver_group: 0,
            ..Config::default()
        };
        assert!(
            wrong
                .validate()
                .unwrap_err()
                .starts_with("routing.deliver_group:")
        );
        let short = Config {
            dedupe_ms: 1,
            ..Config::default()
        };
        assert!(
            short
                .validate()
                .unwrap_err()
                .starts_with("routing.dedupe_ms:")
        );
    }
}
