//! Subscribers, contacts, blocks, devices and push tokens.
//!
//! Topic: `accounts` (compacted, key: the user's address), which says that an account changed and drives
//! to its end what touches two people. Reader group: `accounts`.
//!
//! Invariants: an account's version grows with each change that others can see; a number is one
//! subscriber's; of a change that is made durable, the other side's half follows, whatever crashes;
//! nothing that a blocked person can ask for tells them of the block.

pub mod config;
mod consumer;
pub mod domain;
pub mod error;
mod grpc;
mod metrics;
mod server;
mod tables;
mod usecase;

pub use config::Config;
pub use error::Error;
pub use grpc::Grpc;
pub use server::{Deps, GROUP, Served, ensure, serve};
