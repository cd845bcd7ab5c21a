//! The rows as they lie in the store: protobuf messages, defined here because no one else reads them.
//! A field's number never changes its meaning.

use prost::Message;
use tandem_kernel::event::{Event, Text};

/// One event of a conversation, and what later events made of it.
#[derive(Clone, PartialEq, Message)]
pub struct EventRow {
    /// The event; its conversation is left out (the row's key names it) and `folded` is unset.
    #[prost(message, optional, tag = "1")]
    pub event: Option<Event>,
    /// Messages of the conversation up to and including this event.
    #[prost(uint64, tag = "2")]
    pub count: u64,
    /// Members to whom it is not shown.
    #[prost(string, repeated, tag = "3")]
    pub withheld_from: Vec<String>,
    /// What later events made of it.
    #[prost(message, optional, tag = "4")]
    pub fold: Option<Fold>,
    /// Of `count`, how many are withheld from whom.
    #[prost(message, repeated, tag = "5")]
    pub hidden: Vec<UserCount>,
}

/// A number of messages for a user.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UserCount {
    /// Address.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Messages.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// What edits, deletes and reactions made of a message.
#[derive(Clone, PartialEq, Message)]
pub struct Fold {
    /// Texts that the message took, rising in seq. Only the last, and those before it that somebody
    /// sees who does not see the last.
    #[prost(message, repeated, tag = "1")]
    pub edits: Vec<Edited>,
    /// Seq of the delete; 0: not deleted.
    #[prost(uint64, tag = "2")]
    pub deleted_seq: u64,
    /// One for each person who ever reacted; an empty emoji: taken back.
    #[prost(message, repeated, tag = "3")]
    pub reactions: Vec<Reacted>,
    /// Seqs of all edits, whose rows hold text as well.
    #[prost(uint64, repeated, tag = "4")]
    pub edit_seqs: Vec<u64>,
}

/// One edit.
#[derive(Clone, PartialEq, Message)]
pub struct Edited {
    /// Seq of the edit.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// New text.
    #[prost(message, optional, tag = "2")]
    pub text: Option<Text>,
    /// Members who do not see it.
    #[prost(string, repeated, tag = "3")]
    pub withheld_from: Vec<String>,
}

/// One person's reaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Reacted {
    /// Address.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The emoji; empty: taken back.
    #[prost(string, tag = "2")]
    pub emoji: String,
    /// Seq of the reaction.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    /// Members who do not see it.
    #[prost(string, repeated, tag = "4")]
    pub withheld_from: Vec<String>,
}

/// A conversation at a glance, for all its members.
#[derive(Clone, PartialEq, Message)]
pub struct Head {
    /// Seq of the last event applied, receipts included.
    #[prost(uint64, tag = "1")]
    pub applied_seq: u64,
    /// Seq of the newest event that has a row.
    #[prost(uint64, tag = "2")]
    pub last_seq: u64,
    /// When the log took it, milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub last_at_ms: i64,
    /// Messages so far.
    #[prost(uint64, tag = "4")]
    pub count: u64,
    /// The row of the newest message, folded.
    #[prost(message, optional, tag = "5")]
    pub last_message: Option<EventRow>,
    /// Seq of the newest message; 0: none.
    #[prost(uint64, tag = "6")]
    pub last_message_seq: u64,
    /// The bucket that new events go to: the seq of its first event.
    #[prost(uint64, tag = "7")]
    pub bucket: u64,
    /// Events in it.
    #[prost(uint64, tag = "8")]
    pub bucket_events: u64,
    /// Time of its first event, milliseconds since 1970.
    #[prost(int64, tag = "9")]
    pub bucket_began_ms: i64,
    /// Bucket in which an old head lies that is to be removed; 0: none.
    #[prost(uint64, tag = "10")]
    pub retired: u64,
    /// Marks, at most [`super::conversation::HEAD_MARKS`]; those of other members are rows of their own.
    #[prost(message, repeated, tag = "11")]
    pub marks: Vec<Mark>,
    /// Some marks are rows of their own.
    #[prost(bool, tag = "12")]
    pub spilled: bool,
    /// Members from whom something was withheld.
    #[prost(message, repeated, tag = "13")]
    pub hidden: Vec<Hidden>,
    /// Group's title.
    #[prost(string, tag = "14")]
    pub title: String,
    /// Who asks to be accepted in this one-to-one conversation; empty: nobody.
    #[prost(string, tag = "15")]
    pub request_by: String,
    /// Which of the two members (bits 1 and 2, in the order of the id) have it in their list.
    #[prost(uint32, tag = "16")]
    pub listed: u32,
}

