//! The section `presence` of the config.

use serde::{Deserialize, Serialize};

/// What can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often statuses that are due are looked for, in milliseconds.
    pub sweep_ms: u64,
    /// Users whose statuses are settled in one round trip.
    pub settle_batch: usize,
    /// Users who are looked up in one round trip.
    pub reach_batch: usize,
    /// Sessions that one batch for an edge names at most.
    pub edge_batch: usize,
    /// Parcels that wait for one edge; beyond it statuses are dropped until their next change.
    pub edge_queue: usize,
    /// How long an edge may take for a batch, in milliseconds.
    pub edge_timeout_ms: u64,
    /// After how many milliseconds without anything for an edge its stream is closed.
    pub edge_idle_ms: u64,
    /// How long accounts may take for an answer, in milliseconds.
    pub accounts_timeout_ms: u64,
    /// Contacts whose relations are kept in memory, counted over all users.
    pub contacts_cached: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sweep_ms: 1_000,
            settle_batch: 512,
            reach_batch: 1_024,
            edge_batch: 8_192,
            edge_queue: 256,
            edge_timeout_ms: 2_000,
            edge_idle_ms: 60_000,
            accounts_timeout_ms: 2_000,
            contacts_cached: 2_000_000,
        }
    }
}

impl Config {
    /// Says what is wrong, naming the key and the fix.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("settle_batch", self.settle_batch as u64),
            ("reach_batch", self.reach_batch as u64),
            ("edge_batch", self.edge_batch as u64),
            ("edge_queue", self.edge_queue as u64),
            ("edge_timeout_ms", self.edge_timeout_ms),
            ("edge_idle_ms", self.edge_idle_ms),
            ("accounts_timeout_ms", self.accounts_timeout_ms),
            ("contacts_cached", self.contacts_cached),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(format!("presence.{key} is 0: set it to at least 1"));
            }
        }
        if !(100..=5_000).contains(&self.sweep_ms) {
            return Err(
                "presence.sweep_ms is outside 100 to 5000: a crash must show within 20 s"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_bad_value_is_refused_by_its_key() {
        let bad = Config {
            edge_batch: 0,
            ..Config::default()
        };
        assert!(bad.validate().unwrap_err().contains("presence.edge_batch"));
        let bad = Config {
            sweep_ms: 60_000,
            ..Config::default()
        };
        assert!(bad.validate().unwrap_err().contains("presence.sweep_ms"));
    }
}
