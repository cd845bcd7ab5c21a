//! What all sessions of an edge share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tandem_chassis::{Doors, Lifecycle, lifecycle::OnEnd};

use crate::{
    Config, connection,
    domain::effect::Rules,
    mailbox::Bound,
    metrics::Metrics,
    usecase::{
        asks::Asks,
        receipts::Coalescer,
        registry::{Handle, Registry},
        sign_in::SignIn,
        submits::Submits,
        sync::Syncer,
    },
    wire::Wire,
};

/// The edge.
pub struct Edge {
    /// The outside.
    pub doors: Doors,
    /// As it was given.
    pub config: Arc<Config>,
    /// What sessions are held to.
    pub rules: Arc<Rules>,
    /// What their mailboxes may hold.
    pub mailbox: Bound,
    /// How long a connection may take nothing.
    pub stall: Duration,
    /// Instruments.
    pub metrics: Arc<Metrics>,
    /// Sessions.
    pub registry: Arc<Registry>,
    /// Hellos.
    pub sign_in: Arc<SignIn>,
    /// Events on their way to routing.
    pub submits: Arc<Submits>,
    /// Receipts.
    pub receipts: Arc<Coalescer>,
    /// Syncs.
    pub syncer: Arc<Syncer>,
    /// Questions.
    pub asks: Arc<Asks>,
    /// Runs the sessions' tasks.
    pub lifecycle: Lifecycle,
    /// No new sessions.
    pub draining: AtomicBool,
    /// Counts parcels, for sampling.
    pub parcels: AtomicU64,
}

impl Edge {
    /// Runs a session on a connection once it is made.
    pub fn serve(self: &Arc<Self>, wire: impl Future<Output = Option<Wire>> + Send + 'static) {
        let edge = Arc::clone(self);
        // boxed one by one: what is over takes no memory for the session's life
        let wire = Box::pin(wire);
        let task = async move {
            let made = wire.await;
            if let Some(wire) = made {
                connection::run(edge, Box::new(wire)).await;
            }
        };
        self.lifecycle
            .spawn("edge session", OnEnd::Fine, Box::pin(task));
    }

    /// The session is over.
    pub fn remove(&self, handle: &Arc<Handle>, at_once: bool) {
        self.registry.remove(handle, at_once);
        // closed above: nothing is held for it any more
        self.submits.forget(handle.id);
    }

    /// Whether new sessions are turned away.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// When a device that is asked to leave comes back.
    pub fn reconnect_after(&self) -> Duration {
        let least = self.config.drain_reconnect_ms;
        Duration::from_millis(least + self.doors.rng.below(least.max(1)))
    }
}
