//! Push: notifications for devices that nobody reached.
//!
//! Reads the conversations topic as group `push`. Owns the topics `push.dead` (notifications that were
//! given up, without their text) and `push.parked` (records that could not be read). Keeps no state
//! but its place in the log.
//!
//! - An event that no device of a recipient confirmed within the window is notified: at once if they
//!   have no session. The group's place stays behind whatever is undecided, or is not delivered or durably
//!   given up yet, so a crash means another notification of the same tag, never a missing one.
//! - What lies below the group's place is never notified again.
//! - Withdrawals are best effort.

mod config;
mod consumer;
pub mod domain;
mod error;
mod grpc;
mod metrics;
pub mod ports;
mod server;
mod usecase;
pub mod web_push;

pub use crate::{
    config::Config,
    error::Error,
    grpc::PushService,
    server::{Deps, Served, ensure, serve},
    web_push::vapid::VapidKey,
};
