//! The ephemeral store in memory, for one process.
