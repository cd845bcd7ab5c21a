//! SASL/SCRAM over TLS, against the shared brokers' secure listener.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod common;

use std::time::Duration;

use common::{Cluster, record};
use tandem_chassis::{Doors, Lifecycle};
use tandem_log::{Log, LogError, Next, Start};
use tandem_log_kafka::{Config, KafkaLog, Mechanism, Security};

fn secure() -> Config {
    let ca = tandem_engines::shared::ca_file().unwrap();
    Config {
        brokers: tandem_engines::shared::KAFKA_SECURE.into(),
        security: Security::SaslTls,
        mechanism: Mechanism::ScramSha512,
        username: tandem_engines::shared::USER.into(),
        password: tandem_engines::shared::PASSWORD.into(),
        ca_file: ca.into_os_string().into_string().unwrap(),
        create_topics: true,
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_who_authenticates_appends_and_reads() {
    let cluster = Cluster::with(secure());
    let log = cluster.connect().await;
    let topic = cluster.topic(&log, "secure", 2).await;
    let appended = log.append(&topic, vec![(1, record("hello"))]).await;
    let place = appended[0].as_ref().unwrap().place;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    let read = async {
        loop {
            if let Next::Records(_, records) = reader.next().await.unwrap() {
                return records;
            }
        }
    };
    let read = tokio::time::timeout(common::PATIENCE, read).await.unwrap();
    assert_eq!((read[0].place, &read[0].record), (place, &record("hello")));
    drop(reader);
    log.close().await;
}

/// Whether a broker lets it in within a while.
async fn is_let_in(config: Config) -> bool {
    let lifecycle = Lifecycle::new();
    let stopping = lifecycle.clone();
    let stop = async move {
        tokio::time::sleep(Duration::from_secs(8)).await;
        stopping.stop();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        log = KafkaLog::connect(&config, Doors::real(), &lifecycle) => match log {
            Ok(_) => true,
            Err(LogError::Closed) => false,
            Err(error) => panic!("{error}"),
        },
        () = stop => unreachable!("it never ends"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_another_password_or_trusts_another_authority_is_not_let_in() {
    let mut password = secure();
    password.password = "wrong".into();
    let mut authority = secure();
    authority.ca_file = String::new();
    let (password, authority) = tokio::join!(is_let_in(password), is_let_in(authority));
    assert!(!password, "the password");
    assert!(!authority, "the authority");
}
