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
    /// Where a service of its own process listens.
    #[cfg(feature = "engines")]
    pub server: ServerSettings,
    /// Where the other services are.
    #[cfg(feature = "engines")]
    pub peers: tandem_chassis::grpc::PeersConfig,
    /// Certificates between the services.
    #[cfg(feature = "engines")]
    pub tls: tandem_chassis::tls::Config,
    /// The log.
    #[cfg(feature = "engines")]
    pub kafka: tandem_log_kafka::Config,
    /// Leases, sessions, statuses.
    #[cfg(feature = "engines")]
    pub redis: tandem_ephemeral_redis::Config,
    /// The store.
    #[cfg(feature = "engines")]
    pub cassandra: tandem_store_cassandra::Config,
}

/// Section `server`. `tandem up` has one port, `--listen`, and uses none of it.
#[cfg(feature = "engines")]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// gRPC for the other services; with mutual TLS where the section `tls` is set.
    pub listen: String,
    /// Probes (`/livez`, `/readyz`, gRPC health) and `/metrics`, always in the clear.
    pub ops: String,
    /// The edge's port for devices: WebSocket and gRPC.
    pub devices: String,
    /// Certificate of the port for devices; in the clear without one.
    pub devices_tls: tandem_chassis::tls::Config,
}

#[cfg(feature = "engines")]
impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:7401".into(),
            ops: "0.0.0.0:7402".into(),
            devices: "0.0.0.0:7400".into(),
            devices_tls: tandem_chassis::tls::Config::default(),
        }
    }
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
            open: &[
                "accounts.plans",
                "accounts.brands",
                "kafka.properties",
                "cassandra.compaction",
            ],
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
        self.routing.validate()?;
        #[cfg(feature = "engines")]
        {
            self.peers.validate()?;
            self.tls.validate("tls")?;
            self.server
                .devices_tls
                .validate_for_clients("server.devices_tls")?;
            self.kafka.validate()?;
            self.redis.validate()?;
            self.cassandra.validate()?;
        }
        Ok(())
    }
}
