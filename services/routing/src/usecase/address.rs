//! Whom a partition's events are for: copies dropped, groups folded, receipts matched with the authors whom
//! they concern, what cannot be read parked.

use std::sync::Arc;

use ahash::AHashSet;
use futures::{StreamExt, future::join_all, stream};
use prost::Message;
use tandem_kernel::{
    Address, Code, ConversationId, EventId, Seq,
    event::{Envelope, Event, Kind},
    group::changes_group,
};
use tandem_log::{Stored, parking};
use tandem_proto::history::LookupRequest;

use crate::{
    domain::{item::Conversation, recent::Concerned},
    error::Error,
    usecase::{
        deliver::{Addressed, Lane, Users, placed},
        facts::GENERATION,
    },
};

/// Questions to history at once.
const LOOKUPS: usize = 64;

/// A record that was read.
struct Read {
    stored: Stored,
    event: Event,
    sender: Address,
    id: EventId,
    conversation: Arc<Conversation>,
    withheld_from: Vec<String>,
    retry: bool,
}

impl Read {
    fn seq(&self) -> Seq {
        seq_of(&self.stored)
    }

    fn kind(&self) -> Option<&Kind> {
        self.event.body.as_ref()?.kind.as_ref()
    }

    fn is_withheld_from(&self, user: &Address) -> bool {
        self.withheld_from.iter().any(|w| w == user.as_str())
    }
}

fn seq_of(stored: &Stored) -> Seq {
    Seq::new(GENERATION, stored.place.offset)
}

impl Lane {
    /// What of a batch is to be delivered, and to whom. Everything else is done with when it returns: groups
    /// written, what cannot be read parked.
    pub(super) async fn address(&mut self, batch: Vec<Stored>) -> Vec<Addressed> {
        let read = self.read(batch).await;
        let read = self.drop_copies(read).await;
        self.load_groups(&read).await;
        let mut out = Vec::with_capacity(read.len());
        let (mut rows, mut receipts) = (AHashSet::new(), Vec::new());
        let mut written = Vec::new();
        for one in read {
            let again = one.stored.place.offset < self.floor;
            let Some((users, changed)) = self.audience(&one, again) else {
                continue;
            };
            if changed && rows.insert(one.conversation.id.clone()) {
                written.push(Arc::clone(&one.conversation));
            }
            if let Some(Kind::Receipt(receipt)) = one.kind() {
                let (id, seq) = (&one.conversation.id, one.seq());
                let concerned = self.windows.receipt(id, seq, &one.sender, receipt);
                if !again {
                    // its place among the others is kept
                    receipts.push((out.len(), users, concerned));
                    out.push((one, Users::Named(Vec::new())));
                }
                continue;
            }
            self.windows
                .event(&one.conversation.id, one.seq(), &one.sender);
            if !again {
                let users = visible(&one, users);
                out.push((one, users));
            }
        }
        self.write(written).await;
        let concerned = join_all(receipts.into_iter().map(|(at, users, concerned)| {
            let this = &*self;
            let one = &out[at].0;
            async move { (at, this.concerned(one, users, concerned).await) }
        }));
        for (at, users) in concerned.await {
            out[at].1 = Users::Named(users);
        }
        out.into_iter()
            .filter(|(_, users)| !matches!(users, Users::Named(n) if n.is_empty()))
            .map(|(one, users)| {
                let size = one.stored.record.value.len();
                let event = placed(one.event, &one.stored);
                Addressed {
                    event,
                    stored: one.stored,
                    users,
                    size,
                }
            })
            .collect()
    }

    async fn read(&mut self, batch: Vec<Stored>) -> Vec<Read> {
        let mut read = Vec::with_capacity(batch.len());
        for stored in batch {
            match self.read_one(&stored) {
                Ok(Some(parts)) => {
                    let (envelope, event, sender, id, conversation) = parts;
                    let Envelope {
                        withheld_from,
                        retry,
                        ..
                    } = envelope;
                    read.push(Read {
                        stored,
                        event,
                        sender,
                        id,
                        conversation,
                        withheld_from,
                        retry,
                    });
                }
                Ok(None) => self.shared.metrics.voided.add(1),
                Err(_) if stored.place.offset < self.floor => {}
                Err(reason) => self.park(&stored, reason).await,
            }
        }
        read
    }

