//! The section `[peers]`: where the other services are, and how they are called.

use serde::{Deserialize, Serialize};

/// Where the other services are. An address is `host:port`, or several separated by commas; every
/// address that a host's name stands for is a replica (in Kubernetes: a headless service).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeersConfig {
    /// Where accounts is.
    pub accounts: String,
    /// Where history is.
    pub history: String,
    /// Where presence is.
    pub presence: String,
    /// Where provisioning is; where accounts is, if empty.
    pub provisioning: String,
    /// Where push is.
    pub push: String,
    /// Where routing is.
    pub routing: String,
    /// The name in a peer's certificate; `{service}` stands for the service's name, which is `edge` for
    /// an edge, and `accounts` for provisioning.
    pub tls_name: String,
    /// How often names are resolved, in milliseconds; also soon after a connection was lost.
    pub resolve_ms: u64,
    /// Longest time to connect, in milliseconds.
    pub connect_ms: u64,
    /// How often a peer is asked for a sign of life, in milliseconds.
    pub keepalive_ms: u64,
    /// A peer that gives no sign of life for this long after it was asked is given up, in milliseconds.
    pub keepalive_timeout_ms: u64,
    /// Longest time for a call that names none (for the answer's head, if it is a stream), in milliseconds.
    pub deadline_ms: u64,
    /// How often a call is tried again where that is safe.
    pub retries: u32,
    /// Connections to edges that are kept, at most.
    pub targets: u32,
    /// A connection to an edge that was of no use for this long is closed, in milliseconds.
    pub target_idle_ms: u64,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            accounts: String::new(),
            history: String::new(),
            presence: String::new(),
            provisioning: String::new(),
            push: String::new(),
            routing: String::new(),
            tls_name: "{service}".into(),
            resolve_ms: 2_000,
            connect_ms: 1_500,
            keepalive_ms: 2_000,
            keepalive_timeout_ms: 2_000,
            deadline_ms: 5_000,
            retries: 2,
            targets: 1_024,
            target_idle_ms: 60_000,
        }
    }
}

impl PeersConfig {
    /// Says that a service which this process calls has no address, and what to set.
    pub fn require(&self, needed: &[&str]) -> Result<(), String> {
        match needed.iter().find(|name| self.hosts(name).is_empty()) {
            Some(name) => Err(format!(
                "peers.{name} is empty: name where {name} is, as host:port"
            )),
            None => Ok(()),
        }
    }

    /// Says which key is wrong and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        for name in [
            "accounts",
            "history",
            "presence",
            "provisioning",
            "push",
            "routing",
        ] {
            if let Some(bad) = self.hosts(name).iter().find(|h| !is_host_port(h)) {
                return Err(format!("peers.{name}: {bad:?} is not host:port"));
            }
        }
        if tokio_rustls::rustls::pki_types::ServerName::try_from(self.tls_name("edge")).is_err() {
            return Err(format!(
                "peers.tls_name: {:?} is not a host name; {{service}} alone may stand in braces",
                self.tls_name
            ));
        }
        let least = [
            ("resolve_ms", self.resolve_ms, 100),
            ("connect_ms", self.connect_ms, 10),
            ("keepalive_ms", self.keepalive_ms, 10),
            ("keepalive_timeout_ms", self.keepalive_timeout_ms, 10),
            ("deadline_ms", self.deadline_ms, 10),
            ("targets", self.targets.into(), 1),
            ("target_idle_ms", self.target_idle_ms, 1_000),
        ];
        for (key, value, least) in least {
            if value < least {
                return Err(format!(
                    "peers.{key} is {value}: it must be at least {least}"
                ));
            }
        }
        if self.retries > 5 {
            return Err(format!("peers.retries is {}: at most 5", self.retries));
        }
        Ok(())
    }

    /// The hosts of the service, `host:port` each.
    pub(super) fn hosts(&self, name: &str) -> Vec<String> {
        let addresses = match name {
            "accounts" => &self.accounts,
            "history" => &self.history,
            "presence" => &self.presence,
            "provisioning" if self.provisioning.is_empty() => &self.accounts,
            "provisioning" => &self.provisioning,
            "push" => &self.push,
            "routing" => &self.routing,
            _ => return Vec::new(),
        };
        let hosts = addresses.split(',').map(str::trim);
        hosts.filter(|h| !h.is_empty()).map(str::to_owned).collect()
    }

    /// The name in the certificate of the service.
    pub(super) fn tls_name(&self, service: &str) -> String {
        let service = match service {
            "provisioning" => "accounts",
            other => other,
        };
        self.tls_name.replace("{service}", service)
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
    fn what_is_wrong_is_named_with_the_fix() {
        let good = PeersConfig {
            accounts: "accounts:7000, 10.0.0.1:7000".into(),
            ..PeersConfig::default()
        };
        good.validate().unwrap();
        good.require(&["accounts", "provisioning"]).unwrap();
        let refused = |change: fn(&mut PeersConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.validate().unwrap_err()
        };
        let missing = good.require(&["accounts", "history"]).unwrap_err();
        assert_eq!(
            missing,
            "peers.history is empty: name where history is, as host:port"
        );
        assert!(refused(|c| c.push = "push".into()).starts_with("peers.push"));
        assert!(refused(|c| c.push = "push:x".into()).starts_with("peers.push"));
        assert!(refused(|c| c.resolve_ms = 0).starts_with("peers.resolve_ms"));
        assert!(refused(|c| c.tls_name = "{name}".into()).starts_with("peers.tls_name"));
    }

    #[test]
    fn provisioning_is_where_accounts_is_unless_told() {
        let mut config = PeersConfig {
            accounts: "a:1,b:2".into(),
            ..PeersConfig::default()
        };
        assert_eq!(config.hosts("provisioning"), ["a:1", "b:2"]);
        assert_eq!(config.tls_name("provisioning"), "accounts");
        config.provisioning = "p:3".into();
        assert_eq!(config.hosts("provisioning"), ["p:3"]);
    }
}
