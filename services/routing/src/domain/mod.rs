//! Decisions of routing: synchronous and pure.

pub mod admission;
pub mod fold;
pub mod generations;
pub mod item;
pub mod rate;
pub mod recent;
pub mod relations;
