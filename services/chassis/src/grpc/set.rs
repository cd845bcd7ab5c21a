//! The replicas of one service, as the resolver knows them, and the choice among them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    Replica,
    line::{Dialer, Line, Lost, Standing},
};
use crate::{
    metrics::{Counter, Gauge},
    rng::Rng,
};

/// A lookup that takes longer has failed.
const LOOKUP: Duration = Duration::from_secs(5);
/// Names are not looked up more often than this, however many connections are lost.
const SPACING: Duration = Duration::from_millis(200);

/// The replicas of a service.
pub(super) struct Set {
    name: &'static str,
    /// `None` until the names were looked up for the first time.
    lines: watch::Sender<Option<Arc<Vec<Line>>>>,
    replicas: watch::Sender<Arc<Vec<Replica>>>,
}

/// How a set is followed.
pub(super) struct Lookups {
    pub hosts: Vec<String>,
    pub tls_name: Arc<str>,
    pub every: Duration,
    pub dialer: Arc<Dialer>,
    /// Makes the replica's own channel.
    pub replica: Box<dyn Fn(&Line) -> Replica + Send + Sync>,
}

impl Set {
    /// The set of `name`, followed until the hard stop.
    pub fn follow(name: &'static str, lookups: Lookups) -> Arc<Self> {
        let this = Arc::new(Self {
            name,
            lines: watch::Sender::new(None),
            replicas: watch::Sender::new(Arc::default()),
        });
        let lifecycle = lookups.dialer.lifecycle.clone();
        let follower = Follower::new(Arc::clone(&this), lookups);
        lifecycle.spawn_support("grpc.resolve", follower.run());
        this
    }

    /// The replicas as they change.
    pub fn replicas(&self) -> watch::Receiver<Arc<Vec<Replica>>> {
        self.replicas.subscribe()
    }

    /// A replica for a call that was tried on those in `tried`.
    pub async fn pick(&self, tried: &[String], rng: &Rng) -> Result<Line, String> {
        let mut lines = self.lines.subscribe();
        let lines = match lines.wait_for(Option::is_some).await {
            Ok(lines) => lines.clone().unwrap_or_default(),
            Err(_) => Arc::default(),
        };
        let picked = pick(&lines, tried, rng).cloned();
        picked.ok_or_else(|| format!("no replica of {} is known", self.name))
    }
}

/// Of those in the best standing, two at random, and of them the one with fewer calls under way. Those
/// that were tried come last.
fn pick<'a>(lines: &'a [Line], tried: &[String], rng: &Rng) -> Option<&'a Line> {
    let rank = |line: &Line| {
        let again = tried.iter().any(|t| t == line.addr());
        (again, line.standing())
    };
    let mut best: Option<(bool, Standing)> = None;
    let mut among: Vec<&Line> = Vec::with_capacity(lines.len());
    for line in lines {
        let rank = rank(line);
        if best.is_none_or(|best| rank < best) {
            best = Some(rank);
            among.clear();
        }
        if best == Some(rank) {
            among.push(line);
        }
    }
    let n = among.len() as u64;
    if n == 0 {
        return None;
    }
    let first = rng.below(n);
    let second = (first + 1 + rng.below(n - 1)) % n;
    let (first, second) = (among[first as usize], among[second as usize]);
    Some(if second.load() < first.load() {
        second
    } else {
        first
    })
}

struct Host {
    name: String,
    /// As last answered.
    addresses: Vec<String>,
    failing: bool,
}

struct Follower {
    set: Arc<Set>,
    lookups: Lookups,
    hosts: Vec<Host>,
    lines: BTreeMap<String, Line>,
    lost: Lost,
    failures: Counter,
    count: Gauge,
}

impl Follower {
    fn new(set: Arc<Set>, mut lookups: Lookups) -> Self {
        let pairs = [("service", set.name)];
        let hosts = std::mem::take(&mut lookups.hosts).into_iter();
        Self {
            hosts: hosts
                .map(|name| Host {
                    name,
                    addresses: Vec::new(),
                    failing: false,
                })
                .collect(),
            lines: BTreeMap::new(),
            lost: Lost {
                notify: Arc::new(Notify::new()),
                count: Counter::new(
                    "tandem.peers.lost",
                    "{connection}",
                    "connections, and attempts to connect, that came to an end",
                    &pairs,
                ),
            },
            failures: Counter::new(
                "tandem.peers.lookup_failures",
                "{lookup}",
                "lookups of a service's name that gave no address; the last known ones stay",
                &pairs,
            ),
            count: Gauge::new(
                "tandem.peers.replicas",
                "{replica}",
                "replicas that a service's names stand for",
                &pairs,
            ),
            set,
            lookups,
        }
    }

    async fn run(mut self) {
        let lost = Arc::clone(&self.lost.notify);
        loop {
            self.look().await;
            sleep(SPACING).await;
            tokio::select! {
                () = sleep(self.lookups.every.saturating_sub(SPACING)) => {}
                () = lost.notified() => {}
            }
        }
    }

    async fn look(&mut self) {
        let net = Arc::clone(&self.lookups.dialer.doors.net);
        for host in &mut self.hosts {
            let failure = match timeout(LOOKUP, net.resolve(&host.name)).await {
                Ok(Ok(found)) if !found.is_empty() => {
                    host.addresses = found.iter().map(ToString::to_string).collect();
                    host.failing = false;
                    continue;
                }
                Ok(Ok(_)) => "no address".to_owned(),
                Ok(Err(e)) => e.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            self.failures.add(1);
            if !host.failing {
                let (name, kept) = (&host.name, host.addresses.len());
                tracing::warn!(name, failure, kept, "a name cannot be resolved");
            }
            host.failing = true;
        }
        self.adopt();
    }

    /// The addresses now known become the replicas; one that stays keeps its line.
    fn adopt(&mut self) {
        let mut lines = BTreeMap::new();
        for addr in self.hosts.iter().flat_map(|h| &h.addresses) {
            if lines.contains_key(addr) {
                continue;
            }
            let line = self.lines.remove(addr).unwrap_or_else(|| {
                tracing::info!(service = self.set.name, addr, "a replica came");
                Line::new(
                    Arc::clone(&self.lookups.dialer),
                    addr.clone(),
                    Arc::clone(&self.lookups.tls_name),
                    true,
                    self.lost.clone(),
                )
            });
            lines.insert(addr.clone(), line);
        }
        for (addr, line) in std::mem::take(&mut self.lines) {
            tracing::info!(service = self.set.name, addr, "a replica left");
            line.retire();
        }
        self.lines = lines;
        self.count.set(self.lines.len() as i64);
        let known = self.set.lines.borrow().clone();
        let same = known.is_some_and(|known| {
            known.len() == self.lines.len()
                && known.iter().all(|l| self.lines.contains_key(l.addr()))
        });
        if same {
            return;
        }
        let now: Vec<Line> = self.lines.values().cloned().collect();
        let replicas = now.iter().map(|l| (self.lookups.replica)(l)).collect();
        self.set.lines.send_replace(Some(Arc::new(now)));
        self.set.replicas.send_replace(Arc::new(replicas));
    }
}
