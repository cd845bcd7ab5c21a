//! The suite that every adapter passes: one function a case, named as a sentence. An adapter's tests say
//! `tandem_ephemeral::conformance_suite!(ItsHarness);`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "these are tests named as sentences, kept where every adapter finds them"
)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tandem_kernel::{Address, DeviceId, EdgeId, SessionId};
use tandem_proto::client::{DeviceClass, Status};

use crate::{DAMPING, Ephemeral, LEASE, Reach, Session, UserStatus};

/// What a case needs of an adapter.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty store.
    async fn fresh() -> Self
    where
        Self: Sized;

    /// The store.
    fn store(&self) -> &Arc<dyn Ephemeral>;

    /// Lets time pass: a paused clock is moved, with a real one it is waited.
    async fn advance(&self, by: Duration);

    /// Empties the store, as a lost Redis would be.
    async fn empty(&self);
}

/// One `#[tokio::test]` for each case, over a [`Harness`].
#[macro_export]
macro_rules! conformance_suite {
    ($harness:ty) => {
        $crate::conformance_suite! { @cases $harness:
            a_first_renewal_says_that_there_was_no_lease
            a_lease_renewed_in_time_keeps_its_sessions
            a_lease_that_lapses_takes_its_sessions_with_it
            a_renewal_after_the_lapse_says_so_and_nothing_counts_until_registered_again
            the_lapse_of_one_edge_leaves_the_sessions_of_others
            a_released_edge_takes_its_sessions_at_once
            a_session_of_an_edge_without_a_lease_is_not_reached
            a_registered_session_is_reached_at_once
            reach_answers_in_the_order_asked
            a_detached_session_is_still_delivered_to
            a_removed_session_is_not_reached
            registering_again_changes_the_session_in_place
            a_session_that_moves_is_reached_at_its_new_edge_alone
            a_flagged_session_is_left_out_of_live_until_it_is_cleared
            registering_again_clears_no_flag
            a_renewal_names_flagged_sessions_until_they_are_cleared
            flagging_what_is_gone_is_passed_over
            a_flagged_session_still_counts_for_the_status
            who_was_never_online_has_no_status
            coming_online_is_due_at_once
            a_status_stands_as_settled_until_it_is_settled_again
            settling_what_did_not_change_tells_nothing
            the_most_available_session_gives_the_status
            appear_offline_wins_over_all
            each_change_has_a_higher_version
            a_detached_session_counts_for_the_damping
            a_removed_session_counts_for_the_damping
            a_session_removed_at_once_counts_no_longer
            a_session_back_within_the_damping_shows_nothing
            a_new_status_on_one_session_is_due_at_once
            putting_what_is_there_makes_nobody_due
            users_stay_due_until_settled_and_no_more_than_asked_are_named
            an_emptied_store_has_a_new_epoch_and_knows_nobody
            versions_rise_across_an_emptied_store
            a_young_store_is_not_settled
            an_edge_that_has_not_registered_keeps_the_store_unsettled
            an_edge_that_registered_in_an_earlier_epoch_keeps_the_store_unsettled
            a_mark_is_taken_once
            a_mark_is_gone_after_its_time
            a_mark_set_again_has_the_new_value_and_time
            of_concurrent_takers_one_has_the_mark
        }
    };
    (@cases $harness:ty: $($case:ident)*) => { $(
        #[tokio::test]
        async fn $case() {
            let harness = <$harness as $crate::conformance::Harness>::fresh().await;
            $crate::conformance::$case(&harness).await;
        }
    )* };
}

const SECOND: Duration = Duration::from_secs(1);

fn user(name: &str) -> Address {
    Address::parse(&format!("{name}@example.com")).unwrap()
}

fn edge(n: u64) -> EdgeId {
    EdgeId::new(&format!("10.0.0.{n}:7400"), n)
}

