//! The suite that every adapter passes: one function a case, named as a sentence. An adapter's tests say
//! `tandem_store::conformance_suite!(ItsHarness);`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "these are tests named as sentences, kept where every adapter finds them"
)]

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{Batch, Key, MAX_KEY, MAX_VALUE, Op, PutIf, Range, Row, Store, StoreError, Table};

/// What a case needs of an adapter.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty store with the tables [`ONE`] and [`TWO`].
    async fn fresh() -> Self
    where
        Self: Sized;

    /// The store, as last opened.
    fn store(&self) -> Arc<dyn Store>;

    /// Lets time pass: a paused clock is moved, with a real one it is waited.
    async fn advance(&self, by: Duration);

    /// Closes the store and opens it again, on what it has kept, with the same tables.
    async fn reopen(&self);
}

/// A table of the suite.
pub const ONE: Table = Table("suite_one");

/// Another one.
pub const TWO: Table = Table("suite_two");

/// One `#[tokio::test]` for each case, over a [`Harness`].
#[macro_export]
macro_rules! conformance_suite {
    ($harness:ty) => {
        $crate::conformance_suite! { @cases $harness:
            a_row_is_read_as_it_was_written
            a_row_that_is_not_there_is_none
            a_deleted_row_is_gone
            ensuring_a_table_again_changes_nothing
            values_come_in_the_order_of_the_keys_asked
            a_range_is_ordered_by_the_octets_of_the_sort_key
            a_range_keeps_to_its_bounds_both_ways
            a_limit_counts_from_where_the_range_begins
            partitions_whose_keys_begin_alike_are_apart
            tables_are_apart
            changes_of_a_batch_apply_in_order
            batches_of_one_write_all_apply
            deleting_a_partition_removes_all_its_rows_and_no_others
            a_row_with_a_time_to_live_is_gone_after_it
            a_put_without_a_time_to_live_lifts_it
            a_conditional_put_is_done_only_if_the_row_is_as_expected
            a_conditional_put_takes_an_expired_row_for_none
            of_concurrent_conditional_puts_one_is_done
            conditional_puts_in_turns_lose_no_step
            of_concurrent_writers_of_a_row_one_value_stays
            an_acknowledged_write_is_seen_by_all_who_ask_afterwards
            what_is_too_large_is_refused_and_what_is_not_is_kept
            a_store_that_is_opened_again_has_everything
            any_history_reads_like_a_sorted_map
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

fn bytes(b: &[u8]) -> Bytes {
    Bytes::copy_from_slice(b)
}

fn key(table: Table, partition: &[u8], sort: &[u8]) -> Key {
    Key {
        table,
        partition: bytes(partition),
        sort: bytes(sort),
    }
}

fn set(sort: &[u8], value: &[u8]) -> Op {
    Op::Put {
        sort: bytes(sort),
        value: bytes(value),
        ttl: None,
    }
}

fn set_for(sort: &[u8], value: &[u8], seconds: u64) -> Op {
    let ttl = Some(Duration::from_secs(seconds));
    Op::Put {
        sort: bytes(sort),
        value: bytes(value),
        ttl,
    }
}

fn delete(sort: &[u8]) -> Op {
    Op::Delete { sort: bytes(sort) }
}

fn batch(table: Table, partition: &[u8], ops: Vec<Op>) -> Batch {
    Batch {
        table,
        partition: bytes(partition),
        ops,
    }
}

async fn write(h: &dyn Harness, partition: &[u8], ops: Vec<Op>) {
    h.store()
        .write(vec![batch(ONE, partition, ops)])
        .await
        .unwrap();
}

async fn get(h: &dyn Harness, partition: &[u8], sort: &[u8]) -> Option<Bytes> {
    h.store().get(&key(ONE, partition, sort)).await.unwrap()
}

async fn all(h: &dyn Harness, table: Table, partition: &[u8]) -> Vec<(Bytes, Bytes)> {
    let rows = h
        .store()
        .range(table, partition, Range::all(10_000))
        .await
        .unwrap();
    rows.into_iter().map(|r| (r.sort, r.value)).collect()
}

fn sorts(rows: &[Row]) -> Vec<&[u8]> {
    rows.iter().map(|r| r.sort.as_ref()).collect()
}

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

/// Sort keys in their order, with all that might upset it.
const SORTS: [&[u8]; 10] = [
    b"",
    b"\0",
    b"\0\0",
    b"\x01",
    b"a",
    b"a\0",
    b"aa",
    b"b",
    b"\xff",
    b"\xff\xff",
];

async fn write_sorts(h: &dyn Harness, partition: &[u8]) {
    for sort in SORTS.iter().rev() {
        write(h, partition, vec![set(sort, sort)]).await;
    }
}

pub async fn a_range_is_ordered_by_the_octets_of_the_sort_key(h: &dyn Harness) {
    write_sorts(h, b"p").await;
    let up = h.store().range(ONE, b"p", Range::all(100)).await.unwrap();
    assert_eq!(sorts(&up), SORTS);
    assert!(up.iter().all(|r| r.sort == r.value));
    let down = Range {
        reverse: true,
        ..Range::all(100)
    };
    let mut down = h.store().range(ONE, b"p", down).await.unwrap();
    down.reverse();
    assert_eq!(down, up);
}

pub async fn a_range_keeps_to_its_bounds_both_ways(h: &dyn Harness) {
    for partition in [&b"o"[..], b"p", b"q"] {
        write_sorts(h, partition).await;
    }
    let edges: [&[u8]; 5] = [b"", b"\0", b"a", b"ab", b"\xff"];
    let mut bounds: Vec<Bound<Bytes>> = vec![Bound::Unbounded];
    for edge in edges {
        bounds.extend([Bound::Included(bytes(edge)), Bound::Excluded(bytes(edge))]);
    }
    for from in &bounds {
        for to in &bounds {
            let within = (from.clone(), to.clone());
            let mut expected: Vec<&[u8]> = SORTS
                .into_iter()
                .filter(|s| within.contains(&bytes(s)))
                .collect();
            for reverse in [false, true] {
                let range = Range {
                    from: from.clone(),
                    to: to.clone(),
                    reverse,
                    limit: 100,
                };
                let rows = h.store().range(ONE, b"p", range).await.unwrap();
                assert_eq!(sorts(&rows), expected, "{from:?} {to:?} {reverse}");
                expected.reverse();
            }
        }
    }
}

pub async fn a_limit_counts_from_where_the_range_begins(h: &dyn Harness) {
    write_sorts(h, b"p").await;
    for limit in 1..=SORTS.len() + 1 {
        let n = limit.min(SORTS.len());
        let up = h.store().range(ONE, b"p", Range::all(limit)).await.unwrap();
        assert_eq!(sorts(&up), SORTS[..n]);
        let down = Range {
            reverse: true,
            ..Range::all(limit)
        };
        let mut down = h.store().range(ONE, b"p", down).await.unwrap();
        down.reverse();
        assert_eq!(sorts(&down), SORTS[SORTS.len() - n..]);
    }
    let many: Vec<Op> = (0..1_000_u32)
        .map(|i| set(&i.to_be_bytes(), b"v"))
        .collect();
    write(h, b"long", many).await;
    let page = Range {
        from: Bound::Excluded(bytes(&99_u32.to_be_bytes())),
        ..Range::all(500)
    };
    let page = h.store().range(ONE, b"long", page).await.unwrap();
    assert_eq!(
        (page.len(), &page[0].sort[..]),
        (500, &100_u32.to_be_bytes()[..])
    );
    assert_eq!(&page[499].sort[..], 599_u32.to_be_bytes());
}

pub async fn partitions_whose_keys_begin_alike_are_apart(h: &dyn Harness) {
    let partitions: [&[u8]; 9] = [
        b"a",
        b"a\0",
        b"a\0\0",
        b"ab",
        b"a\xff",
        b"\0",
        b"\0\x01",
        b"\xff",
        b"\xff\xff",
    ];
    for p in partitions {
        write(h, p, vec![set(b"", p), set(b"b", p), set(b"\xff", p)]).await;
    }
    for p in partitions {
        let expected = [&b""[..], b"b", b"\xff"].map(|s| (bytes(s), bytes(p)));
        assert_eq!(all(h, ONE, p).await, expected);
    }
    write(h, b"a", vec![Op::DeletePartition]).await;
    for p in partitions {
        assert_eq!(all(h, ONE, p).await.len(), if p == b"a" { 0 } else { 3 });
    }
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

/// Random numbers for [`any_history_reads_like_a_sorted_map`] (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// A short key of few octets, so that keys meet and begin alike.
    fn key(&mut self, least: u64) -> Bytes {
        let len = least + self.below(3);
        (0..len)
            .map(|_| [0, 1, b'a', 0xff][self.below(4) as usize])
            .collect()
    }

    fn bound(&mut self) -> Bound<Bytes> {
        match self.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.key(0)),
            _ => Bound::Excluded(self.key(0)),
        }
    }
}

pub async fn any_history_reads_like_a_sorted_map(h: &dyn Harness) {
    type Model = BTreeMap<(Bytes, Bytes), Bytes>;
    let mut model = Model::new();
    let mut dice = Dice(4);
    let put = |model: &mut Model, p: &Bytes, op: &Op| match op {
        Op::Put { sort, value, .. } => {
            model.insert((p.clone(), sort.clone()), value.clone());
        }
        Op::Delete { sort } => {
            model.remove(&(p.clone(), sort.clone()));
        }
        Op::DeletePartition => model.retain(|(of, _), _| of != p),
    };
    for step in 0..600_u32 {
        let p = dice.key(1);
        match dice.below(10) {
            0..5 => {
                let mut ops = Vec::new();
                for n in 0..=dice.below(4) {
                    ops.push(match dice.below(12) {
                        0 => Op::DeletePartition,
                        1..4 => Op::Delete { sort: dice.key(0) },
                        _ => {
                            let value = bytes(&[&step.to_be_bytes()[..], &[n as u8]].concat());
                            Op::Put {
                                sort: dice.key(0),
                                value,
                                ttl: None,
                            }
                        }
                    });
                }
                ops.iter().for_each(|op| put(&mut model, &p, op));
                write(h, &p, ops).await;
            }
            5 => {
                let at = (p.clone(), dice.key(0));
                let expected = if dice.below(2) == 0 {
                    model.get(&at).cloned()
                } else {
                    None
                };
                let value = bytes(&step.to_be_bytes());
                let asked = Key {
                    table: ONE,
                    partition: p,
                    sort: at.1.clone(),
                };
                let told = h
                    .store()
                    .put_if(&asked, expected.clone(), value.clone(), None)
                    .await
                    .unwrap();
                let found = model.get(&at).cloned();
                if found == expected {
                    assert_eq!(told, PutIf::Done, "step {step}");
                    model.insert(at, value);
                } else {
                    assert_eq!(told, PutIf::Otherwise(found), "step {step}");
                }
            }
            6 if step % 20 == 0 => h.reopen().await,
            6 | 7 => {
                let sort = dice.key(0);
                let found = get(h, &p, &sort).await;
                assert_eq!(found.as_ref(), model.get(&(p, sort)), "step {step}");
            }
            _ => {
                let range = Range {
                    from: dice.bound(),
                    to: dice.bound(),
                    reverse: dice.below(2) == 0,
                    limit: 1 + dice.below(6) as usize,
                };
                let within = (range.from.clone(), range.to.clone());
                let mut expected: Vec<Row> = model
                    .iter()
                    .filter(|((of, sort), _)| *of == p && within.contains(sort))
                    .map(|((_, sort), value)| Row {
                        sort: sort.clone(),
                        value: value.clone(),
                    })
                    .collect();
                if range.reverse {
                    expected.reverse();
                }
                expected.truncate(range.limit);
                let rows = h.store().range(ONE, &p, range).await.unwrap();
                assert_eq!(rows, expected, "step {step}");
            }
        }
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
        assert!(named > 20);
    }
}
