//! One conversation as a device holds it. Whatever the order and number of copies in which events
//! arrive, what it shows depends on the set of them alone: an event's place is the lowest seq seen for
//! its `(sender, event_id)`, and edits, deletes and reactions are folded in by their places.

use std::collections::{BTreeMap, BTreeSet};

use tandem_kernel::event::{Event, Folded, Kind, Text};
use tandem_proto::client::{Head, Mark};

use super::ranges::Ranges;

/// What became of an event that was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The first copy of this event.
    New,
    /// A further copy.
    Known,
    /// It cannot be read (no body, no id), and was left out.
    Unreadable,
}

/// An event that takes a line of its own: a message, a nudge, a change of the group.
#[derive(Debug, Clone)]
struct Item {
    event: Event,
    /// Every seq that a copy of it was seen at: later events may name any of them.
    seqs: BTreeSet<u64>,
    edited: Option<(u64, Text)>,
    deleted_seq: u64,
    /// user → (seq, emoji), as pages said.
    reactions: BTreeMap<String, (u64, String)>,
}

/// An edit, delete or reaction that names a message.
#[derive(Debug, Clone)]
struct Note {
    seq: u64,
    sender: String,
    event_id: String,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Edit(Text),
    Delete,
    Reaction(String),
}

/// A line of a conversation, folded.
#[derive(Debug, Clone, PartialEq)]
pub struct Message<'a> {
    /// The event as it was sent.
    pub event: &'a Event,
    /// Its place.
    pub seq: u64,
    /// Its text as it stands: after the last edit; `None` if deleted, or if it is no message.
    pub text: Option<&'a Text>,
    /// Whether its author has changed it.
    pub edited: bool,
    /// Whether its author has deleted it.
    pub deleted: bool,
    /// Who reacts, and how.
    pub reactions: BTreeMap<&'a str, &'a str>,
}

/// How far a member has the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Reach {
    delivered: u64,
    exact: BTreeSet<u64>,
    read: u64,
}

/// One conversation.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    items: BTreeMap<u64, Item>,
    /// (sender, event id) → place.
    places: BTreeMap<(String, String), u64>,
    /// By the seq that they name.
    notes: BTreeMap<u64, Vec<Note>>,
    reach: BTreeMap<String, Reach>,
    ranges: Ranges,
    /// Place and text of the newest title.
    title: (u64, String),
    request: bool,
    /// Unread up to a place, as a head said it for a read mark.
    counted: Counted,
    /// Newest event that is not a receipt.
    last_content: u64,
    last_at_ms: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    up_to: u64,
    read: u64,
    unread: u64,
}

impl Conversation {
    /// Puts an event in.
    pub fn insert(&mut self, event: Event) -> Inserted {
        let seq = event.seq;
        let Some(kind) = event.body.as_ref().and_then(|b| b.kind.as_ref()) else {
            return Inserted::Unreadable;
        };
        if event.event_id.is_empty() || seq == 0 {
            return Inserted::Unreadable;
        }
        if !matches!(kind, Kind::Receipt(_)) && seq > self.last_content {
            self.last_content = seq;
            self.last_at_ms = event.at_ms;
        }
        let note = match kind {
            Kind::Receipt(receipt) => {
                let reach = self.reach.entry(event.sender).or_default();
                let exact = receipt.delivered_exact.iter().copied();
                return if reach.advance(receipt.delivered, exact, receipt.read) {
                    Inserted::New
                } else {
                    Inserted::Known
                };
            }
            Kind::Edit(edit) => Some((
                edit.target,
                What::Edit(edit.text.clone().unwrap_or_default()),
            )),
            Kind::Delete(delete) => Some((delete.target, What::Delete)),
            Kind::Reaction(r) => Some((r.target, What::Reaction(r.emoji.clone()))),
            _ => None,
        };
        let key = (event.sender.clone(), event.event_id.clone());
        let known = self.places.get(&key).copied();
        self.places.insert(key, known.map_or(seq, |k| k.min(seq)));
        if let Some((target, what)) = note {
            self.annotate(
                target,
                Note {
                    seq,
                    sender: event.sender,
                    event_id: event.event_id,
                    what,
                },
            );
        } else {
            self.put_item(known, event);
        }
        if known.is_some() {
            Inserted::Known
        } else {
            Inserted::New
        }
    }

