//! What an event does to a conversation.

use prost::Message;
use tandem_kernel::{
    Address, Seq,
    event::{Edit, Event, Kind, Reaction, Text},
    group::changes_group,
};

use super::{
    conversation::{
        Conversation, CountAt, Incoming, Kept, Limits, MAX_EDITS, MAX_TEXTS, Slot, Work,
    },
    rows::{Edited, EventRow, Fold, Hidden, Listing, Reacted, Stay, UserCount},
};

/// Largest row that edits and reactions may make of a message, in bytes: half of what the store takes,
/// since the head holds a copy.
const MAX_ROW: usize = 512 * 1024;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has a row now.
    Stored,
    /// A receipt that moved a mark.
    Marked,
    /// It changes nothing: applied before, or a receipt that says nothing new.
    Nothing,
    /// It does not count at its place, for this reason.
    Void(&'static str),
}

impl Conversation {
    /// Applies an event. `work` holds what [`Conversation::needs`] named. Events at or below
    /// `head.applied_seq` change nothing.
    pub fn fold(&mut self, work: &mut Work, limits: &Limits, incoming: Incoming) -> Outcome {
        let Incoming {
            seq,
            at_ms,
            mut event,
            withheld_from,
        } = incoming;
        if seq <= self.head.applied_seq {
            return Outcome::Nothing;
        }
        let Some(kind) = event.body.as_ref().and_then(|b| b.kind.as_ref()) else {
            return Outcome::Void("an event without a body");
        };
        let refused = match &self.pair {
            Some(_) if changes_group(kind) => Some("not a group"),
            Some(_) if !self.is_member(&event.sender) => Some("not a member of the conversation"),
            Some(_) => None,
            None => self.fold_group(work, seq, at_ms, &event.sender, kind),
        };
        if let Some(reason) = refused {
            return Outcome::Void(reason);
        }
        if let Kind::Receipt(receipt) = kind {
            if !self.receive(work, &event.sender, receipt, &withheld_from) {
                return Outcome::Nothing;
            }
            self.head.applied_seq = seq;
            work.head_dirty = true;
            return Outcome::Marked;
        }
        let late = match fold_target(work, seq, &event.sender, kind, &withheld_from) {
            Ok(folded) => folded == Folded::TooLate,
            Err(reason) => return Outcome::Void(reason),
        };
        let counts = matches!(kind, Kind::Text(_) | Kind::Nudge(_));

        self.choose_bucket(work, limits, seq, at_ms);
        self.count(&event, seq, at_ms, counts, &withheld_from);
        if counts {
            self.author(work, &event.sender, seq);
        }
        self.list(work, &withheld_from);
        if self.pair.is_some() {
            if event.request {
                self.head.request_by.clone_from(&event.sender);
            } else if counts {
                self.head.request_by.clear();
            }
        }
        event.seq = seq;
        event.at_ms = at_ms;
        event.conversation = String::new();
        event.folded = None;
        let mut row = EventRow {
            event: Some(event),
            count: self.head.count,
            withheld_from,
            fold: None,
            hidden: self.hidden_counts(),
        };
        if late {
            blank(&mut row);
        }
        work.rows.insert(
            seq,
            Slot {
                bucket: self.head.bucket,
                row,
                dirty: true,
            },
        );
        work.head_dirty = true;
        Outcome::Stored
    }

