//! The edge: holds devices' connections and sessions, carries their events to routing, and what routing
//! and presence have for them back.
//!
//! Owns: the client protocol's three carriers, sessions, limits, resume, backpressure, drain, and the
//! receipts that devices' confirmations become. Keeps nothing that outlives a connection by more than the
//! time for a resume.
//!
//! Invariants:
//! - the sender of an event is who the session's token says, whatever the device sends;
//! - what one device sends to one conversation reaches routing in that order;
//! - a session sees a conversation's events live in rising seq;
//! - a session is registered before the end offsets of its sync are taken;
//! - a device is told `Synced` only after history has passed those offsets.

pub mod config;
pub mod connection;
pub mod domain;
pub mod edge;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod grpc;
pub mod http;
mod keys;
pub mod mailbox;
pub mod metrics;
pub mod ports;
pub mod server;
pub mod usecase;
pub mod wire;

pub use config::{Config, IssuerConfig};
pub use error::Error;
pub use keys::HttpKeys;
pub use ports::{Issuer, JwkSet, KeySource};
pub use server::{Deps, Served, serve};
