//! Mutual TLS between services, over real sockets: who is let in, and rotation while calls go on.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{path::Path, sync::Arc, time::Duration};

use common::{Server, World, change, snapshot};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, Peers, RemotePeers},
    net::Network,
    server::Options,
    tls::{Config, Tls},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};
use tonic::Code;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The files of one process, as Kubernetes mounts them: links through a folder that is itself a link.
struct Files {
    dir: tempfile::TempDir,
    generation: u32,
}

impl Files {
    fn new(name: &str, of: &Ca, trusts: &[&Ca]) -> Self {
        let mut this = Self {
            dir: tempfile::tempdir().unwrap(),
            generation: 0,
        };
        this.rotate(name, of, trusts);
        for file in ["cert", "key", "ca"] {
            let link = this.dir.path().join(file);
            std::os::unix::fs::symlink(Path::new("now").join(file), link).unwrap();
        }
        this
    }

    fn rotate(&mut self, name: &str, of: &Ca, trusts: &[&Ca]) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, of).unwrap();
        let trusts: String = trusts.iter().map(|ca| ca.pem()).collect();
        self.swap(&cert.pem(), &key.serialize_pem(), &trusts);
    }

    fn swap(&mut self, cert: &str, key: &str, ca: &str) {
        self.generation += 1;
        let next = self.dir.path().join(self.generation.to_string());
        std::fs::create_dir(&next).unwrap();
        for (file, text) in [("cert", cert), ("key", key), ("ca", ca)] {
            std::fs::write(next.join(file), text).unwrap();
        }
        let link = self.dir.path().join("next");
        std::os::unix::fs::symlink(&next, &link).unwrap();
        std::fs::rename(link, self.dir.path().join("now")).unwrap();
    }

    fn tls(&self) -> Tls {
        let config = Config {
            cert_file: self.dir.path().join("cert"),
            key_file: self.dir.path().join("key"),
            ca_file: self.dir.path().join("ca"),
            reload_ms: 20,
        };
        let (doors, lifecycle) = (Doors::for_test(1), Lifecycle::new());
        Tls::load(&config, &doors, &lifecycle).unwrap().unwrap()
    }
}

async fn server(files: &Files) -> Server {
    let options = Options {
        tls: Some(files.tls()),
        ..Options::default()
    };
    Server::start("127.0.1.1", options).await
}

fn peers(world: &World, files: &Files) -> RemotePeers {
    let tls = Some(files.tls());
    RemotePeers::new(&world.config, world.doors.clone(), &world.lifecycle, tls).unwrap()
}

