//! Notifications for devices that nobody reached.
pub mod config;
pub mod domain;
pub mod error;
pub mod ports;
pub mod web_push;
pub use config::Config;
