//! Where the shared engines listen, and who may. `cargo xtask engines up` starts them.

use std::{fs, path::PathBuf};

use crate::{
    certs::Certs,
    error::{At, Result},
    install,
};

/// Three brokers, plain text.
pub const KAFKA: &str = "127.0.0.1:29091,127.0.0.1:29092,127.0.0.1:29093";
/// The same brokers, SASL_SSL with SCRAM-SHA-512.
pub const KAFKA_SECURE: &str = "127.0.0.1:29291,127.0.0.1:29292,127.0.0.1:29293";
/// One Redis, plain text.
pub const REDIS: &str = "127.0.0.1:17000";
/// The same Redis, TLS, with an ACL user.
pub const REDIS_SECURE: &str = "127.0.0.1:17100";
/// A Redis Cluster of three primaries with a replica each.
pub const REDIS_CLUSTER: [&str; 6] = [
    "127.0.0.1:17001",
    "127.0.0.1:17002",
    "127.0.0.1:17003",
    "127.0.0.1:17004",
    "127.0.0.1:17005",
    "127.0.0.1:17006",
];
/// One Cassandra, with password authenticator, TLS accepted and plain text too.
pub const CASSANDRA: &str = "127.0.0.11:9042";
/// Three Cassandra nodes without authentication.
pub const CASSANDRA_RING: [&str; 3] = ["127.0.0.1:9042", "127.0.0.2:9042", "127.0.0.3:9042"];
/// Who may log in at the secure ones.
pub const USER: &str = "tandem";
/// The password of [`USER`]. No secret: the engines listen on the loopback interface.
pub const PASSWORD: &str = "engines-of-the-tests";

/// The certificate authority of the secure ones (PEM).
pub fn ca_file() -> Result<PathBuf> {
    Ok(certs()?.ca())
}

/// A config of `tandem` (TOML) with the sections for the engines without TLS: the rest of it, a person
/// who tries the production shape adds. Written anew each time.
pub fn config_file() -> Result<PathBuf> {
    let file = folder()?.join("tandem.toml");
    let (redis, ring) = (REDIS_CLUSTER.join(","), CASSANDRA_RING.join(","));
    let text = format!(
        "[kafka]\nbrokers = {KAFKA:?}\n\n[redis]\naddresses = {redis:?}\n\n\
         [cassandra]\ncontact_points = {ring:?}\n"
    );
    fs::write(&file, text).at(&file)?;
    Ok(file)
}

pub(crate) fn certs() -> Result<Certs> {
    Ok(Certs::at(&folder()?.join("certs")))
}

/// Where their files are.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(install::cache()?.join("run/shared"))
}
