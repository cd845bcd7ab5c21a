//! Real engines on a bare machine: installed once into a cache outside the repo, started and stopped.
//!
//! One shared set serves all tests (each takes names of its own); a test that breaks an engine starts
//! one for itself.

pub mod shared;
