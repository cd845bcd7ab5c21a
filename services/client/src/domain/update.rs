//! What a device's core tells.

use std::time::Duration;

use tandem_kernel::event::{Body, Event};
use tandem_proto::client::{Contact, Presence, Problem};

/// What a device fetches by itself when it syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Nothing. Nothing is confirmed either: for a program that only sends, so that nobody takes for
    /// delivered what no person has.
    None,
    /// Everything that it lacks.
    All,
    /// The newest page of at most this many events of each conversation; the rest on scroll.
    Newest(u32),
}

/// What the person, or a script, is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The session is open.
    Connected {
        /// The subscriber's address.
        user: String,
        /// It is the broken session, going on.
        resumed: bool,
    },
    /// The connection broke, or could not be made; it is tried again.
    Disconnected {
        /// Why.
        reason: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// Everything accepted before the session began is known (or, with [`Pages::Newest`], its heads).
    Synced,
    /// An event that this device had not seen, once for each.
    Event {
        /// The event.
        event: Event,
        /// It came by itself; otherwise it was fetched.
        live: bool,
    },
    /// An event of this device is in the log.
    Accepted {
        /// Its id.
        event_id: String,
        /// Its conversation.
        conversation: String,
        /// Its place.
        seq: u64,
    },
    /// An event of this device was refused for good.
    Rejected {
        /// Its id.
        event_id: String,
        /// Why: code and text.
        problem: Problem,
        /// What was refused.
        body: Body,
        /// Where it was meant to go.
        conversation: String,
    },
    /// Title, unread count or marks of a conversation changed.
    Conversation(String),
    /// A contact's availability.
    Presence(Presence),
    /// Somebody types, or ceased to.
    Typing {
        /// Where.
        conversation: String,
        /// Who.
        user: String,
        /// Whether they do.
        active: bool,
    },
    /// A relation changed.
    Contact(Contact),
    /// The edge says that something went wrong.
    Problem(Problem),
    /// The session has ended and is not opened again.
    Closed {
        /// Why.
        code: String,
        /// For people.
        message: String,
    },
}
