//! The record of a run: one [`Record`] a line, each a JSON object, in the order of their times.
//!
//! ```json
//! {"at":0,"what":{"begun":{"version":1,"by":"faults, seed 7"}}}
//! {"at":12,"who":{"user":"alice@x.test","device":"pc"},"what":{"device":{}}}
//! {"at":900,"who":{"user":"alice@x.test","device":"pc"},"what":{"submitted":{"id":"019a…","conversation":"o:alice@x.test,bob@x.test","ordinal":1,"kind":"text"}}}
//! ```
//!
//! One process records, by one monotonic clock that no fault touches. A field that is not known is
//! refused; fields that have a default may be left out.

use serde::{Deserialize, Serialize};

pub use crate::parts::{Excuse, Guarantee, How, Kind, Line, Status};

/// The version of the format that this crate reads and writes.
pub const VERSION: u32 = 1;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When, in microseconds of the recorder's monotonic clock. Never falls from one record to the next.
    pub at: u64,
    /// On which device; unset for what only the driver knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
    /// What.
    pub what: What,
}

/// A device of a person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// The person's address.
    pub user: String,
    /// The device's id, the person's own.
    pub device: String,
}

/// What happened. Each says whether it is a device's (`who` is set) or the driver's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    // -------------------------------------------------- the driver's
    /// The record begins. Must be the first.
    Begun {
        /// [`VERSION`].
        version: u32,
        /// What recorded it, for people.
        #[serde(default)]
        by: String,
    },
    /// Everything has been said and waited for. What follows only reads history back.
    Settled {},
    /// Two people are contacts by mutual consent, or are so no longer. Unless said, they are not.
    Contacts {
        /// One of them.
        a: String,
        /// The other.
        b: String,
        /// Whether they are.
        are: bool,
        /// When it was asked for: between then and `at` either may hold.
        since: u64,
    },
    /// `by` blocks `blocked`, or does so no longer.
    Block {
        /// Who blocks.
        by: String,
        /// Who is blocked.
        blocked: String,
        /// Whether it is so.
        is: bool,
        /// When it was asked for: between then and `at` either may hold.
        since: u64,
    },
    /// A group that there was before the record began. Later changes are events.
    Group {
        /// Conversation id.
        conversation: String,
        /// Its owner.
        owner: String,
        /// Its members, with or without the owner.
        members: Vec<String>,
    },
    /// A service, an engine or a link is stopped, cut or slowed down from now on.
    FaultBegan {
        /// Names it; each fault its own.
        fault: u64,
        /// What is done to what, for people.
        kind: String,
        /// What it may delay. Nothing else is excused by it, and a loss never is.
        excuses: Vec<Excuse>,
    },
    /// All is as it was before the fault.
    FaultEnded {
        /// Which.
        fault: u64,
    },
    /// The push gateway got a notification for the device `who`.
    Notified {
        /// Conversation id.
        conversation: String,
        /// Place of the event that it tells of; 0: not known to the gateway.
        #[serde(default)]
        seq: u64,
    },

    // -------------------------------------------------- a device
    /// The device exists from now on.
    Device {
        /// False: it only sends, and confirms and shows nothing.
        #[serde(default = "yes")]
        listens: bool,
    },
    /// Its push token was set (answered), or is being removed (asked).
    PushToken {
        /// Whether there is one.
        is: bool,
    },
    /// The device has forgotten all that it held (it was set up anew): its screen is empty.
    Emptied {},
    /// It sends `Hello`.
    Connecting {
        /// The status it starts with.
        #[serde(default)]
        status: Status,
    },
    /// `Welcome` came.
    Welcome {
        /// Session id.
        session: String,
        /// The broken session goes on, and no sync follows.
        #[serde(default)]
        resumed: bool,
    },
    /// `Synced` came.
    Synced {},
    /// Heads came that it had not asked for: it is not synced until the next `Synced`.
    Resyncing {},
    /// The connection was lost, whoever ended it; or could not be made.
    Lost {
        /// When the edge was last heard, if that is long ago; else `at` counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heard: Option<u64>,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The device ends the session with `Bye`.
    Closed {},

    // -------------------------------------------------- what it sends
    /// The person sends an event; or the device submits it again.
    Submitted {
        /// Event id.
        id: String,
        /// Conversation id.
        conversation: String,
        /// Rises with each event of this device; a resend has that of the first time. If it was refused in
        /// between (`rejected`), the resend has a new one, and the event may stand anywhere between the two.
        ordinal: u64,
        /// What it is.
        kind: Kind,
    },
    /// `Accepted` came.
    Accepted {
        /// Event id.
        id: String,
        /// The place that the device was told.
        seq: u64,
    },
    /// `Rejected` came.
    Rejected {
        /// Event id.
        id: String,
        /// Error code.
        code: String,
        /// The device will submit the same event again (`retry_after_ms` was set).
        #[serde(default)]
        again: bool,
    },
    /// It sends `Received` or `Read`.
    Confirmed {
        /// Conversation id.
        conversation: String,
        /// Everything up to here is on the device; 0: nothing said.
        #[serde(default)]
        delivered: u64,
        /// These are on the device.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exact: Vec<u64>,
        /// The person has seen everything up to here; 0: nothing said.
        #[serde(default)]
        read: u64,
    },
    /// The person sets a status. Also what the device says again after each connection, if it does.
    PresenceSet {
        /// Status.
        status: Status,
        /// Personal message.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },

    // -------------------------------------------------- what it is told
    /// A copy of an event, not a receipt, reached the device: each one, also one that it knows again and
    /// drops.
    Seen {
        /// Conversation id.
        conversation: String,
        /// Place of this copy.
        seq: u64,
        /// Event id.
        id: String,
        /// Who made it.
        author: String,
        /// How it came.
        how: How,
        /// Whether it was put before the person as something new; false: dropped as a copy.
        #[serde(default = "yes")]
        shown: bool,
    },
    /// How far somebody has a conversation, as told to an author: by a live event or by a head.
    Receipt {
        /// Conversation id.
        conversation: String,
        /// Whose receipt.
        by: String,
        /// Delivered up to here.
        #[serde(default)]
        delivered: u64,
        /// Delivered single events.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exact: Vec<u64>,
        /// Read up to here.
        #[serde(default)]
        read: u64,
        /// How it came.
        how: How,
    },
    /// The status of a contact.
    Presence {
        /// Whose.
        of: String,
        /// The status.
        status: Status,
        /// Personal message.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
        /// Its version; 0: offline, as answered when asked for.
        #[serde(default)]
        version: u64,
        /// False: dropped by the device, as it has a newer one.
        #[serde(default = "yes")]
        shown: bool,
    },
    /// All that the device shows of a conversation, in the order on the screen: messages, nudges and
    /// changes of the group. The last one for a conversation counts.
    Screen {
        /// Conversation id.
        conversation: String,
        /// From the top down.
        lines: Vec<Line>,
    },
    /// A part of a conversation as history gives it to this person, read back from one end to the other.
    History {
        /// Conversation id.
        conversation: String,
        /// When the first request of this reading was sent.
        since: u64,
        /// The events of this page, receipts left out.
        lines: Vec<Line>,
        /// The last page: with the ones before it, since the last complete reading, it is all there is.
        complete: bool,
    },
}

fn yes() -> bool {
    true
}

impl Record {
    /// Something that happened on a device.
    pub fn of(at: u64, user: &str, device: &str, what: What) -> Self {
        let who = Who {
            user: user.to_owned(),
            device: device.to_owned(),
        };
        Self {
            at,
            who: Some(who),
            what,
        }
    }

    /// Something that the driver knows.
    pub fn fact(at: u64, what: What) -> Self {
        Self {
            at,
            who: None,
            what,
        }
    }
}
