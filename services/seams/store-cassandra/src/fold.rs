//! What the changes of a batch come to. The cluster gives all changes of a batch one time, so that of two
//! changes of a row neither would be the later: each row is named once.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tandem_store::{Batch, Op, Table};

/// The longest time to live that CQL takes, in seconds; longer is for ever.
const MAX_TTL: u64 = 20 * 365 * 24 * 3_600;

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row<'a> {
    /// It gets this value, for so many seconds; 0: for ever.
    Put(&'a Bytes, i32),
    /// It goes.
    Gone,
}

/// What the changes to one partition come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Folded<'a> {
    /// First, all rows go.
    pub clear: bool,
    /// Then these change.
    pub rows: BTreeMap<&'a Bytes, Row<'a>>,
}

impl<'a> Folded<'a> {
    fn apply(&mut self, op: &'a Op) {
        match op {
            Op::Put { sort, value, ttl } => {
                self.rows.insert(sort, Row::Put(value, seconds(*ttl)));
            }
            Op::Delete { sort } => {
                self.rows.insert(sort, Row::Gone);
            }
            Op::DeletePartition => {
                self.clear = true;
                self.rows.clear();
            }
        }
    }

    /// Whether rows get values.
    pub fn puts(&self) -> bool {
        self.rows.values().any(|row| matches!(row, Row::Put(..)))
    }
}

/// Whole seconds, at least one; 0: for ever.
pub(crate) fn seconds(ttl: Option<Duration>) -> i32 {
    let Some(ttl) = ttl else { return 0 };
    let up = u64::from(ttl.subsec_nanos() > 0);
    let seconds = ttl.as_secs().saturating_add(up).max(1);
    if seconds > MAX_TTL {
        return 0;
    }
    seconds as i32
}

/// The partition that batches change, and what each that has another version than the one before makes of it.
pub(crate) struct Partition<'a> {
    pub table: Table,
    pub key: &'a Bytes,
    pub steps: Vec<(Option<u64>, Folded<'a>)>,
}

/// Puts batches together by partition, in order.
pub(crate) fn partitions(batches: &[Batch]) -> Vec<Partition<'_>> {
    let mut out: Vec<Partition<'_>> = Vec::with_capacity(batches.len());
    let mut places = BTreeMap::new();
    for batch in batches {
        let at = *places
            .entry((batch.table.0, &batch.partition))
            .or_insert_with(|| {
                out.push(Partition {
                    table: batch.table,
                    key: &batch.partition,
                    steps: Vec::with_capacity(1),
                });
                out.len() - 1
            });
        let steps = &mut out[at].steps;
        if steps
            .last()
            .is_none_or(|(version, _)| *version != batch.version)
        {
            steps.push((batch.version, Folded::default()));
        }
        if let Some((_, folded)) = steps.last_mut() {
            for op in &batch.ops {
                folded.apply(op);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(sort: &'static str, value: &'static str) -> Op {
        Op::Put {
            sort: sort.into(),
            value: value.into(),
            ttl: None,
        }
    }

    fn batch(partition: &'static str, version: Option<u64>, ops: Vec<Op>) -> Batch {
        Batch {
            table: Table("t"),
            partition: partition.into(),
            ops,
            version,
        }
    }

    #[test]
    fn the_last_change_of_a_row_counts_and_a_cleared_partition_forgets_those_before() {
        let delete = Op::Delete { sort: "a".into() };
        let ops = vec![
            put("a", "1"),
            put("b", "1"),
            Op::DeletePartition,
            put("a", "2"),
            put("c", "1"),
            delete,
            put("c", "2"),
        ];
        let batches = [batch("p", None, ops)];
        let partitions = partitions(&batches);
        let (_, folded) = &partitions[0].steps[0];
        assert!(folded.clear && folded.puts());
        let rows: Vec<_> = folded.rows.iter().map(|(s, r)| (&s[..], *r)).collect();
        let two = Bytes::from("2");
        assert_eq!(rows, [(&b"a"[..], Row::Gone), (b"c", Row::Put(&two, 0))]);
    }

    #[test]
    fn batches_of_a_partition_are_one_as_long_as_their_version_is() {
        let batches = [
            batch("p", None, vec![put("a", "1")]),
            batch("q", Some(1), vec![put("a", "1")]),
            batch("p", None, vec![put("a", "2")]),
            batch("q", Some(2), vec![put("a", "2")]),
        ];
        let partitions = partitions(&batches);
        let steps: Vec<usize> = partitions.iter().map(|p| p.steps.len()).collect();
        assert_eq!(steps, [1, 2]);
        let two = Bytes::from("2");
        let rows = &partitions[0].steps[0].1.rows;
        assert_eq!(rows.values().collect::<Vec<_>>(), [&Row::Put(&two, 0)]);
    }

    #[test]
    fn times_to_live_are_whole_seconds_and_at_most_what_cql_takes() {
        assert_eq!(seconds(None), 0);
        assert_eq!(seconds(Some(Duration::ZERO)), 1);
        assert_eq!(seconds(Some(Duration::from_millis(1_001))), 2);
        assert_eq!(seconds(Some(Duration::from_secs(MAX_TTL))), 630_720_000);
        assert_eq!(seconds(Some(Duration::from_secs(MAX_TTL + 1))), 0);
    }
}
