//! Conversations' states: where their heads lie, and what lies beside them.

use bytes::Bytes;
use tandem_kernel::ConversationId;
use tandem_store::Key;

use crate::{
    Error,
    domain::rows::{Head, Pointer, Roster},
    tables::{BUCKETS, EVENTS, ROSTER, Tables, bucket_key, decode, event_sort},
};

/// Buckets that are searched for a head at once.
const BUCKETS_AT_ONCE: usize = 16;

/// A conversation, and the sort keys of what is to be read with its head.
type Asked = (Bytes, Vec<Bytes>);

fn keys((conversation, sorts): &Asked, bucket: u64) -> impl Iterator<Item = Key> {
    let partition = bucket_key(conversation, bucket);
    [Bytes::new()]
        .into_iter()
        .chain(sorts.clone())
        .map(move |sort| Key {
            table: EVENTS,
            partition: partition.clone(),
            sort,
        })
}

impl Tables {
    /// The heads of these conversations, in order; `None`: nothing was stored yet, or the head cannot
    /// be read (the error).
    pub async fn heads(
        &self,
        conversations: &[Bytes],
    ) -> Result<Vec<Result<Option<Head>, Error>>, Error> {
        let asked: Vec<Asked> = conversations
            .iter()
            .map(|c| (c.clone(), Vec::new()))
            .collect();
        let found = self.beside_heads(&asked).await?;
        let head = |rows: Vec<Option<Bytes>>| rows.into_iter().next().flatten();
        Ok(found
            .into_iter()
            .map(|rows| head(rows).map(|r| decode(&r)).transpose())
            .collect())
    }

    /// The head of one conversation.
    pub async fn head(&self, conversation: &ConversationId) -> Result<Option<Head>, Error> {
        let key = Bytes::copy_from_slice(conversation.as_str().as_bytes());
        self.heads(&[key]).await?.pop().unwrap_or(Ok(None))
    }

    /// The states of these conversations, in order, for the reader that has the events with these seqs
    /// before it. If a head says that it has some of them, it comes from a write that nobody may have
    /// acknowledged: their rows are read with it, which makes them as durable as the head.
    pub async fn states(
        &self,
        conversations: &[(Bytes, Vec<u64>)],
    ) -> Result<Vec<Result<(Head, Roster), Error>>, Error> {
        let asked: Vec<Asked> = conversations
            .iter()
            .map(|(conversation, seqs)| {
                let events = seqs.iter().map(|s| event_sort(*s));
                let sorts = [Bytes::from_static(ROSTER)].into_iter().chain(events);
                (conversation.clone(), sorts.collect())
            })
            .collect();
        let found = self.beside_heads(&asked).await?;
        let state = |rows: Vec<Option<Bytes>>| {
            let mut rows = rows.into_iter();
            let head = rows.next().flatten().map(|r| decode(&r)).transpose()?;
            let roster = rows.next().flatten().map(|r| decode(&r)).transpose()?;
            Ok((head.unwrap_or_default(), roster.unwrap_or_default()))
        };
        Ok(found.into_iter().map(state).collect())
    }

    async fn pointers(&self, asked: &[&Asked]) -> Result<Vec<Pointer>, Error> {
        let key = |asked: &&Asked| Key {
            table: BUCKETS,
            partition: asked.0.clone(),
            sort: Bytes::new(),
        };
        let keys: Vec<Key> = asked.iter().map(key).collect();
        let rows = self.0.get_many(&keys).await?;
        rows.into_iter()
            .map(|r| r.map_or(Ok(Pointer::default()), |r| decode(&r)))
            .collect()
    }

    /// For each conversation its head's row and then the others that were asked for, of one moment;
    /// nothing if it has no head.
    async fn beside_heads(&self, asked: &[Asked]) -> Result<Vec<Vec<Option<Bytes>>>, Error> {
        let mut out: Vec<_> = asked.iter().map(|_| Vec::new()).collect();
        let mut open: Vec<usize> = (0..asked.len()).collect();
        // a pointer that moves on while it is followed may be found pointing to nothing, once
        for _ in 0..3 {
            let those: Vec<&Asked> = open.iter().map(|i| &asked[*i]).collect();
            let pointers = self.pointers(&those).await?;
            let places: Vec<(usize, Pointer)> = open
                .drain(..)
                .zip(pointers)
                .filter(|(_, p)| p.bucket != 0)
                .collect();
            let all: Vec<Key> = places
                .iter()
                .flat_map(|(i, p)| keys(&asked[*i], p.bucket))
                .collect();
            let mut rows = self.0.get_many(&all).await?.into_iter();
            for (at, pointer) in places {
                let mut found: Vec<_> = rows.by_ref().take(1 + asked[at].1.len()).collect();
                if found.first().is_none_or(Option::is_none) {
                    found = self.below(&asked[at], pointer).await?;
                }
                if found.is_empty() {
                    open.push(at);
                }
                out[at] = found;
            }
            if open.is_empty() {
                break;
            }
        }
        Ok(out)
    }

    /// The newest head and what is beside it, where the bucket pointed to has none: whoever pointed to it
    /// has not written all of its group, and may never. Another may have begun buckets of its own since,
    /// in smaller groups, and not have pointed to them, since its pointers have lower versions.
    async fn below(&self, asked: &Asked, pointer: Pointer) -> Result<Vec<Option<Bytes>>, Error> {
        let mut below = pointer.bucket;
        while below > 0 {
            let mut buckets = self
                .buckets_down(&asked.0, below - 1, BUCKETS_AT_ONCE)
                .await?;
            below = buckets.last().copied().unwrap_or(0);
            if below == 0 && pointer.before != 0 {
                // rows that name buckets expire, heads do not
                buckets.push(pointer.before);
            }
            let all: Vec<Key> = buckets.iter().flat_map(|b| keys(asked, *b)).collect();
            let rows = self.0.get_many(&all).await?;
            let mut found = rows.chunks(1 + asked.1.len());
            if let Some(found) = found.find(|rows| rows[0].is_some()) {
                return Ok(found.to_vec());
            }
        }
        Ok(Vec::new())
    }
}
