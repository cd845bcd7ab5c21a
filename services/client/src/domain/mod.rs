//! The client's decisions, without I/O: what a device holds of each conversation, what it has yet to
//! send, and what it answers to each frame. The same for any carrier, and for simulation.

pub mod conversation;
pub mod core;
pub mod outbox;
pub mod ranges;
pub mod update;

pub use self::core::Core;
pub use conversation::{Conversation, Inserted, Message};
pub use outbox::{Outbox, Pending};
pub use ranges::Ranges;
pub use update::{Pages, Update};
