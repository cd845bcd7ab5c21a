//! Versions: a late writer undoes nothing.

use super::*;

async fn put(h: &dyn Harness, partition: &[u8], version: u64, ops: Vec<Op>) {
    let batches = vec![versioned(partition, version, ops)];
    h.store().write(batches).await.unwrap();
}

pub async fn the_highest_version_stays_whatever_the_order(h: &dyn Harness) {
    for (p, order) in [
        (&b"up"[..], [1, 2, 3]),
        (b"down", [3, 2, 1]),
        (b"mixed", [2, 3, 1]),
    ] {
        for version in order {
            put(h, p, version, vec![set(b"s", &[version as u8])]).await;
        }
        assert_eq!(get(h, p, b"s").await, Some(bytes(&[3])));
        assert_eq!(all(h, ONE, p).await.len(), 1);
    }
    // each row by itself: a batch that is old for one row is not for the next
    put(h, b"mixed", 2, vec![set(b"s", b"2"), set(b"t", b"2")]).await;
    let expected = [(&b"s"[..], &[3][..]), (b"t", b"2")];
    let expected = expected.map(|(s, v)| (bytes(s), bytes(v)));
    assert_eq!(all(h, ONE, b"mixed").await, expected);
    put(h, b"mixed", MAX_VERSION, vec![set_for(b"s", b"last", 600)]).await;
    h.reopen().await;
    put(h, b"mixed", 9, vec![set(b"s", b"9"), set(b"t", b"9")]).await;
    let expected = [(&b"s"[..], &b"last"[..]), (b"t", b"9")];
    let expected = expected.map(|(s, v)| (bytes(s), bytes(v)));
    assert_eq!(all(h, ONE, b"mixed").await, expected);
    let over = versioned(b"mixed", MAX_VERSION + 1, vec![set(b"s", b"over")]);
    let error = h.store().write(vec![over]).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge(_)), "{error}");
}

pub async fn a_delete_counts_by_its_version(h: &dyn Harness) {
    put(h, b"p", 5, vec![set(b"a", b"5"), set(b"b", b"5")]).await;
    put(h, b"p", 4, vec![delete(b"a")]).await;
    assert_eq!(get(h, b"p", b"a").await, Some(bytes(b"5")));
    put(h, b"p", 7, vec![delete(b"a"), delete(b"never there")]).await;
    for reopened in [false, true] {
        if reopened {
            h.reopen().await;
        }
        let late = vec![set(b"a", b"6"), set(b"never there", b"6")];
        put(h, b"p", 6, late).await;
        assert_eq!(all(h, ONE, b"p").await, [(bytes(b"b"), bytes(b"5"))]);
        assert_eq!(get(h, b"p", b"a").await, None);
    }
    put(h, b"p", 8, vec![set(b"a", b"8")]).await;
    assert_eq!(get(h, b"p", b"a").await, Some(bytes(b"8")));
}

pub async fn a_deleted_partition_keeps_what_is_newer_and_takes_nothing_older(h: &dyn Harness) {
    for p in [&b"p"[..], b"p\0"] {
        put(h, p, 3, vec![set(b"old", b"3"), set(b"older", b"3")]).await;
        put(h, p, 7, vec![set(b"new", b"7")]).await;
    }
    put(h, b"p", 5, vec![Op::DeletePartition]).await;
    put(h, b"p", 2, vec![Op::DeletePartition]).await;
    put(h, b"p", 4, vec![set(b"old", b"4"), set(b"late", b"4")]).await;
    put(h, b"p", 6, vec![set(b"older", b"6")]).await;
    let expected = [(&b"new"[..], &b"7"[..]), (b"older", b"6")];
    let expected = expected.map(|(s, v)| (bytes(s), bytes(v)));
    assert_eq!(all(h, ONE, b"p").await, expected);
    assert_eq!(all(h, ONE, b"p\0").await.len(), 3);
    h.reopen().await;
    put(h, b"p", 4, vec![set(b"late", b"4")]).await;
    assert_eq!(all(h, ONE, b"p").await, expected);
}

