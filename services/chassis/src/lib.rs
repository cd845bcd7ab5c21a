//! What every service stands on, done once: the doors to the outside (clock, randomness, network,
//! threads), lifecycle, config, telemetry, health, gRPC and TLS.
//!
//! Determinism has a door: services read clocks, draw random numbers, open sockets and spawn only
//! through here, so that a simulation can replace them. `tokio::time` and `tokio::sync` are used
//! directly; a simulation runs them on a paused runtime.

pub mod clock;
pub mod config;
pub mod doors;
pub mod grpc;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod net;
pub mod rng;
pub mod server;
pub mod telemetry;
pub mod threads;
pub mod tls;

pub use doors::Doors;
pub use lifecycle::Lifecycle;
