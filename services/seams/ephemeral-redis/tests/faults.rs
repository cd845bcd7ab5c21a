//! Redis killed, emptied, paused and failed over: calls fail for a while and never for ever, and what was lost is
//! noticed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{fs, slice, time::Duration};

use common::{config, connect, edge, insist, reach, session, user};
use tandem_engines::redis::{Cluster, Options, Server};
use tandem_ephemeral::{Ephemeral, Session};
use tandem_kernel::{Address, SessionId};

/// Sessions of the first edge: one for each of so many users.
fn sessions(n: u32) -> Vec<Session> {
    (1..=n)
        .map(|n| session(u128::from(n), user(n), edge(1)))
        .collect()
}

async fn reached(store: &dyn Ephemeral, sessions: &[Session]) -> usize {
    let users: Vec<Address> = sessions.iter().map(|s| s.user.clone()).collect();
    let reaches = store.reach(&users).await.unwrap();
    reaches.iter().filter(|r| !r.live.is_empty()).count()
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_noticed_and_filled_again() {
    let server = Server::start(&Options::default()).unwrap();
    let store = connect(&config(&server.addresses())).await;
    let all = sessions(100);
    let first = store.renew(&edge(1), 0).await.unwrap();
    store.put(&all).await.unwrap();
    assert_eq!(reached(&*store, &all).await, 100);

    server.kill(0);
    assert!(store.put(&all).await.is_err());
    assert!(store.renew(&edge(1), first.epoch).await.is_err());
    fs::remove_dir_all(server.dir(0).join("data")).unwrap();
    server.restart(0).unwrap();

    let renew = async || store.renew(&edge(1), first.epoch).await;
    let again = insist("renewal", renew).await;
    assert_ne!(again.epoch, first.epoch);
    assert!(again.lapsed);
    assert!(!store.settled().await.unwrap());
    assert_eq!(reached(&*store, &all).await, 0);
    store.put(&all).await.unwrap();
    assert_eq!(reached(&*store, &all).await, 100);
}

#[tokio::test]
async fn a_redis_that_comes_back_with_what_it_wrote_to_disk_is_another_epoch() {
    let server = Server::start(&Options::default()).unwrap();
    let store = connect(&config(&server.addresses())).await;
    let first = store.renew(&edge(1), 0).await.unwrap();
    assert_eq!(
        store.renew(&edge(1), 0).await.unwrap().epoch,
        first.epoch,
        "nothing happened"
    );
    store.put(&sessions(1)).await.unwrap();
    server.terminate(0);
    server.restart(0).unwrap();
    // it may have lost the last second
    let again = insist("renewal", async || store.renew(&edge(1), 0).await).await;
    assert_ne!(again.epoch, first.epoch);
    assert!(!again.lapsed);
    assert_eq!(reached(&*store, &sessions(1)).await, 1);
}

#[tokio::test]
async fn a_redis_that_stands_still_is_an_error_in_time_and_goes_on_afterwards() {
    let server = Server::start(&Options::default()).unwrap();
    let store = connect(&config(&server.addresses())).await;
    let first = store.renew(&edge(1), 0).await.unwrap();
    store.put(&sessions(1)).await.unwrap();
    server.pause(0);
    // by the store's own limit, not by the caller's patience
    let renew = async { store.renew(&edge(1), 0).await };
    let silent = tokio::time::timeout(Duration::from_mins(1), renew).await;
    assert!(silent.unwrap().is_err());
    server.resume(0);
    let again = insist("renewal", async || store.renew(&edge(1), 0).await).await;
    assert_eq!(again.epoch, first.epoch);
    assert!(!again.lapsed);
    assert_eq!(reached(&*store, &sessions(1)).await, 1);
}

#[tokio::test]
async fn a_lapse_is_told_though_the_answer_that_told_of_it_was_lost() {
    let server = Server::start(&Options::default()).unwrap();
    let config = config(&server.addresses());
    let store = connect(&config).await;
    let first = store.renew(&edge(1), 0).await.unwrap();
    // the same edge's call, done by redis and never answered
    let lost = connect(&config).await;
    lost.release(&edge(1)).await.unwrap();
    lost.renew(&edge(1), first.epoch).await.unwrap();
    let told = store.renew(&edge(1), first.epoch).await.unwrap();
    assert_eq!(told.epoch, first.epoch);
    assert!(told.lapsed);
    assert!(!store.renew(&edge(1), first.epoch).await.unwrap().lapsed);
}

#[tokio::test]
async fn leases_and_moments_of_before_the_clock_jumped_back_do_not_last() {
    let server = Server::start(&Options::default()).unwrap();
    let config = config(&server.addresses());
    let store = connect(&config).await;
    store.renew(&edge(1), 0).await.unwrap();
    store.put(&sessions(1)).await.unwrap();
    // an hour back: to the store, all moments lie an hour ahead
    let client = redis::Client::open(format!("redis://{}", server.address(0))).unwrap();
    let mut plain = client.get_connection().unwrap();
    let ahead = "for _, kind in ipairs({'l', 'd'}) do
        for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '{*}' .. kind)) do
            local all = redis.call('ZRANGE', key, 0, -1)
            for _, member in ipairs(all) do redis.call('ZINCRBY', key, 3600000, member) end
        end
    end";
    let () = redis::cmd("EVAL")
        .arg(ahead)
        .arg(0)
        .arg(&config.key_prefix)
        .query(&mut plain)
        .unwrap();
    assert_eq!(reached(&*store, &sessions(1)).await, 0);
    assert_eq!(store.due(10).await.unwrap(), [user(1)]);
    assert!(store.renew(&edge(1), 0).await.unwrap().lapsed);
    store.put(&sessions(1)).await.unwrap();
    assert_eq!(reached(&*store, &sessions(1)).await, 1);
}

