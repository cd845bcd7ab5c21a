//! Who is online where and as what, and who may see it.
//!
//! Owns no state of its own: sessions and statuses are in the ephemeral store, relations are
//! accounts'. Reader group on the topic `accounts`: `presence`.
//!
//! Invariants: a status goes only to contacts by mutual consent who are not blocked, and to the user's
//! own sessions; what is delivered of one user to one viewer carries rising versions; whoever may
//! not see a user gets what an absent phone would give.

mod cache;
pub mod config;
mod consumer;
pub mod domain;
mod edges;
pub mod error;
mod grpc;
mod metrics;
mod server;
mod usecase;

pub use config::Config;
pub use error::Error;
pub use grpc::Grpc;
pub use server::{Deps, GROUP, Served, ensure, serve};
