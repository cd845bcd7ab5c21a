//! Whatever is done in whatever order, Redis and memory answer alike.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use common::{config, connect, edge, session, user};
use tandem_chassis::{Doors, rng::Rng};
use tandem_engines::redis::{Options, Server};
use tandem_ephemeral::{Ephemeral, Reach, Session, UserStatus};
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_kernel::{Address, EdgeId, SessionId};
use tandem_proto::client::{DeviceClass, Status};

/// What each round does; it takes less than the damping.
const STEPS: usize = 250;

fn users() -> Vec<Address> {
    (0..5).map(user).collect()
}

/// A status without its version, which is each store's own.
fn plain(status: &UserStatus) -> (Status, String, DeviceClass) {
    (status.status, status.message.clone(), status.class)
}

fn sorted(mut reaches: Vec<Reach>) -> Vec<Reach> {
    for reach in &mut reaches {
        reach.live.sort_unstable();
    }
    reaches
}

fn any_session(rng: &Rng) -> Session {
    let of = rng.below(5);
    let id = u128::from(of * 10 + rng.below(3));
    let statuses = [
        Status::Online,
        Status::Busy,
        Status::Away,
        Status::AppearOffline,
    ];
    let classes = [DeviceClass::Pc, DeviceClass::Mobile, DeviceClass::Portal];
    Session {
        status: statuses[rng.below(4) as usize],
        class: classes[rng.below(3) as usize],
        message: ["", "", "in a meeting"][rng.below(3) as usize].to_owned(),
        attached: rng.below(3) > 0,
        ..session(id, user(of), edge(1 + rng.below(3)))
    }
}

/// One random step on both; what they say is compared. `leased`: edges that have a lease; as in life, no other
/// registers sessions.
async fn step(
    rng: &Rng,
    leased: &mut BTreeSet<EdgeId>,
    redis: &dyn Ephemeral,
    memory: &dyn Ephemeral,
) {
    let one = any_session(rng);
    match rng.below(13) {
        0 => {
            let (a, b) = (redis.renew(&one.edge, 0), memory.renew(&one.edge, 0));
            let (a, b) = (a.await.unwrap(), b.await.unwrap());
            assert_eq!((a.lapsed, a.resync), (b.lapsed, b.resync));
            leased.insert(one.edge);
        }
        1 if rng.below(4) == 0 => {
            redis.release(&one.edge).await.unwrap();
            memory.release(&one.edge).await.unwrap();
            leased.remove(&one.edge);
            // redis takes the sessions away when it is asked who is due
            compare_due(redis, memory).await;
        }
        2..=5 => {
            let mut some = vec![one, any_session(rng)];
            some.retain(|s| leased.contains(&s.edge));
            redis.put(&some).await.unwrap();
            memory.put(&some).await.unwrap();
        }
        6 => {
            let at_once = rng.below(2) == 0;
            redis.remove(&one.user, one.id, at_once).await.unwrap();
            memory.remove(&one.user, one.id, at_once).await.unwrap();
        }
        7 => {
            let flagged: Vec<(Address, SessionId)> = vec![(one.user, one.id)];
            redis.flag_resync(&flagged).await.unwrap();
            memory.flag_resync(&flagged).await.unwrap();
        }
        8 => {
            redis.clear_resync(&one.user, one.id).await.unwrap();
            memory.clear_resync(&one.user, one.id).await.unwrap();
        }
        9 | 10 => {
            let some = [one.user];
            let a = redis.settle(&some).await.unwrap();
            let b = memory.settle(&some).await.unwrap();
            let plain = |told: &[(Address, UserStatus)]| {
                told.iter()
                    .map(|(u, s)| (u.clone(), plain(s)))
                    .collect::<Vec<_>>()
            };
            assert_eq!(plain(&a), plain(&b));
        }
        11 => {
            let some = [one.user];
            let a = redis.renumber(&some).await.unwrap();
            let b = memory.renumber(&some).await.unwrap();
            assert_eq!(
                a[0].as_ref().map(plain),
                b[0].as_ref().map(plain),
                "renumbered"
            );
        }
        _ => compare_due(redis, memory).await,
    }
}

async fn compare_due(redis: &dyn Ephemeral, memory: &dyn Ephemeral) {
    let a: BTreeSet<_> = redis.due(100).await.unwrap().into_iter().collect();
    let b: BTreeSet<_> = memory.due(100).await.unwrap().into_iter().collect();
    assert_eq!(a, b, "due");
}

async fn compare(redis: &dyn Ephemeral, memory: &dyn Ephemeral) {
    let users = users();
    let (a, b) = (redis.reach(&users), memory.reach(&users));
    assert_eq!(sorted(a.await.unwrap()), sorted(b.await.unwrap()));
    let (a, b) = (redis.statuses(&users), memory.statuses(&users));
    let plain = |all: Vec<Option<UserStatus>>| {
        all.iter()
            .map(|s| s.as_ref().map(plain))
            .collect::<Vec<_>>()
    };
    assert_eq!(plain(a.await.unwrap()), plain(b.await.unwrap()));
}

#[tokio::test]
async fn redis_and_memory_answer_alike_whatever_is_done() {
    let server = Server::start(&Options::default()).unwrap();
    for seed in 0..20 {
        let redis: Arc<dyn Ephemeral> = connect(&config(&server.addresses())).await;
        let memory: Arc<dyn Ephemeral> = MemoryEphemeral::new(Doors::real());
        let rng = Rng::from_seed(seed);
        let mut leased = BTreeSet::new();
        let steps = async {
            for n in 0..STEPS {
                step(&rng, &mut leased, &*redis, &*memory).await;
                if n % 5 == 0 {
                    compare(&*redis, &*memory).await;
                }
            }
        };
        // the damping ends at two moments for the two, so a round ends before any does
        let _ = tokio::time::timeout(Duration::from_secs(4), steps).await;
    }
}
