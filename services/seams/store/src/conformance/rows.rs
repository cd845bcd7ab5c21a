//! Rows, batches, tables, times to live, sizes.

use super::*;

pub async fn a_row_is_read_as_it_was_written(h: &dyn Harness) {
    let every_octet: Vec<u8> = (0..=255).collect();
    let rows: [(&[u8], &[u8]); 5] = [
        (b"", b"of the empty sort key"),
        (b"s", b""),
        (b"\0", &every_octet),
        (&every_octet, b"v"),
        (b"\xff", b"\0"),
    ];
    for partition in [&b"p"[..], b"\0", &every_octet] {
        write(h, partition, rows.iter().map(|(s, v)| set(s, v)).collect()).await;
        for (sort, value) in rows {
            assert_eq!(get(h, partition, sort).await.as_deref(), Some(value));
        }
    }
    write(h, b"p", vec![set(b"s", b"another")]).await;
    assert_eq!(get(h, b"p", b"s").await.as_deref(), Some(&b"another"[..]));
}

pub async fn a_row_that_is_not_there_is_none(h: &dyn Harness) {
    assert_eq!(get(h, b"p", b"s").await, None);
    write(h, b"p", vec![set(b"s", b"v")]).await;
    for (partition, sort) in [
        (&b"p"[..], &b"s\0"[..]),
        (b"p", b""),
        (b"ps", b""),
        (b"q", b"s"),
    ] {
        assert_eq!(get(h, partition, sort).await, None);
    }
    assert!(all(h, ONE, b"q").await.is_empty());
}

pub async fn a_deleted_row_is_gone(h: &dyn Harness) {
    write(h, b"p", vec![set(b"a", b"1"), set(b"b", b"2")]).await;
    write(h, b"p", vec![delete(b"a"), delete(b"never there")]).await;
    assert_eq!(get(h, b"p", b"a").await, None);
    assert_eq!(all(h, ONE, b"p").await, [(bytes(b"b"), bytes(b"2"))]);
    write(h, b"p", vec![set(b"a", b"3")]).await;
    assert_eq!(get(h, b"p", b"a").await.as_deref(), Some(&b"3"[..]));
}

pub async fn ensuring_a_table_again_changes_nothing(h: &dyn Harness) {
    write(h, b"p", vec![set(b"a", b"1")]).await;
    h.store().ensure_table(ONE).await.unwrap();
    assert_eq!(get(h, b"p", b"a").await.as_deref(), Some(&b"1"[..]));
}

pub async fn values_come_in_the_order_of_the_keys_asked(h: &dyn Harness) {
    let mut keys = Vec::new();
    let mut expected = Vec::new();
    for i in (0..400_u32).rev() {
        let partition = [(i % 7) as u8];
        let sort = i.to_be_bytes();
        let table = if i % 2 == 0 { ONE } else { TWO };
        if i % 5 == 0 {
            expected.push(None);
        } else {
            h.store()
                .write(vec![batch(table, &partition, vec![set(&sort, &sort)])])
                .await
                .unwrap();
            expected.push(Some(bytes(&sort)));
        }
        keys.push(key(table, &partition, &sort));
    }
    keys.push(keys[1].clone());
    expected.push(expected[1].clone());
    assert_eq!(h.store().get_many(&keys).await.unwrap(), expected);
    assert_eq!(h.store().get_many(&keys[..3]).await.unwrap(), expected[..3]);
    assert!(h.store().get_many(&[]).await.unwrap().is_empty());
}

pub async fn tables_are_apart(h: &dyn Harness) {
    let both = vec![
        batch(ONE, b"p", vec![set(b"s", b"one")]),
        batch(TWO, b"p", vec![set(b"s", b"two")]),
    ];
    h.store().write(both).await.unwrap();
    let keys = [key(ONE, b"p", b"s"), key(TWO, b"p", b"s")];
    let values = h.store().get_many(&keys).await.unwrap();
    assert_eq!(values, [Some(bytes(b"one")), Some(bytes(b"two"))]);
    h.store()
        .write(vec![batch(ONE, b"p", vec![Op::DeletePartition])])
        .await
        .unwrap();
    assert_eq!(all(h, TWO, b"p").await, [(bytes(b"s"), bytes(b"two"))]);
}

pub async fn changes_of_a_batch_apply_in_order(h: &dyn Harness) {
    write(h, b"p", vec![set(b"a", b"old"), set(b"z", b"old")]).await;
    write(
        h,
        b"p",
        vec![
            set(b"a", b"1"),
            set(b"a", b"2"),
            set(b"b", b"1"),
            delete(b"b"),
        ],
    )
    .await;
    write(h, b"p", vec![delete(b"c"), set(b"c", b"1")]).await;
    let rows = all(h, ONE, b"p").await;
    let expected = [(&b"a"[..], &b"2"[..]), (b"c", b"1"), (b"z", b"old")];
    assert_eq!(rows, expected.map(|(s, v)| (bytes(s), bytes(v))));
    write(
        h,
        b"p",
        vec![set(b"x", b"1"), Op::DeletePartition, set(b"y", b"2")],
    )
    .await;
    assert_eq!(all(h, ONE, b"p").await, [(bytes(b"y"), bytes(b"2"))]);
}

