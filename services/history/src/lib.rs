//! Conversations' events, heads and read marks.
//!
//! Reads `conversations.g1` as the group `history`, in order, in groups that form while the last
//! write is under way, and answers `tandem.history.v1.History`.
//!
//! # Tables
//!
//! | table | partition | sort | value |
//! | --- | --- | --- | --- |
//! | `history_events` | conversation, 0, bucket | empty: the [`Head`](domain::rows::Head); `e` + seq: an [`EventRow`](domain::rows::EventRow); `g`: the [`Roster`](domain::rows::Roster) of a group | |
//! | `history_buckets` | conversation | empty: the [`Pointer`](domain::rows::Pointer) to the current bucket; `b` + bucket: empty | |
//! | `history_marks` | conversation | user | [`Mark`](domain::rows::Mark) that the head has no room for |
//! | `history_conversations` | user | conversation | [`Listing`](domain::rows::Listing) |
//!
//! A bucket's id is the seq of its first event. The list of a conversation's buckets has only such
//! that were written to, so a walk back over a quiet year goes from one to the one before it.
//!
//! # Invariants
//!
//! - The head lies beside the newest events, so one atomic batch of one partition writes both: the head
//!   says what has been applied, and nothing at or below [`Head::applied_seq`](domain::rows::Head) is applied
//!   again. What lies in other partitions (listings, spilled marks, folds into older buckets, a new
//!   bucket's pointer) is written **before** it, and writing it twice changes nothing. So a crash
//!   anywhere is followed by a replay that ends in the same rows.
//! - A place is committed only after everything up to it is durable.
//! - A pointer may name a bucket whose head is not written yet; the head is in the one before, then.
//! - The text of a deleted message is nowhere: not in its row, its edits' rows, nor any head.
//!
//! # Topics
//!
//! `history.parked` takes the records that cannot be read, with the reason.

pub mod config;
mod consumer;
mod control;
pub mod domain;
pub mod error;
mod grpc;
mod intake;
mod metrics;
mod places;
mod server;
mod states;
mod tables;
mod usecase;
mod writes;

pub use config::Config;
pub use control::HistoryControl;
pub use error::Error;
pub use grpc::HistoryService;
pub use server::{Deps, Served, ensure, serve};
