//! routing admits events to the log, keeps the directory of conversations and their members, and
//! delivers what the log holds to the sessions that are online.
//!
//! Owns the topic `conversations.g<N>` (appends, and reads it as the group `routing`), the topic
//! `routing.parked` and the table `directory`. What holds:
//!
//! - an event is answered `Accepted` only once the log has it, and one that may be in the log is
//!   never answered `Rejected`;
//! - events of one conversation from one submit stream stand in the log in the order in which they came;
//! - a partition's place is committed only when every event below it is in its sessions' queues or
//!   those sessions are flagged for resync.

pub mod config;
pub mod domain;
pub mod error;
pub mod server;

mod consumer;
mod edges;
mod grpc;
mod metrics;
mod usecase;

pub use config::Config;
pub use error::Error;
pub use server::{Deps, Served, ensure, serve};