/// A session of alice's on the first edge: online, on a PC.
fn session(id: u128) -> Session {
    Session {
        id: SessionId(id),
        user: user("alice"),
        edge: edge(1),
        device: DeviceId::parse("device").unwrap(),
        class: DeviceClass::Pc,
        status: Status::Online,
        message: String::new(),
        attached: true,
    }
}

async fn reach(h: &dyn Harness, name: &str) -> Reach {
    h.store().reach(&[user(name)]).await.unwrap().remove(0)
}

async fn renew(h: &dyn Harness, n: u64) -> crate::Renewal {
    h.store().renew(&edge(n), 0).await.unwrap()
}

async fn put(h: &dyn Harness, sessions: &[Session]) {
    h.store().put(sessions).await.unwrap();
}

async fn due(h: &dyn Harness) -> Vec<Address> {
    h.store().due(100).await.unwrap()
}

/// Settles one user; the status if it changed.
async fn settle(h: &dyn Harness, name: &str) -> Option<UserStatus> {
    let mut changed = h.store().settle(&[user(name)]).await.unwrap();
    assert!(changed.iter().all(|(who, _)| *who == user(name)));
    assert!(changed.len() <= 1);
    changed.pop().map(|(_, status)| status)
}

async fn status(h: &dyn Harness, name: &str) -> Option<UserStatus> {
    h.store().statuses(&[user(name)]).await.unwrap().remove(0)
}

/// Alice is online with session 1 on edge 1, and settled.
async fn alice_online(h: &dyn Harness) -> UserStatus {
    renew(h, 1).await;
    put(h, &[session(1)]).await;
    settle(h, "alice").await.unwrap()
}

pub async fn a_first_renewal_says_that_there_was_no_lease(h: &dyn Harness) {
    let first = renew(h, 1).await;
    assert!(first.lapsed);
    assert_ne!(first.epoch, 0);
    assert!(first.resync.is_empty());
    let second = renew(h, 1).await;
    assert!(!second.lapsed);
    assert_eq!(second.epoch, first.epoch);
    let other = renew(h, 2).await;
    assert!(other.lapsed);
    assert_eq!(other.epoch, first.epoch);
}

pub async fn a_lease_renewed_in_time_keeps_its_sessions(h: &dyn Harness) {
    alice_online(h).await;
    for _ in 0..3 {
        h.advance(LEASE - 5 * SECOND).await;
        assert!(!renew(h, 1).await.lapsed);
    }
    assert_eq!(reach(h, "alice").await.live, [(edge(1), SessionId(1))]);
    assert!(due(h).await.is_empty());
}

pub async fn a_lease_that_lapses_takes_its_sessions_with_it(h: &dyn Harness) {
    let online = alice_online(h).await;
    h.advance(LEASE + SECOND).await;
    assert_eq!(reach(h, "alice").await, Reach::default());
    assert_eq!(due(h).await, [user("alice")]);
    let gone = settle(h, "alice").await.unwrap();
    assert_eq!(gone.status, Status::Offline);
    assert!(gone.version > online.version);
    assert!(due(h).await.is_empty());
}

pub async fn a_renewal_after_the_lapse_says_so_and_nothing_counts_until_registered_again(
    h: &dyn Harness,
) {
    alice_online(h).await;
    h.store()
        .flag_resync(&[(user("alice"), SessionId(1))])
        .await
        .unwrap();
    h.advance(LEASE + SECOND).await;
    let back = renew(h, 1).await;
    assert!(back.lapsed);
    assert_eq!(reach(h, "alice").await, Reach::default());
    assert_eq!(due(h).await, [user("alice")]);
    put(h, &[session(1)]).await;
    assert_eq!(reach(h, "alice").await.live, [(edge(1), SessionId(1))]);
    assert_eq!(settle(h, "alice").await, None);
}

