//! What a group of events writes.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tandem_store::{Batch, Op};

use crate::{
    domain::{
        conversation::{Conversation, Limits, Work},
        rows::Pointer,
    },
    tables::{
        BUCKETS, CONVERSATIONS, EVENTS, MARKS, ROSTER, bucket_key, bucket_sort, encode, event_sort,
        put,
    },
};

/// What a group of events writes to one conversation.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// To be durable before `with_head` is written.
    pub first: Vec<Batch>,
    /// The newest events and the head, which says that all of it is applied.
    pub with_head: Vec<Batch>,
}

/// Takes what a group of events made of a conversation, as writes.
pub(crate) fn writes(
    conversation: &Bytes,
    state: &mut Conversation,
    mut work: Work,
    limits: &Limits,
    now_ms: i64,
) -> Writes {
    let mut out = Writes::default();
    if !work.head_dirty {
        return out;
    }
    let current = state.head.bucket;
    // each row is what the events up to this one make of it, whoever writes it and in whatever groups
    let version = Some(state.head.applied_seq);
    let mut newest = Vec::with_capacity(work.rows.len() + 2);
    let mut older: BTreeMap<u64, Vec<Op>> = BTreeMap::new();
    for (seq, slot) in work.rows.iter().filter(|(_, slot)| slot.dirty) {
        let at_ms = slot.row.event.as_ref().map_or(now_ms, |e| e.at_ms);
        let ttl = time_to_live(limits, at_ms, now_ms);
        let op = Op::Put {
            sort: event_sort(*seq),
            value: encode(&slot.row),
            ttl,
        };
        if slot.bucket == current {
            newest.push(op);
        } else {
            older.entry(slot.bucket).or_default().push(op);
        }
    }
    state.end(&mut work, limits);
    let in_bucket = |bucket, ops| Batch {
        table: EVENTS,
        partition: bucket_key(conversation, bucket),
        ops,
        version,
    };
    out.first.extend(
        older
            .into_iter()
            .map(|(bucket, ops)| in_bucket(bucket, ops)),
    );
    for (user, kept) in work.listings.iter().filter(|(_, k)| k.dirty) {
        let partition = Bytes::copy_from_slice(user.as_bytes());
        let ops = vec![put(conversation.clone(), &kept.value)];
        out.first.push(Batch {
            table: CONVERSATIONS,
            partition,
            ops,
            version,
        });
    }
    let marks = work.marks.iter().filter(|(_, k)| k.dirty);
    let ops: Vec<Op> = marks
        .map(|(user, kept)| put(Bytes::copy_from_slice(user.as_bytes()), &kept.value))
        .collect();
    if !ops.is_empty() {
        out.first.push(Batch {
            table: MARKS,
            partition: conversation.clone(),
            ops,
            version,
        });
    }
    let moved = state.durable_bucket != current;
    let cleared = std::mem::take(&mut state.head.retired);
    if moved {
        let mut ops = Vec::with_capacity(work.buckets.len() + 1);
        for (bucket, at_ms) in &work.buckets {
            // a bucket outlives its events
            let ttl = time_to_live(limits, at_ms.saturating_add(limits.bucket_ms), now_ms);
            ops.push(Op::Put {
                sort: bucket_sort(*bucket),
                value: Bytes::new(),
                ttl,
            });
        }
        let pointer = Pointer {
            bucket: current,
            before: state.durable_bucket,
        };
        ops.push(put(Bytes::new(), &pointer));
        out.first.push(Batch {
            table: BUCKETS,
            partition: conversation.clone(),
            ops,
            version,
        });
        state.head.retired = state.durable_bucket;
    }
    if state.group.exists() && (work.roster_dirty || moved) {
        newest.push(put(Bytes::from_static(ROSTER), &state.roster()));
    }
    newest.push(put(Bytes::new(), &state.head));
    out.with_head.push(in_bucket(current, newest));
    if cleared != 0 {
        // its successor and the pointer to that are durable by now
        let ops = vec![
            Op::Delete { sort: Bytes::new() },
            Op::Delete {
                sort: Bytes::from_static(ROSTER),
            },
        ];
        out.with_head.push(in_bucket(cleared, ops));
    }
    state.durable_bucket = current;
    out
}

fn time_to_live(limits: &Limits, at_ms: i64, now_ms: i64) -> Option<Duration> {
    if limits.retention_ms == 0 {
        return None;
    }
    let left = at_ms
        .saturating_add(limits.retention_ms)
        .saturating_sub(now_ms);
    Some(Duration::from_secs(
        u64::try_from(left / 1_000).unwrap_or(0).max(1),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_written_again_lives_no_longer_for_it() {
        let limits = Limits {
            bucket_events: 1,
            bucket_ms: 1,
            retention_ms: 10_000,
        };
        assert_eq!(
            time_to_live(&limits, 5_000, 5_000),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            time_to_live(&limits, 5_000, 9_000),
            Some(Duration::from_secs(6))
        );
        assert_eq!(
            time_to_live(&limits, 5_000, 90_000),
            Some(Duration::from_secs(1))
        );
        let for_ever = Limits {
            retention_ms: 0,
            ..limits
        };
        assert_eq!(time_to_live(&for_ever, 5_000, 5_000), None);
    }
}
