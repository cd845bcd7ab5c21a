//! A group of records from the log: read, freed of copies, folded, and turned into writes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use prost::Message;
use tandem_kernel::{
    Code, ConversationId, EventId, Seq,
    event::{Envelope, Parked},
};
use tandem_log::{Stored, parking};
use tandem_store::{Batch, StoreError};

use super::{
    read::{read, span},
    walk,
};
use crate::{
    Config, Error,
    domain::{
        conversation::{Conversation, Incoming, Kept, Limits, Needs, Slot, Work},
        fold::Outcome,
        recent::{Identity, Recent},
        rows::{Head, Roster},
    },
    metrics::Metrics,
    tables::Tables,
    writes::writes,
};

/// The copies lately seen, by partition; shared with lookups.
pub(crate) type Copies = Arc<parking_lot::Mutex<BTreeMap<u32, Recent>>>;

/// What one conversation gets of a group.
struct Turn {
    partition: u32,
    key: Bytes,
    events: Vec<Incoming>,
    /// Identities to be looked for in the store, with the seq of the copy at hand.
    unsure: Vec<(Identity, EventId, u64)>,
}

/// Where the turns are of which `is` holds. Nearly always nowhere: what is needed is in memory.
fn places(turns: &[Turn], is: impl Fn(&Turn) -> bool) -> Vec<usize> {
    turns
        .iter()
        .enumerate()
        .filter(|(_, t)| is(t))
        .map(|(i, _)| i)
        .collect()
}

/// A batch and the log's partition that it comes from.
pub(crate) type Tagged = (u32, Batch);

/// What a group came to.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// To be durable first.
    pub first: Vec<Tagged>,
    /// Then these.
    pub with_head: Vec<Tagged>,
    /// Records that could not be handled, to be durable on the topic for them.
    pub parked: Vec<Parked>,
    /// Spans of sampled traces, open until it is durable.
    pub spans: Vec<tracing::Span>,
}

struct Cached {
    partition: u32,
    used: u64,
    state: Conversation,
}

/// Folds groups of records.
pub(crate) struct Ingest {
    tables: Tables,
    metrics: Arc<Metrics>,
    copies: Copies,
    limits: Limits,
    look_back: (i64, usize),
    generation: u16,
    topic: String,
    cache: HashMap<Bytes, Cached, ahash::RandomState>,
    most_cached: usize,
    round: u64,
}

/// A group, read.
#[derive(Default)]
pub(crate) struct Group {
    turns: Vec<Turn>,
    parked: Vec<Parked>,
    spans: Vec<tracing::Span>,
}

impl Group {
    /// Leaves out what comes from these partitions.
    pub fn drop_partitions(&mut self, lost: &[u32]) {
        self.turns.retain(|t| !lost.contains(&t.partition));
        self.parked.retain(|p| !lost.contains(&p.partition));
    }
}

impl Ingest {
    pub fn new(
        tables: Tables,
        metrics: Arc<Metrics>,
        copies: Copies,
        config: &Config,
        generation: u16,
    ) -> Self {
        Self {
            tables,
            metrics,
            copies,
            limits: config.limits(),
            look_back: (config.look_back_ms as i64, config.look_back_rows),
            generation,
            topic: tandem_kernel::conversations_topic(generation),
            cache: HashMap::default(),
            most_cached: config.cached_conversations,
            round: 0,
        }
    }

    /// Forgets what it knows of a partition's conversations.
    pub fn forget(&mut self, partition: u32) {
        self.cache.retain(|_, c| c.partition != partition);
        self.metrics.cached.set(self.cache.len() as i64);
    }