    /// `None`: it can be read and does not count.
    #[allow(
        clippy::type_complexity,
        reason = "taken apart at once by its one caller"
    )]
    fn read_one(
        &mut self,
        stored: &Stored,
    ) -> Result<Option<(Envelope, Event, Address, EventId, Arc<Conversation>)>, &'static str> {
        let value = stored.record.value.as_ref();
        let mut envelope = Envelope::decode(value).map_err(|_| "the envelope cannot be decoded")?;
        let event = envelope.event.take().ok_or("the envelope holds no event")?;
        let sender = Address::parse(&event.sender).map_err(|_| "the sender is no address")?;
        let id = EventId::parse(&event.event_id).map_err(|_| "the event id is none")?;
        if event.body.as_ref().is_none_or(|b| b.kind.is_none()) {
            return Err("the body is of a kind that this version does not know");
        }
        let conversation = self
            .conversation(&event.conversation)
            .ok_or("no such conversation id")?;
        if conversation.key != stored.record.key || conversation.partition != self.partition {
            return Err("the record stands under another conversation's key");
        }
        if conversation.pair.is_some() {
            let stranger = conversation.peer_of(&sender).is_none();
            let kind = event.body.as_ref().and_then(|b| b.kind.as_ref());
            if stranger || kind.is_some_and(changes_group) {
                return Ok(None);
            }
        }
        Ok(Some((envelope, event, sender, id, conversation)))
    }

    fn conversation(&mut self, text: &str) -> Option<Arc<Conversation>> {
        if let Some(found) = self.conversations.get_mut(text) {
            return Some(Arc::clone(found));
        }
        let id = ConversationId::parse(text).ok()?;
        let conversation = Conversation::new(id, self.shared.partitions);
        self.conversations
            .insert(text.to_owned(), Arc::clone(&conversation));
        Some(conversation)
    }

    async fn drop_copies(&mut self, read: Vec<Read>) -> Vec<Read> {
        let mut copies = AHashSet::new();
        let mut unsure = Vec::new();
        {
            let mut dedupe = self.dedupe.lock();
            for one in &read {
                let seq = one.seq();
                if dedupe
                    .first(one.sender.as_str(), one.id, seq, one.stored.at)
                    .is_some()
                {
                    copies.insert(seq);
                } else if one.retry && one.stored.place.offset >= self.floor {
                    let (sender, place) = (one.sender.clone(), Arc::clone(&one.conversation));
                    unsure.push((place, sender, one.id, seq));
                }
            }
        }
        if !unsure.is_empty() {
            let deadline = self.lookup_timeout();
            let facts = &self.shared.facts;
            let lookups = stream::iter(unsure).map(|(conversation, sender, id, seq)| async move {
                // without an answer it is delivered: clients know an id again
                let place = facts
                    .place_of(&conversation, sender.as_str(), id, deadline)
                    .await;
                place
                    .ok()
                    .flatten()
                    .filter(|place| *place < seq)
                    .map(|_| seq)
            });
            let found: Vec<_> = lookups.buffered(LOOKUPS).collect().await;
            copies.extend(found.into_iter().flatten());
        }
        if copies.is_empty() {
            return read;
        }
        let copy = |one: &Read| {
            let copy = copies.contains(&one.seq());
            if copy && one.stored.place.offset >= self.floor {
                self.shared.metrics.duplicates.add(1);
            }
            copy
        };
        read.into_iter().filter(|one| !copy(one)).collect()
    }

    fn lookup_timeout(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.shared.config.deliver_lookup_timeout_ms)
    }

    async fn load_groups(&mut self, read: &[Read]) {
        let mut missing: Vec<Arc<Conversation>> = Vec::new();
        for one in read.iter().filter(|one| one.conversation.pair.is_none()) {
            let known = self.folders.get_mut(&one.conversation.id).is_some();
            if !known && missing.iter().all(|c| c.id != one.conversation.id) {
                missing.push(Arc::clone(&one.conversation));
            }
        }
        let shared = &self.shared;
        let loads = stream::iter(missing).map(|conversation| async move {
            let load = || shared.directory.load_to_fold(&conversation);
            let folder = shared.insist("a group's row", load).await;
            (conversation, folder)
        });
        let loaded: Vec<_> = loads.buffered(LOOKUPS).collect().await;
        for (conversation, folder) in loaded {
            self.folders.insert(conversation.id.clone(), folder);
        }
    }

    /// Who may see the event, and whether it changed its group; `None`: it does not count.
    fn audience(&mut self, one: &Read, again: bool) -> Option<(Users, bool)> {
        if one.conversation.pair.is_some() {
            return Some((Users::Pair(Arc::clone(&one.conversation)), false));
        }
        let kind = one.event.body.as_ref()?.kind.as_ref()?;
        let folder = self.folders.get_mut(&one.conversation.id)?;
        match folder.fold(one.seq(), &one.sender, kind) {
            Ok(audience) => {
                if audience.changed {
                    self.shared
                        .directory
                        .publish(&one.conversation, folder, Some(one.id));
                }
                let users = if audience.left.is_empty() {
                    Users::Members(audience.members)
                } else {
                    let mut users = audience.members.to_vec();
                    users.extend(audience.left);
                    Users::Named(users)
                };
                Some((users, audience.changed))
            }
            Err(refusal) => {
                if !again {
                    self.shared.metrics.voided.add(1);
                    tracing::debug!(
                        code = refusal.code.as_str(),
                        "an event is void at its place"
                    );
                }
                self.shared.directory.voided(&one.conversation, one.seq());
                None
            }
        }
    }

    /// Writes the changed groups' rows.
    async fn write(&mut self, changed: Vec<Arc<Conversation>>) {
        let mut rows = Vec::with_capacity(changed.len());
        for conversation in changed {
            let Some(folder) = self.folders.get_mut(&conversation.id) else {
                continue;
            };
            match folder.to_row() {
                Ok(row) => rows.push((conversation.id.clone(), folder.group().as_of, row)),
                Err(error) => tracing::error!(%error, "a group's row cannot be made"),
            }
        }
        if !rows.is_empty() {
            self.shared
                .insist("groups' rows", || self.shared.directory.write(rows.clone()))
                .await;
        }
    }

    /// To whom a receipt is shown: the authors of what it newly covers, and its own user's sessions when the
    /// read mark moves.
    async fn concerned(&self, one: &Read, users: Users, concerned: Concerned) -> Vec<Address> {
        let mut authors = concerned.authors.clone();
        match &users {
            // of two it can only be the other
            Users::Pair(conversation) => {
                if concerned.unknown_up_to.is_some() {
                    authors = conversation
                        .peer_of(&one.sender)
                        .into_iter()
                        .cloned()
                        .collect();
                }
            }
            Users::Members(members) => {
                if let Some(up_to) = concerned.unknown_up_to {
                    let more = self.authors(one, concerned.unknown_after, up_to).await;
                    authors.extend(more.unwrap_or_default());
                    authors.sort_unstable();
                    authors.dedup();
                }
                authors.retain(|a| members.binary_search(a).is_ok());
            }
            Users::Named(_) => {}
        }
        authors.retain(|a| *a != one.sender && !one.is_withheld_from(a));
        if concerned.read {
            authors.push(one.sender.clone());
        }
        authors
    }

    /// Authors of a group's events that memory does not have, as history knows them.
    async fn authors(
        &self,
        one: &Read,
        after: Option<Seq>,
        up_to: Seq,
    ) -> Result<Vec<Address>, Error> {
        let (facts, deadline) = (&self.shared.facts, self.lookup_timeout());
        let ask = |request: LookupRequest| facts.lookup(request, deadline);
        let conversation = one.conversation.id.as_str().to_owned();
        let after = if let Some(after) = after {
            after
        } else {
            let request = LookupRequest {
                conversation: conversation.clone(),
                marks_of: one.sender.as_str().to_owned(),
                ..LookupRequest::default()
            };
            let marks = ask(request).await?.marks.unwrap_or_default();
            let read = matches!(one.kind(), Some(Kind::Receipt(r)) if r.read > 0);
            Seq(if read { marks.read } else { marks.delivered })
        };
        // history may have this very receipt; then its last event is as much as can be said of it
        let after = after.min(Seq(up_to.0.saturating_sub(1)));
        let request = LookupRequest {
            conversation,
            authors_after: after.0,
            authors_up_to: up_to.0,
            ..LookupRequest::default()
        };
        let authors = ask(request).await?.authors;
        Ok(authors
            .iter()
            .filter_map(|a| Address::parse(a).ok())
            .collect())
    }

    async fn park(&self, stored: &Stored, reason: &'static str) {
        self.shared.metrics.parked.add(1);
        let (partition, offset) = (stored.place.partition, stored.place.offset);
        tracing::error!(partition, offset, reason, "a record is parked");
        let at = self.shared.doors.clock.unix();
        let (topic, code) = (&self.shared.topic, Code::Malformed);
        let parked = parking::parked("routing", topic, stored, code, reason, at);
        let append = || async { Ok(parking::park(&*self.shared.log, &parked).await?) };
        self.shared.insist("parking a record", append).await;
    }
}

/// The audience without those from whom the event is withheld.
fn visible(one: &Read, users: Users) -> Users {
    if one.withheld_from.is_empty() {
        return users;
    }
    let mut named = Vec::new();
    users.each(|user| {
        if !one.is_withheld_from(user) {
            named.push(user.clone());
        }
    });
    Users::Named(named)
}
