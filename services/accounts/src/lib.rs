//! Subscribers, contacts, blocks, devices and push tokens.
