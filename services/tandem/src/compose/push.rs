//! Composes push.

use std::sync::Arc;

use tandem_chassis::http::Roots;
use tandem_ephemeral::Ephemeral;
use tandem_push::{Config, Deps, Served, serve};

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
        roots: Roots::System,
    };
    serve(deps, config, &parts.lifecycle)
        .await
        .map_err(of("push"))
}
