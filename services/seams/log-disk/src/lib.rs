//! The log on disk: durable, grouped fsyncs, for one process.
