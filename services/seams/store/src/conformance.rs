//! The suite that every adapter passes: one function a case, named as a sentence. An adapter's tests say
//! `tandem_store::conformance_suite!(ItsHarness);`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    clippy::wildcard_imports,
    reason = "these are tests named as sentences, kept where every adapter finds them"
)]

mod model;
mod races;
mod ranges;
mod rows;
mod versions;

pub use {model::*, races::*, ranges::*, rows::*, versions::*};

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{
    Batch, Key, MAX_KEY, MAX_VALUE, MAX_VERSION, Op, PutIf, Range, Row, Store, StoreError, Table,
};

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
            of_a_batch_all_is_seen_at_once_or_nothing
            what_is_too_large_is_refused_and_what_is_not_is_kept
            a_store_that_is_opened_again_has_everything
            any_history_reads_like_a_sorted_map
            the_highest_version_stays_whatever_the_order
            a_delete_counts_by_its_version
            a_deleted_partition_keeps_what_is_newer_and_takes_nothing_older
            changes_of_a_versioned_batch_apply_in_order
            the_same_version_again_changes_nothing
            of_concurrent_versions_the_highest_stays
            any_order_of_versions_reads_like_their_own_order
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
        version: None,
    }
}

fn versioned(partition: &[u8], version: u64, ops: Vec<Op>) -> Batch {
    Batch {
        version: Some(version),
        ..batch(ONE, partition, ops)
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

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_the_suite() {
        let list = include_str!("conformance.rs");
        let cases = [
            include_str!("conformance/model.rs"),
            include_str!("conformance/races.rs"),
            include_str!("conformance/ranges.rs"),
            include_str!("conformance/rows.rs"),
            include_str!("conformance/versions.rs"),
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