pub async fn the_lapse_of_one_edge_leaves_the_sessions_of_others(h: &dyn Harness) {
    alice_online(h).await;
    renew(h, 2).await;
    let mobile = Session {
        edge: edge(2),
        class: DeviceClass::Mobile,
        status: Status::Away,
        ..session(2)
    };
    put(h, &[mobile]).await;
    h.advance(LEASE - 5 * SECOND).await;
    renew(h, 2).await;
    h.advance(6 * SECOND).await;
    let reached = reach(h, "alice").await;
    assert_eq!(reached.live, [(edge(2), SessionId(2))]);
    assert_eq!((reached.sessions, reached.attached), (1, 1));
    assert_eq!(due(h).await, [user("alice")]);
    let left = settle(h, "alice").await.unwrap();
    assert_eq!(
        (left.status, left.class),
        (Status::Away, DeviceClass::Mobile)
    );
}

pub async fn a_released_edge_takes_its_sessions_at_once(h: &dyn Harness) {
    alice_online(h).await;
    h.store().release(&edge(1)).await.unwrap();
    assert_eq!(reach(h, "alice").await, Reach::default());
    assert_eq!(due(h).await, [user("alice")]);
    assert_eq!(settle(h, "alice").await.unwrap().status, Status::Offline);
    assert!(renew(h, 1).await.lapsed);
    assert_eq!(reach(h, "alice").await, Reach::default());
    h.store().release(&edge(9)).await.unwrap();
}

pub async fn a_session_of_an_edge_without_a_lease_is_not_reached(h: &dyn Harness) {
    put(h, &[session(1)]).await;
    assert_eq!(reach(h, "alice").await, Reach::default());
    assert_eq!(settle(h, "alice").await, None);
}

pub async fn a_registered_session_is_reached_at_once(h: &dyn Harness) {
    renew(h, 1).await;
    assert_eq!(reach(h, "alice").await, Reach::default());
    put(h, &[session(1)]).await;
    let reached = reach(h, "alice").await;
    assert_eq!(reached.live, [(edge(1), SessionId(1))]);
    assert_eq!((reached.sessions, reached.attached), (1, 1));
}

pub async fn reach_answers_in_the_order_asked(h: &dyn Harness) {
    renew(h, 1).await;
    let names = ["bob", "nobody", "alice", "bob"];
    put(
        h,
        &[
            session(1),
            Session {
                user: user("bob"),
                ..session(2)
            },
        ],
    )
    .await;
    let asked: Vec<Address> = names.iter().map(|n| user(n)).collect();
    let reached = h.store().reach(&asked).await.unwrap();
    let ids: Vec<Vec<u128>> = reached
        .iter()
        .map(|r| r.live.iter().map(|(_, id)| id.0).collect())
        .collect();
    assert_eq!(ids, [vec![2], vec![], vec![1], vec![2]]);
    assert!(h.store().reach(&[]).await.unwrap().is_empty());
}

pub async fn a_detached_session_is_still_delivered_to(h: &dyn Harness) {
    renew(h, 1).await;
    put(h, &[session(1)]).await;
    put(
        h,
        &[Session {
            attached: false,
            ..session(1)
        }],
    )
    .await;
    h.advance(DAMPING + SECOND).await;
    let reached = reach(h, "alice").await;
    assert_eq!(reached.live, [(edge(1), SessionId(1))]);
    assert_eq!((reached.sessions, reached.attached), (1, 0));
}

pub async fn a_removed_session_is_not_reached(h: &dyn Harness) {
    renew(h, 1).await;
    put(h, &[session(1), session(2)]).await;
    h.store()
        .remove(&user("alice"), SessionId(1), false)
        .await
        .unwrap();
    h.store()
        .remove(&user("alice"), SessionId(2), true)
        .await
        .unwrap();
    assert_eq!(reach(h, "alice").await, Reach::default());
    h.store()
        .remove(&user("alice"), SessionId(7), true)
        .await
        .unwrap();
    h.store()
        .remove(&user("nobody"), SessionId(1), false)
        .await
        .unwrap();
}

