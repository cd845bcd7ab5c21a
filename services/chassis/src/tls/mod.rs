//! TLS from files that may be rotated while the process runs: between services both sides show a
//! certificate, towards clients only the server does.
//!
//! New connections use the newest good files. Files that are bad are refused, logged and counted, and
//! the last good ones rule.

mod follow;
mod source;

use std::{io, path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, ServerConfig, pki_types::ServerName},
};

use self::{follow::Follower, source::Source};
use crate::{Doors, Lifecycle, metrics::Counter, net::BoxIo};

/// Where the certificates are. PEM, each. Nothing set: no TLS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This process' certificate, with those between it and the authority.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authorities whose certificates are good for the other side.
    pub ca_file: PathBuf,
    /// How often the files are looked at for changes, in milliseconds.
    pub reload_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            reload_ms: 10_000,
        }
    }
}

impl Config {
    /// Says which key of `section` is wrong and what would be right, where both sides show a certificate.
    pub fn validate(&self, section: &str) -> Result<(), String> {
        self.check(section, Kind::Mutual)
    }

    /// The same for a port that clients connect to, where the server alone shows one.
    pub fn validate_for_clients(&self, section: &str) -> Result<(), String> {
        self.check(section, Kind::Server)
    }

    fn check(&self, section: &str, kind: Kind) -> Result<(), String> {
        let keys = [
            ("cert_file", &self.cert_file, true),
            ("key_file", &self.key_file, true),
            ("ca_file", &self.ca_file, kind == Kind::Mutual),
        ];
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        if !keys.iter().any(|(_, path, _)| is_set(path)) {
            return Ok(());
        }
        for (key, path, wanted) in keys {
            match (is_set(path), wanted) {
                (false, true) => {
                    return Err(format!(
                        "{section}.{key} is empty: name the file, or empty all of {section} for no TLS"
                    ));
                }
                (true, false) => {
                    return Err(format!(
                        "{section}.{key} is set, but clients show no certificate here: empty it"
                    ));
                }
                _ => {}
            }
        }
        if self.reload_ms < 10 {
            let ms = self.reload_ms;
            return Err(format!(
                "{section}.reload_ms is {ms}: it must be at least 10"
            ));
        }
        Ok(())
    }
}

/// What is offered and asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Between services.
    Mutual,
    /// Towards clients.
    Server,
}

/// The current certificates. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    pair: RwLock<Pair>,
    refused: Counter,
}

#[derive(Clone)]
struct Pair {
    server: Arc<ServerConfig>,
    client: Option<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// For the connections between services: both sides show a certificate of the section's authorities.
    /// `None` if the section `tls` is empty. The files are followed until the hard stop. The error names
    /// the key and the fix.
    pub fn load(
        config: &Config,
        doors: &Doors,
        lifecycle: &Lifecycle,
    ) -> Result<Option<Self>, String> {
        Self::follow("tls", Kind::Mutual, config, doors, lifecycle)
    }

    /// For a port that clients connect to: the server alone shows a certificate. `section` is where
    /// `config` stands, such as `edge.tls`.
    pub fn load_for_clients(
        section: &'static str,
        config: &Config,
        doors: &Doors,
        lifecycle: &Lifecycle,
    ) -> Result<Option<Self>, String> {
        Self::follow(section, Kind::Server, config, doors, lifecycle)
    }

    fn follow(
        section: &'static str,
        kind: Kind,
        config: &Config,
        doors: &Doors,
        lifecycle: &Lifecycle,
    ) -> Result<Option<Self>, String> {
        config.check(section, kind)?;
        if config.cert_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let source = Source::new(section, kind, config.clone(), Arc::clone(&doors.clock));
        let files = source.read()?;
        let (pair, expiry) = source.build(&files)?;
        let this = Self::new(section, pair);
        let follower = Follower::new(this.clone(), source, files, expiry);
        lifecycle.spawn_support("tls.reload", follower.run(doors.clone()));
        Ok(Some(this))
    }

    fn new(section: &'static str, pair: Pair) -> Self {
        let refused = Counter::new(
            "tandem.tls.refused",
            "{connection}",
            "connections to this process that came to no handshake, for want of a good certificate or else",
            &[("section", section)],
        );
        let pair = RwLock::new(pair);
        Self(Arc::new(Inner { pair, refused }))
    }

    /// Shakes hands as the client. The peer's certificate must be good for `name`.
    pub async fn connect(&self, name: &str, io: BoxIo) -> io::Result<BoxIo> {
        let config = self.0.pair.read().client.clone();
        let config = config.ok_or_else(|| io::Error::other("tls: for servers only"))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let io = TlsConnector::from(config).connect(name, io).await?;
        Ok(Box::new(io))
    }

    /// Shakes hands as the server.
    pub async fn accept(&self, io: BoxIo) -> io::Result<BoxIo> {
        let config = Arc::clone(&self.0.pair.read().server);
        match TlsAcceptor::from(config).accept(io).await {
            Ok(io) => Ok(Box::new(io)),
            Err(e) => {
                self.0.refused.add(1);
                Err(e)
            }
        }
    }
}
