//! The suite that every adapter passes: one public function a case, named as what must hold.
//!
//! [`conformance_suite!`](crate::conformance_suite) makes a test of each case, so that none can be left
//! out. Cases share no topic, wait for what an engine does by and by, and may run side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_imports,
    missing_docs,
    reason = "these are tests, called from other crates, and named as what they check"
)]

mod appends;
mod groups;
mod readers;
mod retention;
mod topics;

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tandem_kernel::Place;

pub use self::{appends::*, groups::*, readers::*, retention::*, topics::*};
use crate::{Appended, Log, LogError, Next, Reader, Record, Retention, Stored, TopicSpec};

/// What makes logs for the cases. One harness serves one case.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The log. Called once, first.
    async fn fresh(&self) -> Arc<dyn Log>;

    /// The log as the next process finds it. Called when all that came from the former one is dropped.
    async fn reopen(&self) -> Arc<dyn Log>;

    /// A text `[a-z0-9._-]{1,60}` for topics' names that no other run has used.
    fn unique(&self) -> String;

    /// Makes the log forget now what retention lets it forget. False if it cannot be made to: then
    /// only what must not be forgotten is checked.
    async fn forget(&self) -> bool;

    /// Largest value that the log takes, bytes, about.
    fn max_record(&self) -> usize {
        1 << 20
    }

    /// How long to wait for what comes by and by.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Makes a test of each case. The harness is made anew for each. Tests run on two threads, unless