    fn fold_group(
        &mut self,
        work: &mut Work,
        seq: u64,
        at_ms: i64,
        sender: &str,
        kind: &Kind,
    ) -> Option<&'static str> {
        let Ok(sender) = Address::parse(sender) else {
            return Some("the sender is not an address");
        };
        let change = match self.group.apply(Seq(seq), &sender, kind) {
            Ok(change) => change,
            Err(refusal) => return Some(refusal.reason),
        };
        if !changes_group(kind) {
            return None;
        }
        work.roster_dirty = true;
        self.head.title.clone_from(&self.group.title);
        for user in &change.joined {
            let joined_count = self.head.visible_count(user.as_str());
            let listing = work.listings.entry(user.as_str().to_owned()).or_default();
            listing.dirty |= listing.value.join(seq, joined_count);
        }
        for user in &change.left {
            let left = Stay {
                left: seq,
                left_count: self.head.visible_count(user.as_str()),
                left_message_seq: self.head.last_message_seq(user.as_str()),
                left_at_ms: at_ms,
                ..Stay::default()
            };
            let listing = work.listings.entry(user.as_str().to_owned()).or_default();
            listing.dirty |= listing.value.leave(&left);
        }
        None
    }

    fn choose_bucket(&mut self, work: &mut Work, limits: &Limits, seq: u64, at_ms: i64) {
        let head = &mut self.head;
        let full = head.bucket_events >= limits.bucket_events
            || at_ms.saturating_sub(head.bucket_began_ms) > limits.bucket_ms;
        if head.bucket == 0 || full {
            head.bucket = seq;
            head.bucket_events = 0;
            head.bucket_began_ms = at_ms;
            work.buckets.push((seq, at_ms));
        }
        head.bucket_events += 1;
    }

    /// Moves the head on by one event, for everybody and for those from whom something was withheld.
    fn count(
        &mut self,
        event: &Event,
        seq: u64,
        at_ms: i64,
        counts: bool,
        withheld_from: &[String],
    ) {
        let head = &mut self.head;
        for user in withheld_from {
            if *user == event.sender {
                continue;
            }
            let at = head.hidden.iter().position(|h| h.user == *user);
            let at = at.unwrap_or_else(|| {
                head.hidden.push(Hidden {
                    user: user.clone(),
                    count: 0,
                    last_seq: head.last_seq,
                    last_at_ms: head.last_at_ms,
                    last_message_seq: head.last_message_seq,
                });
                head.hidden.len() - 1
            });
            head.hidden[at].count += u64::from(counts);
        }
        for hidden in &mut head.hidden {
            if hidden.user == event.sender || !withheld_from.contains(&hidden.user) {
                hidden.last_seq = seq;
                hidden.last_at_ms = at_ms;
                if counts {
                    hidden.last_message_seq = seq;
                }
            }
        }
        head.applied_seq = seq;
        head.last_seq = seq;
        head.last_at_ms = at_ms;
        if counts {
            head.count += 1;
            head.last_message_seq = seq;
            let hidden = self.hidden_counts();
            self.recent.push_back(CountAt {
                seq,
                count: self.head.count,
                hidden,
            });
        }
    }

    pub(super) fn hidden_counts(&self) -> Vec<UserCount> {
        let count = |h: &Hidden| UserCount {
            user: h.user.clone(),
            count: h.count,
        };
        self.head
            .hidden
            .iter()
            .filter(|h| h.count > 0)
            .map(count)
            .collect()
    }

    /// A one-to-one conversation comes into a member's list with the first event that they may see.
    fn list(&mut self, work: &mut Work, withheld_from: &[String]) {
        let Some((a, b)) = &self.pair else { return };
        for (bit, user) in [(1, a), (2, b)] {
            let withheld = withheld_from.iter().any(|w| w == user.as_str());
            if self.head.listed & bit == 0 && !withheld {
                self.head.listed |= bit;
                let kept = Kept {
                    value: Listing::default(),
                    dirty: true,
                };
                work.listings.insert(user.as_str().to_owned(), kept);
            }
        }
    }
}

/// What an edit, a delete or a reaction came to.
#[derive(PartialEq, Eq)]
enum Folded {
    /// It shows in its target.
    In,
    /// It was admitted while its target was being deleted: it is kept like any other event, wordless, and shows
    /// nowhere.
    TooLate,
}

