//! Decisions of push: synchronous, pure, fed by the consumer.

pub mod backoff;
pub mod groups;
pub mod item;
pub mod notification;
pub mod partition;
pub mod seen;
pub mod window;
