//! One file for each thing that history does.

pub(crate) mod heads;
pub(crate) mod ingest;
pub(crate) mod lookup;
pub(crate) mod page;
pub(crate) mod sync;
