//! The keyspace and the tables: made by who is to make them, found by the others, with the options that the
//! config says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail so; a helper of tests is a test"
)]

mod common;

use std::collections::BTreeMap;

use common::{own_keyspace, ring, secure, session};
use tandem_chassis::{Doors, Lifecycle};
use tandem_store::{Key, Store, StoreError, Table};
use tandem_store_cassandra::{CassandraStore, Config};

const EVENTS: Table = Table("history_events");

async fn open(config: &Config) -> Result<std::sync::Arc<CassandraStore>, StoreError> {
    CassandraStore::connect(config, Doors::real(), &Lifecycle::new()).await
}

async fn compaction(config: &Config) -> BTreeMap<String, String> {
    let asked = "SELECT compaction FROM system_schema.tables \
        WHERE keyspace_name = ? AND table_name = ?";
    let found = session(config)
        .await
        .query_unpaged(asked, (&config.keyspace, EVENTS.0))
        .await
        .unwrap()
        .into_rows_result()
        .unwrap();
    found.single_row::<(BTreeMap<String, String>,)>().unwrap().0
}

#[tokio::test]
async fn what_is_not_there_is_made_by_migrate_alone_and_again_changes_nothing() {
    let makes = own_keyspace(ring()).await;
    let looks = Config {
        create_tables: false,
        ..makes.clone()
    };
    let error = open(&looks).await.unwrap_err().to_string();
    assert!(
        error.contains(&makes.keyspace) && error.contains("tandem migrate"),
        "{error}"
    );

    let store = open(&makes).await.unwrap();
    let service = open(&looks).await.unwrap();
    let error = service.ensure_table(EVENTS).await.unwrap_err().to_string();
    assert!(
        error.contains("history_events") && error.contains("tandem migrate"),
        "{error}"
    );
    let key = Key {
        table: EVENTS,
        partition: "p".into(),
        sort: "s".into(),
    };
    assert!(service.get(&key).await.is_err());

    for _ in 0..2 {
        store.ensure_table(EVENTS).await.unwrap();
        service.ensure_table(EVENTS).await.unwrap();
        open(&makes)
            .await
            .unwrap()
            .ensure_table(EVENTS)
            .await
            .unwrap();
    }
    assert_eq!(service.get(&key).await.unwrap(), None);
    let set = compaction(&makes).await;
    assert!(
        set["class"].ends_with("TimeWindowCompactionStrategy"),
        "{set:?}"
    );
    assert_eq!(set["timestamp_resolution"], "MILLISECONDS");

    // an upgrade that says otherwise: a service leaves it, migrate changes it
    let mut other = makes.clone();
    let options = other.compaction.get_mut(EVENTS.0).unwrap();
    options.insert("compaction_window_size".into(), "7".into());
    let looks = Config {
        create_tables: false,
        ..other.clone()
    };
    open(&looks)
        .await
        .unwrap()
        .ensure_table(EVENTS)
        .await
        .unwrap();
    assert_eq!(compaction(&makes).await["compaction_window_size"], "1");
    open(&other)
        .await
        .unwrap()
        .ensure_table(EVENTS)
        .await
        .unwrap();
    assert_eq!(compaction(&makes).await["compaction_window_size"], "7");
    assert_eq!(service.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_data_centre_that_is_not_there_is_refused_with_those_that_are() {
    let config = Config {
        local_datacenter: "nowhere".into(),
        ..ring()
    };
    let error = open(&config).await.unwrap_err().to_string();
    assert!(
        error.contains("cassandra.local_datacenter") && error.contains("datacenter1"),
        "{error}"
    );
    let config = Config {
        local_datacenter: "datacenter1".into(),
        ..own_keyspace(ring()).await
    };
    open(&config)
        .await
        .unwrap()
        .ensure_table(Table("t"))
        .await
        .unwrap();
}

/// Connects until stopped, and is stopped after a while.
async fn never(config: Config) {
    let lifecycle = Lifecycle::new();
    let connecting = CassandraStore::connect(&config, Doors::real(), &lifecycle);
    let stopping = async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        lifecycle.stop();
    };
    let (connected, ()) = tokio::join!(connecting, stopping);
    let error = connected.unwrap_err();
    assert!(matches!(error, StoreError::Closed), "{error}");
}

#[tokio::test]
async fn a_wrong_password_and_a_stranger_s_certificate_let_nobody_in() {
    never(Config {
        password: "wrong".into(),
        ..secure()
    })
    .await;
    never(Config {
        // the system's authorities did not sign it
        ca_file: String::new(),
        ..secure()
    })
    .await;
    let config = own_keyspace(secure()).await;
    open(&config)
        .await
        .unwrap()
        .ensure_table(Table("t"))
        .await
        .unwrap();
}
