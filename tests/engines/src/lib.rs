//! Real engines on a bare machine: installed once into a cache outside the repo, started and stopped.
//!
//! One [`shared`] set serves all tests (each takes names of its own); a test that breaks an engine starts
//! one for itself: [`kafka::Cluster`], [`redis::Server`], [`redis::Cluster`], [`cassandra::Ring`],
//! [`toxiproxy::Toxiproxy`], each on loopback addresses where nobody else listens, or in a namespace of a
//! [`netns::Net`]. They are killed when dropped. Should their process be killed itself, the next start
//! (or `cargo xtask engines down`) does it.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes run in real time, and are asked over real sockets"
)]

pub mod cassandra;
pub mod certs;
mod error;
mod fleet;
pub mod install;
pub mod kafka;
pub mod netns;
mod process;
pub mod redis;
pub mod shared;
mod slot;
pub mod toxiproxy;
pub mod up;

pub use error::{Error, Result};
pub use fleet::{Answer, Engine, Fleet, Place};
pub use process::Process;
pub use slot::reap;