/// another attribute is given: `conformance_suite!(#[tokio::test(start_paused = true)] harness())`.
#[macro_export]
macro_rules! conformance_suite {
    (@case [$($attribute:tt)+] $harness:expr; $case:ident) => {
        $($attribute)+
        async fn $case() {
            let harness = $harness;
            $crate::conformance::$case(&harness).await;
        }
    };
    (@cases $attributes:tt $harness:expr; $($case:ident)+) => {
        $($crate::conformance_suite! { @case $attributes $harness; $case })+
    };
    (@all $attributes:tt $harness:expr) => {
        $crate::conformance_suite! { @cases $attributes $harness;
            a_bad_name_is_refused
            a_commit_survives_a_reopen
            a_compacted_topic_keeps_the_last_record_of_each_key
            a_dropped_append_is_appended_all_the_same
            a_follower_from_newest_sees_what_comes_after_it
            a_follower_from_oldest_sees_everything_and_touches_no_group
            a_forgotten_offset_goes_on_at_the_oldest_kept_one
            a_group_goes_on_where_it_committed
            a_group_that_never_committed_says_so
            a_newest_reader_begins_with_what_comes_after_it
            a_partition_that_is_not_assigned_cannot_be_touched
            a_paused_partition_keeps_its_place_and_holds_up_no_other
            a_range_is_read_from_its_offset_up_to_its_limit
            a_reader_alone_is_assigned_everything
            a_reader_that_goes_leaves_its_partitions_to_the_others
            a_record_is_given_back_as_it_was_appended
            a_revoked_partition_may_be_committed_until_the_next_call
            a_topic_survives_a_reopen
            all_that_was_answered_is_there_after_a_reopen
            an_oversize_record_is_refused_and_its_neighbours_are_not
            an_unknown_topic_or_partition_is_refused
            another_retention_is_taken_over
            answers_come_in_the_order_of_the_records
            end_offsets_come_after_all_that_was_answered
            ensuring_a_topic_again_changes_nothing
            many_appenders_at_once_lose_and_double_nothing
            next_loses_nothing_when_its_future_is_dropped
            other_partitions_are_a_mismatch
            readers_that_come_and_go_handle_every_record
            records_of_a_partition_follow_each_other_while_it_grows
            retention_by_size_forgets_the_oldest_and_keeps_the_newest
            retention_by_time_forgets_the_old_and_keeps_the_young
            seeking_goes_back_and_forward
            the_offset_of_a_time_is_found
            the_order_of_calls_is_the_order_of_offsets
            times_do_not_fall_within_a_partition
            two_groups_read_the_same_records
            two_readers_never_have_a_partition_at_once
        }
    };
    ($(#[$attribute:meta])+ $harness:expr) => {
        $crate::conformance_suite! { @all [$(#[$attribute])+] $harness }
    };
    ($harness:expr) => {
        $crate::conformance_suite! {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $harness
        }
    };
}

/// A topic that keeps all.
const KEEP: Retention = Retention::Delete {
    age: None,
    bytes: None,
};

fn record(key: &str, value: &str) -> Record {
    Record {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        headers: Vec::new(),
    }
}

fn text(stored: &Stored) -> String {
    String::from_utf8(stored.record.value.to_vec()).unwrap()
}

/// A new topic of the case, and its name.
async fn topic(h: &dyn Harness, log: &dyn Log, partitions: u32, retention: Retention) -> String {
    let name = format!("t-{}", h.unique());
    let spec = TopicSpec {
        name: name.clone(),
        partitions,
        retention,
    };
    within(h, log.ensure_topic(&spec)).await.unwrap();
    name
}

/// Waits for it, but not for ever.
async fn within<T>(h: &dyn Harness, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(h.patience(), work)
        .await
        .expect("in time")
}

/// Waits until it is so.
async fn eventually<F: Future<Output = bool>>(h: &dyn Harness, mut check: impl FnMut() -> F) {
    within(h, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Appends all to one partition in one call.
async fn fill(
    h: &dyn Harness,
    log: &dyn Log,
    topic: &str,
    partition: u32,
    values: impl IntoIterator<Item = String>,
) -> Vec<Appended> {
    let records = values
        .into_iter()
        .map(|v| (partition, record("k", &v)))
        .collect();
    let answers = within(h, log.append(topic, records)).await;
    answers.into_iter().map(Result::unwrap).collect()
}

fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

/// The next records of any partition; assignments go by.
async fn records(h: &dyn Harness, reader: &mut dyn Reader) -> (u32, Vec<Stored>) {
    loop {
        if let Next::Records(partition, records) = within(h, reader.next()).await.unwrap() {
            assert!(!records.is_empty(), "records are never empty");
            assert!(records.iter().all(|s| s.place.partition == partition));
            return (partition, records);
        }
    }
}

/// Values of the next records, until there are `count`.
async fn values(h: &dyn Harness, reader: &mut dyn Reader, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(records(h, reader).await.1.iter().map(text));
    }
    all
}

/// Waits until the reader has been told that it has `count` partitions more; their offsets.
async fn assigned(h: &dyn Harness, reader: &mut dyn Reader, count: usize) -> Vec<(u32, u64)> {
    let mut all = Vec::new();
    while all.len() < count {
        match within(h, reader.next()).await.unwrap() {
            Next::Assigned(places) => all.extend(places),
            Next::Revoked(lost) => all.retain(|(p, _)| !lost.contains(p)),
            Next::Records(..) => panic!("records before an assignment"),
        }
    }
    all.sort_unstable();
    all
}

/// Nothing comes from the reader for a while.
async fn silent(reader: &mut dyn Reader) {
    let next = tokio::time::timeout(Duration::from_millis(300), reader.next()).await;
    assert!(next.is_err(), "{next:?} came");
}

fn place(partition: u32, offset: u64) -> Place {
    Place { partition, offset }
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "to be called with what was just returned"
)]
fn is_no_topic<T>(result: Result<T, LogError>) -> bool {
    matches!(result, Err(LogError::NoTopic(_)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_suite_leaves_no_case_out() {
        let listed = include_str!("conformance.rs");
        let cases = [
            include_str!("conformance/appends.rs"),
            include_str!("conformance/groups.rs"),
            include_str!("conformance/readers.rs"),
            include_str!("conformance/retention.rs"),
            include_str!("conformance/topics.rs"),
        ];
        let mut count = 0;
        for case in cases
            .iter()
            .flat_map(|file| file.split("pub async fn ").skip(1))
        {
            let name = &case[..case.find('(').unwrap()];
            assert!(
                listed.contains(&format!("            {name}\n")),
                "{name} is not in the list"
            );
            count += 1;
        }
        assert!(count > 30);
    }
}
