//! Conditional puts and concurrent callers.

use super::*;

pub async fn a_conditional_put_is_done_only_if_the_row_is_as_expected(h: &dyn Harness) {
    let (store, at) = (h.store(), key(ONE, b"p", b"s"));
    let put_if = |expected: Option<&[u8]>, value: &[u8]| {
        let (store, at) = (Arc::clone(&store), at.clone());
        let (expected, value) = (expected.map(bytes), bytes(value));
        async move { store.put_if(&at, expected, value, None).await.unwrap() }
    };
    assert_eq!(put_if(Some(b"1"), b"2").await, PutIf::Otherwise(None));
    assert_eq!(store.get(&at).await.unwrap(), None);
    assert_eq!(put_if(None, b"1").await, PutIf::Done);
    assert_eq!(
        put_if(None, b"2").await,
        PutIf::Otherwise(Some(bytes(b"1")))
    );
    assert_eq!(
        put_if(Some(b""), b"2").await,
        PutIf::Otherwise(Some(bytes(b"1")))
    );
    assert_eq!(store.get(&at).await.unwrap(), Some(bytes(b"1")));
    assert_eq!(put_if(Some(b"1"), b"").await, PutIf::Done);
    assert_eq!(
        put_if(None, b"3").await,
        PutIf::Otherwise(Some(Bytes::new()))
    );
    assert_eq!(put_if(Some(b""), b"3").await, PutIf::Done);
    assert_eq!(store.get(&at).await.unwrap(), Some(bytes(b"3")));
}

pub async fn a_conditional_put_takes_an_expired_row_for_none(h: &dyn Harness) {
    let (store, at) = (h.store(), key(ONE, b"p", b"s"));
    let ttl = Some(Duration::from_secs(3));
    assert_eq!(
        store.put_if(&at, None, bytes(b"1"), ttl).await.unwrap(),
        PutIf::Done
    );
    assert_eq!(store.get(&at).await.unwrap(), Some(bytes(b"1")));
    h.advance(Duration::from_secs(4)).await;
    assert_eq!(store.get(&at).await.unwrap(), None);
    let late = store
        .put_if(&at, Some(bytes(b"1")), bytes(b"2"), None)
        .await
        .unwrap();
    assert_eq!(late, PutIf::Otherwise(None));
    assert_eq!(
        store.put_if(&at, None, bytes(b"3"), None).await.unwrap(),
        PutIf::Done
    );
}

pub async fn of_concurrent_conditional_puts_one_is_done(h: &dyn Harness) {
    for round in 0..10_u8 {
        let mut callers = JoinSet::new();
        for caller in 0..24_u8 {
            let store = h.store();
            callers.spawn(async move {
                let at = key(ONE, b"race", &[round]);
                (
                    caller,
                    store
                        .put_if(&at, None, bytes(&[caller]), None)
                        .await
                        .unwrap(),
                )
            });
        }
        let outcomes = callers.join_all().await;
        let done: Vec<u8> = outcomes
            .iter()
            .filter(|(_, o)| *o == PutIf::Done)
            .map(|(c, _)| *c)
            .collect();
        assert_eq!(done.len(), 1);
        let winner = Some(bytes(&done));
        assert_eq!(get(h, b"race", &[round]).await, winner);
        let told = outcomes.into_iter().filter(|(c, _)| *c != done[0]);
        assert!(
            told.into_iter()
                .all(|(_, o)| o == PutIf::Otherwise(winner.clone()))
        );
    }
}

pub async fn conditional_puts_in_turns_lose_no_step(h: &dyn Harness) {
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let store = h.store();
        callers.spawn(async move {
            let at = key(ONE, b"counter", b"");
            for _ in 0..10 {
                let mut seen = store.get(&at).await.unwrap();
                loop {
                    let n = seen.as_deref().map_or(0, |b| b[0]);
                    match store
                        .put_if(&at, seen, bytes(&[n + 1]), None)
                        .await
                        .unwrap()
                    {
                        PutIf::Done => break,
                        PutIf::Otherwise(now) => seen = now,
                    }
                }
            }
        });
    }
    callers.join_all().await;
    assert_eq!(get(h, b"counter", b"").await, Some(bytes(&[80])));
}

pub async fn of_concurrent_writers_of_a_row_one_value_stays(h: &dyn Harness) {
    let mut writers = JoinSet::new();
    for writer in 0..32_u8 {
        let store = h.store();
        writers.spawn(async move {
            let ops = vec![set(b"a", &[writer]), set(b"b", &[writer])];
            store.write(vec![batch(ONE, b"p", ops)]).await.unwrap();
        });
    }
    writers.join_all().await;
    let rows = all(h, ONE, b"p").await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|(_, v)| v.len() == 1 && v[0] < 32));
    assert_eq!(get(h, b"p", b"a").await, Some(rows[0].1.clone()));
}

pub async fn an_acknowledged_write_is_seen_by_all_who_ask_afterwards(h: &dyn Harness) {
    let mut writers = JoinSet::new();
    for writer in 0..16_u8 {
        let store = h.store();
        writers.spawn(async move {
            for i in 0..20_u8 {
                let op = set(&[i], &[writer]);
                store
                    .write(vec![batch(ONE, &[writer], vec![op])])
                    .await
                    .unwrap();
                let found = store.get(&key(ONE, &[writer], &[i])).await.unwrap();
                assert_eq!(found, Some(bytes(&[writer])));
                let rows = store.range(ONE, &[writer], Range::all(100)).await.unwrap();
                assert_eq!(rows.len(), usize::from(i) + 1);
            }
        });
    }
    writers.join_all().await;
}

pub async fn of_a_batch_all_is_seen_at_once_or_nothing(h: &dyn Harness) {
    let store = h.store();
    let writer = tokio::spawn(async move {
        for version in 1..=60_u8 {
            let ops = [b"a", b"m", b"z"].map(|s| set(s, &[version]));
            let batches = vec![versioned(b"p", version.into(), ops.into())];
            store.write(batches).await.unwrap();
        }
    });
    let keys = [b"z", b"a", b"m"].map(|s| key(ONE, b"p", s));
    let mut last = None;
    while !writer.is_finished() {
        let seen = h.store().get_many(&keys).await.unwrap();
        assert!(seen.iter().all(|v| *v == seen[0]), "{seen:?}");
        assert!(seen[0] >= last, "{seen:?} after {last:?}");
        last.clone_from(&seen[0]);
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}
