//! The parts of a record.

use serde::{Deserialize, Serialize};

/// An event on a screen or in a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Its place.
    pub seq: u64,
    /// Event id.
    pub id: String,
    /// Who made it.
    pub author: String,
}

/// What an event is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// A message.
    Text,
    /// Asks for attention.
    Nudge,
    /// Another text for a message.
    Edit,
    /// Takes a message back.
    Delete,
    /// An emoji to a message.
    Reaction,
    /// A group's title.
    Title,
    /// The group begins.
    Create {
        /// The members, with or without the author.
        members: Vec<String>,
    },
    /// Members join.
    Add {
        /// Who.
        members: Vec<String>,
    },
    /// A member is removed.
    Remove {
        /// Who.
        member: String,
    },
    /// The author leaves.
    Leave,
    /// A member becomes admin, owner, or a plain member again.
    Role {
        /// Who.
        member: String,
        /// "member", "admin" or "owner".
        role: String,
    },
}

/// How something reached a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// By itself, in the open session.
    Live,
    /// In a head, or in a page that the device fetched to sync.
    Sync,
    /// In a page that the person asked for.
    Page,
}

/// How available a person is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Online.
    #[default]
    Online,
    /// Busy.
    Busy,
    /// On the phone.
    OnThePhone,
    /// Be right back.
    BeRightBack,
    /// Out to lunch.
    OutToLunch,
    /// Away.
    Away,
    /// Set by a person whom others are to see offline.
    AppearOffline,
    /// Offline; never set by a person.
    Offline,
}

/// A guarantee of architecture.md, section 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Guarantee {
    /// An accepted event reaches every device of every member, and in time.
    G1,
    /// Nobody sees an event twice.
    G2,
    /// One order for all, and in it each device's sending order.
    G3,
    /// What was delivered is in history.
    G4,
    /// What no device confirmed is notified.
    G5,
    /// Presence is right, and in time.
    G6,
    /// A blocked or unconsented sender learns nothing.
    G9,
}

/// What a fault may delay: the clause "its services being up" of a guarantee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excuse {
    /// Which.
    pub guarantee: Guarantee,
    /// How long after the fault's end it still holds, in microseconds (until a dead reader's partitions are
    /// taken over, until connections are open again).
    #[serde(default)]
    pub recovery_us: u64,
    /// It holds no longer than this from the fault's beginning, in microseconds (a killed edge's lease
    /// lapses, whether the edge comes back or not).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_us: Option<u64>,
}
