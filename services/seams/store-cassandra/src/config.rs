//! The section `cassandra` of the config.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// How Cassandra or ScyllaDB is reached and used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Nodes to begin with, `host:port`, separated by commas; the others are found through them.
    pub contact_points: String,
    /// The keyspace that holds the tables.
    pub keyspace: String,
    /// The data centre to which all requests go, by the name that the cluster gives it; empty: whichever the
    /// nodes are in, for a cluster that has only one.
    pub local_datacenter: String,
    /// Copies of each row, when the keyspace is made: `dc1:3` or `dc1:3,dc2:3` by data centre, or
    /// `SimpleStrategy:3` without regard to them.
    pub replication: String,
    /// Whether the keyspace and tables that are missing are made and others' options changed. `tandem
    /// migrate` does so; a service only looks whether they are there.
    pub create_tables: bool,
    /// Who we are; empty: nobody is asked.
    pub username: String,
    /// The password.
    pub password: String,
    /// Whether connections are encrypted. A node's certificate must name its address.
    pub tls: bool,
    /// PEM file of the authorities that nodes' certificates must come from; empty: the system's.
    pub ca_file: String,
    /// PEM file of our own certificate, where nodes ask for one.
    pub cert_file: String,
    /// PEM file of its key.
    pub key_file: String,
    /// How long making a connection may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long one attempt at a request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// How often a request is tried that may be tried again.
    pub attempts: u32,
    /// A node that answers nothing for this long is not asked any more until it does, in milliseconds.
    pub node_timeout_ms: u64,
    /// Most requests that are under way at once.
    pub max_in_flight: usize,
    /// Most requests that wait to be under way; beyond it they are refused at once.
    pub max_waiting: usize,
    /// How long a request waits to be under way before it is refused, in milliseconds.
    pub wait_timeout_ms: u64,
    /// Options of tables' compaction, by table, as CQL names them; for tables left out the server chooses.
    /// Where rows are written with versions these stand for the time of writing, and a window's milliseconds
    /// are events of one partition of the log: a day's are 86,400,000 events.
    pub compaction: BTreeMap<String, BTreeMap<String, String>>,
}

impl Default for Config {
    fn default() -> Self {
        let windows = [
            ("class", "TimeWindowCompactionStrategy"),
            ("compaction_window_unit", "DAYS"),
            ("compaction_window_size", "1"),
            ("timestamp_resolution", "MILLISECONDS"),
            // a conversation's head never expires, so files are never dropped whole: they are written
            // anew without what has expired, once that is a fifth
            ("tombstone_threshold", "0.2"),
            ("tombstone_compaction_interval", "86400"),
            ("unchecked_tombstone_compaction", "true"),
        ];
        let windows: BTreeMap<String, String> = windows
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            contact_points: "127.0.0.1:9042".into(),
            keyspace: "tandem".into(),
            local_datacenter: String::new(),
            replication: "SimpleStrategy:3".into(),
            create_tables: false,
            username: String::new(),
            password: String::new(),
            tls: false,
            ca_file: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            connect_timeout_ms: 3_000,
            request_timeout_ms: 3_000,
            attempts: 3,
            node_timeout_ms: 2_000,
            max_in_flight: 256,
            max_waiting: 4_096,
            wait_timeout_ms: 3_000,
            compaction: BTreeMap::from([("history_events".to_owned(), windows)]),
        }
    }
}

