//! Peers in other processes: their names are resolved again and again, calls are balanced over what is
//! there, and tried again where that cannot do anything twice.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tower::util::BoxCloneSyncService;

use super::{
    Channel, Peers, Replica, Replicas,
    call::{Caller, Route, Rules},
    config::PeersConfig,
    line::{Dialer, Line, Lost},
    set::{Lookups, Set},
};
use crate::{Doors, Lifecycle, metrics::Counter, tls::Tls};

/// The name of edges in their certificates.
const EDGE: &str = "edge";

/// Peers in other processes. Cheap to clone.
#[derive(Clone)]
pub struct RemotePeers(Arc<Inner>);

struct Inner {
    config: PeersConfig,
    dialer: Arc<Dialer>,
    rules: Arc<Rules>,
    sets: Mutex<HashMap<&'static str, Arc<Set>>>,
    targets: Mutex<HashMap<String, Target>>,
    edge_lost: Lost,
    edge_name: Arc<str>,
}

struct Target {
    line: Line,
    used: Duration,
}

impl RemotePeers {
    /// Peers as `config` has them, over TLS if there is `tls`. Connections last until the hard stop, so
    /// that what drains can still call. The error names the key and the fix.
    pub fn new(
        config: &PeersConfig,
        doors: Doors,
        lifecycle: &Lifecycle,
        tls: Option<Tls>,
    ) -> Result<Self, String> {
        config.validate()?;
        let rules = Rules {
            deadline: Duration::from_millis(config.deadline_ms),
            retries: config.retries,
            rng: doors.rng.clone(),
            retried: Counter::new(
                "tandem.peers.retries",
                "{call}",
                "calls to other services that were tried again",
                &[],
            ),
            overdue: Counter::new(
                "tandem.peers.overdue",
                "{call}",
                "calls to other services that were not answered in time",
                &[],
            ),
        };
        let dialer = Dialer {
            doors,
            lifecycle: lifecycle.clone(),
            tls,
            connect: Duration::from_millis(config.connect_ms),
            keepalive: Duration::from_millis(config.keepalive_ms),
            keepalive_timeout: Duration::from_millis(config.keepalive_timeout_ms),
        };
        let this = Self(Arc::new(Inner {
            edge_name: config.tls_name(EDGE).into(),
            config: config.clone(),
            dialer: Arc::new(dialer),
            rules: Arc::new(rules),
            sets: Mutex::default(),
            targets: Mutex::default(),
            edge_lost: Lost {
                notify: Arc::new(Notify::new()),
                count: Counter::new(
                    "tandem.peers.lost",
                    "{connection}",
                    "connections, and attempts to connect, that came to an end",
                    &[("service", EDGE)],
                ),
            },
        }));
        lifecycle.spawn_support("grpc.targets", sweep(Arc::clone(&this.0)));
        Ok(this)
    }

    fn set(&self, name: &'static str) -> Arc<Set> {
        let mut sets = self.0.sets.lock();
        let new = || {
            let rules = Arc::clone(&self.0.rules);
            let lookups = Lookups {
                hosts: self.0.config.hosts(name),
                tls_name: self.0.config.tls_name(name).into(),
                every: Duration::from_millis(self.0.config.resolve_ms),
                dialer: Arc::clone(&self.0.dialer),
                replica: Box::new(move |line| Replica {
                    name: line.addr().to_owned(),
                    channel: channel(Route::Line(line.clone()), &rules),
                }),
            };
            Set::follow(name, lookups)
        };
        Arc::clone(sets.entry(name).or_insert_with(new))
    }
}

fn channel(route: Route, rules: &Arc<Rules>) -> Channel {
    let rules = Arc::clone(rules);
    BoxCloneSyncService::new(Caller { route, rules })
}

impl Peers for RemotePeers {
    fn service(&self, name: &'static str) -> Channel {
        channel(Route::Set(self.set(name)), &self.0.rules)
    }

    fn replicas(&self, name: &'static str) -> Replicas {
        self.set(name).replicas()
    }

    fn target(&self, target: &str) -> Channel {
        let now = self.0.dialer.doors.clock.monotonic();
        let mut targets = self.0.targets.lock();
        if !targets.contains_key(target) && targets.len() >= self.0.config.targets as usize {
            // whoever still uses the oldest keeps it; it is only not shared any more
            let oldest = targets.iter().min_by_key(|(_, t)| t.used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                targets.remove(&oldest);
            }
        }
        let entry = targets.entry(target.to_owned()).or_insert_with(|| Target {
            line: Line::new(
                Arc::clone(&self.0.dialer),
                target.to_owned(),
                Arc::clone(&self.0.edge_name),
                false,
                self.0.edge_lost.clone(),
            ),
            used: now,
        });
        entry.used = now;
        channel(Route::Line(entry.line.clone()), &self.0.rules)
    }
}

/// Forgets targets that have been of no use for long.
async fn sweep(inner: Arc<Inner>) {
    let idle = Duration::from_millis(inner.config.target_idle_ms);
    loop {
        tokio::time::sleep(idle / 2).await;
        let now = inner.dialer.doors.clock.monotonic();
        inner.targets.lock().retain(|_, target| {
            if target.line.load() > 0 {
                target.used = now;
            }
            now.saturating_sub(target.used) < idle
        });
    }
}