    /// Reads records. Those below their partition's `floor` have been handled before: only their ids
    /// are remembered.
    pub fn read(&self, records: Vec<(u32, Vec<Stored>)>, floor: impl Fn(u32) -> u64) -> Group {
        let mut group = Group::default();
        let mut index: HashMap<Bytes, usize, ahash::RandomState> = HashMap::default();
        let mut copies = self.copies.lock();
        for (partition, records) in records {
            let Some(recent) = copies.get_mut(&partition) else {
                continue;
            };
            let floor = floor(partition);
            for stored in records {
                let known = stored.place.offset < floor;
                let envelope = match read(&stored) {
                    Ok(envelope) => envelope,
                    Err(_) if known => continue,
                    Err((code, reason)) => {
                        group.parked.push(self.park(&stored, code, reason));
                        continue;
                    }
                };
                let Envelope {
                    event: Some(event),
                    retry,
                    withheld_from,
                    ..
                } = envelope.0
                else {
                    continue;
                };
                let seq = Seq::new(self.generation, stored.place.offset).0;
                let mut unsure = None;
                if let Some(id) = envelope.1 {
                    let identity = recent.identity(&stored.record.key, &event.sender, id);
                    let new = recent.get(&identity).is_none();
                    if recent.see(identity, seq, stored.at.0) != seq {
                        if !known {
                            self.metrics.duplicates.add(1);
                        }
                        continue;
                    }
                    unsure = (new && retry).then_some((identity, id, seq));
                }
                if known {
                    continue;
                }
                if let Some(span) = span(&stored) {
                    group.spans.push(span);
                }
                let turns = &mut group.turns;
                let at = *index.entry(stored.record.key).or_insert_with_key(|key| {
                    let key = key.clone();
                    turns.push(Turn {
                        partition,
                        key,
                        events: Vec::new(),
                        unsure: Vec::new(),
                    });
                    turns.len() - 1
                });
                let at_ms = stored.at.0;
                turns[at].events.push(Incoming {
                    seq,
                    at_ms,
                    event,
                    withheld_from,
                });
                turns[at].unsure.extend(unsure);
            }
        }
        group
    }

    fn park(&self, stored: &Stored, code: Code, reason: String) -> Parked {
        let service = crate::consumer::GROUP;
        parking::parked(service, &self.topic, stored, code, reason, stored.at)
    }

    /// Folds the group. Nothing has happened if it fails; it may be tried again. What it returns must
    /// be written before another group is folded.
    pub async fn fold(&mut self, group: &mut Group) -> Result<Outgoing, Error> {
        self.load(group).await?;
        let unsure = places(&group.turns, |t| !t.unsure.is_empty());
        let look = join_all(unsure.iter().map(|i| self.look_back(&group.turns[*i]))).await;
        let look = self.readable(group, &unsure, look)?;
        let mut copied = 0;
        for (turn, found) in group.turns.iter_mut().zip(look) {
            for (identity, copy, first) in found {
                turn.events.retain(|e| e.seq != copy);
                copied += 1;
                if let Some(recent) = self.copies.lock().get_mut(&turn.partition) {
                    recent.found(identity, first);
                }
            }
            turn.unsure.clear();
        }
        self.metrics.duplicates.add(copied);
        let needy = places(&group.turns, |t| {
            let state = self.cache.get(&t.key).map(|c| &c.state);
            state.is_some_and(|s| s.needs(&t.events) != Needs::default())
        });
        let works = join_all(needy.iter().map(|i| self.work(&group.turns[*i]))).await;
        let works = self.readable(group, &needy, works)?;

        let mut out = Outgoing {
            parked: std::mem::take(&mut group.parked),
            ..Outgoing::default()
        };
        out.spans = std::mem::take(&mut group.spans);
        let (mut stored, mut marked, mut voided) = (0, 0, 0);
        for (turn, mut work) in group.turns.drain(..).zip(works) {
            let Some(cached) = self.cache.get_mut(&turn.key) else {
                continue;
            };
            let state = &mut cached.state;
            state.begin(&turn.events, &mut work);
            let now_ms = turn.events.last().map_or(0, |e| e.at_ms);
            for incoming in turn.events {
                let seq = incoming.seq;
                match state.fold(&mut work, &self.limits, incoming) {
                    Outcome::Stored => stored += 1,
                    Outcome::Marked => marked += 1,
                    Outcome::Nothing => {}
                    Outcome::Void(reason) => {
                        voided += 1;
                        tracing::debug!(seq, reason, "event does not count");
                    }
                }
            }
            let writes = writes(&turn.key, state, work, &self.limits, now_ms);
            out.first
                .extend(writes.first.into_iter().map(|b| (turn.partition, b)));
            out.with_head
                .extend(writes.with_head.into_iter().map(|b| (turn.partition, b)));
        }
        self.metrics.stored.add(stored);
        self.metrics.receipts.add(marked);
        self.metrics.voided.add(voided);
        self.make_room();
        Ok(out)
    }

