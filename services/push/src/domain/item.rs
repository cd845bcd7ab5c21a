//! A record of the conversations topic as push sees it.

use tandem_kernel::{
    Address, ConversationId, EventId, Seq, UnixMillis,
    event::{Kind, Receipt},
};

/// A record, and the event in it if push has to do with it.
#[derive(Debug, Clone)]
pub struct Item {
    /// Offset of the record.
    pub offset: u64,
    /// When the log took it.
    pub at: UnixMillis,
    /// The event; `None`: nothing to do.
    pub event: Option<Event>,
}

/// An event that push has to do with.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place in the conversation.
    pub seq: Seq,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Who made it.
    pub sender: Address,
    /// What it says.
    pub what: What,
}

/// What an event says, as far as push cares.
#[derive(Debug, Clone)]
pub enum What {
    /// Something to be notified of.
    Ring {
        /// The sender's id of the event.
        id: EventId,
        /// Text, or a nudge without one.
        text: Option<String>,
        /// To whom no service shows it.
        withheld: Vec<String>,
        /// From someone who is not a contact.
        request: bool,
        /// W3C traceparent; empty when not sampled.
        traceparent: String,
    },
    /// How far a person's devices have the conversation.
    Receipt(Receipt),
    /// A change of a group.
    Group {
        /// The sender's id of the event.
        id: EventId,
        /// The change.
        kind: Kind,
    },
}
