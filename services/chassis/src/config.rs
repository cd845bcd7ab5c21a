//! Config: defaults, one file (TOML), the environment and flags, in one typed tree.
//!
//! Later sources win. A key that is not known is refused with the nearest one that is, before
//! anything else happens. Where each value came from is remembered, and secrets are masked when shown.
//!
//! In the environment a key `edge.drain_per_s` is `TANDEM__EDGE__DRAIN_PER_S`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Prefix of the environment variables that are config.
pub const ENV_PREFIX: &str = "TANDEM__";

/// Keys that end so are never shown.
const SECRETS: [&str; 5] = ["private_key", "password", "secret", "credentials", "auth"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Why the config is refused. The process exits with 64 (EX_USAGE of sysexits.h).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {0}: {1}")]
    File(PathBuf, String),
    /// A key that nobody knows.
    #[error("config key {key} ({origin}) is not known{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// A value of the wrong type.
    #[error("config key {key} ({origin}): {reason}")]
    Type {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// A value that must not be; the text names the key and the fix.
    #[error("config: {0}")]
    Invalid(String),
}

/// What to read, lowest precedence first. Defaults come before all of them.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables, as (name, value); others than config's are passed over.
    pub env: Vec<(String, String)>,
    /// `key=value` flags; values are TOML, or text where they are not.
    pub flags: Vec<(String, String)>,
    /// Keys whose tables hold names that the operator chooses, e.g. `accounts.plans`.
    pub open: &'static [&'static str],
}

/// The environment of this process, for [`Sources::env`].
pub fn environment() -> Vec<(String, String)> {
    std::env::vars()
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .collect()
}

/// A config and where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The config.
    pub value: T,
    effective: Value,
    origins: BTreeMap<String, Origin>,
}

impl Sources {
    /// Reads all sources into one typed tree.
    pub fn load<T: Serialize + DeserializeOwned + Default>(
        &self,
    ) -> Result<Loaded<T>, ConfigError> {
        let mut effective =
            serde_json::to_value(T::default()).map_err(|e| ConfigError::Invalid(e.to_string()))?;
        let known = effective.clone();
        let mut origins = BTreeMap::new();
        if let Some(path) = &self.file {
            let bad = |e: &dyn fmt::Display| ConfigError::File(path.clone(), e.to_string());
            let text = std::fs::read_to_string(path).map_err(|e| bad(&e))?;
            let table: toml::Table = text.parse().map_err(|e: toml::de::Error| bad(&e))?;
            let tree = serde_json::to_value(table).map_err(|e| bad(&e))?;
            self.overlay(
                &known,
                &mut effective,
                &mut origins,
                "",
                tree,
                &Origin::File(path.clone()),
            )?;
        }
        for (name, value) in &self.env {
            let Some(key) = name.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let key = key.to_ascii_lowercase().replace("__", ".");
            let tree = nest(&key, scalar(value));
            self.overlay(
                &known,
                &mut effective,
                &mut origins,
                "",
                tree,
                &Origin::Env(name.clone()),
            )?;
        }
        for (key, value) in &self.flags {
            let tree = nest(key, scalar(value));
            self.overlay(
                &known,
                &mut effective,
                &mut origins,
                "",
                tree,
                &Origin::Flag,
            )?;
        }
        let value = serde_path_to_error::deserialize(effective.clone()).map_err(|e| {
            let key = e.path().to_string();
            let origin = origins.get(&key).cloned().unwrap_or(Origin::Default);
            ConfigError::Type {
                key,
                origin,
                reason: e.into_inner().to_string(),
            }
        })?;
        Ok(Loaded {
            value,
            effective,
            origins,
        })
    }

    fn overlay(
        &self,
        known: &Value,
        target: &mut Value,
        origins: &mut BTreeMap<String, Origin>,
        path: &str,
        tree: Value,
        origin: &Origin,
    ) -> Result<(), ConfigError> {
        let open = self
            .open
            .iter()
            .any(|o| path == *o || path.starts_with(&format!("{o}.")));
        match (tree, known) {
            (Value::Object(entries), Value::Object(names)) if !open => {
                for (name, value) in entries {
                    let key = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    let Some(inner) = names.get(&name) else {
                        let nearest = nearest(&key, known_keys(names, path));
                        return Err(ConfigError::Unknown {
                            key,
                            origin: origin.clone(),
                            nearest,
                        });
                    };
                    if let Some(slot) = target.as_object_mut().and_then(|t| t.get_mut(&name)) {
                        self.overlay(inner, slot, origins, &key, value, origin)?;
                    }
                }
            }
            (Value::Object(entries), _) if open => {
                for (name, value) in entries {
                    origins.insert(format!("{path}.{name}"), origin.clone());
                    merge_open(target, &name, value);
                }
            }
            (value, Value::String(_)) if value.is_number() || value.is_boolean() => {
                // "1" in the environment is text where text is wanted
                origins.insert(path.to_owned(), origin.clone());
                *target = Value::String(value.to_string());
            }
            (value, _) => {
                origins.insert(path.to_owned(), origin.clone());
                *target = value;
            }
        }
        Ok(())
    }
}

