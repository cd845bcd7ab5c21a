//! Push's section of the config.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Push's config. Times are milliseconds.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a device may take to confirm an event before the person is notified (ms).
    pub window_ms: u64,
    /// How often the window is looked at when nothing is read (ms).
    pub tick_ms: u64,
    /// How often the place in the log is committed (ms).
    pub commit_ms: u64,
    /// How long a push service keeps a notification for a device that is off (ms). Older events are not
    /// notified of at all.
    pub ttl_ms: u64,
    /// Longest text in a notification (bytes of UTF-8).
    pub text_bytes: usize,
    /// Longest time to connect to a push service (ms).
    pub connect_timeout_ms: u64,
    /// Longest time that a push service may take to answer (ms).
    pub send_timeout_ms: u64,
    /// Longest time that accounts, routing and the ephemeral store may take to answer (ms).
    pub call_timeout_ms: u64,
    /// Delay after a first failure, doubling with each further one (ms).
    pub retry_first_ms: u64,
    /// Longest delay between attempts (ms).
    pub retry_max_ms: u64,
    /// Longest time for which a notification is tried before it is parked on `push.dead` (ms).
    pub retry_total_ms: u64,
    /// Most attempts before a notification is parked.
    pub retry_attempts: u32,
    /// Most notifications that wait for another attempt; beyond it a failing one is parked at once.
    pub retrying: usize,
    /// Most notifications under way; beyond it nothing more is read.
    pub in_flight: usize,
    /// Most requests at once to one push service.
    pub per_service: usize,
    /// Groups remembered for each partition.
    pub groups: usize,
    /// VAPID private key (RFC 8292): P-256, as PKCS#8 PEM or base64url of its 32 octets. Empty: no
    /// Web Push.
    pub vapid_private_key: String,
    /// Whom push services write to about our traffic: a `mailto:` or `https:` address.
    pub vapid_subject: String,
    /// Send to `http:` endpoints, which devices may name only where accounts takes them, too
    /// (`accounts.allow_http_endpoints`). For tests on one machine only.
    pub allow_http_endpoints: bool,
    /// Accept endpoints at private and loopback addresses. Devices name the endpoints, so this lets any
    /// subscriber make push send requests into the operator's own network: for tests only.
    pub allow_private_endpoints: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window_ms: 5_000,
            tick_ms: 200,
            commit_ms: 1_000,
            ttl_ms: 24 * 3_600_000,
            text_bytes: 1_024,
            connect_timeout_ms: 5_000,
            send_timeout_ms: 10_000,
            call_timeout_ms: 2_000,
            retry_first_ms: 1_000,
            retry_max_ms: 60_000,
            retry_total_ms: 300_000,
            retry_attempts: 8,
            retrying: 10_000,
            in_flight: 20_000,
            per_service: 64,
            groups: 10_000,
            vapid_private_key: String::new(),
            vapid_subject: String::new(),
            allow_http_endpoints: false,
            allow_private_endpoints: false,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = self.clone();
        if !shown.vapid_private_key.is_empty() {
            shown.vapid_private_key = "(set)".into();
        }
        match serde_json::to_string(&shown) {
            Ok(json) => f.write_str(&json),
            Err(_) => f.write_str("Config"),
        }
    }
}

impl Config {
    /// Checks the values; the text names the key and the fix.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("window_ms", self.window_ms),
            ("tick_ms", self.tick_ms),
            ("commit_ms", self.commit_ms),
            ("ttl_ms", self.ttl_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("send_timeout_ms", self.send_timeout_ms),
            ("call_timeout_ms", self.call_timeout_ms),
            ("retry_first_ms", self.retry_first_ms),
            ("retry_max_ms", self.retry_max_ms),
            ("retry_attempts", u64::from(self.retry_attempts)),
            ("in_flight", self.in_flight as u64),
            ("per_service", self.per_service as u64),
            ("groups", self.groups as u64),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(format!("push.{key} is 0: set it to at least 1"));
            }
        }
        if self.window_ms > 60_000 {
            return Err(format!(
                "push.window_ms is {}: set it to at most 60000",
                self.window_ms
            ));
        }
        if self.text_bytes > 3_000 {
            return Err(format!(
                "push.text_bytes is {}: set it to at most 3000",
                self.text_bytes
            ));
        }
        if self.vapid_private_key.is_empty() {
            return Ok(());
        }
        crate::web_push::vapid::VapidKey::from_text(&self.vapid_private_key)
            .map_err(|e| format!("push.vapid_private_key: {e}"))?;
        let subject = &self.vapid_subject;
        if !subject.starts_with("mailto:") && !subject.starts_with("https:") {
            return Err(
                "push.vapid_subject: give a mailto: or https: address of the operator".into(),
            );
        }
        Ok(())
    }

    pub(crate) fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_a_bad_value_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let zero = Config {
            window_ms: 0,
            ..Config::default()
        };
        assert!(zero.validate().unwrap_err().starts_with("push.window_ms"));
        let key = Config {
            vapid_private_key: "nonsense".into(),
            ..Config::default()
        };
        assert!(
            key.validate()
                .unwrap_err()
                .starts_with("push.vapid_private_key")
        );
    }

    #[test]
    fn the_private_key_is_not_shown() {
        let config = Config {
            vapid_private_key: "s3cret".into(),
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
