//! Composes accounts.

use std::sync::Arc;

use tandem_accounts::{Config, Deps, Served, serve};
use tandem_store::Store;

use super::{Parts, StartError, of};

/// Starts it.
pub async fn start(
    parts: &Parts,
    store: Arc<dyn Store>,
    config: Config,
) -> Result<Served, StartError> {
    let deps = Deps {
        doors: parts.doors.clone(),
        log: parts.log.clone(),
        store,
    };
    serve(deps, config, &parts.lifecycle)
        .await
        .map_err(of("accounts"))
}
