//! What the files hold, read and judged.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tandem_kernel::{Clock, UnixMillis};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, Error as RustlsError, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    time_provider::TimeProvider,
};

use super::{Config, Kind, Pair};

/// The files' contents.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct Source {
    pub section: &'static str,
    kind: Kind,
    pub config: Config,
    pub clock: Arc<dyn Clock>,
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
    pub fn new(section: &'static str, kind: Kind, config: Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            section,
            kind,
            config,
            clock,
        }
    }

    pub fn read(&self) -> Result<Files, String> {
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
    pub fn build(&self, files: &Files) -> Result<(Pair, i64), String> {
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