pub async fn registering_again_changes_the_session_in_place(h: &dyn Harness) {
    alice_online(h).await;
    put(
        h,
        &[Session {
            status: Status::Busy,
            message: "hm".into(),
            ..session(1)
        }],
    )
    .await;
    assert_eq!(reach(h, "alice").await.sessions, 1);
    let now = settle(h, "alice").await.unwrap();
    assert_eq!((now.status, now.message.as_str()), (Status::Busy, "hm"));
}

pub async fn a_session_that_moves_is_reached_at_its_new_edge_alone(h: &dyn Harness) {
    alice_online(h).await;
    renew(h, 2).await;
    put(
        h,
        &[Session {
            edge: edge(2),
            ..session(1)
        }],
    )
    .await;
    assert_eq!(reach(h, "alice").await.live, [(edge(2), SessionId(1))]);
    h.store().release(&edge(1)).await.unwrap();
    assert_eq!(reach(h, "alice").await.live, [(edge(2), SessionId(1))]);
    h.store().release(&edge(2)).await.unwrap();
    assert_eq!(reach(h, "alice").await, Reach::default());
}

pub async fn a_flagged_session_is_left_out_of_live_until_it_is_cleared(h: &dyn Harness) {
    renew(h, 1).await;
    put(h, &[session(1), session(2)]).await;
    h.store()
        .flag_resync(&[(user("alice"), SessionId(1))])
        .await
        .unwrap();
    let reached = reach(h, "alice").await;
    assert_eq!(reached.live, [(edge(1), SessionId(2))]);
    assert_eq!((reached.sessions, reached.attached), (2, 2));
    h.store()
        .clear_resync(&user("alice"), SessionId(1))
        .await
        .unwrap();
    assert_eq!(reach(h, "alice").await.live.len(), 2);
    h.store()
        .clear_resync(&user("alice"), SessionId(9))
        .await
        .unwrap();
}

pub async fn registering_again_clears_no_flag(h: &dyn Harness) {
    renew(h, 1).await;
    put(h, &[session(1)]).await;
    h.store()
        .flag_resync(&[(user("alice"), SessionId(1))])
        .await
        .unwrap();
    for again in [
        session(1),
        Session {
            attached: false,
            ..session(1)
        },
        Session {
            status: Status::Busy,
            ..session(1)
        },
    ] {
        put(h, &[again]).await;
        assert!(reach(h, "alice").await.live.is_empty());
        assert_eq!(renew(h, 1).await.resync, [SessionId(1)]);
    }
}

pub async fn a_renewal_names_flagged_sessions_until_they_are_cleared(h: &dyn Harness) {
    renew(h, 1).await;
    renew(h, 2).await;
    let bobs = Session {
        user: user("bob"),
        edge: edge(2),
        ..session(3)
    };
    put(h, &[session(1), session(2), bobs]).await;
    let flagged = [
        (user("alice"), SessionId(2)),
        (user("alice"), SessionId(1)),
        (user("bob"), SessionId(3)),
    ];
    h.store().flag_resync(&flagged).await.unwrap();
    for _ in 0..2 {
        let mut named = renew(h, 1).await.resync;
        named.sort();
        assert_eq!(named, [SessionId(1), SessionId(2)]);
    }
    h.store()
        .clear_resync(&user("alice"), SessionId(1))
        .await
        .unwrap();
    h.store()
        .remove(&user("alice"), SessionId(2), false)
        .await
        .unwrap();
    assert!(renew(h, 1).await.resync.is_empty());
    assert_eq!(renew(h, 2).await.resync, [SessionId(3)]);
}