pub async fn changes_of_a_versioned_batch_apply_in_order(h: &dyn Harness) {
    put(h, b"p", 1, vec![set(b"a", b"old"), set(b"z", b"old")]).await;
    let ops = vec![
        set(b"a", b"9"),
        set(b"a", b"1"),
        set(b"b", b"1"),
        delete(b"b"),
        delete(b"c"),
        set(b"c", b"1"),
    ];
    put(h, b"p", 2, ops).await;
    let expected = [(&b"a"[..], &b"1"[..]), (b"c", b"1"), (b"z", b"old")];
    let expected = expected.map(|(s, v)| (bytes(s), bytes(v)));
    assert_eq!(all(h, ONE, b"p").await, expected);
    let ops = vec![set(b"x", b"3"), Op::DeletePartition, set(b"y", b"3")];
    put(h, b"p", 3, ops).await;
    assert_eq!(all(h, ONE, b"p").await, [(bytes(b"y"), bytes(b"3"))]);
    let ops = vec![set(b"y", b"4"), set(b"w", b"4"), Op::DeletePartition];
    put(h, b"p", 4, ops).await;
    assert!(all(h, ONE, b"p").await.is_empty());
}

pub async fn the_same_version_again_changes_nothing(h: &dyn Harness) {
    for _ in 0..2 {
        let first = versioned(b"p", 5, vec![set(b"a", b"5"), set_for(b"b", b"5", 600)]);
        let second = versioned(b"p", 6, vec![set(b"a", b"6"), delete(b"gone")]);
        h.store().write(vec![first]).await.unwrap();
        h.store().write(vec![second]).await.unwrap();
        let expected = [(&b"a"[..], &b"6"[..]), (b"b", b"5")];
        let expected = expected.map(|(s, v)| (bytes(s), bytes(v)));
        assert_eq!(all(h, ONE, b"p").await, expected);
    }
}

pub async fn of_concurrent_versions_the_highest_stays(h: &dyn Harness) {
    let mut writers = JoinSet::new();
    for version in 0..48_u64 {
        let store = h.store();
        // neighbours in time are far apart in version
        let version = version * 29 % 48;
        writers.spawn(async move {
            let value = [version as u8];
            let ops = vec![set(b"a", &value), set(b"b", &value)];
            let batches = vec![versioned(b"p", version, ops)];
            store.write(batches).await.unwrap();
            let seen = store.get(&key(ONE, b"p", b"a")).await.unwrap();
            assert!(seen.unwrap()[0] >= value[0]);
        });
    }
    writers.join_all().await;
    let expected = [b"a", b"b"].map(|s| (bytes(s), bytes(&[47])));
    assert_eq!(all(h, ONE, b"p").await, expected);
}

pub async fn any_order_of_versions_reads_like_their_own_order(h: &dyn Harness) {
    let mut dice = Dice(7);
    for round in 0..20_u8 {
        let (forth, mixed) = ([b'f', round], [b'm', round]);
        let mut batches: Vec<Vec<Op>> = Vec::new();
        for version in 0..8_u8 {
            let ops = 1 + dice.below(3);
            let op = |n: u64, dice: &mut Dice| match dice.below(10) {
                0 => Op::DeletePartition,
                1..4 => Op::Delete { sort: dice.key(0) },
                _ => set(&dice.key(0), &[version, n as u8]),
            };
            batches.push((0..ops).map(|n| op(n, &mut dice)).collect());
        }
        for (ops, version) in batches.iter().zip(1..) {
            put(h, &forth, version, ops.clone()).await;
        }
        let mut left: Vec<(u64, Vec<Op>)> = (1..).zip(batches).collect();
        while !left.is_empty() {
            let at = dice.below(left.len() as u64) as usize;
            let (version, ops) = left.swap_remove(at);
            put(h, &mixed, version, ops).await;
        }
        let (forth, mixed) = (all(h, ONE, &forth).await, all(h, ONE, &mixed).await);
        assert_eq!(forth, mixed, "round {round}");
    }
}