    fn annotate(&mut self, target: u64, note: Note) {
        let notes = self.notes.entry(target).or_default();
        match notes
            .iter_mut()
            .find(|n| n.event_id == note.event_id && n.sender == note.sender)
        {
            Some(known) => known.seq = known.seq.min(note.seq),
            None => notes.push(note),
        }
    }

    fn put_item(&mut self, known: Option<u64>, event: Event) {
        let seq = event.seq;
        let mut item = match known.and_then(|k| self.items.remove(&k)) {
            Some(mut item) => {
                if seq < item.event.seq {
                    item.event.seq = seq;
                    item.event.at_ms = event.at_ms;
                }
                item.event.request &= event.request;
                item
            }
            None => Item {
                event: Event {
                    folded: None,
                    ..event.clone()
                },
                seqs: BTreeSet::new(),
                edited: None,
                deleted_seq: 0,
                reactions: BTreeMap::new(),
            },
        };
        item.seqs.insert(seq);
        if let Some(folded) = event.folded {
            item.fold(folded);
        }
        match item.event.body.as_ref().and_then(|b| b.kind.as_ref()) {
            Some(Kind::GroupCreate(c)) if seq > self.title.0 => {
                self.title = (seq, c.title.trim().to_owned());
            }
            Some(Kind::TitleSet(t)) if seq > self.title.0 => {
                self.title = (seq, t.title.trim().to_owned());
            }
            _ => {}
        }
        self.items.insert(item.event.seq, item);
    }

    /// Takes what a head says. Its `last_message` is put in, too.
    pub fn take_head(&mut self, head: Head, me: &str) {
        if !head.title.is_empty() && head.last_seq >= self.title.0 {
            self.title = (head.last_seq, head.title);
        }
        self.request = head.request;
        for Mark {
            user,
            delivered,
            read,
        } in head.marks
        {
            self.reach
                .entry(user)
                .or_default()
                .advance(delivered, [], read);
        }
        self.reach
            .entry(me.to_owned())
            .or_default()
            .advance(0, [], head.read_seq);
        if head.last_seq >= self.counted.up_to {
            self.counted = Counted {
                up_to: head.last_seq,
                read: head.read_seq,
                unread: head.unread,
            };
        }
        if let Some(event) = head.last_message {
            self.insert(event);
        }
    }

    /// The person has read everything up to `seq`. Whether that was news.
    pub fn read_up_to(&mut self, me: &str, seq: u64) -> bool {
        self.reach
            .entry(me.to_owned())
            .or_default()
            .advance(0, [], seq)
    }

    /// Messages that the person `me` has not read yet.
    pub fn unread(&self, me: &str) -> u64 {
        let read = self.read(me).max(self.counted.read);
        let others = |after: u64| {
            self.items
                .range(after.saturating_add(1)..)
                .filter(|(_, i)| i.counts() && i.event.sender != me)
                .count() as u64
        };
        // one's own sending moves one's mark
        let read = self
            .items
            .range(read.saturating_add(1)..)
            .rev()
            .find(|(_, i)| i.counts() && i.event.sender == me)
            .map_or(read, |(seq, _)| *seq);
        if read <= self.counted.read {
            self.counted.unread + others(self.counted.up_to)
        } else {
            others(read)
        }
    }

    /// Up to where `user` has read.
    pub fn read(&self, user: &str) -> u64 {
        self.reach.get(user).map_or(0, |r| r.read)
    }

    /// Who, beside `me`, has the message at `seq` on a device, and who has read it.
    pub fn seen_by(&self, me: &str, seq: u64) -> (Vec<&str>, Vec<&str>) {
        let others = || self.reach.iter().filter(|(user, _)| *user != me);
        let delivered = others()
            .filter(|(_, r)| r.has(seq))
            .map(|(u, _)| u.as_str())
            .collect();
        let read = others()
            .filter(|(_, r)| r.read >= seq)
            .map(|(u, _)| u.as_str())
            .collect();
        (delivered, read)
    }