pub async fn flagging_what_is_gone_is_passed_over(h: &dyn Harness) {
    renew(h, 1).await;
    put(h, &[session(1), session(2)]).await;
    h.store()
        .remove(&user("alice"), SessionId(1), false)
        .await
        .unwrap();
    let flagged = [
        (user("alice"), SessionId(1)),
        (user("nobody"), SessionId(4)),
        (user("alice"), SessionId(2)),
    ];
    h.store().flag_resync(&flagged).await.unwrap();
    assert_eq!(renew(h, 1).await.resync, [SessionId(2)]);
    put(h, &[session(1)]).await;
    assert_eq!(reach(h, "alice").await.live, [(edge(1), SessionId(1))]);
}

pub async fn a_flagged_session_still_counts_for_the_status(h: &dyn Harness) {
    renew(h, 1).await;
    put(h, &[session(1)]).await;
    h.store()
        .flag_resync(&[(user("alice"), SessionId(1))])
        .await
        .unwrap();
    assert_eq!(settle(h, "alice").await.unwrap().status, Status::Online);
}

pub async fn who_was_never_online_has_no_status(h: &dyn Harness) {
    assert_eq!(status(h, "alice").await, None);
    assert_eq!(settle(h, "alice").await, None);
    assert_eq!(status(h, "alice").await, None);
}

pub async fn coming_online_is_due_at_once(h: &dyn Harness) {
    renew(h, 1).await;
    assert!(due(h).await.is_empty());
    put(
        h,
        &[Session {
            message: "hello".into(),
            ..session(1)
        }],
    )
    .await;
    assert_eq!(due(h).await, [user("alice")]);
    let online = settle(h, "alice").await.unwrap();
    assert_eq!(
        (online.status, online.class),
        (Status::Online, DeviceClass::Pc)
    );
    assert_eq!(online.message, "hello");
    assert!(online.version > 0);
    assert!(due(h).await.is_empty());
}

pub async fn a_status_stands_as_settled_until_it_is_settled_again(h: &dyn Harness) {
    let online = alice_online(h).await;
    put(
        h,
        &[Session {
            status: Status::Away,
            ..session(1)
        }],
    )
    .await;
    assert_eq!(status(h, "alice").await, Some(online));
    let away = settle(h, "alice").await;
    assert_eq!(away.as_ref().unwrap().status, Status::Away);
    let asked = [user("nobody"), user("alice")];
    assert_eq!(h.store().statuses(&asked).await.unwrap(), [None, away]);
}

pub async fn settling_what_did_not_change_tells_nothing(h: &dyn Harness) {
    let online = alice_online(h).await;
    assert_eq!(settle(h, "alice").await, None);
    put(
        h,
        &[Session {
            status: Status::Busy,
            ..session(2)
        }],
    )
    .await;
    assert_eq!(settle(h, "alice").await, None);
    assert_eq!(status(h, "alice").await, Some(online));
}

pub async fn the_most_available_session_gives_the_status(h: &dyn Harness) {
    use Status::{Away, BeRightBack, Busy, OnThePhone, Online, OutToLunch};
    renew(h, 1).await;
    let rising = [Away, OutToLunch, BeRightBack, OnThePhone, Busy, Online];
    for (id, status) in (1..).zip(rising) {
        let class = if id % 2 == 0 {
            DeviceClass::Mobile
        } else {
            DeviceClass::Portal
        };
        put(
            h,
            &[Session {
                status,
                class,
                message: format!("m{id}"),
                ..session(id)
            }],
        )
        .await;
        let now = settle(h, "alice").await.unwrap();
        assert_eq!((now.status, now.class), (status, class));
        assert_eq!(now.message, format!("m{id}"));
    }
    for id in (2..=6).rev() {
        h.store()
            .remove(&user("alice"), SessionId(id), true)
            .await
            .unwrap();
        let now = settle(h, "alice").await.unwrap();
        assert_eq!(now.status, rising[id as usize - 2]);
    }
}

