//! TLS from files that may be rotated while the process runs: between services both sides show a
//! certificate, towards clients only the server does.
//!
//! New connections use the newest good files. Files that are bad are refused, logged and counted, and
//! the last good ones rule.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tandem_kernel::{Clock, UnixMillis};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        CertificateError, ClientConfig, Error as RustlsError, RootCertStore, ServerConfig,
        client::Resumption,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{
            CertificateDer, PrivateKeyDer, ServerName, UnixTime,
            pem::{self, PemObject},
        },
        server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
        time_provider::TimeProvider,
    },
};

use crate::{
    Doors, Lifecycle,
    metrics::{Counter, Gauge},
    net::BoxIo,
};

/// Where the certificates are. PEM, each. Nothing set: no TLS.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This process' certificate, with those between it and the authority.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authorities whose certificates are good for the other side.
    pub ca_file: PathBuf,
    /// How often the files are looked at for changes, in milliseconds; 0: every 10 s.
    pub reload_ms: u64,
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
pub struct Tls(Arc<RwLock<Pair>>);

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
        let source = Source {
            section,
            kind,
            config: config.clone(),
            clock: Arc::clone(&doors.clock),
        };
        let files = source.read()?;
        let (pair, expiry) = source.build(&files)?;
        let this = Self(Arc::new(RwLock::new(pair)));
        let follower = Follower::new(this.clone(), source, files, expiry);
        lifecycle.spawn_support("tls.reload", follower.run(doors.clone()));
        Ok(Some(this))
    }

    /// Shakes hands as the client. The peer's certificate must be good for `name`.
    pub async fn connect(&self, name: &str, io: BoxIo) -> io::Result<BoxIo> {
        let config = self.0.read().client.clone();
        let config = config.ok_or_else(|| io::Error::other("tls: for servers only"))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let io = TlsConnector::from(config).connect(name, io).await?;
        Ok(Box::new(io))
    }

    /// Shakes hands as the server.
    pub async fn accept(&self, io: BoxIo) -> io::Result<BoxIo> {
        let config = Arc::clone(&self.0.read().server);
        let io = TlsAcceptor::from(config).accept(io).await?;
        Ok(Box::new(io))
    }
}

/// The files' contents.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

#[derive(Clone)]
struct Source {
    section: &'static str,
    kind: Kind,
    config: Config,
    clock: Arc<dyn Clock>,
}

/// The time by which certificates are judged.
struct Time(Arc<dyn Clock>);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at(self.0.unix()))
    }
}

fn at(time: UnixMillis) -> UnixTime {
    let since = Duration::from_millis(u64::try_from(time.0).unwrap_or(0));
    UnixTime::since_unix_epoch(since)
}

impl Source {
    fn read(&self) -> Result<Files, String> {
        let read = |key: &str, path: &PathBuf| {
            let text = std::fs::read(path);
            text.map_err(|e| format!("{}.{key}: {}: {e}", self.section, path.display()))
        };
        Ok(Files {
            cert: read("cert_file", &self.config.cert_file)?,
            key: read("key_file", &self.config.key_file)?,
            ca: match self.kind {
                Kind::Mutual => read("ca_file", &self.config.ca_file)?,
                Kind::Server => Vec::new(),
            },
        })
    }

