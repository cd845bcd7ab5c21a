//! TLS with client certificates, and an ACL user with the smallest rule that works.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "helpers of tests; the redis of this test is a process of its own"
)]

mod common;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use common::{connect, edge, reach, session, unique, user};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tandem_chassis::{Doors, Lifecycle};
use tandem_engines::redis::{Cluster, Options};
use tandem_ephemeral::Ephemeral;
use tandem_ephemeral_redis::{COMMANDS, Config, ConnectError, Mode, RedisEphemeral};
use tandem_kernel::SessionId;

/// A redis-server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server(dir: &Path, port: u16, prefix: &str) -> Server {
    let user = format!("tandem on >secret resetchannels ~{prefix}* -@all {COMMANDS}");
    let file = |name: &str| dir.join(name).display().to_string();
    let child = Command::new("redis-server")
        .args(["--port", "0", "--bind", "127.0.0.1", "--save", ""])
        .args(["--tls-port", &port.to_string(), "--tls-auth-clients", "yes"])
        .args(["--tls-cert-file", &file("server.pem")])
        .args(["--tls-key-file", &file("server-key.pem")])
        .args(["--tls-ca-cert-file", &file("ca.pem")])
        .args(["--user", "default", "off"])
        .arg("--user")
        .args(user.split(' '))
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is not there: run `cargo xtask engines up`");
    Server(child)
}

fn certificates(dir: &Path) {
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        // OpenSSL takes one that is named like its issuer for self-signed
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}

fn secure(dir: &Path, port: u16, prefix: &str) -> Config {
    let file = |name: &str| dir.join(name).display().to_string();
    Config {
        addresses: format!("127.0.0.1:{port}"),
        key_prefix: prefix.to_owned(),
        username: "tandem".to_owned(),
        password: "secret".to_owned(),
        tls: true,
        ca_file: file("ca.pem"),
        cert_file: file("client.pem"),
        key_file: file("client-key.pem"),
        ..Config::default()
    }
}

/// Every call of the trait once.
async fn everything(store: &dyn Ephemeral) {
    let (alice, edge) = (user("alice"), edge(1));
    let epoch = store.renew(&edge, 0).await.unwrap().epoch;
    store.renew(&edge, epoch).await.unwrap();
    let one = session(1, alice.clone(), edge.clone());
    store.put(std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(reach(store, &alice).await.live, [(edge.clone(), one.id)]);
    let users = [alice.clone()];
    assert_eq!(store.due(10).await.unwrap(), users);
    assert_eq!(store.settle(&users).await.unwrap().len(), 1);
    assert!(store.statuses(&users).await.unwrap()[0].is_some());
    assert!(store.renumber(&users).await.unwrap()[0].is_some());
    let flagged = [(alice.clone(), one.id)];
    store.flag_resync(&flagged).await.unwrap();
    assert_eq!(
        store.renew(&edge, epoch).await.unwrap().resync,
        [SessionId(1)]
    );
    store.clear_resync(&alice, one.id).await.unwrap();
    store.remove(&alice, one.id, false).await.unwrap();
    store.remove(&alice, one.id, true).await.unwrap();
    store.put(&[one]).await.unwrap();
    assert!(!store.settled().await.unwrap());
    store.release(&edge).await.unwrap();
    assert_eq!(store.due(10).await.unwrap(), [alice]);
    assert_eq!(store.settle(&users).await.unwrap().len(), 1);
    let ttl = std::time::Duration::from_secs(9);
    let value = bytes::Bytes::from_static(b"value");
    store.mark("mark", value.clone(), ttl).await.unwrap();
    let taken = store.take_marks(&["mark".to_owned()]).await.unwrap();
    assert_eq!(taken, [Some(value)]);
}

#[tokio::test]
async fn an_acl_user_with_the_documented_rule_does_everything_over_mutual_tls() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let prefix = unique("secure");
    let _server = server(dir.path(), port, &prefix);

    let config = secure(dir.path(), port, &prefix);
    let store = connect(&config).await;
    everything(&*store).await;

    // keys of others are out of reach
    let foreign = Config {
        key_prefix: "other".to_owned(),
        ..config.clone()
    };
    let refused = connect(&foreign).await.renew(&edge(1), 0).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no permissions"), "{refused}");

    // and without the password or the certificate there is no connection, until the process stops
    for wrong in [
        Config {
            password: "guess".to_owned(),
            ..config.clone()
        },
        Config {
            cert_file: String::new(),
            key_file: String::new(),
            ..config.clone()
        },
        Config {
            ca_file: String::new(),
            ..config.clone()
        },
    ] {
        let lifecycle = Lifecycle::new();
        let connecting = RedisEphemeral::connect(&wrong, Doors::real(), &lifecycle);
        let stop = async {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            lifecycle.stop();
        };
        let (connected, ()) = tokio::join!(connecting, stop);
        assert!(matches!(connected, Err(ConnectError::Stopped)));
    }
    let missing = Config {
        ca_file: "/nowhere.pem".to_owned(),
        ..config
    };
    let error = RedisEphemeral::connect(&missing, Doors::real(), &Lifecycle::new()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("redis.ca_file"), "{error}");
}

#[tokio::test]
async fn on_a_cluster_the_same_rule_suffices() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    let prefix = unique("secure");
    for n in 0..cluster.len() {
        let rule =
            format!("ACL SETUSER tandem on >secret resetchannels ~{prefix}* -@all {COMMANDS}");
        cluster.ask(n, &rule).unwrap();
    }
    let config = Config {
        addresses: cluster.addresses().join(","),
        mode: Mode::Auto,
        key_prefix: prefix,
        username: "tandem".to_owned(),
        password: "secret".to_owned(),
        ..Config::default()
    };
    everything(&*connect(&config).await).await;
}
