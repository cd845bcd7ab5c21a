//! One file for each thing that history does.

pub(crate) mod heads;
pub(crate) mod ingest;
pub(crate) mod lookup;
pub(crate) mod page;
mod read;
pub(crate) mod sync;
mod walk;
