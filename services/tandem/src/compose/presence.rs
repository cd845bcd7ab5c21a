//! Composes presence.

use tandem_presence::{Config, Deps, Served, serve};

use super::{Parts, StartError, of};

/// Starts it.
pub async fn start(parts: &Parts, config: Config) -> Result<Served, StartError> {
    let deps = Deps {
        doors: parts.doors.clone(),
        log: parts.log.clone(),
        ephemeral: parts.ephemeral.clone(),
        peers: parts.peers.clone(),
    };
    serve(deps, config, &parts.lifecycle)
        .await
        .map_err(of("presence"))
}