/// The primary that holds a user's state, and its replica, once that has it too.
async fn holders(cluster: &Cluster, prefix: &str, user: &Address) -> (usize, usize) {
    let holds = |n: &usize| {
        let client = redis::Client::open(format!("redis://{}", cluster.address(*n))).unwrap();
        let mut plain = client.get_connection().unwrap();
        let found: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{prefix}*u{user}"))
            .query(&mut plain)
            .unwrap();
        !found.is_empty()
    };
    insist("replication", async || {
        let primaries = cluster.primaries();
        let (primary, replica): (Vec<_>, Vec<_>) = (0..cluster.len())
            .filter(holds)
            .partition(|n| primaries.contains(n));
        match (&primary[..], &replica[..]) {
            ([primary], [replica]) => Ok((*primary, *replica)),
            held => Err(format!("held by {held:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_primary_that_is_replaced_is_noticed_and_what_it_took_along_heals() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    let config = config(&cluster.addresses());
    let store = connect(&config).await;
    let first = store.renew(&edge(1), 0).await.unwrap();
    let mut all = sessions(200);
    store.put(&all).await.unwrap();
    assert_eq!(reached(&*store, &all).await, 200);

    // the last writes never reach the replica: one session registered, one removed
    let (primary, replica) = holders(&cluster, &config.key_prefix, &all[0].user).await;
    let gone = all.remove(0);
    cluster.pause(replica);
    cluster.ask(primary, "CLIENT KILL TYPE replica").unwrap();
    store.remove(&gone.user, gone.id, true).await.unwrap();
    let second = session(1_000, gone.user.clone(), edge(1));
    store.put(slice::from_ref(&second)).await.unwrap();
    assert_eq!(
        reach(&*store, &gone.user).await.live,
        [(edge(1), second.id)]
    );
    cluster.kill(primary);
    cluster.resume(replica);

    let renew = async || store.renew(&edge(1), first.epoch).await;
    let again = insist("renewal after the failover", renew).await;
    assert_ne!(again.epoch, first.epoch);
    let ids = |reach: tandem_ephemeral::Reach| reach.live.into_iter().map(|l| l.1);
    let ghosts: Vec<SessionId> = ids(reach(&*store, &gone.user).await).collect();
    assert_eq!(ghosts, [gone.id], "the replica had not heard of the last");
    assert!(!store.settled().await.unwrap());

    // registered again, all is as it was, and soon the ghost is no more
    all.push(second.clone());
    store.put(&all).await.unwrap();
    assert_eq!(reached(&*store, &all).await, 200);
    for _ in 0..60 {
        store.renew(&edge(1), again.epoch).await.unwrap();
        if reach(&*store, &gone.user).await.sessions == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(
        reach(&*store, &gone.user).await.live,
        [(edge(1), second.id)]
    );
    assert_eq!(reached(&*store, &all).await, 200);
    // and absence means offline again
    let mut settled = false;
    for _ in 0..60 {
        store.renew(&edge(1), again.epoch).await.unwrap();
        settled = store.settled().await.unwrap();
        if settled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(settled);

    // the killed one comes back as a replica, and nothing is to be seen of it
    cluster.restart(primary).unwrap();
    cluster.ready().unwrap();
    let renewed = store.renew(&edge(1), again.epoch).await.unwrap();
    assert_eq!(renewed.epoch, again.epoch);
}

#[tokio::test]
async fn a_primary_that_stands_still_is_replaced_and_asked_no_more() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    let config = config(&cluster.addresses());
    let store = connect(&config).await;
    let first = store.renew(&edge(1), 0).await.unwrap();
    let all = sessions(100);
    store.put(&all).await.unwrap();
    let (primary, _) = holders(&cluster, &config.key_prefix, &all[0].user).await;
    cluster.pause(primary);
    let renew = async || store.renew(&edge(1), first.epoch).await;
    let again = insist("renewal while the old primary stands still", renew).await;
    assert_ne!(again.epoch, first.epoch);
    store.put(&all).await.unwrap();
    assert_eq!(reached(&*store, &all).await, 100);
    cluster.resume(primary);
    cluster.ready().unwrap();
    assert_eq!(reached(&*store, &all).await, 100);
}
