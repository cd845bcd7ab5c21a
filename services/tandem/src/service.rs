//! `tandem <service>`: one service in a process of its own, on Kafka, Redis and Cassandra.
//!
//! Three ports at most: gRPC between the services (mutual TLS where it is configured), probes and
//! metrics (always plain, for kubelets and Prometheus), and devices (edge alone).

use std::{process::ExitCode, sync::Arc, time::Duration};

use axum::Router;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::RemotePeers,
    health::{self, grpc_health},
    lifecycle::Exit,
    server,
    telemetry::Telemetry,
    tls::Tls,
};
use tandem_edge::HttpKeys;
use tonic::service::Routes;

use crate::{
    cli,
    compose::{self, Parts},
    engines::Engines,
    issuer,
    settings::{ConfigArgs, Settings},
};

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Subscribers, contacts, devices.
    Accounts,
    /// Client connections.
    Edge,
    /// Conversations' events.
    History,
    /// Statuses.
    Presence,
    /// Notifications.
    Push,
    /// Admission and delivery.
    Routing,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Edge => "edge",
            Self::History => "history",
            Self::Presence => "presence",
            Self::Push => "push",
            Self::Routing => "routing",
        }
    }

    /// Names under which gRPC health knows it.
    fn health(self) -> &'static [&'static str] {
        match self {
            Self::Accounts => &[
                "tandem.accounts.v1.Accounts",
                "tandem.accounts.v1.Provisioning",
            ],
            Self::Edge => &["tandem.edge.v1.Edge", "tandem.client.v1.Messenger"],
            Self::History => &["tandem.history.v1.History"],
            Self::Presence => &["tandem.presence.v1.Presence"],
            Self::Push => &["tandem.push.v1.Push"],
            Self::Routing => &["tandem.routing.v1.Routing"],
        }
    }

    /// Services that it calls.
    fn calls(self) -> &'static [&'static str] {
        match self {
            Self::Accounts | Self::History => &[],
            Self::Edge => &["accounts", "history", "presence", "push", "routing"],
            Self::Presence => &["accounts"],
            Self::Push => &["accounts", "routing"],
            Self::Routing => &["accounts", "history"],
        }
    }

    /// Says what is missing in the config for this service.
    fn check(self, settings: &Settings) -> Result<(), String> {
        settings.peers.require(self.calls())?;
        if self == Self::Edge && !settings.edge.target.contains(':') {
            return Err(format!(
                "edge.target is {}: set it to the host:port at which other services reach this edge's \
                 server.listen, e.g. TANDEM__EDGE__TARGET=$(POD_IP):7401",
                settings.edge.target
            ));
        }
        if self == Self::Edge && settings.edge.issuers.is_empty() {
            return Err(
                "edge.issuers is empty, so nobody could sign in: name an OpenID provider".into(),
            );
        }
        Ok(())
    }
}

/// Why it did not come up.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs it until it is told to stop.
pub async fn run(service: Service, args: ConfigArgs) -> ExitCode {
    let settings = match args.load() {
        Ok(loaded) => loaded.value,
        Err(error) => return cli::usage(&error.to_string()),
    };
    if let Err(error) = service.check(&settings) {
        return cli::usage(&format!("config: {error}"));
    }
    let name = format!("tandem-{}", service.name());
    let telemetry = match Telemetry::init(&settings.telemetry, &name) {
        Ok(telemetry) => Arc::new(telemetry),
        Err(error) => return cli::usage(&error.to_string()),
    };
    let drain = Duration::from_millis(settings.lifecycle.drain_ms);
    // the engines outlive the service, which writes while it drains
    let (lifecycle, engines) = (Lifecycle::new(), Lifecycle::new());
    let started = tokio::select! {
        started = Box::pin(start(service, settings, &lifecycle, &engines, &telemetry)) => started,
        // told to stop before everything was there
        () = lifecycle.stopped() => Err("stopped before it was up".into()),
    };
    let engines_up = match started {
        Ok(up) => up,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            lifecycle.abort();
            engines.abort();
            telemetry.shutdown();
            return cli::fail(&format!("{}: {error}", service.name()));
        }
    };
    lifecycle.set_ready();
    tracing::info!(service = service.name(), "ready");
    let exit = lifecycle.run_to_end(drain).await;
    engines_up.close().await;
    engines.stop();
    if let Exit::Failed(reason) = &exit {
        tracing::error!(reason, "failed");
        eprintln!("tandem: {reason}");
    }
    telemetry.shutdown();
    ExitCode::from(exit.code())
}

