//! What the lanes must hold.

use super::*;

const T0: Duration = Duration::ZERO;

fn c(n: u32) -> Arc<str> {
    Arc::from(format!("c{n}").as_str())
}

fn submit(lanes: &mut Lanes<u32>, n: u32, item: u32, now: Duration) -> Option<LaneId> {
    lanes.submit(c(n), None, item, now).unwrap()
}

fn expire(lanes: &mut Lanes<u32>, since: Duration) -> Vec<(Arc<str>, u32)> {
    let expired = lanes.expire(since, &busy());
    assert!(expired.iter().all(|e| e.held.is_none()), "of no device");
    expired
        .into_iter()
        .map(|e| (e.conversation, e.item))
        .collect()
}

fn busy() -> Rejected {
    Rejected {
        code: "unavailable".into(),
        retry_after_ms: 1_000,
        ..Rejected::default()
    }
}

fn sent(n: u32) -> Sent {
    Sent {
        session: SessionId(7),
        event: EventId::new(n.into(), &[0; 10]),
        known: 0,
    }
}

/// What a device sends: refused, or the lane that takes it.
fn of_device(lanes: &mut Lanes<u32>, n: u32) -> Option<LaneId> {
    lanes.submit(c(0), Some(sent(n)), n, T0).ok().flatten()
}

fn refused(lanes: &mut Lanes<u32>, id: LaneId, reference: u64) -> Vec<u32> {
    let refused = lanes.refused(id, reference, &busy());
    refused.into_iter().map(|r| r.item).collect()
}

fn given(lanes: &mut Lanes<u32>, id: LaneId) -> Vec<(u64, u32, bool)> {
    lanes.give(id, 100, T0, |g| (g.reference, *g.item, g.again))
}

#[test]
fn what_no_stream_answered_is_sent_again_in_order() {
    let mut lanes = Lanes::default();
    let (new, _) = lanes.set_replicas(["a"]);
    let a = new[0].1;
    for i in 1..=3 {
        assert_eq!(submit(&mut lanes, 0, i, T0), Some(a));
    }
    assert_eq!(
        given(&mut lanes, a),
        [(1, 1, false), (2, 2, false), (3, 3, false)]
    );
    assert_eq!(lanes.answer(a, 2), Some((c(0), 2)));
    assert_eq!(lanes.answer(a, 2), None);
    submit(&mut lanes, 0, 4, T0);
    assert_eq!(lanes.failed(a), [a]);
    let again = given(&mut lanes, a);
    assert_eq!(
        again.iter().map(|g| (g.1, g.2)).collect::<Vec<_>>(),
        [(1, true), (3, true), (4, false)]
    );
    for (reference, item, _) in again {
        assert_eq!(lanes.answer(a, reference), Some((c(0), item)));
    }
    assert_eq!(lanes.open(), 0);
}

#[test]
fn a_conversation_moves_only_once_it_is_answered_or_its_lane_is_dead() {
    let mut lanes = Lanes::default();
    let a = lanes.set_replicas(["a"]).0[0].1;
    for i in 0..64 {
        submit(&mut lanes, i, i, T0);
    }
    let refs = given(&mut lanes, a);
    let b = lanes.set_replicas(["a", "b"]).0[0].1;
    assert!(
        (0..64).all(|i| lanes.lane_of(&c(i)) == Some(a)),
        "unanswered: they stay"
    );
    for (reference, ..) in refs {
        lanes.answer(a, reference);
    }
    assert!(
        (0..64).any(|i| lanes.lane_of(&c(i)) == Some(b)),
        "answered: some move"
    );
    submit(&mut lanes, 1, 1, T0);
    let (_, ended) = lanes.set_replicas(["c"]);
    assert_eq!(ended.len(), 1, "the one with nothing open ends");
    let holder = lanes.lane_of(&c(1)).unwrap();
    assert!(!lanes.retire(holder));
    lanes.failed(holder);
    assert_ne!(lanes.lane_of(&c(1)), Some(holder));
    assert!(lanes.retire(holder));
    assert_eq!(lanes.open(), 1);
}

#[test]
fn without_a_replica_events_wait_and_only_those_never_sent_expire() {
    let mut lanes = Lanes::default();
    assert_eq!(submit(&mut lanes, 0, 1, T0), None);
    let a = lanes.set_replicas(["a"]).0[0].1;
    assert_eq!(given(&mut lanes, a), [(1, 1, false)]);
    lanes.set_replicas([]);
    assert!(lanes.failed(a).is_empty());
    submit(&mut lanes, 0, 2, Duration::from_secs(1));
    assert_eq!(expire(&mut lanes, Duration::from_mins(1)), [(c(0), 2)]);
    let b = lanes.set_replicas(["b"]).0[0].1;
    assert_eq!(given(&mut lanes, b), [(1, 1, true)]);
    assert_eq!(lanes.open(), 1);
}

