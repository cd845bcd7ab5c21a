//! The section `redis` of the config.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Single Redis or Cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What the first address that answers says.
    #[default]
    Auto,
    /// One primary; with several addresses, whichever of them is the primary now.
    Single,
    /// Redis Cluster.
    Cluster,
}

/// What can be set. Times are milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `host:port`, several separated by commas: of the one Redis (and of the replicas that may take its place),
    /// or of some nodes of the Cluster; the rest of the nodes are found.
    pub addresses: String,
    /// `auto`, `single` or `cluster`.
    pub mode: Mode,
    /// What all keys begin with. The same for all services of an installation.
    pub key_prefix: String,
    /// ACL user; empty: the default user.
    pub username: String,
    /// The user's password; empty: none.
    pub password: String,
    /// Connect with TLS.
    pub tls: bool,
    /// PEM file of the authorities that Redis's certificate is checked against; empty: the system's.
    pub ca_file: String,
    /// PEM file of the certificate chain shown to Redis; empty: none.
    pub cert_file: String,
    /// PEM file of that certificate's private key.
    pub key_file: String,
    /// Longest time to connect and sign in (ms).
    pub connect_timeout_ms: u64,
    /// Longest time that Redis may take to answer a command (ms). A call, with its retries and reconnects, takes
    /// at most this and `connect_timeout_ms` together.
    pub answer_timeout_ms: u64,
    /// Most commands sent and not yet answered; more wait.
    pub in_flight: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addresses: "127.0.0.1:6379".to_owned(),
            mode: Mode::Auto,
            key_prefix: "tandem".to_owned(),
            username: String::new(),
            password: String::new(),
            tls: false,
            ca_file: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            connect_timeout_ms: 1_000,
            answer_timeout_ms: 1_000,
            in_flight: 1_024,
        }
    }
}

impl Config {
    /// The addresses, `host:port` each.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.addresses
            .split(',')
            .map(str::trim)
            .filter(|a| !a.is_empty())
    }

    /// Says what is wrong, naming the key and the fix.
    pub fn validate(&self) -> Result<(), String> {
        if self.nodes().next().is_none() {
            return Err("redis.addresses is empty: name at least one host:port".to_owned());
        }
        for address in self.nodes() {
            if split(address).is_none() {
                return Err(format!(
                    "redis.addresses has {address:?}: write it as host:port"
                ));
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        if self.key_prefix.is_empty() || !self.key_prefix.chars().all(plain) {
            return Err(
                "redis.key_prefix is empty or has others than letters, digits and ._:- in it: leave it at \
                 \"tandem\" unless several installations share one Redis"
                    .to_owned(),
            );
        }
        if !self.username.is_empty() && self.password.is_empty() {
            return Err(
                "redis.username is set and redis.password is not: set both or none".to_owned(),
            );
        }
        let files = [
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
        ];
        for (key, file) in files {
            if !file.is_empty() && !self.tls {
                return Err(format!(
                    "redis.{key} is set and redis.tls is false: set redis.tls to true"
                ));
            }
        }
        if self.cert_file.is_empty() != self.key_file.is_empty() {
            return Err(
                "of redis.cert_file and redis.key_file one is set: set both or none".to_owned(),
            );
        }
        let positive = [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("answer_timeout_ms", self.answer_timeout_ms),
            ("in_flight", self.in_flight as u64),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(format!("redis.{key} is 0: set it to at least 1"));
            }
        }
        if self.connect_timeout_ms + self.answer_timeout_ms > 5_000 {
            return Err(
                "redis.connect_timeout_ms and redis.answer_timeout_ms are over 5000 together: edges renew \
                 leases every 5 s"
                    .to_owned(),
            );
        }
        Ok(())
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }
}

/// Host and port; an IPv6 host may stand in brackets.
pub(crate) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .map_or(Some(host), |h| h.strip_suffix(']'))?;
    (!host.is_empty()).then_some(())?;
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn what_is_refused_is_named_with_the_fix() {
        let refused = |change: &dyn Fn(&mut Config), key: &str| {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert!(error.contains(key) && error.contains(": "), "{error}");
        };
        refused(&|c| c.addresses.clear(), "redis.addresses");
        refused(&|c| c.addresses = "redis".into(), "redis.addresses");
        refused(&|c| c.addresses = ":1".into(), "redis.addresses");
        refused(&|c| c.key_prefix = "a{b}".into(), "redis.key_prefix");
        refused(&|c| c.username = "tandem".into(), "redis.password");
        refused(&|c| c.ca_file = "ca.pem".into(), "redis.tls");
        refused(
            &|c| (c.tls, c.cert_file) = (true, "cert.pem".into()),
            "redis.key_file",
        );
        refused(&|c| c.in_flight = 0, "redis.in_flight");
        refused(&|c| c.answer_timeout_ms = 4_500, "redis.answer_timeout_ms");
    }

    #[test]
    fn addresses_split_at_the_last_colon() {
        assert_eq!(split("a.b:1"), Some(("a.b", 1)));
        assert_eq!(split("[::1]:6379"), Some(("::1", 6379)));
        assert_eq!(split("a:b"), None);
    }
}
