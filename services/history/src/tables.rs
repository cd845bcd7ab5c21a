//! The tables: keys, and what is read from them.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tandem_store::{Batch, Key, Op, Range, Row, Store, Table};

use crate::{
    Error,
    domain::{
        conversation::{CountAt, Slot},
        rows::{EventRow, Listing, Mark},
    },
};

pub(crate) const EVENTS: Table = Table("history_events");
pub(crate) const BUCKETS: Table = Table("history_buckets");
pub(crate) const MARKS: Table = Table("history_marks");
pub(crate) const CONVERSATIONS: Table = Table("history_conversations");

/// All tables of history.
pub(crate) const ALL: [Table; 4] = [EVENTS, BUCKETS, MARKS, CONVERSATIONS];

pub(crate) const ROSTER: &[u8] = b"g";

/// Rows that are asked for at once.
const STEP: usize = 200;

pub(crate) fn bucket_key(conversation: &[u8], bucket: u64) -> Bytes {
    let mut key = Vec::with_capacity(conversation.len() + 9);
    key.extend_from_slice(conversation);
    key.push(0);
    key.extend_from_slice(&bucket.to_be_bytes());
    key.into()
}

fn tagged(tag: u8, seq: u64) -> Bytes {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&seq.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

pub(crate) fn event_sort(seq: u64) -> Bytes {
    tagged(b'e', seq)
}

pub(crate) fn bucket_sort(bucket: u64) -> Bytes {
    tagged(b'b', bucket)
}

fn listing_key(user: &str, conversation: &[u8]) -> Key {
    Key {
        table: CONVERSATIONS,
        partition: Bytes::copy_from_slice(user.as_bytes()),
        sort: Bytes::copy_from_slice(conversation),
    }
}

fn tail(sort: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(sort.get(1..)?.try_into().ok()?))
}

pub(crate) fn decode<M: Message + Default>(value: &[u8]) -> Result<M, Error> {
    M::decode(value).map_err(|e| Error::Corrupt(e.to_string()))
}

pub(crate) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

pub(crate) fn put(sort: Bytes, message: &impl Message) -> Op {
    Op::Put {
        sort,
        value: encode(message),
        ttl: None,
    }
}

/// The store as history sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tables(pub Arc<dyn Store>);

impl Tables {
    /// The buckets of a conversation up to the one that would hold `seq`, newest first.
    pub async fn buckets_down(
        &self,
        conversation: &[u8],
        seq: u64,
        limit: usize,
    ) -> Result<Vec<u64>, Error> {
        let range = Range {
            from: Bound::Included(bucket_sort(0)),
            to: Bound::Included(bucket_sort(seq)),
            reverse: true,
            limit,
        };
        self.buckets(conversation, range).await
    }

    /// The buckets of a conversation after `bucket`, oldest first.
    pub async fn buckets_up(
        &self,
        conversation: &[u8],
        bucket: u64,
        limit: usize,
    ) -> Result<Vec<u64>, Error> {
        let range = Range {
            from: Bound::Excluded(bucket_sort(bucket)),
            to: Bound::Included(bucket_sort(u64::MAX)),
            reverse: false,
            limit,
        };
        self.buckets(conversation, range).await
    }

    async fn buckets(&self, conversation: &[u8], range: Range) -> Result<Vec<u64>, Error> {
        let rows = self.0.range(BUCKETS, conversation, range).await?;
        Ok(rows.iter().filter_map(|r| tail(&r.sort)).collect())
    }