async fn start(
    service: Service,
    settings: Settings,
    lifecycle: &Lifecycle,
    engines: &Lifecycle,
    telemetry: &Arc<Telemetry>,
) -> Result<Engines, Failure> {
    lifecycle.stop_on_signals()?;
    let doors = Doors::real();
    let ports = settings.server.clone();
    let ops = health::routes(lifecycle.clone(), Some(telemetry.clone()))
        .merge(grpc_health(lifecycle, service.health()));
    let options = server::Options {
        through_drain: true,
        ..server::Options::for_clients()
    };
    listen(&doors, lifecycle, ("server.ops", &ports.ops), ops, options).await?;
    let tls = Tls::load(&settings.tls, &doors, lifecycle)?;
    let peers = RemotePeers::new(&settings.peers, doors.clone(), lifecycle, tls.clone())?;
    let engines = Engines::connect(&settings, &doors, engines).await?;
    let parts = Parts {
        doors: doors.clone(),
        lifecycle: lifecycle.clone(),
        log: engines.log(),
        peers: Arc::new(peers),
    };
    let served = serve(service, &parts, &engines, settings).await?;
    let grpc = served.grpc.into_axum_router();
    let options = server::Options {
        tls,
        // sessions that leave one by one are delivered to until then
        through_drain: service == Service::Edge,
        ..server::Options::default()
    };
    let port = ("server.listen", ports.listen.as_str());
    listen(&doors, lifecycle, port, grpc, options).await?;
    if let Some(devices) = served.devices {
        let (section, config) = ("server.devices_tls", &ports.devices_tls);
        let options = server::Options {
            tls: Tls::load_for_clients(section, config, &doors, lifecycle)?,
            ..server::Options::for_clients()
        };
        let port = ("server.devices", ports.devices.as_str());
        listen(&doors, lifecycle, port, devices, options).await?;
    }
    Ok(engines)
}

/// What a service gives to be mounted.
struct Mounted {
    grpc: Routes,
    devices: Option<Router>,
}

async fn serve(
    service: Service,
    parts: &Parts,
    engines: &Engines,
    settings: Settings,
) -> Result<Mounted, Failure> {
    let mut devices = None;
    let grpc = match service {
        Service::Accounts => {
            let store = engines.store().await?;
            let served = compose::accounts::start(parts, store, settings.accounts).await?;
            Routes::new(served.accounts).add_service(served.provisioning)
        }
        Service::History => {
            let store = engines.store().await?;
            let served = compose::history::start(parts, store, settings.history).await?;
            Routes::new(served.grpc)
        }
        Service::Presence => {
            let ephemeral = engines.ephemeral().await?;
            let served = compose::presence::start(parts, ephemeral, settings.presence).await?;
            Routes::new(served.presence)
        }
        Service::Push => {
            let ephemeral = engines.ephemeral().await?;
            let served = compose::push::start(parts, ephemeral, settings.push).await?;
            Routes::new(served.grpc)
        }
        Service::Routing => {
            let (store, ephemeral) = (engines.store().await?, engines.ephemeral().await?);
            let served = compose::routing::start(parts, store, ephemeral, settings.routing).await?;
            Routes::new(served.grpc)
        }
        Service::Edge => {
            let ephemeral = engines.ephemeral().await?;
            let issuers = issuers(&settings.edge, parts)?;
            let served = compose::edge::start(
                parts,
                ephemeral,
                settings.edge,
                issuers,
                &settings.telemetry,
            )
            .await?;
            let messenger = Routes::new(served.grpc_messenger).into_axum_router();
            devices = Some(messenger.merge(served.http));
            Routes::new(served.grpc_edge)
        }
    };
    Ok(Mounted { grpc, devices })
}

/// The issuers whose tokens this edge takes.
fn issuers(
    config: &tandem_edge::Config,
    parts: &Parts,
) -> Result<Vec<tandem_edge::Issuer>, Failure> {
    if config.issuers.is_empty() {
        return Err(
            "edge.issuers is empty, so nobody could sign in: name an OpenID provider".into(),
        );
    }
    let of = |i: &tandem_edge::IssuerConfig| {
        let keys = HttpKeys::new(&parts.doors, &parts.lifecycle, &i.issuer, &i.jwks_url)?;
        Ok(tandem_edge::Issuer {
            issuer: i.issuer.clone(),
            audience: i.audience.clone(),
            keys: Arc::new(keys),
            development: i.issuer == issuer::ISSUER,
        })
    };
    config.issuers.iter().map(of).collect()
}

async fn listen(
    doors: &Doors,
    lifecycle: &Lifecycle,
    (key, addr): (&str, &str),
    router: Router,
    options: server::Options,
) -> Result<(), Failure> {
    let bound = server::serve_with(doors, lifecycle, addr, router, options)
        .await
        .map_err(|e| format!("{key} = {addr}: {e}"))?;
    tracing::info!(%bound, key, "listening");
    Ok(())
}
