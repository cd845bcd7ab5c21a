//! Several replicas of each service in one process on the embedded seams, each to be started, stopped and
//! killed alone; and a network on which devices find the edges.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use parking_lot::{Mutex, RwLock};
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{BoxError, Channel, Peers, Replica, Replicas, local},
    http::Roots,
    net::{BoxIo, Listener, Network, Tcp},
};
use tandem_edge::{Issuer, JwkSet, KeySource};
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_log_disk::DiskLog;
use tandem_proto::accounts::{
    ConnectRequest, UpsertRequest, provisioning_client::ProvisioningClient,
};
use tandem_store_disk::DiskStore;
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::body::Body;
use tower::{Service, util::BoxCloneSyncService};

use super::keys::Key;

type Answer = Result<http::Response<Body>, BoxError>;

fn unavailable() -> http::Response<Body> {
    tonic::Status::unavailable("no such replica").into_http()
}

/// A replica's server, as long as the replica lives.
#[derive(Clone)]
struct Gate(Channel, Arc<AtomicBool>);

impl Service<http::Request<Body>> for Gate {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if self.1.load(SeqCst) {
            self.0.call(request).boxed()
        } else {
            async { Ok(unavailable()) }.boxed()
        }
    }
}

/// Any replica of a service, one after the other.
#[derive(Clone)]
struct Any(Replicas, Arc<AtomicUsize>);

impl Service<http::Request<Body>> for Any {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let all = Arc::clone(&self.0.borrow());
        let turn = self.1.fetch_add(1, SeqCst);
        match all.get(turn % all.len().max(1)) {
            Some(replica) => replica.channel.clone().call(request).boxed(),
            None => async { Ok(unavailable()) }.boxed(),
        }
    }
}

/// Who is there.
#[derive(Default)]
struct Registry(RwLock<BTreeMap<String, watch::Sender<Arc<Vec<Replica>>>>>);

impl Registry {
    fn of(&self, name: &str) -> watch::Sender<Arc<Vec<Replica>>> {
        let mut all = self.0.write();
        all.entry(name.to_owned()).or_default().clone()
    }

    fn add(&self, name: &str, replica: Replica) {
        self.of(name).send_modify(|all| {
            let mut new = all.as_ref().clone();
            new.push(replica);
            new.sort_by(|a, b| a.name.cmp(&b.name));
            *all = Arc::new(new);
        });
    }

    fn remove(&self, name: &str, replica: &str) {
        self.of(name).send_modify(|all| {
            let left = all.iter().filter(|r| r.name != replica).cloned();
            *all = Arc::new(left.collect());
        });
    }

    fn any(&self, name: &str) -> Channel {
        BoxCloneSyncService::new(Any(self.of(name).subscribe(), Arc::default()))
    }
}

impl Peers for Registry {
    fn service(&self, name: &'static str) -> Channel {
        self.any(name)
    }

    fn replicas(&self, name: &'static str) -> Replicas {
        self.of(name).subscribe()
    }

    fn target(&self, target: &str) -> Channel {
        self.any(target)
    }
}

struct Fixed(JwkSet);

#[async_trait]
impl KeySource for Fixed {
    async fn fetch(&self) -> Result<JwkSet, String> {
        Ok(self.0.clone())
    }
}

/// The services of which there are replicas.
pub const SERVICES: [&str; 6] = ["accounts", "edge", "history", "presence", "push", "routing"];

struct Running {
    lifecycle: Lifecycle,
    alive: Arc<AtomicBool>,
}

/// The whole.
pub struct Suite {
    pub key: Key,
    doors: Doors,
    log: Arc<DiskLog>,
    store: Arc<DiskStore>,
    ephemeral: Arc<MemoryEphemeral>,
    registry: Arc<Registry>,
    running: Mutex<BTreeMap<(String, usize), Running>>,
    edges: Arc<RwLock<BTreeMap<usize, axum::Router>>>,
    vapid: String,
    stores: Lifecycle,
    _dir: TempDir,
}

