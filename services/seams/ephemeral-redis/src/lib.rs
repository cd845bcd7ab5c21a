//! The ephemeral store in Redis.