    /// The lines, oldest first.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = Message<'_>> {
        self.items.values().map(|item| self.message(item))
    }

    /// The lines with `seq > after`, oldest first.
    pub fn messages_after(&self, after: u64) -> impl DoubleEndedIterator<Item = Message<'_>> {
        self.items
            .range(after.saturating_add(1)..)
            .map(|(_, item)| self.message(item))
    }

    /// The line at a place, or at that of any copy of it.
    pub fn at(&self, seq: u64) -> Option<Message<'_>> {
        let item = self
            .items
            .get(&seq)
            .or_else(|| self.items.values().find(|i| i.seqs.contains(&seq)))?;
        Some(self.message(item))
    }

    /// Place of the event with this id, if a copy was seen.
    pub fn place(&self, sender: &str, event_id: &str) -> Option<u64> {
        self.places
            .get(&(sender.to_owned(), event_id.to_owned()))
            .copied()
    }

    fn message<'a>(&'a self, item: &'a Item) -> Message<'a> {
        let author = item.event.sender.as_str();
        let mut edit = item.edited.as_ref().map(|(seq, text)| (*seq, text));
        let mut deleted = item.deleted_seq > 0;
        let mut reactions: BTreeMap<&str, (u64, &str)> = item
            .reactions
            .iter()
            .map(|(u, (seq, e))| (u.as_str(), (*seq, e.as_str())))
            .collect();
        for note in item.seqs.iter().filter_map(|s| self.notes.get(s)).flatten() {
            match &note.what {
                What::Edit(text)
                    if note.sender == author && edit.is_none_or(|(seq, _)| note.seq > seq) =>
                {
                    edit = Some((note.seq, text));
                }
                What::Delete if note.sender == author => deleted = true,
                What::Reaction(emoji) => {
                    let of = reactions.entry(&note.sender).or_insert((0, ""));
                    if note.seq > of.0 {
                        *of = (note.seq, emoji);
                    }
                }
                _ => {}
            }
        }
        let original = match item.event.body.as_ref().and_then(|b| b.kind.as_ref()) {
            Some(Kind::Text(text)) => Some(text),
            _ => None,
        };
        let is_message = original.is_some();
        Message {
            event: &item.event,
            seq: item.event.seq,
            text: if deleted || !is_message {
                None
            } else {
                edit.map(|(_, t)| t).or(original)
            },
            edited: edit.is_some() && is_message,
            deleted: deleted && is_message,
            reactions: reactions
                .into_iter()
                .filter(|(_, (_, emoji))| !emoji.is_empty())
                .map(|(user, (_, emoji))| (user, emoji))
                .collect(),
        }
    }

    /// Group title; empty for one-to-one.
    pub fn title(&self) -> &str {
        &self.title.1
    }

    /// Whether its newest message comes from someone who is not a contact.
    pub(super) fn set_request(&mut self, request: bool) {
        self.request = request;
    }

    /// From someone who is not a contact (yet).
    pub fn is_request(&self) -> bool {
        self.request
    }

    /// Place and time (milliseconds since 1970) of the newest event that is not a receipt.
    pub fn newest(&self) -> (u64, i64) {
        (self.last_content, self.last_at_ms)
    }

    /// What is held completely.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Everything with `after < seq <= up_to` has been put in.
    pub fn holds(&mut self, after: u64, up_to: u64) {
        self.ranges.add(after, up_to);
    }
}

impl Item {
    /// Whether it counts as unread, as history counts.
    fn counts(&self) -> bool {
        matches!(
            self.event.body.as_ref().and_then(|b| b.kind.as_ref()),
            Some(Kind::Text(_) | Kind::Nudge(_))
        )
    }

    fn fold(&mut self, folded: Folded) {
        if let Some(text) = folded.edited
            && self
                .edited
                .as_ref()
                .is_none_or(|(seq, _)| folded.edited_seq > *seq)
        {
            self.edited = Some((folded.edited_seq, text));
        }
        self.deleted_seq = self.deleted_seq.max(folded.deleted_seq);
        for by in folded.reactions {
            let of = self.reactions.entry(by.user).or_default();
            if by.seq > of.0 {
                *of = (by.seq, by.emoji);
            }
        }
    }
}

impl Reach {
    fn has(&self, seq: u64) -> bool {
        self.delivered >= seq || self.exact.contains(&seq)
    }

    fn advance(&mut self, delivered: u64, exact: impl IntoIterator<Item = u64>, read: u64) -> bool {
        let before = (self.delivered, self.read, self.exact.len());
        self.read = self.read.max(read);
        self.delivered = self.delivered.max(delivered).max(self.read);
        self.exact
            .extend(exact.into_iter().filter(|s| *s > self.delivered));
        self.exact = self.exact.split_off(&(self.delivered + 1));
        before != (self.delivered, self.read, self.exact.len())
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
