//! A certificate authority of the run, and one server certificate for all loopback addresses in use.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::error::{At, Error, Result};

/// The files of a folder. The authority's own key is never written.
#[derive(Clone, Debug)]
pub struct Certs {
    dir: PathBuf,
}

impl Certs {
    /// Makes those that are not there. The server's is good for these names and addresses.
    pub(crate) fn make(&self, names: &[&str]) -> Result<()> {
        if self.keystore().exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.dir).at(&self.dir)?;
        self.write(names)
    }

    /// Those in `dir`, whether they are there or not.
    pub(crate) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("server.pem")
    }

    /// The server's key (PKCS #8).
    pub fn key(&self) -> PathBuf {
        self.dir.join("server-key.pem")
    }

    /// The server's key, its certificate and the authority's in one file, as Java likes it.
    pub fn keystore(&self) -> PathBuf {
        self.dir.join("keystore.pem")
    }

    fn write(&self, names: &[&str]) -> Result<()> {
        let (ca, server, key) = generate(names).map_err(|e| Error::Answer {
            what: "certificates".into(),
            why: e.to_string(),
        })?;
        // the keystore last: it tells that all are there
        let files = [
            (self.ca(), ca.clone()),
            (self.certificate(), server.clone()),
            (self.key(), key.clone()),
            (self.keystore(), format!("{key}{server}{ca}")),
        ];
        files
            .into_iter()
            .try_for_each(|(file, text)| fs::write(&file, text).at(file))
    }
}

fn generate(names: &[&str]) -> std::result::Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "tandem's test engines");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "engine");
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}
