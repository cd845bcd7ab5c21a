//! One small composer a service: joins it with the seams, its peers and its config. The only place
//! where services and adapters meet.

pub mod accounts;
pub mod edge;
pub mod history;
pub mod presence;
pub mod push;
pub mod routing;

use std::sync::Arc;

use tandem_chassis::{Doors, Lifecycle, grpc::Peers};
use tandem_log::Log;

/// What every service is made of; some have a store or the ephemeral seam beside it.
#[derive(Clone)]
pub struct Parts {
    /// Clock, randomness, network, threads.
    pub doors: Doors,
    /// When to stop.
    pub lifecycle: Lifecycle,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The other services.
    pub peers: Arc<dyn Peers>,
}

/// A service could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{service}: {reason}")]
pub struct StartError {
    service: &'static str,
    reason: String,
}

/// For `map_err`: which service it was.
pub fn of<E: std::fmt::Display>(service: &'static str) -> impl FnOnce(E) -> StartError {
    move |e| StartError {
        service,
        reason: e.to_string(),
    }
}
