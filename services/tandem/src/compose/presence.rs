//! Composes presence.

use std::sync::Arc;

use tandem_ephemeral::Ephemeral;
use tandem_presence::{Config, Deps, Served, serve};

use super::{Parts, StartError, of};

/// Starts it.
pub async fn start(
    parts: &Parts,
    ephemeral: Arc<dyn Ephemeral>,
    config: Config,
) -> Result<Served, StartError> {
    let deps = Deps {
        doors: parts.doors.clone(),
        log: parts.log.clone(),
        ephemeral,
        peers: parts.peers.clone(),
    };
    serve(deps, config, &parts.lifecycle)
        .await
        .map_err(of("presence"))
}