/// How far a member has a conversation.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Mark {
    /// Address.
    #[prost(string, tag = "1")]
    pub user: String,
    /// On a device of theirs up to this seq.
    #[prost(uint64, tag = "2")]
    pub delivered: u64,
    /// Read up to this seq.
    #[prost(uint64, tag = "3")]
    pub read: u64,
    /// Messages visible to them up to there.
    #[prost(uint64, tag = "4")]
    pub read_count: u64,
    /// Seq of their own last message.
    #[prost(uint64, tag = "5")]
    pub sent: u64,
    /// Messages visible to them up to there.
    #[prost(uint64, tag = "6")]
    pub sent_count: u64,
    /// Who sees less of it: the last receipts were withheld from them.
    #[prost(message, repeated, tag = "7")]
    pub frozen: Vec<Frozen>,
}

/// What a member sees of another's mark whose receipts are withheld.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Frozen {
    /// Who sees no more than this.
    #[prost(string, tag = "1")]
    pub viewer: String,
    /// Delivered, as they see it.
    #[prost(uint64, tag = "2")]
    pub delivered: u64,
    /// Read, as they see it.
    #[prost(uint64, tag = "3")]
    pub read: u64,
}

/// A member from whom something was withheld: what the head says of the conversation is not true for them.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hidden {
    /// Address.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Messages withheld so far.
    #[prost(uint64, tag = "2")]
    pub count: u64,
    /// Seq of the newest event that they see.
    #[prost(uint64, tag = "3")]
    pub last_seq: u64,
    /// Its time, milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub last_at_ms: i64,
    /// Seq of the newest message that they see; 0: none.
    #[prost(uint64, tag = "5")]
    pub last_message_seq: u64,
}

/// A group's members, as of the head beside it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Roster {
    /// Members, by address.
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<RosterMember>,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RosterMember {
    /// Address.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Role, as in `tandem.client.v1.Role`.
    #[prost(int32, tag = "2")]
    pub role: i32,
    /// Seq of the event that made them a member.
    #[prost(uint64, tag = "3")]
    pub joined: u64,
}

/// Where a conversation's head lies.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Pointer {
    /// The current bucket.
    #[prost(uint64, tag = "1")]
    pub bucket: u64,
    /// The bucket in which the head lies if the current one has none yet; 0: nowhere.
    #[prost(uint64, tag = "2")]
    pub before: u64,
}

/// A conversation in a user's list.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Listing {
    /// A group's: when the user was a member, rising. Empty: always (one-to-one).
    #[prost(message, repeated, tag = "1")]
    pub stays: Vec<Stay>,
}

/// A time during which a user was a member of a group.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stay {
    /// Seq of the event that began it.
    #[prost(uint64, tag = "1")]
    pub joined: u64,
    /// Messages that the user would have seen before it.
    #[prost(uint64, tag = "2")]
    pub joined_count: u64,
    /// Seq of the event that ended it; 0: it lasts.
    #[prost(uint64, tag = "3")]
    pub left: u64,
    /// Messages, as `joined_count`, at its end.
    #[prost(uint64, tag = "4")]
    pub left_count: u64,
    /// Seq of the newest message that the user saw then; 0: none.
    #[prost(uint64, tag = "5")]
    pub left_message_seq: u64,
    /// Time of the end, milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub left_at_ms: i64,
}

impl EventRow {
    /// Seq of the event.
    pub fn seq(&self) -> u64 {
        self.event.as_ref().map_or(0, |e| e.seq)
    }

    /// Of the messages up to this event, those that `user` may see.
    pub fn visible_count(&self, user: &str) -> u64 {
        visible(self.count, &self.hidden, user)
    }
}

/// Of `count` messages those that are not withheld from `user`.
pub(crate) fn visible(count: u64, hidden: &[UserCount], user: &str) -> u64 {
    let withheld = hidden
        .iter()
        .find(|h| h.user == user)
        .map_or(0, |h| h.count);
    count.saturating_sub(withheld)
}

impl Head {
    /// What is otherwise for `user` because something was withheld from them.
    pub fn hidden(&self, user: &str) -> Option<&Hidden> {
        // nearly always there are none
        self.hidden.iter().find(|h| h.user == user)
    }

    /// Messages so far that `user` may see.
    pub fn visible_count(&self, user: &str) -> u64 {
        self.count
            .saturating_sub(self.hidden(user).map_or(0, |h| h.count))
    }

    /// Seq of the newest message that `user` may see.
    pub fn last_message_seq(&self, user: &str) -> u64 {
        self.hidden(user)
            .map_or(self.last_message_seq, |h| h.last_message_seq)
    }
}
