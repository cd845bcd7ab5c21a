//! Where users are reached, and resync flags.

use super::*;

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
