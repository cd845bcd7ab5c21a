//! Servers on loopback that say who they are, and names that stand for what a test wants.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "helpers of tests; each file uses some"
)]

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, PeersConfig, RemotePeers},
    net::{BoxIo, Listener, Names, Network, Tcp},
    server::{self, Options},
};
use tandem_proto::{
    client::Presence as Status,
    presence::{
        ChangedRequest, ChangedResponse, SnapshotRequest, SnapshotResponse,
        presence_client::PresenceClient,
        presence_server::{Presence, PresenceServer},
    },
};
use tokio::sync::watch;
use tonic::{Request, Response};

/// The name that the tests' replicas go by.
pub const NAME: &str = "presence.test:7000";

/// What a test calls: `snapshot` is idempotent, `changed` is not.
pub struct Fake {
    name: String,
    pub snapshots: AtomicUsize,
    pub changes: AtomicUsize,
    /// grpc-timeout of the last call.
    pub timeout: Mutex<Option<String>>,
    /// Calls are answered only while it is true.
    pub answers: watch::Sender<bool>,
}

impl Fake {
    async fn take(&self, metadata: &tonic::metadata::MetadataMap) {
        let timeout = metadata.get("grpc-timeout");
        *self.timeout.lock() = timeout.map(|t| t.to_str().unwrap().to_owned());
        self.answers.subscribe().wait_for(|a| *a).await.unwrap();
    }

    /// All calls that ever came.
    pub fn calls(&self) -> usize {
        self.snapshots.load(Ordering::SeqCst) + self.changes.load(Ordering::SeqCst)
    }
}

struct Served(Arc<Fake>);

#[tonic::async_trait]
impl Presence for Served {
    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<SnapshotResponse>, tonic::Status> {
        self.0.snapshots.fetch_add(1, Ordering::SeqCst);
        self.0.take(request.metadata()).await;
        let user = self.0.name.clone();
        Ok(Response::new(SnapshotResponse {
            presences: vec![Status {
                user,
                ..Status::default()
            }],
        }))
    }

    async fn changed(
        &self,
        request: Request<ChangedRequest>,
    ) -> Result<Response<ChangedResponse>, tonic::Status> {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        self.0.take(request.metadata()).await;
        Ok(Response::new(ChangedResponse {}))
    }
}

/// A replica that runs.
pub struct Server {
    pub fake: Arc<Fake>,
    pub addr: SocketAddr,
    pub lifecycle: Lifecycle,
}

impl Server {
    pub async fn start(ip: &str, options: Options) -> Self {
        Self::start_at(&format!("{ip}:0"), options).await
    }

    pub async fn start_at(addr: &str, options: Options) -> Self {
        let fake = Arc::new(Fake {
            name: addr.to_owned(),
            snapshots: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            timeout: Mutex::default(),
            answers: watch::Sender::new(true),
        });
        let presence = PresenceServer::new(Served(Arc::clone(&fake)));
        let router = tonic::service::Routes::new(presence).into_axum_router();
        let (doors, lifecycle) = (Doors::for_test(7), Lifecycle::new());
        let addr = server::serve_with(&doors, &lifecycle, addr, router, options)
            .await
            .unwrap();
        Self {
            fake,
            addr,
            lifecycle,
        }
    }

    /// It dies on the spot.
    pub fn kill(&self) {
        self.lifecycle.abort();
    }
}

/// Counts what is asked of the network.
pub struct Counted {
    beneath: Arc<dyn Network>,
    pub connects: watch::Sender<usize>,
    pub lookups: watch::Sender<usize>,
}

#[async_trait]
impl Network for Counted {
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        self.beneath.listen(addr).await
    }

    async fn connect(&self, addr: &str) -> io::Result<BoxIo> {
        self.connects.send_modify(|n| *n += 1);
        self.beneath.connect(addr).await
    }

    async fn resolve(&self, addr: &str) -> io::Result<Vec<SocketAddr>> {
        let found = self.beneath.resolve(addr).await;
        self.lookups.send_modify(|n| *n += 1);
        found
    }
}

/// The other side: peers that know the replicas by [`NAME`].
pub struct World {
    pub names: Arc<Names>,
    pub net: Arc<Counted>,
    pub doors: Doors,
    pub lifecycle: Lifecycle,
    pub config: PeersConfig,
}

impl World {
    pub fn new() -> Self {
        let names = Names::over(Arc::new(Tcp));
        let net = Arc::new(Counted {
            beneath: names.clone(),
            connects: watch::Sender::new(0),
            lookups: watch::Sender::new(0),
        });
        let mut doors = Doors::for_test(1);
        doors.net = net.clone();
        Self {
            names,
            net,
            doors,
            lifecycle: Lifecycle::new(),
            config: PeersConfig {
                presence: NAME.into(),
                routing: NAME.into(),
                resolve_ms: 100,
                // only what a test is about may be quick, for the machine is not
                connect_ms: 20_000,
                keepalive_ms: 20_000,
                keepalive_timeout_ms: 20_000,
                deadline_ms: 60_000,
                ..PeersConfig::default()
            },
        }
    }

    pub fn peers(&self) -> RemotePeers {
        RemotePeers::new(&self.config, self.doors.clone(), &self.lifecycle, None).unwrap()
    }

    /// The replicas are these servers from now on.
    pub fn stand_for(&self, servers: &[&Server]) {
        let addresses: Vec<_> = servers.iter().map(|s| s.addr).collect();
        self.names.set(NAME, &addresses);
    }
}

/// Who answers.
pub async fn snapshot(channel: Channel) -> Result<String, tonic::Status> {
    let mut client = PresenceClient::new(channel);
    let answer = client.snapshot(SnapshotRequest::default()).await?;
    Ok(answer.into_inner().presences[0].user.clone())
}

/// A call that must not be made twice.
pub async fn change(channel: Channel) -> Result<(), tonic::Status> {
    let mut client = PresenceClient::new(channel);
    client.changed(ChangedRequest::default()).await?;
    Ok(())
}

/// Waits until it holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Two replicas.
pub async fn two() -> (Server, Server) {
    let a = Server::start("127.0.1.1", Options::default()).await;
    let b = Server::start("127.0.1.2", Options::default()).await;
    (a, b)
}

/// An address where nobody listens.
#[allow(clippy::disallowed_methods, reason = "the socket is what is tested")]
pub async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.1.9:0").await.unwrap();
    listener.local_addr().unwrap()
}
