//! A page of a conversation, as a user may see it.

use prost::Message;
use tandem_kernel::{ConversationId, event::Event};
use tandem_proto::client::{self, Page};

use super::heads::MAX_BYTES;
use crate::{
    Error,
    domain::view::{self, Span},
    tables::Tables,
};

/// Buckets that are asked for at once.
const BUCKETS: usize = 16;

/// Which events, and from where on.
#[derive(Debug, Clone, Copy)]
enum From {
    /// With a seq up to this, the newest first.
    UpTo(u64),
    /// With a seq from this on, the oldest first.
    On(u64),
}

/// The page that was asked for; at most `most` events.
pub(crate) async fn answer(
    tables: &Tables,
    user: &str,
    request: &client::PageRequest,
    most: u32,
) -> Result<Page, Error> {
    let id =
        ConversationId::parse(&request.conversation).map_err(|e| Error::Invalid(e.to_string()))?;
    let key = id.as_str().as_bytes();
    let spans = spans(tables, &id, user).await?;
    let limit = match request.limit {
        0 => 50.min(most),
        n => n.min(most),
    } as usize;
    let from = match (request.before, request.after) {
        (0, 0) => From::UpTo(u64::MAX),
        (0, after) => From::On(after.saturating_add(1)),
        (before, _) => From::UpTo(before - 1),
    };
    let mut walk = Walk {
        tables,
        key,
        id: &id,
        user,
        limit,
        events: Vec::new(),
        bytes: 0,
        more: false,
    };
    match from {
        From::UpTo(to) => {
            for (first, last) in spans {
                if walk.more || !walk.down((first, last.min(to))).await? {
                    break;
                }
            }
            walk.events.reverse();
        }
        From::On(from) => {
            for (first, last) in spans.into_iter().rev() {
                if walk.more || !walk.up((first.max(from), last)).await? {
                    break;
                }
            }
        }
    }
    let Walk { events, more, .. } = walk;
    Ok(Page {
        conversation: request.conversation.clone(),
        events,
        more,
    })
}

/// The spans of the conversation that the user may see, newest first.
pub(crate) async fn spans(
    tables: &Tables,
    id: &ConversationId,
    user: &str,
) -> Result<Vec<Span>, Error> {
    if let Some((a, b)) = id.pair() {
        if a.as_str() == user || b.as_str() == user {
            return Ok(vec![(0, u64::MAX)]);
        }
        return Err(Error::NotAMember);
    }
    let listing = tables
        .listing(user, id.as_str().as_bytes())
        .await?
        .ok_or(Error::NotAMember)?;
    Ok(view::spans(&listing))
}

struct Walk<'a> {
    tables: &'a Tables,
    key: &'a [u8],
    id: &'a ConversationId,
    user: &'a str,
    limit: usize,
    events: Vec<Event>,
    bytes: usize,
    more: bool,
}

impl Walk<'_> {
    /// Takes the events of a span, newest first. False: the page is full.
    async fn down(&mut self, (first, mut last): Span) -> Result<bool, Error> {
        while first <= last {
            let buckets = self.tables.buckets_down(self.key, last, BUCKETS).await?;
            let Some(oldest) = buckets.last().copied() else {
                return Ok(true);
            };
            for bucket in buckets {
                if !self.bucket(bucket, (first, last), true).await? {
                    return Ok(false);
                }
                if bucket <= first {
                    return Ok(true);
                }
            }
            last = oldest - 1;
        }
        Ok(true)
    }

    /// Takes the events of a span, oldest first. False: the page is full.
    async fn up(&mut self, (first, last): Span) -> Result<bool, Error> {
        if first > last {
            return Ok(true);
        }
        let mut buckets = self.tables.buckets_down(self.key, first, 1).await?;
        let mut at = buckets.first().copied().unwrap_or(0);
        loop {
            for bucket in std::mem::take(&mut buckets) {
                if bucket > last {
                    return Ok(true);
                }
                if !self.bucket(bucket, (first, last), false).await? {
                    return Ok(false);
                }
                at = bucket;
            }
            buckets = self.tables.buckets_up(self.key, at, BUCKETS).await?;
            if buckets.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Takes the events of a bucket within a span. False: the page is full.
    async fn bucket(
        &mut self,
        bucket: u64,
        (mut first, mut last): Span,
        reverse: bool,
    ) -> Result<bool, Error> {
        while first <= last {
            // one more than the page has room for tells whether there is more
            let limit = self.limit - self.events.len() + 1;
            let rows = self
                .tables
                .events(self.key, bucket, (first, last), reverse, limit)
                .await?;
            let end = rows.len() < limit;
            for row in rows {
                let seq = row.seq();
                if reverse {
                    last = seq.saturating_sub(1);
                } else {
                    first = seq.saturating_add(1);
                }
                if view::withheld(&row, self.user) {
                    continue;
                }
                let Some(event) = view::show(row, self.id.as_str(), self.user) else {
                    continue;
                };
                self.bytes += event.encoded_len();
                let full = self.events.len() >= self.limit
                    || (self.bytes > MAX_BYTES && !self.events.is_empty());
                if full {
                    self.more = true;
                    return Ok(false);
                }
                self.events.push(event);
            }
            if end {
                break;
            }
        }
        Ok(true)
    }
}
