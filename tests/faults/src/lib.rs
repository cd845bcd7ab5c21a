//! Faults on the real thing.
