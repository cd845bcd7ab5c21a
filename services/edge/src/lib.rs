//! Client connections: sessions, backpressure, resume, drain.
