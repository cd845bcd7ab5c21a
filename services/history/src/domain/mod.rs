//! Decisions, pure and synchronous: what an event does to a conversation, what a person may see of it.

pub mod barrier;
pub mod conversation;
pub mod fold;
mod marks;
pub mod recent;
pub mod rows;
pub mod view;
