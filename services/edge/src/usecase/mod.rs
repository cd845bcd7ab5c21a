//! One file for each thing that the edge does with the outside.

pub mod asks;
pub mod lease;
pub mod receipts;
pub mod registry;
pub mod sign_in;
pub mod submits;
pub mod sync;
pub mod tokens;
