//! Statuses: which, since when, and who is due.

use super::*;

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
    h.advance(before(DAMPING, 2)).await;
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
    h.advance(before(DAMPING, 2)).await;
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

pub async fn a_renumbered_status_is_the_same_with_a_higher_version(h: &dyn Harness) {
    let online = alice_online(h).await;
    let asked = [user("nobody"), user("alice")];
    let told = h.store().renumber(&asked).await.unwrap();
    assert_eq!(told[0], None);
    let again = told[1].clone().unwrap();
    assert!(again.version > online.version);
    let expected = UserStatus {
        version: again.version,
        ..online
    };
    assert_eq!(again, expected);
    assert_eq!(status(h, "alice").await, Some(expected));
    assert!(due(h).await.is_empty());
    h.store()
        .remove(&user("alice"), SessionId(1), true)
        .await
        .unwrap();
    assert!(settle(h, "alice").await.unwrap().version > again.version);
}