pub async fn batches_of_one_write_all_apply(h: &dyn Harness) {
    h.store().write(Vec::new()).await.unwrap();
    let batches = (0..100_u8)
        .map(|p| batch(ONE, &[p], vec![set(b"s", &[p])]))
        .collect();
    h.store().write(batches).await.unwrap();
    let twice = vec![
        batch(ONE, &[1], vec![set(b"s", b"first")]),
        batch(ONE, &[1], vec![set(b"s", b"second")]),
    ];
    h.store().write(twice).await.unwrap();
    for p in 0..100_u8 {
        let expected = if p == 1 {
            bytes(b"second")
        } else {
            bytes(&[p])
        };
        assert_eq!(get(h, &[p], b"s").await, Some(expected));
    }
}

pub async fn deleting_a_partition_removes_all_its_rows_and_no_others(h: &dyn Harness) {
    for p in [b"a", b"b", b"c"] {
        let rows = (0..500_u32).map(|i| set(&i.to_be_bytes(), b"v")).collect();
        write(h, p, rows).await;
    }
    write(h, b"b", vec![Op::DeletePartition]).await;
    write(h, b"never there", vec![Op::DeletePartition]).await;
    assert_eq!(all(h, ONE, b"a").await.len(), 500);
    assert!(all(h, ONE, b"b").await.is_empty());
    assert_eq!(get(h, b"b", &7_u32.to_be_bytes()).await, None);
    assert_eq!(all(h, ONE, b"c").await.len(), 500);
}

pub async fn a_row_with_a_time_to_live_is_gone_after_it(h: &dyn Harness) {
    write(
        h,
        b"p",
        vec![
            set_for(b"a", b"1", 4),
            set(b"b", b"2"),
            set_for(b"c", b"3", 60),
        ],
    )
    .await;
    assert_eq!(all(h, ONE, b"p").await.len(), 3);
    h.advance(Duration::from_secs(5)).await;
    assert_eq!(get(h, b"p", b"a").await, None);
    let left = [(bytes(b"b"), bytes(b"2")), (bytes(b"c"), bytes(b"3"))];
    assert_eq!(all(h, ONE, b"p").await, left);
    let first = h.store().range(ONE, b"p", Range::all(1)).await.unwrap();
    assert_eq!(sorts(&first), [b"b"]);
    let keys = [key(ONE, b"p", b"a"), key(ONE, b"p", b"c")];
    assert_eq!(
        h.store().get_many(&keys).await.unwrap(),
        [None, Some(bytes(b"3"))]
    );
}

pub async fn a_put_without_a_time_to_live_lifts_it(h: &dyn Harness) {
    write(
        h,
        b"p",
        vec![set_for(b"a", b"1", 3), set_for(b"b", b"1", 3)],
    )
    .await;
    write(h, b"p", vec![set(b"a", b"2"), set_for(b"b", b"2", 60)]).await;
    h.advance(Duration::from_secs(4)).await;
    assert_eq!(all(h, ONE, b"p").await.len(), 2);
}

pub async fn what_is_too_large_is_refused_and_what_is_not_is_kept(h: &dyn Harness) {
    let longest = vec![0xff; MAX_KEY];
    let largest: Vec<u8> = (0..MAX_VALUE).map(|i| (i % 251) as u8).collect();
    write(h, &longest, vec![set(&longest, &largest)]).await;
    assert_eq!(
        get(h, &longest, &longest).await.as_deref(),
        Some(&largest[..])
    );
    assert_eq!(all(h, ONE, &longest).await.len(), 1);
    let over_key = vec![0; MAX_KEY + 1];
    let over_value = vec![0; MAX_VALUE + 1];
    for refused in [
        batch(ONE, &over_key, vec![set(b"s", b"v")]),
        batch(ONE, b"", vec![set(b"s", b"v")]),
        batch(ONE, b"p", vec![set(b"first", b"v"), set(&over_key, b"v")]),
        batch(ONE, b"p", vec![set(b"first", b"v"), set(b"s", &over_value)]),
    ] {
        let error = h.store().write(vec![refused]).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge(_)), "{error}");
    }
    let at = key(ONE, b"p", b"s");
    let error = h
        .store()
        .put_if(&at, None, bytes(&over_value), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::TooLarge(_)), "{error}");
    assert!(all(h, ONE, b"p").await.is_empty());
}

pub async fn a_store_that_is_opened_again_has_everything(h: &dyn Harness) {
    write(
        h,
        b"p",
        vec![set(b"a", b"1"), set(b"b", b"2"), set_for(b"c", b"3", 600)],
    )
    .await;
    write(h, b"p", vec![delete(b"b")]).await;
    write(h, b"gone", vec![set(b"a", b"1")]).await;
    write(h, b"gone", vec![Op::DeletePartition]).await;
    let at = key(TWO, b"p", b"s");
    h.store()
        .put_if(&at, None, bytes(b"4"), None)
        .await
        .unwrap();
    for _ in 0..2 {
        h.reopen().await;
        let left = [(bytes(b"a"), bytes(b"1")), (bytes(b"c"), bytes(b"3"))];
        assert_eq!(all(h, ONE, b"p").await, left);
        assert!(all(h, ONE, b"gone").await.is_empty());
        assert_eq!(h.store().get(&at).await.unwrap(), Some(bytes(b"4")));
    }
    h.advance(Duration::from_secs(1)).await;
    write(h, b"p", vec![set(b"d", b"5")]).await;
    h.reopen().await;
    assert_eq!(get(h, b"p", b"d").await, Some(bytes(b"5")));
}
