//! The suite as real processes on real engines, in a test that talks throughout, while everything breaks.
//!
//! [`cast`] says who talks; [`device`] is a person's device on the real client library; [`talk`] makes
//! them talk and waits until everything has arrived; [`record`] keeps what each did and saw, as
//! [`watcher`] sees it.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the real world that the doors open on"
)]

pub mod air;
pub mod blow;
pub mod cast;
pub mod device;
pub mod fault;
pub mod gateway;
pub mod issuer;
pub mod judge;
pub mod people;
pub mod plan;
pub mod process;
pub mod record;
pub mod report;
pub mod run;
pub mod stage;
pub mod stopped;
pub mod suite;
pub mod talk;
pub mod tally;
pub mod watcher;

/// Why something did not come about, for people.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// What came about.
pub type Result<T> = std::result::Result<T, Failure>;