pub async fn appear_offline_wins_over_all(h: &dyn Harness) {
    alice_online(h).await;
    let hidden = Session {
        status: Status::AppearOffline,
        message: "not for you".into(),
        ..session(2)
    };
    put(h, &[hidden]).await;
    let now = settle(h, "alice").await.unwrap();
    assert_eq!((now.status, now.message.as_str()), (Status::Offline, ""));
    assert_eq!(reach(h, "alice").await.live.len(), 2);
    h.store()
        .remove(&user("alice"), SessionId(2), true)
        .await
        .unwrap();
    assert_eq!(settle(h, "alice").await.unwrap().status, Status::Online);
}

pub async fn each_change_has_a_higher_version(h: &dyn Harness) {
    let mut last = alice_online(h).await;
    for change in [
        Session {
            status: Status::Busy,
            ..session(1)
        },
        Session {
            status: Status::Busy,
            message: "in a meeting".into(),
            ..session(1)
        },
        Session {
            status: Status::Busy,
            message: "in a meeting".into(),
            class: DeviceClass::Portal,
            ..session(1)
        },
        session(1),
    ] {
        put(h, &[change]).await;
        let now = settle(h, "alice").await.unwrap();
        assert!(now.version > last.version);
        last = now;
    }
    assert_eq!(status(h, "alice").await, Some(last));
}

pub async fn a_detached_session_counts_for_the_damping(h: &dyn Harness) {
    alice_online(h).await;
    put(
        h,
        &[Session {
            attached: false,
            ..session(1)
        }],
    )
    .await;
    assert!(due(h).await.is_empty());
    // settled meanwhile, it is still due when the damping is over
    assert_eq!(settle(h, "alice").await, None);
    h.advance(DAMPING - 2 * SECOND).await;
    // the same again does not start the damping anew
    put(
        h,
        &[Session {
            attached: false,
            ..session(1)
        }],
    )
    .await;
    assert_eq!(settle(h, "alice").await, None);
    assert!(due(h).await.is_empty());
    h.advance(2 * SECOND + SECOND / 2).await;
    assert_eq!(due(h).await, [user("alice")]);
    assert_eq!(settle(h, "alice").await.unwrap().status, Status::Offline);
    assert!(due(h).await.is_empty());
}

pub async fn a_removed_session_counts_for_the_damping(h: &dyn Harness) {
    alice_online(h).await;
    h.store()
        .remove(&user("alice"), SessionId(1), false)
        .await
        .unwrap();
    assert!(due(h).await.is_empty());
    assert_eq!(settle(h, "alice").await, None);
    h.advance(DAMPING - 2 * SECOND).await;
    assert_eq!(settle(h, "alice").await, None);
    h.advance(2 * SECOND + SECOND / 2).await;
    assert_eq!(due(h).await, [user("alice")]);
    assert_eq!(settle(h, "alice").await.unwrap().status, Status::Offline);
}

pub async fn a_session_removed_at_once_counts_no_longer(h: &dyn Harness) {
    alice_online(h).await;
    h.store()
        .remove(&user("alice"), SessionId(1), true)
        .await
        .unwrap();
    assert_eq!(due(h).await, [user("alice")]);
    assert_eq!(settle(h, "alice").await.unwrap().status, Status::Offline);
}

pub async fn a_session_back_within_the_damping_shows_nothing(h: &dyn Harness) {
    let online = alice_online(h).await;
    put(
        h,
        &[Session {
            attached: false,
            ..session(1)
        }],
    )
    .await;
    h.advance(2 * SECOND).await;
    put(h, &[session(1)]).await;
    assert_eq!(settle(h, "alice").await, None);
    h.store()
        .remove(&user("alice"), SessionId(1), false)
        .await
        .unwrap();
    h.advance(2 * SECOND).await;
    put(h, &[session(2)]).await;
    assert_eq!(settle(h, "alice").await, None);
    h.advance(DAMPING + SECOND).await;
    assert_eq!(settle(h, "alice").await, None);
    assert_eq!(status(h, "alice").await, Some(online));
    assert!(due(h).await.is_empty());
}

