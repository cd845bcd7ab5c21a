//! What every part of Tandem agrees on: ids, addresses, places in the log, the event envelope,
//! groups as events make them, error codes and the clock. No I/O, no async.

pub mod address;
pub mod clock;
pub mod code;
pub mod conversation;
pub mod group;
pub mod ids;
pub mod pulse;
pub mod seq;

/// The event envelope and the messages in it, as they stand in the log and on the wire.
pub mod event {
    pub use tandem_proto::client::{
        Body, Delete, Edit, Event, Folded, GroupCreate, Member, MemberLeave, MemberRemove,
        MembersAdd, Nudge, Reaction, ReactionBy, Receipt, Role, RoleSet, Text, TitleSet,
        body::Kind,
    };
    pub use tandem_proto::event::{AccountChange, Envelope, PairChange, Parked};
}

pub use address::{Address, AddressError};
pub use clock::{Clock, UnixMillis};
pub use code::Code;
pub use conversation::{ConversationError, ConversationId};
pub use ids::{DeviceId, EdgeId, EventId, IdError, SessionId};
pub use pulse::Pulse;
pub use seq::{Place, Seq};

/// The log's topic of conversations' events in the given generation.
pub fn conversations_topic(generation: u16) -> String {
    format!("conversations.g{generation}")
}

/// The compacted topic of account changes; key: the user's address.
pub const ACCOUNTS_TOPIC: &str = "accounts";

/// Topic of notifications that were given up.
pub const PUSH_DEAD_TOPIC: &str = "push.dead";

/// Topic of records that a service could not read.
pub fn parked_topic(service: &str) -> String {
    format!("{service}.parked")
}
