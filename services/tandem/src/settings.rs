//! The whole config: one section a service, and what they share.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tandem_chassis::{
    config::{ConfigError, Loaded, Sources, environment},
    telemetry,
};

/// Config of the program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Logs, traces, metrics.
    pub telemetry: telemetry::Config,
    /// How a stop goes.
    pub lifecycle: LifecycleSettings,
    /// Subscribers, contacts, devices.
    pub accounts: tandem_accounts::Config,
    /// Client connections.
    pub edge: tandem_edge::Config,
    /// Conversations' events.
    pub history: tandem_history::Config,
    /// Statuses.
    pub presence: tandem_presence::Config,
    /// Notifications.
    pub push: tandem_push::Config,
    /// Admission and delivery.
    pub routing: tandem_routing::Config,
}

/// Section `lifecycle`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LifecycleSettings {
    /// How long a stop may drain before it aborts, in milliseconds.
    pub drain_ms: u64,
}

impl Default for LifecycleSettings {
    fn default() -> Self {
        Self { drain_ms: 60_000 }
    }
}

/// The flags by which every command takes config.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// Read this TOML file. The environment (`TANDEM__EDGE__DRAIN_PER_S=50`) and --set win over it.
    #[arg(long, value_name = "FILE", env = "TANDEM_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one key, e.g. `--set edge.drain_per_s=50`. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".into()),
    }
}

impl ConfigArgs {
    /// Reads all sources and checks every section.
    pub fn load(&self) -> Result<Loaded<Settings>, ConfigError> {
        let sources = Sources {
            file: self.config.clone(),
            env: environment(),
            flags: self.set.clone(),
            open: &["accounts.plans", "accounts.brands"],
        };
        let loaded = sources.load::<Settings>()?;
        loaded.value.validate().map_err(ConfigError::Invalid)?;
        Ok(loaded)
    }
}

impl Settings {
    fn validate(&self) -> Result<(), String> {
        self.telemetry.validate()?;
        self.accounts.validate()?;
        self.edge.validate()?;
        self.history.validate()?;
        self.presence.validate()?;
        self.push.validate()?;
        self.routing.validate()
    }
}
