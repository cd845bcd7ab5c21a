//! Marks.

use super::*;

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
