//! The checker, fed with records of a model.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod life;
mod plant;
mod planted;
mod program;
mod read;
mod rng;
mod setup;
mod talk;
mod valid;
mod world;
