//! Leases, epochs, and when absence means offline.

use super::*;

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
        h.advance(before(LEASE, 5)).await;
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
    h.advance(before(LEASE, 5)).await;
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

pub async fn a_young_store_is_not_settled(h: &dyn Harness) {
    assert!(!h.store().settled().await.unwrap());
    h.advance(before(LEASE, 3)).await;
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
    h.advance(before(LEASE, 5)).await;
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
