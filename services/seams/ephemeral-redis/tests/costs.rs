//! What things cost: round trips, memory, time in Redis. The figures of the crate's docs come from here; run with
//! `--nocapture` to see them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::slice;

use common::{config, connect, edge, session, user};
use tandem_engines::redis::{Options, Server};
use tandem_ephemeral::{Ephemeral, Session};
use tandem_kernel::Address;

/// A field of `INFO`.
fn info(server: &Server, section: &str, field: &str) -> String {
    let info = server.ask(&format!("INFO {section}")).unwrap();
    let line = info.lines().find_map(|l| l.strip_prefix(field));
    line.unwrap_or_default().trim().to_owned()
}

/// Runs of scripts since the last reset.
fn runs(server: &Server) -> u64 {
    let stats = info(server, "commandstats", "cmdstat_evalsha:calls=");
    stats.split(',').next().unwrap().parse().unwrap_or(0)
}

/// Processor time that redis has used, µs.
fn cpu(server: &Server) -> f64 {
    let seconds = |field: &str| info(server, "cpu", field).parse::<f64>().unwrap();
    (seconds("used_cpu_user:") + seconds("used_cpu_sys:")) * 1e6
}

fn reset(server: &Server) {
    server.ask("CONFIG RESETSTAT").unwrap();
}

#[tokio::test]
async fn each_change_of_one_user_is_one_round_trip() {
    let server = Server::start(&Options::default()).unwrap();
    let store = connect(&config(&server.addresses())).await;
    store.renew(&edge(1), 0).await.unwrap();
    let alice = user("alice");
    let one = session(1, alice.clone(), edge(1));
    let users = slice::from_ref(&alice);
    let flagged = [(alice.clone(), one.id)];
    // each script is sent as text the first time that redis sees it
    for counted in [false, true] {
        reset(&server);
        let mut calls = 0;
        let mut once = |server: &Server| {
            calls += 1;
            if counted {
                assert_eq!(runs(server), calls);
            }
        };
        store.put(slice::from_ref(&one)).await.unwrap();
        once(&server);
        store.settle(users).await.unwrap();
        once(&server);
        store.statuses(users).await.unwrap();
        once(&server);
        store.renumber(users).await.unwrap();
        once(&server);
        store.reach(users).await.unwrap();
        once(&server);
        store.flag_resync(&flagged).await.unwrap();
        once(&server);
        store.clear_resync(&alice, one.id).await.unwrap();
        once(&server);
        store.remove(&alice, one.id, true).await.unwrap();
        once(&server);
    }
    // many users share the runs of their buckets, of which there are 64
    let many: Vec<Session> = (0..1_000).map(|n| session(n, user(n), edge(1))).collect();
    reset(&server);
    store.put(&many).await.unwrap();
    assert_eq!(runs(&server), 64);
}

#[tokio::test]
async fn a_session_costs_what_the_docs_say() {
    const USERS: u32 = 10_000;
    let server = Server::start(&Options::default()).unwrap();
    let config = config(&server.addresses());
    let store = connect(&config).await;
    let all: Vec<Session> = (0..USERS)
        .map(|n| {
            // as phone numbers are
            let user = Address::parse(&format!("+4479{n:08}@im.example.com")).unwrap();
            session(u128::from(n) << 64 | 0x5eed, user, edge(u64::from(n % 4)))
        })
        .collect();
    let users: Vec<Address> = all.iter().map(|s| s.user.clone()).collect();
    for n in 0..4 {
        store.renew(&edge(n), 0).await.unwrap();
    }
    let used = || -> i64 { info(&server, "memory", "used_memory:").parse().unwrap() };
    let before = used();
    let (mut put, mut settle, mut reach) = (cpu(&server), 0.0, 0.0);
    for some in all.chunks(256) {
        store.put(some).await.unwrap();
    }
    put = cpu(&server) - put;
    for some in users.chunks(256) {
        let began = cpu(&server);
        store.settle(some).await.unwrap();
        settle += cpu(&server) - began;
        let began = cpu(&server);
        store.reach(some).await.unwrap();
        reach += cpu(&server) - began;
    }
    assert!(store.due(1).await.unwrap().is_empty());
    let each = (used() - before) / i64::from(USERS);
    let began = cpu(&server);
    for user in users.iter().take(1_000) {
        store.reach(slice::from_ref(user)).await.unwrap();
    }
    let alone = cpu(&server) - began;
    let (mut renew, mut settled, mut due) = (0.0, 0.0, 0.0);
    for _ in 0..100 {
        let began = cpu(&server);
        store.renew(&edge(1), 0).await.unwrap();
        renew += cpu(&server) - began;
        let began = cpu(&server);
        store.settled().await.unwrap();
        settled += cpu(&server) - began;
        let began = cpu(&server);
        store.due(512).await.unwrap();
        due += cpu(&server) - began;
    }
    println!("memory: {each} bytes a session and user");
    println!(
        "redis's processor time a user, 256 at once: put {:.1} µs, settle {:.1} µs, reach {:.1} µs; reach of one alone {:.1} µs",
        put / f64::from(USERS),
        settle / f64::from(USERS),
        reach / f64::from(USERS),
        alone / 1_000.0
    );
    println!(
        "redis's processor time a call over all buckets: renew {:.0} µs, settled {:.0} µs, due {:.0} µs",
        renew / 100.0,
        settled / 100.0,
        due / 100.0
    );
    assert!(each < 330, "{each} bytes a session");

    // the dead leave by themselves: no session, a status for an hour
    for some in all.chunks(256) {
        let removals = some.iter().map(|s| store.remove(&s.user, s.id, true));
        futures::future::try_join_all(removals).await.unwrap();
    }
    for some in users.chunks(256) {
        store.settle(some).await.unwrap();
    }
    let keys: u32 = server.ask("DBSIZE").unwrap().parse().unwrap();
    let keyspace = info(&server, "keyspace", "db0:");
    let field = |key: &str| -> u32 {
        let found = keyspace.split(',').find_map(|f| f.strip_prefix(key));
        found.unwrap().parse().unwrap()
    };
    assert_eq!(field("expires="), USERS);
    // of each bucket its leases and its meta
    assert_eq!(keys, USERS + 2 * 64);
}
