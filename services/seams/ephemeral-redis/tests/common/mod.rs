//! What the tests share: stores, people and what they do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "helpers of tests, of which each test uses some"
)]

use std::{sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle};
use tandem_ephemeral::{Ephemeral, Reach, Session};
use tandem_ephemeral_redis::{Config, RedisEphemeral};
use tandem_kernel::{Address, DeviceId, EdgeId, SessionId};
use tandem_proto::client::{DeviceClass, Status};

/// A prefix that no other test has.
pub fn unique(what: &str) -> String {
    format!("{what}.{:016x}", Doors::real().rng.u64())
}

/// The config of a store at these addresses, under a prefix of its own.
pub fn config(addresses: &[String]) -> Config {
    Config {
        addresses: addresses.join(","),
        key_prefix: unique("test"),
        ..Config::default()
    }
}

/// Connects; an engine that is not there is a failure.
pub async fn connect(config: &Config) -> Arc<RedisEphemeral> {
    let lifecycle = Lifecycle::new();
    let store = RedisEphemeral::connect(config, Doors::real(), &lifecycle);
    tokio::time::timeout(Duration::from_secs(20), store)
        .await
        .expect("redis is not there: run `cargo xtask engines up`")
        .unwrap()
}

pub fn user(n: impl std::fmt::Display) -> Address {
    Address::parse(&format!("user{n}@example.com")).unwrap()
}

pub fn edge(n: u64) -> EdgeId {
    EdgeId::new(&format!("10.0.0.{n}:7400"), n)
}

/// An online session on a PC.
pub fn session(id: u128, user: Address, edge: EdgeId) -> Session {
    Session {
        id: SessionId(id),
        user,
        edge,
        device: DeviceId::parse("device").unwrap(),
        class: DeviceClass::Pc,
        status: Status::Online,
        message: String::new(),
        attached: true,
    }
}

/// Calls until it succeeds, for a minute at most.
pub async fn insist<T, E: std::fmt::Display>(
    what: &str,
    mut call: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = String::new();
    for _ in 0..300 {
        match call().await {
            Ok(done) => return done,
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{what} fails for ever: {last}");
}

pub async fn reach(store: &dyn Ephemeral, user: &Address) -> Reach {
    store
        .reach(std::slice::from_ref(user))
        .await
        .unwrap()
        .remove(0)
}
