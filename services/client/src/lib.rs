//! The client library: a session that reconnects, syncs and keeps order.
//!
//! [`domain`] decides and does no I/O; [`Client`] runs it over a connection. A client never shows an
//! event twice, shows each conversation in the log's order, and keeps what was sent until it has its
//! answer.

pub mod address;
pub mod carrier;
mod client;
pub mod domain;
mod session;
mod shared;
pub mod token;

pub use address::Server;
pub use client::{Client, Options, Outcome, Sent, Taken, Watch, Watched};
pub use domain::{Core, Pages, Update};
pub use token::{DevIssuer, DevTokenRequest, DevTokenResponse, Fixed, Token, TokenSource};
