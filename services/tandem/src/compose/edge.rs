//! Composes edge.

use std::sync::Arc;

use tandem_chassis::telemetry;
use tandem_edge::{Config, Deps, Issuer, Served, serve};
use tandem_ephemeral::Ephemeral;

use super::{Parts, StartError, of};

/// Starts it.
pub async fn start(
    parts: &Parts,
    ephemeral: Arc<dyn Ephemeral>,
    config: Config,
    issuers: Vec<Issuer>,
    telemetry: &telemetry::Config,
) -> Result<Served, StartError> {
    let deps = Deps {
        doors: parts.doors.clone(),
        log: parts.log.clone(),
        ephemeral,
        peers: parts.peers.clone(),
        issuers,
        trace_ratio: telemetry.trace_ratio,
    };
    serve(deps, config, &parts.lifecycle)
        .await
        .map_err(of("edge"))
}
