//! The edge's one lease, and what its renewal says: sessions to register again, and sessions to sync again.

use std::{sync::Arc, time::Duration};

use tandem_ephemeral::Ephemeral;
use tandem_kernel::SessionId;
use tokio::time::{sleep, timeout};

use crate::{
    mailbox::{Bound, Item},
    metrics::Metrics,
    usecase::registry::Registry,
};

const EVERY: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);

/// Renews the lease for ever. `epoch`: of the first renewal.
pub async fn run(
    registry: Arc<Registry>,
    ephemeral: Arc<dyn Ephemeral>,
    metrics: Arc<Metrics>,
    mailbox: Bound,
    call: Duration,
    mut epoch: u64,
) {
    loop {
        sleep(EVERY).await;
        let renewal = loop {
            match timeout(
                call,
                ephemeral.renew(registry.edge(), registry.registered()),
            )
            .await
            {
                Ok(Ok(renewal)) => break renewal,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease cannot be renewed; trying again");
                }
                Err(_) => tracing::warn!("the lease cannot be renewed in time; trying again"),
            }
            sleep(AGAIN).await;
        };
        if renewal.lapsed || renewal.epoch != epoch {
            tracing::warn!(
                lapsed = renewal.lapsed,
                "the ephemeral store lost this edge's sessions: registering them again"
            );
            epoch = renewal.epoch;
            registry.register_all(epoch);
        }
        for id in renewal.resync {
            resync(&registry, &*ephemeral, &metrics, mailbox, call, id).await;
        }
    }
}

async fn resync(
    registry: &Registry,
    ephemeral: &dyn Ephemeral,
    metrics: &Metrics,
    mailbox: Bound,
    call: Duration,
    id: SessionId,
) {
    let Some(handle) = registry.get(id) else {
        return;
    };
    // not cleared: the flag stands, and the next renewal names it again
    if let Ok(Ok(())) = timeout(call, ephemeral.clear_resync(&handle.user, id)).await {
        metrics.resyncs.add(1);
        let _ = handle.mailbox.push(Item::Registered, mailbox);
    }
}
