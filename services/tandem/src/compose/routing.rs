//! Composes routing.

use std::sync::Arc;

use tandem_ephemeral::Ephemeral;
use tandem_routing::{Config, Deps, Served, serve};
use tandem_store::Store;

use super::{Parts, StartError, of};

/// Starts it.
pub async fn start(
    parts: &Parts,
    store: Arc<dyn Store>,
    ephemeral: Arc<dyn Ephemeral>,
    config: Config,
) -> Result<Served, StartError> {
    let deps = Deps {
        doors: parts.doors.clone(),
        log: parts.log.clone(),
        store,
        ephemeral,
        peers: parts.peers.clone(),
    };
    serve(deps, config, &parts.lifecycle)
        .await
        .map_err(of("routing"))
}