impl Config {
    /// Says which key is wrong and what to do about it.
    pub fn validate(&self) -> Result<(), String> {
        if self.contact_points().any(str::is_empty) {
            return Err(format!(
                "cassandra.contact_points is {:?}: set it to host:port, or several separated by commas",
                self.contact_points
            ));
        }
        if !is_name(&self.keyspace, 48) {
            return Err(format!(
                "cassandra.keyspace is {:?}: set it to at most 48 of a-z 0-9 _, a letter first",
                self.keyspace
            ));
        }
        self.replication_cql()?;
        if self.username.is_empty() != self.password.is_empty() {
            return Err("set both of cassandra.username and cassandra.password, or neither".into());
        }
        if self.cert_file.is_empty() != self.key_file.is_empty() {
            return Err(
                "set both of cassandra.cert_file and cassandra.key_file, or neither".into(),
            );
        }
        for (key, file) in [("ca_file", &self.ca_file), ("cert_file", &self.cert_file)] {
            if !file.is_empty() && !self.tls {
                return Err(format!(
                    "cassandra.{key} is of no use without TLS: set cassandra.tls to true"
                ));
            }
        }
        for (key, value, most) in [
            ("connect_timeout_ms", self.connect_timeout_ms, 60_000),
            ("request_timeout_ms", self.request_timeout_ms, 60_000),
            ("attempts", self.attempts.into(), 10),
            ("node_timeout_ms", self.node_timeout_ms, 60_000),
            ("max_in_flight", self.max_in_flight as u64, 16_384),
            ("max_waiting", self.max_waiting as u64, 1_000_000),
            ("wait_timeout_ms", self.wait_timeout_ms, 60_000),
        ] {
            if value == 0 || value > most {
                return Err(format!("cassandra.{key} is {value}: set it to 1 to {most}"));
            }
        }
        for (table, options) in &self.compaction {
            let words = || options.iter().flat_map(|(name, value)| [name, value]);
            if !is_name(table, 40) || words().any(|w| w.contains('\'')) {
                return Err(format!(
                    "cassandra.compaction.{table} cannot be put in CQL: name a table, and options without quotes"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn contact_points(&self) -> impl Iterator<Item = &str> {
        self.contact_points.split(',').map(str::trim)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// The keyspace's replication as CQL.
    pub(crate) fn replication_cql(&self) -> Result<String, String> {
        let wrong = || {
            format!(
                "cassandra.replication is {:?}: set it to dc:3 (several separated by commas), or SimpleStrategy:3",
                self.replication
            )
        };
        let mut copies = Vec::new();
        for part in self.replication.split(',') {
            let (name, count) = part.trim().rsplit_once(':').ok_or_else(wrong)?;
            let count: u8 = count.trim().parse().map_err(|_| wrong())?;
            if name.is_empty() || name.contains('\'') || count == 0 {
                return Err(wrong());
            }
            copies.push((name.trim(), count));
        }
        if let [("SimpleStrategy", count)] = copies[..] {
            return Ok(format!(
                "{{'class': 'SimpleStrategy', 'replication_factor': {count}}}"
            ));
        }
        if copies.iter().any(|(name, _)| *name == "SimpleStrategy") {
            return Err(wrong());
        }
        let copies: Vec<String> = copies
            .iter()
            .map(|(name, count)| format!("'{name}': {count}"))
            .collect();
        Ok(format!(
            "{{'class': 'NetworkTopologyStrategy', {}}}",
            copies.join(", ")
        ))
    }

    /// A table's compaction as CQL, if it is ours to say.
    pub(crate) fn compaction_cql(&self, table: &str) -> Option<String> {
        let options = self.compaction.get(table).filter(|o| !o.is_empty())?;
        let options: Vec<String> = options
            .iter()
            .map(|(name, value)| format!("'{name}': '{value}'"))
            .collect();
        Some(format!("{{{}}}", options.join(", ")))
    }
}

/// A name that CQL takes without quotes.
pub(crate) fn is_name(name: &str, most: usize) -> bool {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= most && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn replication_by_data_centre_or_without() {
        let cql = |replication: &str| {
            Config {
                replication: replication.into(),
                ..Config::default()
            }
            .replication_cql()
        };
        assert_eq!(
            cql("SimpleStrategy:3").unwrap(),
            "{'class': 'SimpleStrategy', 'replication_factor': 3}"
        );
        assert_eq!(
            cql("dc1:3, dc2:2").unwrap(),
            "{'class': 'NetworkTopologyStrategy', 'dc1': 3, 'dc2': 2}"
        );
        for wrong in [
            "",
            "3",
            "dc1",
            "dc1:0",
            "dc1:x",
            "d'c:3",
            "SimpleStrategy:3,dc1:3",
        ] {
            assert!(
                cql(wrong).unwrap_err().contains("cassandra.replication"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        type Break = fn(&mut Config);
        let wrong: [(&str, Break); 8] = [
            ("contact_points", |c| c.contact_points = "a:1,".into()),
            ("keyspace", |c| c.keyspace = "Tandem".into()),
            ("password", |c| c.username = "u".into()),
            ("key_file", |c| c.cert_file = "c.pem".into()),
            ("tls", |c| c.ca_file = "ca.pem".into()),
            ("attempts", |c| c.attempts = 0),
            ("max_in_flight", |c| c.max_in_flight = 0),
            ("compaction.t", |c| {
                c.compaction
                    .insert("t".into(), [("a'".into(), "b".into())].into());
            }),
        ];
        for (key, break_it) in wrong {
            let mut config = Config::default();
            break_it(&mut config);
            let error = config.validate().unwrap_err();
            assert!(
                error.contains(&format!("cassandra.{key}")),
                "{key}: {error}"
            );
        }
    }
}
