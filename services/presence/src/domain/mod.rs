//! Decisions about who sees what, synchronous and pure.

pub mod parcel;
pub mod relations;
pub mod view;
