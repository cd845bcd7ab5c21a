//! Composes history.

use tandem_history::{Config, Deps, Served, serve};

use super::{Parts, StartError, of};

/// Starts it.
pub async fn start(parts: &Parts, config: Config) -> Result<Served, StartError> {
    let deps = Deps {
        doors: parts.doors.clone(),
        log: parts.log.clone(),
        store: parts.store.clone(),
    };
    serve(deps, config, &parts.lifecycle)
        .await
        .map_err(of("history"))
}
