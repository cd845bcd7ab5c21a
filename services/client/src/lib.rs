//! The client library: a session that reconnects, syncs and keeps order.
