//! The store on disk: durable, grouped fsyncs, for one process.
