//! A conversation's state, and the work that a group of events makes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tandem_kernel::{
    Address, ConversationId, Seq,
    event::{Event, Kind, Role},
    group::{Group, Member},
};

use super::rows::{EventRow, Head, Listing, Mark, Roster, RosterMember, UserCount, visible};

/// Most marks that a head holds. Above that, marks are rows of their own, so that a large group's
/// head stays small.
pub const HEAD_MARKS: usize = 8;

/// Messages whose running count is remembered, so that a receipt seldom asks the store.
const RECENT: usize = 8;

/// Most edits of a message.
pub const MAX_EDITS: usize = 1_000;

/// Most texts of a message that are kept for people who do not see the later ones.
pub const MAX_TEXTS: usize = 8;

/// Bounds of what is stored.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most events in a bucket.
    pub bucket_events: u64,
    /// Longest span of a bucket, milliseconds.
    pub bucket_ms: i64,
    /// How long events are kept, milliseconds; 0: for ever.
    pub retention_ms: i64,
}

/// An event as it comes from the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Its place.
    pub seq: u64,
    /// When the log took it, milliseconds since 1970.
    pub at_ms: i64,
    /// The event.
    pub event: Event,
    /// Members to whom it is not shown.
    pub withheld_from: Vec<String>,
}

impl Incoming {
    pub(crate) fn kind(&self) -> Option<&Kind> {
        self.event.body.as_ref()?.kind.as_ref()
    }
}

/// The running count at a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountAt {
    /// Seq of the message.
    pub seq: u64,
    /// Messages up to and including it.
    pub count: u64,
    /// Of these, how many are withheld from whom.
    pub hidden: Vec<UserCount>,
}

impl CountAt {
    pub(crate) fn visible(&self, user: &str) -> u64 {
        visible(self.count, &self.hidden, user)
    }
}

/// A conversation's state after the events up to `head.applied_seq`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// What its head's row holds.
    pub head: Head,
    /// Its members, if it is a group.
    pub group: Group,
    /// The bucket in which its head lies in the store; 0: nowhere yet.
    pub durable_bucket: u64,
    /// Its two members, if it is not a group.
    pub(super) pair: Option<(Address, Address)>,
    /// The newest messages, without a gap up to the last one. Never empty.
    pub(super) recent: VecDeque<CountAt>,
}

/// A value that was loaded, and whether it is to be written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kept<T> {
    /// The value as it is by now.
    pub value: T,
    /// It differs from the store's.
    pub dirty: bool,
}

/// An event's row and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Its bucket.
    pub bucket: u64,
    /// The row.
    pub row: EventRow,
    /// It differs from the store's.
    pub dirty: bool,
}

/// What must be loaded before a group of events can be folded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Rows by seq.
    pub rows: BTreeSet<u64>,
    /// Listings of these users.
    pub listings: BTreeSet<String>,
    /// Marks of these users, from their own rows.
    pub marks: BTreeSet<String>,
    /// The running count at the last event with a seq up to these.
    pub counts: BTreeSet<u64>,
    /// There are deletes: see [`Conversation::needs_of_deletes`].
    pub deletes: bool,
}

/// What was loaded for a group of events, and what they made of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Work {
    /// Events' rows by seq: loaded and new.
    pub rows: BTreeMap<u64, Slot>,
    /// Listings by user.
    pub listings: BTreeMap<String, Kept<Listing>>,
    /// Marks that the head has no room for, by user.
    pub marks: BTreeMap<String, Kept<Mark>>,
    /// Running counts by the seq that was asked for.
    pub counts: BTreeMap<u64, CountAt>,
    /// Buckets that were begun: id and time of the first event.
    pub buckets: Vec<(u64, i64)>,
    /// The head is to be written.
    pub head_dirty: bool,
    /// The roster is to be written.
    pub roster_dirty: bool,
}

impl Conversation {
    /// The conversation `id` as the store has it; `head` and `roster` are empty if it has none.
    pub fn new(id: &ConversationId, head: Head, roster: Roster) -> Self {
        let members = roster.members.into_iter().filter_map(|m| {
            let role = Role::try_from(m.role).unwrap_or(Role::Member);
            Some((
                Address::parse(&m.user).ok()?,
                Member {
                    role,
                    joined: Seq(m.joined),
                },
            ))
        });
        let group = Group {
            title: head.title.clone(),
            members: members.collect(),
            as_of: Seq(head.applied_seq),
        };
        let durable_bucket = head.bucket;
        let mut new = Self {
            head,
            group,
            durable_bucket,
            pair: id.pair(),
            recent: VecDeque::new(),
        };
        // so that the count at any seq from here on is known
        new.recent.push_back(CountAt {
            seq: new.head.last_message_seq,
            count: new.head.count,
            hidden: new.hidden_counts(),
        });
        new
    }

