//! Decisions about subscribers, synchronous and pure.

pub mod phone;
pub mod profile;
pub mod relation;
pub mod token;