pub async fn a_new_status_on_one_session_is_due_at_once(h: &dyn Harness) {
    alice_online(h).await;
    put(
        h,
        &[Session {
            status: Status::Away,
            attached: false,
            ..session(1)
        }],
    )
    .await;
    assert_eq!(due(h).await, [user("alice")]);
    assert_eq!(settle(h, "alice").await.unwrap().status, Status::Away);
    h.advance(DAMPING + SECOND / 2).await;
    assert_eq!(due(h).await, [user("alice")]);
    assert_eq!(settle(h, "alice").await.unwrap().status, Status::Offline);
}

pub async fn putting_what_is_there_makes_nobody_due(h: &dyn Harness) {
    alice_online(h).await;
    put(h, &[session(1)]).await;
    h.store()
        .flag_resync(&[(user("alice"), SessionId(1))])
        .await
        .unwrap();
    assert!(due(h).await.is_empty());
}

pub async fn users_stay_due_until_settled_and_no_more_than_asked_are_named(h: &dyn Harness) {
    renew(h, 1).await;
    let names = ["a", "b", "c", "d"];
    for (id, name) in (1..).zip(names) {
        put(
            h,
            &[Session {
                user: user(name),
                ..session(id)
            }],
        )
        .await;
    }
    for _ in 0..2 {
        let mut all = due(h).await;
        all.sort();
        assert_eq!(all, names.map(user));
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        let some = h.store().due(2).await.unwrap();
        assert_eq!(some.len(), 2);
        assert_eq!(h.store().settle(&some).await.unwrap().len(), 2);
        seen.extend(some);
    }
    seen.sort();
    assert_eq!(seen, names.map(user));
    assert!(due(h).await.is_empty());
}

pub async fn an_emptied_store_has_a_new_epoch_and_knows_nobody(h: &dyn Harness) {
    let epoch = renew(h, 1).await.epoch;
    alice_online(h).await;
    h.store()
        .mark("m", Bytes::from_static(b"v"), 60 * SECOND)
        .await
        .unwrap();
    h.empty().await;
    assert_eq!(reach(h, "alice").await, Reach::default());
    assert_eq!(status(h, "alice").await, None);
    assert!(due(h).await.is_empty());
    assert_eq!(h.store().take_marks(&["m".into()]).await.unwrap(), [None]);
    let again = renew(h, 1).await;
    assert!(again.lapsed);
    assert_ne!(again.epoch, epoch);
    assert_eq!(reach(h, "alice").await, Reach::default());
}

pub async fn versions_rise_across_an_emptied_store(h: &dyn Harness) {
    let mut last = alice_online(h).await.version;
    for _ in 0..3 {
        for status in [Status::Busy, Status::Away, Status::Online] {
            put(
                h,
                &[Session {
                    status,
                    ..session(1)
                }],
            )
            .await;
            let version = settle(h, "alice").await.unwrap().version;
            assert!(version > last);
            last = version;
        }
        h.empty().await;
        let version = alice_online(h).await.version;
        assert!(version > last);
        last = version;
    }
}

pub async fn a_young_store_is_not_settled(h: &dyn Harness) {
    assert!(!h.store().settled().await.unwrap());
    h.advance(LEASE - 3 * SECOND).await;
    assert!(!h.store().settled().await.unwrap());
    h.advance(4 * SECOND).await;
    assert!(h.store().settled().await.unwrap());
    h.empty().await;
    assert!(!h.store().settled().await.unwrap());
}

pub async fn an_edge_that_has_not_registered_keeps_the_store_unsettled(h: &dyn Harness) {
    assert!(!h.store().settled().await.unwrap());
    h.advance(LEASE + SECOND).await;
    let epoch = renew(h, 1).await.epoch;
    assert!(!h.store().settled().await.unwrap());
    h.store().renew(&edge(1), epoch).await.unwrap();
    assert!(h.store().settled().await.unwrap());
    renew(h, 2).await;
    assert!(!h.store().settled().await.unwrap());
    // when its lease lapses it is no longer waited for
    h.advance(LEASE - 5 * SECOND).await;
    h.store().renew(&edge(1), epoch).await.unwrap();
    h.advance(6 * SECOND).await;
    assert!(h.store().settled().await.unwrap());
}

