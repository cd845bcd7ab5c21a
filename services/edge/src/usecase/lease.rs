//! The edge's one lease, and what its renewal says: sessions to register again, and sessions to sync again.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream};

use tandem_ephemeral::{Ephemeral, LEASE, Renewal};
use tandem_kernel::{Clock, SessionId};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::{
    mailbox::{Bound, Item},
    metrics::Metrics,
    usecase::registry::Registry,
};

const EVERY: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);
/// Most flags that are cleared at once.
const AT_ONCE: usize = 64;

/// Keeps the lease.
pub struct Keeper {
    /// Whose sessions it is for.
    pub registry: Arc<Registry>,
    /// Where it lies.
    pub ephemeral: Arc<dyn Ephemeral>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Instruments.
    pub metrics: Arc<Metrics>,
    /// What mailboxes may hold.
    pub mailbox: Bound,
    /// Deadline of a call.
    pub call: Duration,
}

impl Keeper {
    /// Renews the lease for ever. `epoch`: of the first renewal.
    pub async fn run(self, mut epoch: u64) {
        let mut every = interval_at(Instant::now() + EVERY, EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed = self.clock.monotonic();
        let mut flagged = BTreeSet::new();
        loop {
            every.tick().await;
            flagged.extend(self.renew(&mut epoch, &mut renewed).await);
            // what is left over waits for the next renewal, which must not be late
            let _ = timeout(EVERY, self.resync(&mut flagged)).await;
        }
    }

    /// Renews until that is done; if the sessions were lost meanwhile, they are registered again. Returns
    /// those that were flagged.
    async fn renew(&self, epoch: &mut u64, renewed: &mut Duration) -> Vec<SessionId> {
        let mut unsure = false;
        // nothing is registered between a lapse and the sessions' being told of it; and a renewal without an
        // answer may have found one, and made the lease count again
        let _gate = self.registry.gate().await;
        loop {
            let began = self.clock.monotonic();
            let renewal = self
                .ephemeral
                .renew(self.registry.edge(), self.registry.registered());
            match timeout(self.call, renewal).await {
                Ok(Ok(Renewal {
                    epoch: now,
                    lapsed,
                    resync,
                })) => {
                    // one that was done without an answer may have found the lease lapsed
                    let lapsed = lapsed || (unsure && began.saturating_sub(*renewed) >= LEASE);
                    *renewed = began;
                    if lapsed || now != *epoch {
                        tracing::warn!(
                            lapsed,
                            "the ephemeral store lost this edge's sessions: registering them again"
                        );
                        *epoch = now;
                        self.registry.register_all(now);
                    }
                    return resync;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease cannot be renewed; trying again");
                }
                Err(_) => tracing::warn!("the lease cannot be renewed in time; trying again"),
            }
            unsure = true;
            sleep(AGAIN).await;
        }
    }

    /// Has the sessions live again and synced, and takes those with whom that was done out of `flagged`.
    async fn resync(&self, flagged: &mut BTreeSet<SessionId>) {
        let ids: Vec<SessionId> = flagged.iter().copied().collect();
        let cleared = stream::iter(ids).map(|id| async move { (id, self.resync_one(id).await) });
        let mut cleared = pin!(cleared.buffer_unordered(AT_ONCE));
        while let Some((id, done)) = cleared.next().await {
            if done {
                flagged.remove(&id);
            }
        }
    }

    /// False: whether the flag still stands is not known.
    async fn resync_one(&self, id: SessionId) -> bool {
        let Some(handle) = self.registry.get(id) else {
            return true;
        };
        // it knows that there are gaps before anything comes that stands above them
        let _ = handle.mailbox.push(Item::Unsynced, self.mailbox);
        let clear = self.ephemeral.clear_resync(&handle.user, id);
        if !matches!(timeout(self.call, clear).await, Ok(Ok(()))) {
            return false;
        }
        self.metrics.resyncs.add(1);
        let _ = handle.mailbox.push(Item::Registered, self.mailbox);
        true
    }
}