    /// What connections are made with, and when the certificate expires (unix seconds).
    fn build(&self, files: &Files) -> Result<(Pair, i64), String> {
        let bad = |key: &str, e: &dyn std::fmt::Display| format!("{}.{key}: {e}", self.section);
        let chain = certificates(&files.cert).map_err(|e| bad("cert_file", &e))?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|e| bad("key_file", &e))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let time = || Arc::new(Time(Arc::clone(&self.clock)));
        let server = ServerConfig::builder_with_details(Arc::clone(&provider), time())
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("cert_file", &e))?;
        if self.kind == Kind::Server {
            // clients have their own authorities; here only the time is judged
            let verifier = verifier(roots(&chain), &provider)?;
            let expiry = self
                .judge(&chain, &*verifier)
                .map_err(|e| bad("cert_file", &e))?;
            let mut server = server
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .map_err(|e| bad("key_file", &e))?;
            server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let server = Arc::new(server);
            return Ok((
                Pair {
                    server,
                    client: None,
                },
                expiry,
            ));
        }
        let authorities = certificates(&files.ca).map_err(|e| bad("ca_file", &e))?;
        let store = roots(&authorities);
        if store.is_empty() {
            return Err(bad("ca_file", &"it holds no certificate of an authority"));
        }
        let verifier = verifier(store.clone(), &provider)?;
        let expiry = self
            .judge(&chain, &*verifier)
            .map_err(|e| bad("cert_file", &e))?;
        // a resumed session would be one that was let in by certificates of before
        let mut server = server
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| bad("key_file", &e))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_details(provider, time())
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("cert_file", &e))?
            .with_root_certificates(store)
            .with_client_auth_cert(chain, key)
            .map_err(|e| bad("key_file", &e))?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();
        let (server, client) = (Arc::new(server), Some(Arc::new(client)));
        Ok((Pair { server, client }, expiry))
    }

    /// Whether the others will accept the certificate now, and when it expires (unix seconds).
    fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        verifier: &dyn ClientCertVerifier,
    ) -> Result<i64, String> {
        let (own, between) = chain.split_first().ok_or("it holds no certificate")?;
        let verify = |at| verifier.verify_client_cert(own, between, at);
        if let Err(e) = verify(at(self.clock.unix()))
            && (self.kind == Kind::Mutual || is_out_of_time(&e))
        {
            return Err(e.to_string());
        }
        // the verifier names the end of a certificate that has expired, which all will have some day
        let far = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
        match verify(far) {
            Err(RustlsError::InvalidCertificate(CertificateError::ExpiredContext {
                not_after,
                ..
            })) => Ok(i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX)),
            _ => Ok(i64::MAX),
        }
    }
}

fn is_out_of_time(error: &RustlsError) -> bool {
    matches!(
        error,
        RustlsError::InvalidCertificate(
            CertificateError::ExpiredContext { .. } | CertificateError::NotValidYetContext { .. }
        )
    )
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it holds no certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(e) => Err(e.to_string()),
    }
}

fn roots(certificates: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    store
}

fn verifier(
    store: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|e| e.to_string())
}

/// Looks at the files again and again.
struct Follower {
    tls: Tls,
    source: Source,
    seen: Result<Files, String>,
    expiry: i64,
    reloads: Counter,
    failures: Counter,
    expires_in: Gauge,
}

impl Follower {
    fn new(tls: Tls, source: Source, seen: Files, expiry: i64) -> Self {
        let pairs = [("section", source.section)];
        let this = Self {
            tls,
            seen: Ok(seen),
            expiry,
            reloads: Counter::new(
                "tandem.tls.reloads",
                "{reload}",
                "certificates that were taken from changed files",
                &pairs,
            ),
            failures: Counter::new(
                "tandem.tls.reload_failures",
                "{reload}",
                "changed files that were refused; the last good ones rule",
                &pairs,
            ),
            expires_in: Gauge::new(
                "tandem.tls.expires_in",
                "s",
                "time until the certificate in use expires",
                &pairs,
            ),
            source,
        };
        this.tell_expiry();
        this
    }

    async fn run(mut self, doors: Doors) {
        let every = match self.source.config.reload_ms {
            0 => Duration::from_secs(10),
            ms => Duration::from_millis(ms),
        };
        loop {
            tokio::time::sleep(every).await;
            let source = self.source.clone();
            if let Ok(found) = doors.threads.run(move || source.read()).await {
                self.take(found);
            }
            self.tell_expiry();
        }
    }

    fn take(&mut self, found: Result<Files, String>) {
        if found == self.seen {
            return;
        }
        let built = found.clone().and_then(|files| self.source.build(&files));
        self.seen = found;
        match built {
            Ok((pair, expiry)) => {
                *self.tls.0.write() = pair;
                self.expiry = expiry;
                self.reloads.add(1);
                tracing::info!(section = self.source.section, "certificates were rotated");
            }
            Err(reason) => {
                self.failures.add(1);
                tracing::error!(
                    reason,
                    "rotated certificates are refused; the last good ones rule"
                );
            }
        }
    }

    fn tell_expiry(&self) {
        let now = self.source.clock.unix().0 / 1000;
        self.expires_in.set(self.expiry.saturating_sub(now));
    }
}
