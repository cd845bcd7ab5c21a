//! What the service needs, and how it starts.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle, grpc::Peers, lifecycle::OnEnd};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::Code;
use tandem_log::{Log, parking};
use tandem_proto::presence::presence_server::PresenceServer;
use tokio::{sync::Notify, time::MissedTickBehavior};

use crate::{
    cache::RelationsCache, config::Config, consumer, edges::Edges, error::Error, grpc::Grpc,
    metrics::Metrics, usecase::Service,
};

/// Its name among peers and in `<name>.parked`.
pub(crate) const SERVICE: &str = "presence";

/// Its reader group on the topic `accounts`.
pub const GROUP: &str = "presence";

/// What it stands on.
#[derive(Clone)]
pub struct Deps {
    /// Clock and randomness.
    pub doors: Doors,
    /// The topic `accounts`, which accounts makes.
    pub log: Arc<dyn Log>,
    /// Sessions and statuses.
    pub ephemeral: Arc<dyn Ephemeral>,
    /// `accounts`, and the edges by their targets.
    pub peers: Arc<dyn Peers>,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("presence.Deps")
    }
}

/// The service as it runs.
#[derive(Clone, Debug)]
pub struct Served {
    /// For edges.
    pub presence: PresenceServer<Grpc>,
}

/// Once it returns, the service's topic for what cannot be read is there.
pub async fn ensure(log: &dyn Log) -> Result<(), Error> {
    Ok(log.ensure_topic(&parking::topic(SERVICE)).await?)
}

/// Starts the service. It works without accounts and its topic, and waits for them.
pub async fn serve(deps: Deps, config: Config, lifecycle: &Lifecycle) -> Result<Served, Error> {
    config
        .validate()
        .map_err(|e| Error::refused(Code::InvalidArgument, e))?;
    let Deps {
        doors,
        log,
        ephemeral,
        peers,
    } = deps;
    ensure(&*log).await?;
    let metrics = Arc::new(Metrics::new());
    let service = Arc::new(Service {
        relations: RelationsCache::new(peers.service("accounts"), &doors, &config),
        edges: Edges::new(
            peers,
            Arc::clone(&ephemeral),
            lifecycle.clone(),
            Arc::clone(&metrics),
            config.clone(),
        ),
        doors,
        log,
        ephemeral,
        config,
        metrics,
        changed: Mutex::default(),
        wake: Notify::new(),
        untold: Mutex::default(),
    });
    let spawn = |name, task: futures::future::BoxFuture<'static, ()>| {
        lifecycle.spawn(name, OnEnd::Stop, task);
    };
    let (s, l) = (&service, lifecycle);
    spawn(
        "presence.follower",
        Box::pin(consumer::follow(Arc::clone(s), l.clone())),
    );
    spawn(
        "presence.consumer",
        Box::pin(consumer::read(Arc::clone(s), l.clone())),
    );
    spawn("presence.teller", Box::pin(tell(Arc::clone(s), l.clone())));
    spawn(
        "presence.sweeper",
        Box::pin(sweep(Arc::clone(s), l.clone())),
    );
    Ok(Served {
        presence: PresenceServer::new(Grpc(service)),
    })
}

/// Tells what was noted; what is noted meanwhile is the next group.
async fn tell(service: Arc<Service>, lifecycle: Lifecycle) {
    while !lifecycle.stopping() {
        tokio::select! {
            biased;
            () = service.wake.notified() => service.tell_noted().await,
            () = lifecycle.stopped() => {}
        }
    }
}

/// Finds what nobody noted: edges that died, damping that is over, calls that were lost.
async fn sweep(service: Arc<Service>, lifecycle: Lifecycle) {
    let mut ticks = tokio::time::interval(Duration::from_millis(service.config.sweep_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !lifecycle.stopping() {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                if let Err(e) = service.sweep().await {
                    tracing::warn!(error = %e, "a sweep failed");
                }
            }
            () = lifecycle.stopped() => {}
        }
    }
}