    /// Rows of a bucket with seq in `from..=to`.
    pub async fn events(
        &self,
        conversation: &[u8],
        bucket: u64,
        (from, to): (u64, u64),
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<EventRow>, Error> {
        let range = Range {
            from: Bound::Included(event_sort(from)),
            to: Bound::Included(event_sort(to)),
            reverse,
            limit,
        };
        let rows = self
            .0
            .range(EVENTS, &bucket_key(conversation, bucket), range)
            .await?;
        rows.iter().map(|r| decode(&r.value)).collect()
    }

    /// The row of the event at `seq` and its bucket. `current` is a bucket known to be the newest; 0: not known.
    pub async fn event(
        &self,
        conversation: &[u8],
        seq: u64,
        current: u64,
    ) -> Result<Option<Slot>, Error> {
        let bucket = if current != 0 && seq >= current {
            Some(current)
        } else {
            self.buckets_down(conversation, seq, 1)
                .await?
                .first()
                .copied()
        };
        let Some(bucket) = bucket else {
            return Ok(None);
        };
        let partition = bucket_key(conversation, bucket);
        let key = Key {
            table: EVENTS,
            partition,
            sort: event_sort(seq),
        };
        let row = self
            .0
            .get(&key)
            .await?
            .map(|r| decode::<EventRow>(&r))
            .transpose()?;
        Ok(row.map(|row| Slot {
            bucket,
            row,
            dirty: false,
        }))
    }

    /// The running count at the last event with a seq up to `seq`; `None`: there is none (any more).
    pub async fn count_at(&self, conversation: &[u8], seq: u64) -> Result<Option<CountAt>, Error> {
        for bucket in self.buckets_down(conversation, seq, 3).await? {
            let rows = self.events(conversation, bucket, (0, seq), true, 1).await?;
            if let Some(row) = rows.into_iter().next() {
                return Ok(Some(CountAt {
                    seq: row.seq(),
                    count: row.count,
                    hidden: row.hidden,
                }));
            }
        }
        Ok(None)
    }

    /// Marks that are rows of their own.
    pub async fn marks(&self, conversation: &[u8]) -> Result<Vec<Mark>, Error> {
        let rows = self.0.range(MARKS, conversation, Range::all(1_024)).await?;
        rows.iter().map(|r| decode(&r.value)).collect()
    }

    /// The marks of these users that are rows of their own.
    pub async fn marks_of<'a>(
        &self,
        conversation: &Bytes,
        users: impl Iterator<Item = &'a String>,
    ) -> Result<Vec<Mark>, Error> {
        let key = |user: &String| Key {
            table: MARKS,
            partition: conversation.clone(),
            sort: Bytes::copy_from_slice(user.as_bytes()),
        };
        let keys: Vec<Key> = users.map(key).collect();
        let rows = self.0.get_many(&keys).await?;
        rows.into_iter().flatten().map(|r| decode(&r)).collect()
    }

    /// A conversation's entry in a user's list.
    pub async fn listing(&self, user: &str, conversation: &[u8]) -> Result<Option<Listing>, Error> {
        let row = self.0.get(&listing_key(user, conversation)).await?;
        row.map(|r| decode(&r)).transpose()
    }

    /// A conversation's entries in these users' lists; an empty one where there is none.
    pub async fn listings_of(
        &self,
        users: &[String],
        conversation: &[u8],
    ) -> Result<Vec<Listing>, Error> {
        let keys: Vec<Key> = users.iter().map(|u| listing_key(u, conversation)).collect();
        let rows = self.0.get_many(&keys).await?;
        rows.into_iter()
            .map(|r| r.map_or(Ok(Listing::default()), |r| decode(&r)))
            .collect()
    }

    /// A user's list of conversations.
    pub async fn listings(&self, user: &str) -> Result<Vec<(Bytes, Listing)>, Error> {
        let mut out = Vec::new();
        let mut from = Bound::Unbounded;
        loop {
            let range = Range {
                from,
                to: Bound::Unbounded,
                reverse: false,
                limit: STEP,
            };
            let rows = self.0.range(CONVERSATIONS, user.as_bytes(), range).await?;
            let full = rows.len() == STEP;
            for Row { sort, value } in rows {
                out.push((sort, decode(&value)?));
            }
            match out.last() {
                Some((last, _)) if full => from = Bound::Excluded(last.clone()),
                _ => return Ok(out),
            }
        }
    }

    /// Once it returns, the batches are durable.
    pub async fn write(&self, batches: Vec<Batch>) -> Result<(), Error> {
        if batches.is_empty() {
            return Ok(());
        }
        Ok(self.0.write(batches).await?)
    }
}