pub async fn an_edge_that_registered_in_an_earlier_epoch_keeps_the_store_unsettled(
    h: &dyn Harness,
) {
    let old = renew(h, 1).await.epoch;
    h.empty().await;
    assert!(!h.store().settled().await.unwrap());
    h.advance(LEASE + SECOND).await;
    let new = h.store().renew(&edge(1), old).await.unwrap().epoch;
    assert!(!h.store().settled().await.unwrap());
    h.store().renew(&edge(1), new).await.unwrap();
    assert!(h.store().settled().await.unwrap());
}

pub async fn a_mark_is_taken_once(h: &dyn Harness) {
    h.store()
        .mark("a", Bytes::from_static(b"1"), 60 * SECOND)
        .await
        .unwrap();
    h.store()
        .mark("b", Bytes::from_static(b""), 60 * SECOND)
        .await
        .unwrap();
    let keys = ["b".to_owned(), "none".to_owned(), "a".to_owned()];
    let taken = h.store().take_marks(&keys).await.unwrap();
    assert_eq!(
        taken,
        [Some(Bytes::new()), None, Some(Bytes::from_static(b"1"))]
    );
    assert_eq!(
        h.store().take_marks(&keys).await.unwrap(),
        [None, None, None]
    );
}

pub async fn a_mark_is_gone_after_its_time(h: &dyn Harness) {
    h.store()
        .mark("short", Bytes::from_static(b"1"), 2 * SECOND)
        .await
        .unwrap();
    h.store()
        .mark("long", Bytes::from_static(b"2"), 60 * SECOND)
        .await
        .unwrap();
    h.advance(3 * SECOND).await;
    let taken = h
        .store()
        .take_marks(&["short".into(), "long".into()])
        .await
        .unwrap();
    assert_eq!(taken, [None, Some(Bytes::from_static(b"2"))]);
}

pub async fn a_mark_set_again_has_the_new_value_and_time(h: &dyn Harness) {
    h.store()
        .mark("a", Bytes::from_static(b"1"), 2 * SECOND)
        .await
        .unwrap();
    h.store()
        .mark("a", Bytes::from_static(b"2"), 60 * SECOND)
        .await
        .unwrap();
    h.advance(3 * SECOND).await;
    h.store()
        .mark("b", Bytes::from_static(b"3"), 60 * SECOND)
        .await
        .unwrap();
    let taken = h.store().take_marks(&["a".into()]).await.unwrap();
    assert_eq!(taken, [Some(Bytes::from_static(b"2"))]);
}

pub async fn of_concurrent_takers_one_has_the_mark(h: &dyn Harness) {
    for round in 0..10 {
        let key = format!("token{round}");
        h.store()
            .mark(&key, Bytes::from_static(b"1"), 60 * SECOND)
            .await
            .unwrap();
        let mut takers = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (store, key) = (Arc::clone(h.store()), key.clone());
            takers.spawn(async move { store.take_marks(&[key]).await.unwrap().remove(0) });
        }
        let winners = takers.join_all().await.into_iter().flatten().count();
        assert_eq!(winners, 1);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_the_suite() {
        let source = include_str!("conformance.rs");
        let (list, cases) = source.split_once("@cases $harness:ty").unwrap();
        let mut named = 0;
        for case in cases
            .split("pub async fn ")
            .skip(1)
            .filter_map(|c| c.split('(').next())
        {
            if case.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                assert!(list.lines().any(|l| l.trim() == case), "{case}");
                named += 1;
            }
        }
        assert!(named > 30);
    }
}