    /// Loads the states that are not in memory.
    async fn load(&mut self, group: &mut Group) -> Result<(), Error> {
        self.round += 1;
        let mut missing = Vec::new();
        for turn in &group.turns {
            if let Some(cached) = self.cache.get_mut(&turn.key) {
                cached.used = self.round;
            } else {
                let seqs = turn.events.iter().map(|e| e.seq).collect();
                missing.push((turn.partition, (turn.key.clone(), seqs)));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let (partitions, asked): (Vec<u32>, Vec<(Bytes, Vec<u64>)>) = missing.into_iter().unzip();
        let states = self.tables.states(&asked).await?;
        for ((partition, (key, _)), stored) in partitions.into_iter().zip(asked).zip(states) {
            match stored.and_then(|stored| open(&key, stored)) {
                Ok(state) => {
                    // the record's key may keep a larger buffer alive
                    let key = Bytes::copy_from_slice(&key);
                    self.cache.insert(
                        key,
                        Cached {
                            partition,
                            used: self.round,
                            state,
                        },
                    );
                }
                Err(Error::Corrupt(reason)) => self.give_up(group, &key, &reason),
                Err(error) => return Err(error),
            }
        }
        self.metrics.cached.set(self.cache.len() as i64);
        Ok(())
    }

    /// What was loaded for each turn: `loaded` for those at `asked`, nothing for the others. A turn whose
    /// conversation cannot be read leaves the group.
    fn readable<T: Default>(
        &self,
        group: &mut Group,
        asked: &[usize],
        loaded: Vec<Result<T, Error>>,
    ) -> Result<Vec<T>, Error> {
        let mut out: Vec<T> = group.turns.iter().map(|_| T::default()).collect();
        let mut broken = Vec::new();
        for (at, loaded) in asked.iter().zip(loaded) {
            match loaded {
                Ok(loaded) => out[*at] = loaded,
                Err(Error::Corrupt(reason) | Error::Store(StoreError::Corrupt(reason))) => {
                    broken.push((*at, reason));
                }
                Err(error) => return Err(error),
            }
        }
        for (at, reason) in broken.into_iter().rev() {
            out.remove(at);
            let key = group.turns[at].key.clone();
            self.give_up(group, &key, &reason);
        }
        Ok(out)
    }

    /// A conversation whose rows cannot be read: its events are parked, not lost.
    fn give_up(&self, group: &mut Group, key: &Bytes, reason: &str) {
        tracing::error!(reason, "a conversation's rows cannot be read");
        let Some(at) = group.turns.iter().position(|t| t.key == *key) else {
            return;
        };
        let turn = group.turns.remove(at);
        for incoming in turn.events {
            let offset = Seq(incoming.seq).offset();
            let mut event = incoming.event;
            event.seq = 0;
            let envelope = Envelope {
                event: Some(event),
                withheld_from: incoming.withheld_from,
                ..Envelope::default()
            };
            group.parked.push(Parked {
                topic: self.topic.clone(),
                partition: turn.partition,
                offset,
                service: crate::consumer::GROUP.to_owned(),
                code: Code::Internal.as_str().to_owned(),
                reason: format!("conversation cannot be read: {reason}"),
                key: key.clone(),
                value: envelope.encode_to_vec().into(),
                at_ms: incoming.at_ms,
            });
        }
    }

    /// Copies of events at hand that the store holds: identity, seq at hand, seq in the store.
    async fn look_back(&self, turn: &Turn) -> Result<Vec<(Identity, u64, u64)>, Error> {
        let mut found = Vec::new();
        let Some(cached) = self.cache.get(&turn.key) else {
            return Ok(found);
        };
        if turn.unsure.is_empty() || cached.state.head.bucket == 0 {
            return Ok(found);
        }
        let (window_ms, most) = self.look_back;
        let oldest = turn
            .events
            .first()
            .map_or(0, |e| e.at_ms)
            .saturating_sub(window_ms);
        // an id counts for its sender alone
        let senders: BTreeMap<u64, &str> = turn
            .events
            .iter()
            .map(|e| (e.seq, e.event.sender.as_str()))
            .collect();
        let ids: HashMap<(EventId, &str), usize, ahash::RandomState> = turn
            .unsure
            .iter()
            .enumerate()
            .filter_map(|(i, (_, id, seq))| Some(((*id, *senders.get(seq)?), i)))
            .collect();
        let span = (0, cached.state.head.last_seq);
        let all = walk::down(&self.tables, &turn.key, span, most, |row| {
            let Some(event) = row.event else { return true };
            let id = EventId::parse(&event.event_id).ok();
            let at = id.and_then(|id| ids.get(&(id, event.sender.as_str())));
            if let Some((identity, _, seq)) = at.map(|i| turn.unsure[*i])
                && event.seq < seq
            {
                found.push((identity, seq, event.seq));
            }
            event.at_ms >= oldest
        });
        if !all.await? {
            tracing::warn!(most, "search for an earlier copy given up");
        }
        Ok(found)
    }

    /// Loads what folding a conversation's events needs.
    async fn work(&self, turn: &Turn) -> Result<Work, Error> {
        let mut work = Work::default();
        let Some(cached) = self.cache.get(&turn.key) else {
            return Ok(work);
        };
        let state = &cached.state;
        let needs = state.needs(&turn.events);
        self.load_rows(turn, state, needs.rows, &mut work).await?;
        let edits = state.needs_of_deletes(&turn.events, &work);
        self.load_rows(turn, state, edits, &mut work).await?;
        if !needs.listings.is_empty() {
            let users: Vec<String> = needs.listings.into_iter().collect();
            let listings = self.tables.listings_of(&users, &turn.key).await?;
            let kept = listings.into_iter().map(|value| Kept {
                value,
                dirty: false,
            });
            work.listings.extend(users.into_iter().zip(kept));
        }
        if !needs.marks.is_empty() {
            for mark in self.tables.marks_of(&turn.key, needs.marks.iter()).await? {
                work.marks.insert(
                    mark.user.clone(),
                    Kept {
                        value: mark,
                        dirty: false,
                    },
                );
            }
        }
        for seq in needs.counts {
            if let Some(count) = self.tables.count_at(&turn.key, seq).await? {
                work.counts.insert(seq, count);
            }
        }
        Ok(work)
    }

    async fn load_rows(
        &self,
        turn: &Turn,
        state: &Conversation,
        seqs: impl IntoIterator<Item = u64>,
        work: &mut Work,
    ) -> Result<(), Error> {
        let current = state.head.bucket;
        let rows = seqs
            .into_iter()
            .map(|s| self.tables.event(&turn.key, s, current));
        let slots: Vec<Option<Slot>> = try_join_all(rows).await?;
        work.rows
            .extend(slots.into_iter().flatten().map(|s| (s.row.seq(), s)));
        Ok(())
    }

    /// Drops the states that were used longest ago.
    fn make_room(&mut self) {
        if self.cache.len() <= self.most_cached {
            return;
        }
        let mut used: Vec<u64> = self.cache.values().map(|c| c.used).collect();
        let keep = self.most_cached - self.most_cached / 10;
        let at = used.len() - keep.clamp(1, used.len());
        let (_, oldest_kept, _) = used.select_nth_unstable(at);
        let oldest_kept = *oldest_kept;
        self.cache.retain(|_, c| c.used >= oldest_kept);
        self.metrics.cached.set(self.cache.len() as i64);
    }
}

fn open(key: &Bytes, (head, roster): (Head, Roster)) -> Result<Conversation, Error> {
    let id = std::str::from_utf8(key)
        .ok()
        .and_then(|t| ConversationId::parse(t).ok());
    let id = id.ok_or_else(|| Error::Corrupt("not a conversation id".into()))?;
    Ok(Conversation::new(&id, head, roster))
}
