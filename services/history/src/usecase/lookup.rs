//! Facts about single events, for admission and receipts.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tandem_kernel::{ConversationId, EventId, event::Kind, seq::partition_of};
use tandem_proto::{
    client::Mark,
    history::{LookupRequest, LookupResponse},
};

use super::{ingest::Copies, walk};
use crate::{Config, Error, domain::rows::EventRow, places::Places, tables::Tables};

/// Most rows that are read for the authors of a range: the newest ones.
const AUTHORS_ROWS: usize = 1_000;

/// What lookups stand on.
pub(crate) struct Lookups {
    pub tables: Tables,
    pub copies: Copies,
    pub places: Arc<Places>,
    pub config: Config,
    pub now_ms: i64,
}

impl Lookups {
    /// Answers what was asked.
    pub async fn answer(&self, request: &LookupRequest) -> Result<LookupResponse, Error> {
        let id = ConversationId::parse(&request.conversation)
            .map_err(|e| Error::Invalid(e.to_string()))?;
        let key = id.as_str().as_bytes();
        let mut out = LookupResponse::default();
        if request.author_of != 0 {
            let slot = self.tables.event(key, request.author_of, 0).await?;
            out.author = slot.and_then(|s| text_author(s.row)).unwrap_or_default();
        }
        if !request.event_id.is_empty() {
            let event =
                EventId::parse(&request.event_id).map_err(|e| Error::Invalid(e.to_string()))?;
            out.seq = self.seq_of(&id, event, &request.sender).await?;
        }
        if request.authors_up_to > request.authors_after {
            let span = (
                request.authors_after.saturating_add(1),
                request.authors_up_to,
            );
            out.authors = self.authors(key, span).await?;
        }
        if !request.marks_of.is_empty() {
            out.marks = self.marks(&id, &request.marks_of).await?;
        }
        Ok(out)
    }

    /// Seq of the event with this id; 0: not seen. Memory first; then the store, as far back as copies are
    /// looked for.
    async fn seq_of(
        &self,
        id: &ConversationId,
        event: EventId,
        sender: &str,
    ) -> Result<u64, Error> {
        let key = id.as_str().as_bytes();
        let partition = partition_of(key, self.places.partitions());
        let remembered = self
            .copies
            .lock()
            .get(&partition)
            .and_then(|recent| recent.get(&recent.identity(key, sender, event)));
        if let Some(seq) = remembered {
            return Ok(seq);
        }
        let oldest = self.now_ms.saturating_sub(self.config.look_back_ms as i64);
        let mut found = 0;
        let most = self.config.look_back_rows;
        walk::down(&self.tables, key, (0, u64::MAX), most, |row| {
            let Some(stored) = &row.event else {
                return true;
            };
            if stored.sender == sender && EventId::parse(&stored.event_id) == Ok(event) {
                found = stored.seq;
                return false;
            }
            stored.at_ms >= oldest
        })
        .await?;
        Ok(found)
    }

    async fn authors(&self, key: &[u8], span: (u64, u64)) -> Result<Vec<String>, Error> {
        let mut authors = BTreeSet::new();
        walk::down(&self.tables, key, span, AUTHORS_ROWS, |row| {
            if let Some(event) = row.event {
                let kind = event.body.and_then(|b| b.kind);
                if matches!(kind, Some(Kind::Text(_) | Kind::Nudge(_))) {
                    authors.insert(event.sender);
                }
            }
            true
        })
        .await?;
        Ok(authors.into_iter().collect())
    }

    async fn marks(&self, id: &ConversationId, user: &str) -> Result<Option<Mark>, Error> {
        let Some(head) = self.tables.head(id).await? else {
            return Ok(None);
        };
        let mut mark = head.marks.into_iter().find(|m| m.user == user);
        if mark.is_none() && head.spilled {
            let key = Bytes::copy_from_slice(id.as_str().as_bytes());
            let user = user.to_owned();
            mark = self
                .tables
                .marks_of(&key, std::iter::once(&user))
                .await?
                .pop();
        }
        Ok(mark.map(|m| Mark {
            user: m.user,
            delivered: m.delivered,
            read: m.read,
        }))
    }
}

/// Who wrote a text message; `None` for other events.
fn text_author(row: EventRow) -> Option<String> {
    let event = row.event?;
    matches!(event.body?.kind?, Kind::Text(_)).then_some(event.sender)
}