#[test]
fn with_an_event_all_that_came_after_it_in_its_conversation_expires() {
    let mut lanes = Lanes::default();
    submit(&mut lanes, 0, 1, T0);
    submit(&mut lanes, 1, 2, Duration::from_secs(5));
    submit(&mut lanes, 0, 3, Duration::from_secs(5));
    let since = Duration::from_secs(3);
    assert_eq!(
        expire(&mut lanes, since),
        [(c(0), 1), (c(0), 3)],
        "no replica"
    );
    let a = lanes.set_replicas(["a"]).0[0].1;
    submit(&mut lanes, 0, 4, T0);
    submit(&mut lanes, 0, 5, Duration::from_secs(5));
    assert_eq!(
        expire(&mut lanes, since),
        [(c(0), 4), (c(0), 5)],
        "in a lane"
    );
    assert_eq!(given(&mut lanes, a), [(1, 2, false)]);
    assert_eq!(lanes.open(), 1);
}

#[test]
fn what_expires_in_a_lane_is_not_given_and_the_rest_is_answered_by_its_own_ref() {
    let mut lanes = Lanes::default();
    let a = lanes.set_replicas(["a"]).0[0].1;
    submit(&mut lanes, 0, 1, T0);
    submit(&mut lanes, 1, 2, Duration::from_secs(5));
    assert_eq!(expire(&mut lanes, Duration::from_secs(3)), [(c(0), 1)]);
    let g = given(&mut lanes, a);
    assert_eq!(g.len(), 1);
    assert_eq!(lanes.answer(a, g[0].0), Some((c(1), 2)));
}

#[test]
fn with_an_event_that_routing_refuses_for_now_goes_all_that_its_session_sent_there_after_it() {
    let mut lanes = Lanes::default();
    let a = lanes.set_replicas(["a"]).0[0].1;
    of_device(&mut lanes, 1);
    of_device(&mut lanes, 2);
    submit(&mut lanes, 0, 10, T0);
    let chains: Vec<u64> = lanes.give(a, 100, T0, |g| g.chain);
    assert_eq!(chains[0], chains[1]);
    assert_eq!(chains[2], 0, "what no device sent has no order");
    // this one was not given yet
    of_device(&mut lanes, 3);
    assert_eq!(refused(&mut lanes, a, 1), [1, 2, 3]);
    assert_eq!(lanes.answer(a, 2), None, "it is told already");
    assert_eq!(lanes.answer(a, 3), Some((c(0), 10)));
    assert_eq!(of_device(&mut lanes, 4), None);
    assert_eq!(of_device(&mut lanes, 1), Some(a));
    assert_eq!(of_device(&mut lanes, 4), None);
    assert_eq!(of_device(&mut lanes, 2), Some(a));
    assert_eq!(lanes.open(), 2);
    let again = lanes.give(a, 100, T0, |g| g.chain);
    assert!(again[0] == again[1] && again[0] != chains[0]);
}

#[test]
fn what_is_turned_down_for_want_of_a_replica_holds_back_what_follows() {
    let mut lanes = Lanes::default();
    of_device(&mut lanes, 1);
    let since = Duration::from_secs(1);
    let expired = lanes.expire(since, &busy());
    assert!(expired[0].held.is_some());
    let a = lanes.set_replicas(["a"]).0[0].1;
    assert_eq!(of_device(&mut lanes, 2), None);
    assert_eq!(of_device(&mut lanes, 1), Some(a));
    assert_eq!(of_device(&mut lanes, 2), Some(a));
}

#[test]
fn a_replica_whose_stream_failed_takes_nothing_while_another_has_one() {
    let mut lanes = Lanes::default();
    let new = lanes.set_replicas(["a", "b"]).0;
    let (a, b) = (new[0].1, new[1].1);
    for i in 0..32 {
        submit(&mut lanes, i, i, T0);
    }
    let many = given(&mut lanes, a).len();
    assert!((1..32).contains(&many));
    assert_eq!(lanes.failed(a), [b], "all of it moves at once");
    assert!((0..64).all(|i| lanes.lane_of(&c(i)) == Some(b)));
    let moved: Vec<_> = given(&mut lanes, b).iter().map(|g| g.2).collect();
    assert_eq!(moved.iter().filter(|again| **again).count(), many);
    lanes.failed(b);
    assert!(
        (32..64).any(|i| lanes.lane_of(&c(i)) == Some(a)),
        "with none up, each has its own again"
    );
    lanes.opened(a);
    assert!((32..64).all(|i| lanes.lane_of(&c(i)) == Some(a)));
}