impl Suite {
    /// Two of each, and these people, who are contacts of each other.
    pub async fn start(people: &[&str]) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (doors, stores) = (Doors::real(), Lifecycle::new());
        let options = tandem_log_disk::Options::default();
        let path = dir.path().join("log");
        let log = DiskLog::open(&path, doors.clone(), options, &stores).await;
        let options = tandem_store_disk::Options::default();
        let path = dir.path().join("store");
        let store = DiskStore::open(&path, doors.clone(), &stores, &options);
        let suite = Arc::new(Self {
            key: Key::new("op-1"),
            log: log.unwrap(),
            store: store.unwrap(),
            ephemeral: MemoryEphemeral::new(doors.clone()),
            registry: Arc::default(),
            running: Mutex::default(),
            edges: Arc::default(),
            vapid: tandem_push::VapidKey::generate(&doors.rng).unwrap(),
            doors,
            stores,
            _dir: dir,
        });
        for service in ["accounts", "routing", "history", "presence", "push", "edge"] {
            for number in 1..=2 {
                suite.add(service, number).await;
            }
        }
        let mut client = ProvisioningClient::new(suite.registry.any("provisioning"));
        let at = |who: &str| format!("{who}@tandem.test");
        for who in people {
            let person = UpsertRequest {
                user: at(who),
                name: Some((*who).to_owned()),
                ..UpsertRequest::default()
            };
            client.upsert(person).await.unwrap();
        }
        for (i, a) in people.iter().enumerate() {
            for b in &people[i + 1..] {
                let pair = ConnectRequest { a: at(a), b: at(b) };
                client.connect(pair).await.unwrap();
            }
        }
        suite
    }

    /// Starts a replica.
    pub async fn add(&self, service: &str, number: usize) {
        let lifecycle = Lifecycle::new();
        let alive = Arc::new(AtomicBool::new(true));
        let gate = |channel| Replica {
            name: format!("{service}-{number}"),
            channel: BoxCloneSyncService::new(Gate(channel, Arc::clone(&alive))),
        };
        match service {
            "accounts" => {
                let config = tandem_accounts::Config {
                    allow_http_endpoints: true,
                    ..tandem_accounts::Config::default()
                };
                let deps = tandem_accounts::Deps {
                    doors: self.doors.clone(),
                    log: self.log.clone(),
                    store: self.store.clone(),
                };
                let served = tandem_accounts::serve(deps, config, &lifecycle).await;
                let served = served.unwrap();
                self.registry
                    .add("provisioning", gate(local(served.provisioning)));
                self.registry.add(service, gate(local(served.accounts)));
            }
            "history" => {
                let deps = tandem_history::Deps {
                    doors: self.doors.clone(),
                    log: self.log.clone(),
                    store: self.store.clone(),
                };
                let config = tandem_history::Config::default();
                let served = tandem_history::serve(deps, config, &lifecycle).await;
                self.registry
                    .add(service, gate(local(served.unwrap().grpc)));
            }
            "routing" => {
                let deps = tandem_routing::Deps {
                    doors: self.doors.clone(),
                    log: self.log.clone(),
                    store: self.store.clone(),
                    ephemeral: self.ephemeral.clone(),
                    peers: self.registry.clone(),
                };
                let config = tandem_routing::Config {
                    partitions: 6,
                    ..tandem_routing::Config::default()
                };
                let served = tandem_routing::serve(deps, config, &lifecycle).await;
                self.registry
                    .add(service, gate(local(served.unwrap().grpc)));
            }
            "presence" => {
                let deps = tandem_presence::Deps {
                    doors: self.doors.clone(),
                    log: self.log.clone(),
                    ephemeral: self.ephemeral.clone(),
                    peers: self.registry.clone(),
                };
                let config = tandem_presence::Config::default();
                let served = tandem_presence::serve(deps, config, &lifecycle).await;
                self.registry
                    .add(service, gate(local(served.unwrap().presence)));
            }
            "push" => {
                let deps = tandem_push::Deps {
                    doors: self.doors.clone(),
                    log: self.log.clone(),
                    ephemeral: self.ephemeral.clone(),
                    peers: self.registry.clone(),
                    roots: Roots::System,
                };
                let config = tandem_push::Config {
                    vapid_private_key: self.vapid.clone(),
                    vapid_subject: "mailto:operator@tandem.test".into(),
                    allow_http_endpoints: true,
                    allow_private_endpoints: true,
                    ..tandem_push::Config::default()
                };
                let served = tandem_push::serve(deps, config, &lifecycle).await;
                self.registry
                    .add(service, gate(local(served.unwrap().grpc)));
            }
            _ => {
                let target = format!("edge-{number}");
                let served = self.serve_edge(&target, &lifecycle).await;
                self.registry.add(&target, gate(local(served.grpc_edge)));
                self.edges.write().insert(number, served.http);
            }
        }
        let running = Running { lifecycle, alive };
        self.running
            .lock()
            .insert((service.to_owned(), number), running);
    }

    async fn serve_edge(&self, target: &str, lifecycle: &Lifecycle) -> tandem_edge::Served {
        let keys = JwkSet {
            keys: vec![self.key.jwk.clone()],
        };
        let issuer = Issuer {
            issuer: Key::ISSUER.into(),
            audience: "tandem".into(),
            keys: Arc::new(Fixed(keys)),
            development: false,
        };
        let deps = tandem_edge::Deps {
            doors: self.doors.clone(),
            log: self.log.clone(),
            ephemeral: self.ephemeral.clone(),
            peers: self.registry.clone(),
            issuers: vec![issuer],
            trace_ratio: 0.0,
        };
        let config = tandem_edge::Config {
            target: target.to_owned(),
            ..tandem_edge::Config::default()
        };
        tandem_edge::serve(deps, config, lifecycle).await.unwrap()
    }

    fn take(&self, service: &str, number: usize) -> Running {
        let key = (service.to_owned(), number);
        let running = self.running.lock().remove(&key).expect("it runs");
        if service == "edge" {
            self.edges.write().remove(&number);
        }
        running
    }

    fn forget(&self, service: &str, number: usize) {
        let name = format!("{service}-{number}");
        self.registry.remove(service, &name);
        self.registry.remove("provisioning", &name);
        self.registry.remove(&name, &name);
    }

    /// Stops a replica as a rolling update does: nobody new finds it, and what it has begun ends.
    pub async fn stop(&self, service: &str, number: usize) {
        let running = self.take(service, number);
        if service != "edge" {
            self.forget(service, number);
        }
        running.lifecycle.stop();
        running.lifecycle.run_to_end(Duration::from_secs(20)).await;
        running.alive.store(false, SeqCst);
        self.forget(service, number);
    }

    /// Ends a replica where it stands. It is still among those who are asked for a while.
    pub async fn kill(&self, service: &str, number: usize) {
        let running = self.take(service, number);
        running.alive.store(false, SeqCst);
        running.lifecycle.abort();
        running.lifecycle.run_to_end(Duration::ZERO).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.forget(service, number);
    }

    /// Doors for a device that reaches all edges, or one only.
    pub fn doors(&self, edge: Option<usize>) -> (Doors, Arc<Road>) {
        let road = Arc::new(Road {
            edges: Arc::clone(&self.edges),
            only: Mutex::new(edge),
            turn: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let doors = Doors {
            net: road.clone(),
            ..Doors::real()
        };
        (doors, road)
    }

    pub async fn end(&self) {
        let all = std::mem::take(&mut *self.running.lock());
        for running in all.values() {
            running.lifecycle.abort();
        }
        self.log.close().await;
        self.stores.abort();
    }
}

/// A device's network. At each connection the next edge has its turn.
pub struct Road {
    edges: Arc<RwLock<BTreeMap<usize, axum::Router>>>,
    pub only: Mutex<Option<usize>>,
    turn: AtomicUsize,
    open: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Road {
    /// Breaks the connections.
    pub fn cut(&self) {
        for carried in self.open.lock().drain(..) {
            carried.abort();
        }
    }
}

#[async_trait]
impl Network for Road {
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        Tcp.listen(addr).await
    }

    async fn connect(&self, _: &str) -> io::Result<BoxIo> {
        let (only, turn) = (*self.only.lock(), self.turn.fetch_add(1, SeqCst));
        let router = {
            let edges = self.edges.read();
            match only {
                Some(edge) => edges.get(&edge).cloned(),
                None => edges.values().nth(turn % edges.len().max(1)).cloned(),
            }
        };
        let router = router.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let (ours, mut near) = tokio::io::duplex(1 << 16);
        let (mut far, theirs) = tokio::io::duplex(1 << 16);
        let carried = tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        self.open.lock().push(carried.abort_handle());
        tokio::spawn(async move {
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(
                    TokioIo::new(theirs),
                    TowerToHyperService::new(router),
                )
                .await;
        });
        Ok(Box::new(ours))
    }
}
