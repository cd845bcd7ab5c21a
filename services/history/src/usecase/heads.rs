//! A user's heads.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tandem_kernel::ConversationId;
use tandem_proto::client;

use crate::{
    Error,
    domain::{
        rows::{Head, Listing, Mark},
        view::{self, Glance},
    },
    tables::Tables,
};

/// Heads that are read at once.
const STEP: usize = 200;

/// Reads that one request has under way at a time.
const ABREAST: usize = 16;

/// Most bytes of an answer, so that it stays below what a gRPC message may have.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// A conversation of a user at a glance.
pub(crate) struct Candidate {
    pub key: Bytes,
    pub head: Head,
    pub glance: Glance,
}

/// The user's conversations that have a head, newest first.
pub(crate) async fn candidates(tables: &Tables, user: &str) -> Result<Vec<Candidate>, Error> {
    let listings = tables.listings(user).await?;
    let mut out = Vec::with_capacity(listings.len());
    for step in listings.chunks(STEP) {
        let keys: Vec<Bytes> = step.iter().map(|(key, _)| key.clone()).collect();
        for ((key, listing), head) in step.iter().zip(tables.heads(&keys).await?) {
            match head {
                Ok(head) => out.extend(candidate(key, listing, head, user)),
                // one broken conversation does not take the others away
                Err(error) => tracing::error!(%error, "a conversation's head cannot be read"),
            }
        }
    }
    out.sort_unstable_by(|a, b| {
        (b.glance.last_at_ms, b.glance.last_seq, &b.key).cmp(&(
            a.glance.last_at_ms,
            a.glance.last_seq,
            &a.key,
        ))
    });
    Ok(out)
}

fn candidate(key: &Bytes, listing: &Listing, head: Option<Head>, user: &str) -> Option<Candidate> {
    // listed a moment before its first event is there
    let head = head?;
    let glance = view::glance(&head, listing, user);
    Some(Candidate {
        key: key.clone(),
        head,
        glance,
    })
}

/// The heads of these candidates as the user sees them, in order.
pub(crate) async fn heads(
    tables: &Tables,
    user: &str,
    candidates: Vec<Candidate>,
) -> Result<Vec<client::Head>, Error> {
    stream::iter(candidates)
        .map(|c| complete(tables, user, c))
        .buffered(ABREAST)
        .try_collect()
        .await
}

async fn complete(
    tables: &Tables,
    user: &str,
    candidate: Candidate,
) -> Result<client::Head, Error> {
    let Candidate {
        key,
        mut head,
        glance,
    } = candidate;
    let id = std::str::from_utf8(&key)
        .ok()
        .and_then(|t| ConversationId::parse(t).ok());
    let id = id.ok_or_else(|| Error::Corrupt("a listed conversation has no valid id".into()))?;
    let message = match head.last_message.take() {
        Some(row) if row.seq() == glance.message_seq => Some(row),
        _ if glance.message_seq == 0 => None,
        _ => tables
            .event(&key, glance.message_seq, 0)
            .await?
            .map(|s| s.row),
    };
    let marks = all_marks(tables, &key, &head).await?;
    let marks: Vec<&Mark> = marks.iter().collect();
    Ok(view::head(&id, user, &head, &glance, &marks, message))
}

/// All members' marks: those in the head, and those that it has no room for.
async fn all_marks(tables: &Tables, key: &Bytes, head: &Head) -> Result<Vec<Mark>, Error> {
    let mut marks = head.marks.clone();
    if head.spilled {
        let spilled = tables.marks(key).await?;
        marks.extend(
            spilled
                .into_iter()
                .filter(|s| !head.marks.iter().any(|m| m.user == s.user)),
        );
    }
    Ok(marks)
}

/// The user's heads, newest first: at most `limit` (0: 100), only those older than `before_ms` unless
/// it is 0; fewer if they are large.
pub(crate) async fn answer(
    tables: &Tables,
    user: &str,
    request: &client::HeadsRequest,
) -> Result<client::Heads, Error> {
    let limit = match request.limit {
        0 => 100,
        n => n.min(1_000) as usize,
    };
    let mut candidates = candidates(tables, user).await?;
    if request.before_ms != 0 {
        candidates.retain(|c| c.glance.last_at_ms < request.before_ms);
    }
    candidates.truncate(limit);
    let mut heads = heads(tables, user, candidates).await?;
    let mut bytes = 0;
    let fit = heads.iter().take_while(|h| {
        bytes += prost::Message::encoded_len(*h);
        bytes <= MAX_BYTES
    });
    let fit = fit.count().max(1);
    heads.truncate(fit);
    Ok(client::Heads { heads })
}