async fn refused(channel: Channel) -> String {
    let status = snapshot(channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    status.message().to_owned()
}

#[tokio::test]
async fn who_shows_a_certificate_of_the_authority_is_let_in_as_a_replica_and_as_a_target() {
    let ca = ca("one");
    let server = server(&Files::new("presence", &ca, &[&ca])).await;
    let world = World::new();
    world.stand_for(&[&server]);
    let files = Files::new("edge", &ca, &[&ca]);
    snapshot(peers(&world, &files).service("presence"))
        .await
        .unwrap();

    let edge = self::server(&files).await;
    let target = edge.addr.to_string();
    snapshot(peers(&world, &files).target(&target))
        .await
        .unwrap();
}

#[tokio::test]
async fn who_shows_no_certificate_or_one_of_another_authority_is_refused() {
    let (ca, other) = (ca("one"), ca("another"));
    let server = server(&Files::new("presence", &ca, &[&ca])).await;
    let world = World::new();
    world.stand_for(&[&server]);
    // another authority's, though it trusts ours
    let foreign = Files::new("edge", &other, &[&ca, &other]);
    let reason = refused(peers(&world, &foreign).service("presence")).await;
    assert!(reason.contains("UnknownCA"), "{reason}");
    // no TLS at all
    refused(world.peers().service("presence")).await;
    // TLS without a certificate
    assert_eq!(leaf(&world, &server, &[&ca], false).await, None);
    assert_eq!(server.fake.calls(), 0);
}

#[tokio::test]
async fn a_server_of_another_authority_or_another_name_is_refused() {
    let (ca, other) = (ca("one"), ca("another"));
    let client = Files::new("edge", &ca, &[&ca]);
    for (name, of) in [("presence", &other), ("history", &ca)] {
        let server = server(&Files::new(name, of, &[&ca, &other])).await;
        let world = World::new();
        world.stand_for(&[&server]);
        let reason = refused(peers(&world, &client).service("presence")).await;
        assert!(reason.contains("tls: "), "{reason}");
        assert_eq!(server.fake.calls(), 0);
    }
}

#[tokio::test]
async fn the_name_in_certificates_may_be_a_longer_one() {
    let ca = ca("one");
    let server = server(&Files::new("presence.tandem.svc", &ca, &[&ca])).await;
    let mut world = World::new();
    world.config.tls_name = "{service}.tandem.svc".to_owned();
    world.stand_for(&[&server]);
    let files = Files::new("edge.tandem.svc", &ca, &[&ca]);
    snapshot(peers(&world, &files).service("presence"))
        .await
        .unwrap();
}

/// The certificate that the server shows, if it goes on to speak.
async fn leaf(world: &World, server: &Server, trusts: &[&Ca], show: bool) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    for ca in trusts {
        roots.add(ca.der().clone()).unwrap();
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if show {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["edge".to_owned()]).unwrap();
        let cert = params.signed_by(&key, trusts[0]).unwrap();
        let key = key.serialize_der().try_into().unwrap();
        builder
            .with_client_auth_cert(vec![cert.der().clone()], key)
            .unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let io = world.net.connect(&server.addr.to_string()).await.unwrap();
    let name = ServerName::try_from("presence").unwrap();
    let mut io = TlsConnector::from(Arc::new(config))
        .connect(name, io)
        .await
        .ok()?;
    let shown = io.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .ok()?;
    let spoken = io.read(&mut [0; 64]).await.ok()?;
    (spoken > 0).then_some(shown)
}

#[tokio::test]
async fn rotation_to_a_new_authority_fails_no_call_and_a_bad_one_changes_nothing() {
    let (old, new) = (ca("old"), ca("new"));
    let mut server_files = Files::new("presence", &old, &[&old]);
    let mut client_files = Files::new("edge", &old, &[&old]);
    let options = Options {
        tls: Some(server_files.tls()),
        max_connection_age: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let server = Server::start("127.0.1.1", options).await;
    let world = World::new();
    world.stand_for(&[&server]);
    let peers = peers(&world, &client_files);
    let calling = tokio::spawn(async move {
        loop {
            change(peers.service("presence")).await.unwrap();
        }
    });
    let first = leaf(&world, &server, &[&old, &new], true).await.unwrap();

    // bad: a certificate that nobody trusts
    server_files.rotate("presence", &new, &[&old]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let still = leaf(&world, &server, &[&old, &new], true).await.unwrap();
    assert_eq!(still, first, "the last good one rules");

    // as an authority is rotated: first both are trusted, then certificates are new, then the old goes
    server_files.rotate("presence", &old, &[&old, &new]);
    client_files.rotate("edge", &old, &[&old, &new]);
    until_shown(&world, &server, &[&new, &old], |leaf| *leaf != first).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let second = leaf(&world, &server, &[&new, &old], true).await.unwrap();
    server_files.rotate("presence", &new, &[&old, &new]);
    client_files.rotate("edge", &new, &[&old, &new]);
    until_shown(&world, &server, &[&new], |leaf| *leaf != second).await;
    let renewed = *world.net.connects.borrow() + 5;
    world
        .net
        .connects
        .subscribe()
        .wait_for(|n| *n >= renewed)
        .await
        .unwrap();
    assert!(!calling.is_finished(), "a call failed");
    calling.abort();
}

/// Waits until the server lets one in who shows a certificate of the first authority, and shows one that
/// is as wanted.
async fn until_shown(
    world: &World,
    server: &Server,
    trusts: &[&Ca],
    wanted: impl Fn(&Vec<u8>) -> bool,
) {
    while !leaf(world, server, trusts, true)
        .await
        .is_some_and(|l| wanted(&l))
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_reaches_a_port_for_clients_without_a_certificate_of_its_own() {
    let ca = ca("one");
    let files = Files::new("presence", &ca, &[&ca]);
    let config = Config {
        cert_file: files.dir.path().join("cert"),
        key_file: files.dir.path().join("key"),
        ..Config::default()
    };
    let (doors, lifecycle) = (Doors::for_test(1), Lifecycle::new());
    let tls = Tls::load_for_clients("edge.tls", &config, &doors, &lifecycle).unwrap();
    let options = Options {
        tls,
        ..Options::for_clients()
    };
    let server = Server::start("127.0.1.1", options).await;
    let world = World::new();
    assert!(leaf(&world, &server, &[&ca], false).await.is_some());
}

#[test]
fn a_section_that_is_half_filled_is_refused_with_the_key() {
    let mut config = Config {
        cert_file: "cert".into(),
        key_file: "key".into(),
        ..Config::default()
    };
    assert!(
        config
            .validate("tls")
            .unwrap_err()
            .starts_with("tls.ca_file is empty")
    );
    config.validate_for_clients("edge.tls").unwrap();
    config.ca_file = "ca".into();
    config.validate("tls").unwrap();
    let refused = config.validate_for_clients("edge.tls").unwrap_err();
    assert!(refused.starts_with("edge.tls.ca_file is set"), "{refused}");
    Config::default().validate("tls").unwrap();
}
