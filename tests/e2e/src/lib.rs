//! The suite as a person meets it: the real program, real connections.
