//! The suite that every adapter passes: one function a case, named as a sentence. An adapter's tests say
//! `tandem_ephemeral::conformance_suite!(ItsHarness);`, or `conformance_suite!(together ItsHarness);` if cases
//! wait for real time: they then do so side by side, in one test.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    clippy::wildcard_imports,
    reason = "these are tests named as sentences, kept where every adapter finds them"
)]

mod leases;
mod marks;
mod reach;
mod statuses;

pub use {leases::*, marks::*, reach::*, statuses::*};

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

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

/// A case under way.
pub type Case = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs cases side by side, each begun a moment after the one before; panics with the names of those that failed.
pub async fn run_together(cases: Vec<(&'static str, Case)>) {
    let mut running = tokio::task::JoinSet::new();
    let mut names = HashMap::new();
    for (n, (name, case)) in (0..).zip(cases) {
        let begun = async move {
            tokio::time::sleep(n * STAGGER).await;
            case.await;
        };
        names.insert(running.spawn(begun).id(), name);
    }
    let mut failed = Vec::new();
    while let Some(done) = running.join_next_with_id().await {
        if let Err(error) = done {
            failed.push(names[&error.id()]);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// One `#[tokio::test]` for each case, over a [`Harness`]; with `together`, one for all of them.
#[macro_export]
macro_rules! conformance_suite {
    (together $harness:ty) => {
        $crate::conformance_suite! { @list together $harness }
    };
    ($harness:ty) => {
        $crate::conformance_suite! { @list each $harness }
    };
    (@list $how:ident $harness:ty) => {
        $crate::conformance_suite! { @ $how $harness:
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
            a_renumbered_status_is_the_same_with_a_higher_version
            a_young_store_is_not_settled
            an_edge_that_has_not_registered_keeps_the_store_unsettled
            an_edge_that_registered_in_an_earlier_epoch_keeps_the_store_unsettled
            a_mark_is_taken_once
            a_mark_is_gone_after_its_time
            a_mark_set_again_has_the_new_value_and_time
            of_concurrent_takers_one_has_the_mark
        }
    };
    (@ together $harness:ty: $($case:ident)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn every_case_passes() {
            $crate::conformance::run_together(vec![$(
                (stringify!($case), Box::pin(async {
                    let harness = <$harness as $crate::conformance::Harness>::fresh().await;
                    $crate::conformance::$case(&harness).await;
                })),
            )*])
            .await;
        }
    };
    (@ each $harness:ty: $($case:ident)*) => { $(
        #[tokio::test]
        async fn $case() {
            let harness = <$harness as $crate::conformance::Harness>::fresh().await;
            $crate::conformance::$case(&harness).await;
        }
    )* };
}

/// Between the beginnings of two cases that run side by side, so that they do not all call at the same moments.
const STAGGER: Duration = Duration::from_millis(130);

const SECOND: Duration = Duration::from_secs(1);

/// So many seconds less.
fn before(time: Duration, seconds: u64) -> Duration {
    time.saturating_sub(Duration::from_secs(seconds))
}

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

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_the_suite() {
        let list = include_str!("conformance.rs");
        let cases = [
            include_str!("conformance/leases.rs"),
            include_str!("conformance/marks.rs"),
            include_str!("conformance/reach.rs"),
            include_str!("conformance/statuses.rs"),
        ]
        .concat();
        let names: Vec<&str> = cases
            .split("pub async fn ")
            .skip(1)
            .filter_map(|case| case.split('(').next())
            .collect();
        for name in &names {
            assert!(list.lines().any(|l| l.trim() == *name), "{name}");
        }
        assert!(names.len() > 20);
    }
}
