//! `tandem up`: the whole suite in one process, on durable embedded stores and one port.

#![allow(clippy::print_stdout, reason = "tells a person how to talk")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::json;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{LocalPeers, Peers, local},
    health,
    lifecycle::Exit,
    server,
    telemetry::{LogFormat, Telemetry},
};
use tandem_edge::{JwkSet, KeySource};
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_history::HistoryControl;
use tandem_log_disk::DiskLog;
use tandem_proto::accounts::{
    ConnectRequest, UpsertRequest, provisioning_client::ProvisioningClient,
};
use tandem_store_disk::DiskStore;

use crate::{
    cli,
    compose::{self, Parts},
    issuer::{self, Issuer},
    settings::{ConfigArgs, Settings},
};

/// Ready-made people, contacts of each other.
const PEOPLE: [(&str, &str, &str); 4] = [
    ("alice", "Alice", "+33612345601"),
    ("bob", "Bob", "+447700900102"),
    ("chloe", "Chloé", "+33612345603"),
    ("dan", "Dan", "+34612345604"),
];

/// Partitions of the conversations' topic, unless the config says otherwise: one process gains
/// nothing from many.
const PARTITIONS: u32 = 4;

/// `tandem up`
#[derive(clap::Args)]
pub struct Args {
    /// Where everything is kept. Made if it is not there; one process at a time.
    #[arg(long, value_name = "DIR", default_value = "tandem-data")]
    data_dir: PathBuf,
    /// The one port: WebSocket, gRPC and HTTP. Do not open it to others: anyone gets a token here.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7400")]
    listen: String,
    /// Let tests pause history's reader (`POST /dev/history/pause` and `/dev/history/resume`).
    #[arg(long, hide = true)]
    test_hooks: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Why it did not come up.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs it until it is told to stop.
pub async fn run(args: Args) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(error) => return cli::usage(&error.to_string()),
    };
    let mut settings = loaded.value.clone();
    // on a terminal, people read; a config that says otherwise wins
    if !loaded.is_set("telemetry.log_format") {
        settings.telemetry.log_format = LogFormat::Text;
    }
    if !loaded.is_set("telemetry.log") {
        settings.telemetry.log = "warn".into();
    }
    if !loaded.is_set("routing.partitions") {
        settings.routing.partitions = PARTITIONS;
    }
    let telemetry = match Telemetry::init(&settings.telemetry, "tandem-up") {
        Ok(telemetry) => Arc::new(telemetry),
        Err(error) => return cli::usage(&error.to_string()),
    };
    let drain = Duration::from_millis(settings.lifecycle.drain_ms);
    // the stores outlive the services, which write while they drain
    let (lifecycle, stores) = (Lifecycle::new(), Lifecycle::new());
    let suite = match start(&args, settings, &lifecycle, &stores, telemetry.clone()).await {
        Ok(suite) => suite,
        Err(error) => {
            lifecycle.abort();
            stores.abort();
            return cli::fail(&error.to_string());
        }
    };
    println!("{}", suite.greeting(&args.data_dir));
    lifecycle.set_ready();
    let exit = tokio::select! {
        exit = lifecycle.run_to_end(drain) => exit,
        // without its stores the suite is of no use: it ends at once, and loses nothing accepted
        () = stores.stopped() => {
            lifecycle.abort();
            stores.run_to_end(Duration::ZERO).await
        }
    };
    suite.log.close().await;
    stores.stop();
    telemetry.shutdown();
    if let Exit::Failed(reason) = &exit {
        eprintln!("tandem: {reason}");
    }
    ExitCode::from(exit.code())
}

struct Suite {
    log: Arc<DiskLog>,
    addr: std::net::SocketAddr,
    domain: String,
}

/// Brings everything up, in the order in which the parts need each other.
async fn start(
    args: &Args,
    settings: Settings,
    lifecycle: &Lifecycle,
    stores: &Lifecycle,
    telemetry: Arc<Telemetry>,
) -> Result<Suite, Failure> {
    lifecycle.stop_on_signals()?;
    let doors = Doors::real();
    let dir = &args.data_dir;
    std::fs::create_dir_all(dir).map_err(|e| format!("--data-dir {}: {e}", dir.display()))?;
    let log = DiskLog::open(
        &dir.join("log"),
        doors.clone(),
        tandem_log_disk::Options::default(),
        stores,
    )
    .await?;
    let store = DiskStore::open(
        &dir.join("store"),
        doors.clone(),
        stores,
        &tandem_store_disk::Options::default(),
    )?;
    let ephemeral = MemoryEphemeral::new(doors.clone());
    let peers = LocalPeers::new();
    let parts = Parts {
        doors: doors.clone(),
        lifecycle: lifecycle.clone(),
        log: log.clone(),
        peers: Arc::new(peers.clone()),
    };

    let issuer = Arc::new(Issuer::open(dir, &settings.edge.domain, &doors)?);
    let domain = settings.edge.domain.clone();
    let (router, control) =
        services(&parts, (store, ephemeral), &peers, settings, dir, &issuer).await?;
    people(&*parts.peers, &domain).await?;

    let router = router
        .merge(issuer.routes())
        .merge(health::routes(lifecycle.clone(), Some(telemetry)))
        .merge(development(&domain, args.test_hooks.then_some(control)));
    let addr = server::serve(&doors, lifecycle, &args.listen, router)
        .await
        .map_err(|e| format!("--listen {}: {e}", args.listen))?;
    Ok(Suite { log, addr, domain })
}

