//! Notifications for devices that nobody reached.