    /// The members of the group, as they are to be stored.
    pub fn roster(&self) -> Roster {
        let member = |(a, m): (&Address, &Member)| RosterMember {
            user: a.as_str().to_owned(),
            role: m.role.into(),
            joined: m.joined.0,
        };
        Roster {
            members: self.group.members.iter().map(member).collect(),
        }
    }

    /// What folding `events` needs from the store.
    pub fn needs(&self, events: &[Incoming]) -> Needs {
        let mut needs = Needs::default();
        for incoming in events {
            if incoming.seq <= self.head.applied_seq {
                continue;
            }
            let Some(kind) = incoming.kind() else {
                continue;
            };
            let sender = &incoming.event.sender;
            let in_head = self.head.marks.iter().find(|m| m.user == *sender);
            if self.head.spilled && in_head.is_none() {
                needs.marks.insert(sender.clone());
            }
            match kind {
                Kind::Receipt(r) => {
                    let read = r.read.min(self.head.last_seq);
                    let known = self.recent.front().is_some_and(|f| f.seq <= read)
                        || in_head.is_some_and(|m| m.read >= read);
                    if !known {
                        needs.counts.insert(read);
                    }
                }
                Kind::Edit(e) => self.need_row(e.target, &mut needs),
                Kind::Delete(d) => {
                    needs.deletes = true;
                    self.need_row(d.target, &mut needs);
                }
                Kind::Reaction(r) => self.need_row(r.target, &mut needs),
                Kind::MembersAdd(a) => needs.listings.extend(a.members.iter().cloned()),
                Kind::MemberRemove(r) => {
                    needs.listings.insert(r.member.clone());
                }
                Kind::MemberLeave(_) => {
                    needs.listings.insert(sender.clone());
                }
                _ => {}
            }
        }
        needs
    }

    fn need_row(&self, target: u64, needs: &mut Needs) {
        let in_head = self.message_in_head().is_some_and(|m| m.seq() == target);
        if target > 0 && target <= self.head.last_seq && !in_head {
            needs.rows.insert(target);
        }
    }

    /// The head's copy of the newest message, if its row lies in the same bucket: the copy is as new
    /// as the row, then, since one batch writes both.
    fn message_in_head(&self) -> Option<&EventRow> {
        self.head
            .last_message
            .as_ref()
            .filter(|m| m.seq() >= self.head.bucket)
    }

    /// The rows that a delete among `events` needs as well, once `work` has their targets: those of
    /// the targets' edits.
    pub fn needs_of_deletes(&self, events: &[Incoming], work: &Work) -> BTreeSet<u64> {
        let mut out = BTreeSet::new();
        for incoming in events {
            let Some(Kind::Delete(delete)) = incoming.kind() else {
                continue;
            };
            let stored = work.rows.get(&delete.target).map(|s| &s.row);
            let head = self.message_in_head().filter(|m| m.seq() == delete.target);
            if let Some(fold) = stored.or(head).and_then(|row| row.fold.as_ref()) {
                out.extend(fold.edit_seqs.iter().filter(|s| !work.rows.contains_key(s)));
            }
        }
        out
    }

    /// Puts what the head knows beside what was loaded. Once, before the first fold of a group.
    pub fn begin(&self, events: &[Incoming], work: &mut Work) {
        let Some(message) = self.message_in_head() else {
            return;
        };
        let seq = message.seq();
        let targets = |i: &Incoming| match i.kind() {
            Some(Kind::Edit(e)) => e.target == seq,
            Some(Kind::Delete(d)) => d.target == seq,
            Some(Kind::Reaction(r)) => r.target == seq,
            _ => false,
        };
        if events.iter().any(targets) {
            let bucket = self.head.bucket;
            work.rows.entry(seq).or_insert_with(|| Slot {
                bucket,
                row: message.clone(),
                dirty: false,
            });
        }
    }

    /// Ends a group of events: once the rows are encoded, the newest message's goes into the head.
    /// With a bound on how long events are kept it does not: a head is kept for ever.
    pub fn end(&mut self, work: &mut Work, limits: &Limits) {
        let newest = self.head.last_message_seq;
        if limits.retention_ms != 0 {
            self.head.last_message = None;
        } else if work.rows.get(&newest).is_some_and(|s| s.dirty)
            && let Some(slot) = work.rows.remove(&newest)
        {
            self.head.last_message = Some(slot.row);
        }
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Whether `user` is a member now.
    pub fn is_member(&self, user: &str) -> bool {
        match &self.pair {
            Some((a, b)) => a.as_str() == user || b.as_str() == user,
            None => self.group.members.contains_key(user),
        }
    }
}