fn merge_open(target: &mut Value, name: &str, value: Value) {
    if let Value::Object(map) = target {
        match (map.get_mut(name), value) {
            (Some(slot @ Value::Object(_)), Value::Object(entries)) => {
                for (name, value) in entries {
                    merge_open(slot, &name, value);
                }
            }
            (_, value) => {
                map.insert(name.to_owned(), value);
            }
        }
    }
}

fn known_keys(names: &Map<String, Value>, path: &str) -> Vec<String> {
    let full = |n: &String| {
        if path.is_empty() {
            n.clone()
        } else {
            format!("{path}.{n}")
        }
    };
    names.keys().map(full).collect()
}

fn nearest(key: &str, known: Vec<String>) -> Option<String> {
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(key, &k), k))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

fn nest(key: &str, value: Value) -> Value {
    key.rsplit('.').fold(value, |inner, name| {
        Value::Object(Map::from_iter([(name.to_owned(), inner)]))
    })
}

fn scalar(text: &str) -> Value {
    let parsed = format!("v = {text}").parse::<toml::Table>().ok();
    let value = parsed
        .and_then(|mut t| t.remove("v"))
        .and_then(|v| serde_json::to_value(v).ok());
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

impl<T> Loaded<T> {
    /// Whether a source other than the defaults set the key.
    pub fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// The effective values, one `key = value  # origin` a line, ordered by key, secrets masked.
    pub fn show(&self) -> String {
        let mut out = String::new();
        self.lines(&self.effective, "", &mut out);
        out
    }

    fn lines(&self, value: &Value, path: &str, out: &mut String) {
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                for (name, inner) in entries {
                    let key = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    self.lines(inner, &key, out);
                }
            }
            value => {
                let origin = self.origins.get(path).unwrap_or(&Origin::Default);
                let secret = SECRETS.iter().any(|s| path.ends_with(s))
                    && value.as_str().is_none_or(|s| !s.is_empty());
                let shown = if secret {
                    "\"***\"".to_owned()
                } else {
                    value.to_string()
                };
                // writing to a String cannot fail
                let _ = writeln!(out, "{path} = {shown}  # {origin}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Tree {
        edge: Edge,
        plans: BTreeMap<String, Vec<String>>,
    }

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Edge {
        drain_rate: u32,
        name: String,
        private_key: String,
    }

    impl Default for Edge {
        fn default() -> Self {
            Self {
                drain_rate: 10,
                name: "e".into(),
                private_key: String::new(),
            }
        }
    }

    impl Default for Tree {
        fn default() -> Self {
            let plans = BTreeMap::from([("basic".to_owned(), vec!["pc".to_owned()])]);
            Self {
                edge: Edge::default(),
                plans,
            }
        }
    }

    fn flags(pairs: &[(&str, &str)]) -> Sources {
        let flags = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Sources {
            flags,
            open: &["plans"],
            ..Sources::default()
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = flags(&[("edge.drain_rat", "1")])
            .load::<Tree>()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "config key edge.drain_rat (flag) is not known; did you mean edge.drain_rate?"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_names_its_key_and_origin() {
        let error = flags(&[("edge.drain_rate", "\"fast\"")])
            .load::<Tree>()
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("config key edge.drain_rate (flag): invalid type"),
            "{error}"
        );
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let dir = std::env::temp_dir().join(format!("tandem-config-{}", std::process::id()));
        std::fs::write(
            &dir,
            "[edge]\ndrain_rate = 1\nname = \"file\"\nprivate_key = \"k\"\n",
        )
        .unwrap();
        let mut sources = flags(&[("edge.drain_rate", "3")]);
        sources.file = Some(dir.clone());
        sources.env = vec![
            ("TANDEM__EDGE__DRAIN_RATE".into(), "2".into()),
            ("TANDEM__EDGE__NAME".into(), "17".into()),
        ];
        let loaded = sources.load::<Tree>().unwrap();
        std::fs::remove_file(dir).unwrap();
        assert_eq!(loaded.value.edge.drain_rate, 3);
        assert_eq!(loaded.value.edge.name, "17");
        let shown = loaded.show();
        assert!(
            shown.contains("edge.name = \"17\"  # env TANDEM__EDGE__NAME"),
            "{shown}"
        );
        assert!(
            shown.contains("edge.private_key = \"***\"  # file "),
            "{shown}"
        );
        assert!(shown.contains("edge.drain_rate = 3  # flag"), "{shown}");
    }

    #[test]
    fn names_that_the_operator_chooses_are_taken() {
        let loaded = flags(&[("plans.gold", "[\"pc\", \"mobile\"]")])
            .load::<Tree>()
            .unwrap();
        assert_eq!(loaded.value.plans.len(), 2);
    }
}
