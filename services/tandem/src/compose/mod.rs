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
use tandem_ephemeral::Ephemeral;
use tandem_log::Log;
use tandem_store::Store;

/// What every service is made of.
#[derive(Clone)]
pub struct Parts {
    /// Clock, randomness, network, threads.
    pub doors: Doors,
    /// When to stop.
    pub lifecycle: Lifecycle,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Leases, sessions, statuses.
    pub ephemeral: Arc<dyn Ephemeral>,
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
