//! An edge on the embedded ephemeral store, with stand-ins for the services behind it, and devices that
//! connect to it in memory, so that the tests' time is theirs.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod device;
pub mod fakes;
pub mod flaky;
pub mod keys;

use std::{sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{LocalPeers, Peers, local},
};
use tandem_edge::{Config, Deps, Served, metrics::Metrics, serve};
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_kernel::{Code, EdgeId};
use tandem_proto::{
    accounts::accounts_server::AccountsServer, edge::edge_client::EdgeClient,
    history::history_server::HistoryServer, presence::presence_server::PresenceServer,
    routing::routing_server::RoutingServer,
};
use tokio::io::DuplexStream;

use self::{device::Device, fakes::Fakes, flaky::Flaky, keys::Keys};

/// The whole.
pub struct World {
    pub doors: Doors,
    pub lifecycle: Lifecycle,
    pub ephemeral: Arc<MemoryEphemeral>,
    /// The same, as the edge sees it.
    pub flaky: Arc<Flaky>,
    pub peers: LocalPeers,
    pub fakes: Fakes,
    pub keys: Keys,
    pub metrics: Arc<Metrics>,
    pub id: EdgeId,
    router: axum::Router,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let doors = Doors::for_test(7);
        let lifecycle = Lifecycle::new();
        let ephemeral = MemoryEphemeral::new(doors.clone());
        let flaky = Flaky::new(Arc::clone(&ephemeral));
        let peers = LocalPeers::new();
        let keys = Keys::new(doors.clone());
        let fakes = Fakes::new(ephemeral.clone(), Arc::new(peers.clone()));
        let mut config = Config::default();
        change(&mut config);
        let target = config.target.clone();
        let deps = Deps {
            doors: doors.clone(),
            log: fakes.log.clone(),
            ephemeral: flaky.clone(),
            peers: Arc::new(peers.clone()),
            issuers: vec![keys.issuer(), keys.development_issuer()],
            trace_ratio: 0.01,
        };
        let served = serve(deps, config, &lifecycle).await.unwrap();
        let Served {
            grpc_edge,
            grpc_messenger,
            http,
            id,
            metrics,
        } = served;
        peers.set(&target, local(grpc_edge.clone()));
        let world = Self {
            router: http.merge(tonic::service::Routes::new(grpc_messenger).into_axum_router()),
            doors,
            lifecycle,
            ephemeral,
            flaky,
            peers,
            fakes,
            keys,
            metrics,
            id,
        };
        world.routing_up();
        world.history_up();
        world.peers.set(
            "accounts",
            local(AccountsServer::new(world.fakes.accounts.clone())),
        );
        world.peers.set(
            "presence",
            local(PresenceServer::new(world.fakes.presence.clone())),
        );
        world
    }

    pub fn routing_up(&self) {
        self.peers.set(
            "routing",
            local(RoutingServer::new(self.fakes.routing.clone())),
        );
    }

    pub fn history_up(&self) {
        self.peers.set(
            "history",
            local(HistoryServer::new(self.fakes.history.clone())),
        );
    }

    /// A new byte stream to the edge's one port.
    pub fn socket(&self, buffer: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(buffer);
        let service = TowerToHyperService::new(self.router.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server
                .serve_connection_with_upgrades(TokioIo::new(theirs), service)
                .await;
        });
        ours
    }

    /// A device of `who` that is connected and has said nothing.
    pub async fn connect(&self) -> Device {
        Device::binary(self.socket(1 << 20)).await
    }

    /// A device of `who` with an open session that is synced.
    pub async fn open(&self, who: &str, device: &str) -> Device {
        let mut d = self.connect().await;
        d.hello(&self.keys.token(who), device).await;
        d.welcome().await;
        d.synced().await;
        d
    }

    pub fn refused(&self, code: Code) -> u64 {
        self.metrics.refused(code)
    }

    pub fn edge_client(&self) -> EdgeClient<tandem_chassis::grpc::Channel> {
        EdgeClient::new(self.peers.target(self.id.target()))
    }
}

/// Lets everything that can happen now, happen.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
