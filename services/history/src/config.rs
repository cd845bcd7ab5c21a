//! The section `history` of the configuration.

use serde::{Deserialize, Serialize};

use crate::domain::conversation::Limits;

/// Settings of history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most records that are handled, written and committed together.
    pub group_records: usize,
    /// About how many bytes of records are handled together, so that what one conversation gets of them is
    /// a write that the store takes.
    pub group_bytes: usize,
    /// While nobody waits for a sync, groups begin at least this far apart, in milliseconds: fewer and
    /// larger writes where events are few. 0: at once.
    pub linger_ms: u64,
    /// Most events in a bucket (one partition of the store).
    pub bucket_events: u64,
    /// Longest span of a bucket, from its first event, in days.
    pub bucket_days: u32,
    /// How long events are kept, in days; 0: for ever.
    pub retention_days: u32,
    /// How far back (record time, milliseconds) copies of an event are recognised from memory.
    pub copies_ms: u64,
    /// How far back (record time, milliseconds) the store is searched for an earlier copy of an event that
    /// its sender may have submitted before. A copy older than that is taken for a new event.
    pub look_back_ms: u64,
    /// Most rows of a conversation that such a search reads.
    pub look_back_rows: usize,
    /// Conversations whose state is kept in memory.
    pub cached_conversations: usize,
    /// Largest number of events in a page.
    pub page_limit: u32,
    /// How often the places of other replicas are asked for while a sync waits for them, in
    /// milliseconds, at least 250.
    pub places_poll_ms: u64,
    /// Pause before a failed write or read of the store or the log is tried again, in milliseconds; doubled
    /// up to 5 s.
    pub retry_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group_records: 4_096,
            group_bytes: 1 << 20,
            linger_ms: 50,
            bucket_events: 1_000,
            bucket_days: 30,
            retention_days: 0,
            copies_ms: 60_000,
            look_back_ms: 24 * 3_600_000,
            look_back_rows: 10_000,
            cached_conversations: 50_000,
            page_limit: 200,
            places_poll_ms: 250,
            retry_ms: 100,
        }
    }
}

impl Config {
    /// Names the first key whose value cannot be worked with, and the fix.
    pub fn validate(&self) -> Result<(), String> {
        fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(format!("history.{key} is {value}: write {least} to {most}"))
        }
        within("group_records", self.group_records as u64, 1, 100_000)?;
        within("group_bytes", self.group_bytes as u64, 65_536, 4 << 20)?;
        within("linger_ms", self.linger_ms, 0, 1_000)?;
        within("bucket_events", self.bucket_events, 1, 100_000)?;
        within("bucket_days", self.bucket_days.into(), 1, 366)?;
        within("retention_days", self.retention_days.into(), 0, 36_500)?;
        within("copies_ms", self.copies_ms, 1_000, 3_600_000)?;
        within(
            "look_back_ms",
            self.look_back_ms,
            self.copies_ms,
            30 * 86_400_000,
        )?;
        within("look_back_rows", self.look_back_rows as u64, 200, 1_000_000)?;
        within(
            "cached_conversations",
            self.cached_conversations as u64,
            1,
            10_000_000,
        )?;
        within("page_limit", self.page_limit.into(), 1, 1_000)?;
        within("places_poll_ms", self.places_poll_ms, 250, 60_000)?;
        within("retry_ms", self.retry_ms, 1, 5_000)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            bucket_events: self.bucket_events,
            bucket_ms: i64::from(self.bucket_days) * DAY_MS,
            retention_ms: i64::from(self.retention_days) * DAY_MS,
        }
    }
}

const DAY_MS: i64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config {
            places_poll_ms: 10,
            ..Config::default()
        };
        assert!(
            bad.validate()
                .unwrap_err()
                .contains("history.places_poll_ms is 10")
        );
    }
}