/// Starts the services and joins what each serves.
async fn services(
    parts: &Parts,
    (store, ephemeral): (Arc<DiskStore>, Arc<MemoryEphemeral>),
    peers: &LocalPeers,
    mut settings: Settings,
    dir: &Path,
    issuer: &Arc<Issuer>,
) -> Result<(Router, HistoryControl), Failure> {
    settings.edge.dev_issuer = true;
    settings.accounts.create_on_sign_in = true;
    if settings.push.vapid_private_key.is_empty() {
        settings.push.vapid_private_key = vapid_key(dir, &parts.doors)?;
        settings.push.vapid_subject = format!("mailto:operator@{}", settings.edge.domain);
    }
    let accounts = compose::accounts::start(parts, store.clone(), settings.accounts).await?;
    peers.set("accounts", local(accounts.accounts));
    peers.set("provisioning", local(accounts.provisioning.clone()));
    let routing =
        compose::routing::start(parts, store.clone(), ephemeral.clone(), settings.routing).await?;
    peers.set("routing", local(routing.grpc));
    let history = compose::history::start(parts, store, settings.history).await?;
    peers.set("history", local(history.grpc));
    let presence = compose::presence::start(parts, ephemeral.clone(), settings.presence).await?;
    peers.set("presence", local(presence.presence));
    let push = compose::push::start(parts, ephemeral.clone(), settings.push).await?;
    peers.set("push", local(push.grpc.clone()));
    let development = tandem_edge::Issuer {
        issuer: issuer::ISSUER.into(),
        audience: issuer::AUDIENCE.into(),
        keys: Arc::new(Keys(issuer.clone())),
        development: true,
    };
    let target = settings.edge.target.clone();
    let issuers = vec![development];
    let edge = compose::edge::start(
        parts,
        ephemeral,
        settings.edge,
        issuers,
        &settings.telemetry,
    )
    .await?;
    peers.set(&target, local(edge.grpc_edge));

    let grpc = tonic::service::Routes::new(edge.grpc_messenger)
        .add_service(accounts.provisioning)
        .add_service(push.grpc);
    Ok((grpc.into_axum_router().merge(edge.http), history.control))
}

struct Keys(Arc<Issuer>);

#[async_trait]
impl KeySource for Keys {
    async fn fetch(&self) -> Result<JwkSet, String> {
        Ok(self.0.keys())
    }
}

/// The key that devices subscribe with; made once, so that subscriptions stay good.
fn vapid_key(dir: &Path, doors: &Doors) -> Result<String, Failure> {
    let path = dir.join("vapid-private-key");
    match std::fs::read_to_string(&path) {
        Ok(key) => Ok(key),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = tandem_push::VapidKey::generate(&doors.rng)?;
            issuer::write_private(&path, key.as_bytes())?;
            Ok(key)
        }
        Err(e) => Err(format!("{}: {e}", path.display()).into()),
    }
}

/// Makes the ready-made people; the same again changes nothing.
async fn people(peers: &dyn Peers, domain: &str) -> Result<(), Failure> {
    let mut client = ProvisioningClient::new(peers.service("provisioning"));
    let address = |local: &str| format!("{local}@{domain}");
    for (local, name, phone) in PEOPLE {
        let person = UpsertRequest {
            user: address(local),
            name: Some(name.into()),
            phone: Some(phone.into()),
            ..UpsertRequest::default()
        };
        client.upsert(person).await?;
    }
    for (i, (a, ..)) in PEOPLE.iter().enumerate() {
        for (b, ..) in &PEOPLE[i + 1..] {
            client
                .connect(ConnectRequest {
                    a: address(a),
                    b: address(b),
                })
                .await?;
        }
    }
    Ok(())
}

/// What only a development server tells, and what only tests may do.
fn development(domain: &str, hooks: Option<HistoryControl>) -> Router {
    let info = json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "domain": domain,
    });
    let router = Router::new().route("/dev/info", get(move || async move { Json(info) }));
    let Some(control) = hooks else { return router };
    let hook = Router::new()
        .route(
            "/dev/history/pause",
            post(|State(c): State<HistoryControl>| async move {
                c.pause().await;
                StatusCode::NO_CONTENT
            }),
        )
        .route(
            "/dev/history/resume",
            post(|State(c): State<HistoryControl>| async move {
                c.resume();
                StatusCode::NO_CONTENT
            }),
        );
    router.merge(hook.with_state(control))
}

impl Suite {
    fn greeting(&self, dir: &Path) -> String {
        let (addr, domain) = (self.addr, &self.domain);
        let server = match addr.port() {
            7400 if addr.ip().is_loopback() => String::new(),
            _ => format!(" --server ws://{addr}"),
        };
        format!(
            "tandem is up on {addr}, data in {dir}\n\
             \n\
             talk, each in a terminal of its own (any name works):\n\
             \x20 cargo run --release -- chat --as alice{server}\n\
             \x20 cargo run --release -- chat --as bob{server}\n\
             \n\
             alice, bob, chloe and dan (@{domain}) are contacts of each other\n\
             with another client: ws://{addr}/v1/connect, subprotocol tandem.v1+json; see proto/README.md\n\
             a token:   curl -s -d '{{\"user\":\"alice\"}}' -H 'content-type: application/json' http://{addr}/dev/token\n\
             metrics:   http://{addr}/metrics\n\
             stop with ctrl-c; kill -9 loses nothing that was accepted",
            dir = dir.display(),
        )
    }
}
