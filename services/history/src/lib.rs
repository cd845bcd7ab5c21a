//! Conversations' events, heads, read marks.
