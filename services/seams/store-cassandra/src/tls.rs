//! TLS to the cluster's nodes.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::Config;

/// What rustls is told because of the config; an error names the key.
pub(crate) fn client(config: &Config) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots(&config.ca_file)?);
    let client = if config.cert_file.is_empty() {
        builder.with_no_client_auth()
    } else {
        let chain = certificates("cert_file", &config.cert_file)?;
        let key = PrivateKeyDer::from_pem_file(Path::new(&config.key_file))
            .map_err(|e| wrong("key_file", &config.key_file, e))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| wrong("cert_file", &config.cert_file, e))?
    };
    Ok(Arc::new(client))
}

fn roots(file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if file.is_empty() {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            return Err("the system has no certificate authorities: set cassandra.ca_file".into());
        }
        return Ok(roots);
    }
    for certificate in certificates("ca_file", file)? {
        roots
            .add(certificate)
            .map_err(|e| wrong("ca_file", file, e))?;
    }
    Ok(roots)
}

fn certificates(key: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(Path::new(file)).map_err(|e| wrong(key, file, e))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|e| wrong(key, file, e))?;
    if all.is_empty() {
        return Err(wrong(key, file, "no certificate in it"));
    }
    Ok(all)
}

fn wrong(key: &str, file: &str, reason: impl std::fmt::Display) -> String {
    format!("cassandra.{key} ({file}): {reason}")
}