/// Folds an edit, a delete or a reaction into its target's row. Other kinds have none.
fn fold_target(
    work: &mut Work,
    seq: u64,
    sender: &str,
    kind: &Kind,
    withheld_from: &[String],
) -> Result<Folded, &'static str> {
    let (target, own) = match kind {
        Kind::Edit(e) => (e.target, true),
        Kind::Delete(d) => (d.target, true),
        Kind::Reaction(r) => (r.target, false),
        _ => return Ok(Folded::In),
    };
    let row = match work.rows.get_mut(&target) {
        Some(slot) if is_text(&slot.row) => slot,
        _ => return Err("no such message"),
    };
    if own && row.row.event.as_ref().is_none_or(|e| e.sender != sender) {
        return Err("not the author of the message");
    }
    let fold = row.row.fold.get_or_insert_default();
    if fold.deleted_seq != 0 && fold.deleted_seq < seq && !matches!(kind, Kind::Delete(_)) {
        return Ok(Folded::TooLate);
    }
    let size = match own_len(kind) {
        0 => 0,
        n => n + withheld_from.iter().map(String::len).sum::<usize>(),
    };
    if size > 0 && row.row.encoded_len() + size > MAX_ROW {
        return Err("too much was made of the message already");
    }
    let fold = row.row.fold.get_or_insert_default();
    row.dirty = true;
    match kind {
        Kind::Edit(edit) => fold_edit(fold, seq, edit, withheld_from)?,
        Kind::Reaction(reaction) => fold_reaction(fold, seq, sender, reaction, withheld_from),
        _ => {
            if fold.deleted_seq == 0 {
                fold.deleted_seq = seq;
            }
            fold.edits.clear();
            let edits = fold.edit_seqs.clone();
            blank(&mut row.row);
            for edit in edits {
                if let Some(slot) = work.rows.get_mut(&edit) {
                    blank(&mut slot.row);
                    slot.dirty = true;
                }
            }
        }
    }
    Ok(Folded::In)
}

/// Octets that an edit, delete or reaction adds to its target's row, about.
fn own_len(kind: &Kind) -> usize {
    match kind {
        Kind::Edit(edit) => edit.encoded_len(),
        Kind::Reaction(reaction) => reaction.encoded_len() + 512,
        _ => 0,
    }
}

fn is_text(row: &EventRow) -> bool {
    let body = row.event.as_ref().and_then(|e| e.body.as_ref());
    matches!(body.and_then(|b| b.kind.as_ref()), Some(Kind::Text(_)))
}

/// Takes the words out of a message or an edit.
fn blank(row: &mut EventRow) {
    match row
        .event
        .as_mut()
        .and_then(|e| e.body.as_mut())
        .and_then(|b| b.kind.as_mut())
    {
        Some(Kind::Text(text)) => *text = Text::default(),
        Some(Kind::Edit(edit)) => edit.text = None,
        _ => {}
    }
}

fn fold_edit(
    fold: &mut Fold,
    seq: u64,
    edit: &Edit,
    withheld_from: &[String],
) -> Result<(), &'static str> {
    if fold.edit_seqs.last().is_some_and(|last| *last >= seq) || fold.deleted_seq != 0 {
        return Ok(()); // written before a crash
    }
    if fold.edit_seqs.len() >= MAX_EDITS {
        return Err("edited too often");
    }
    if withheld_from.is_empty() {
        fold.edits.clear();
    }
    let edited = Edited {
        seq,
        text: edit.text.clone(),
        withheld_from: withheld_from.to_vec(),
    };
    // whoever sees neither this nor the last one sees one of those before
    fold.edits
        .retain(|e| e.withheld_from != edited.withheld_from);
    if fold.edits.len() >= MAX_TEXTS {
        fold.edits.remove(0);
    }
    fold.edits.push(edited);
    fold.edit_seqs.push(seq);
    Ok(())
}

fn fold_reaction(
    fold: &mut Fold,
    seq: u64,
    sender: &str,
    reaction: &Reaction,
    withheld_from: &[String],
) {
    let reacted = Reacted {
        user: sender.to_owned(),
        emoji: reaction.emoji.clone(),
        seq,
        withheld_from: withheld_from.to_vec(),
    };
    match fold.reactions.iter_mut().find(|r| r.user == sender) {
        Some(old) if old.seq >= seq => {} // written before a crash
        Some(old) => *old = reacted,
        None => fold.reactions.push(reacted),
    }
}

impl Listing {
    /// A stay begins; false if that is known.
    fn join(&mut self, seq: u64, joined_count: u64) -> bool {
        if self.stays.iter().any(|s| s.joined >= seq) {
            return false;
        }
        self.stays.push(Stay {
            joined: seq,
            joined_count,
            ..Stay::default()
        });
        true
    }

    /// The stay that lasts ends as `end` says; false if that is known.
    fn leave(&mut self, end: &Stay) -> bool {
        match self.stays.last_mut() {
            Some(stay) if stay.left == 0 && stay.joined < end.left => {
                stay.left = end.left;
                stay.left_count = end.left_count;
                stay.left_message_seq = end.left_message_seq;
                stay.left_at_ms = end.left_at_ms;
                true
            }
            _ => false,
        }
    }
}
