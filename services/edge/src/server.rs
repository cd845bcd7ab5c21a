//! What the edge needs, and how it comes up and goes down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tandem_chassis::{Doors, Lifecycle, grpc::Peers, lifecycle::OnEnd};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::EdgeId;
use tandem_log::Log;
use tandem_proto::{client::messenger_server::MessengerServer, edge::edge_server::EdgeServer};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    domain::{effect::Rules, retained},
    edge::Edge,
    grpc::Grpc,
    http,
    mailbox::{Bound, Item},
    metrics::Metrics,
    ports::Issuer,
    usecase::{
        asks::Asks,
        lease::Keeper,
        receipts::Coalescer,
        registry::Registry,
        sign_in::SignIn,
        submits::{Limits, Submits},
        sync::Syncer,
        tokens::Tokens,
    },
};

/// What the edge stands on.
pub struct Deps {
    /// The outside.
    pub doors: Doors,
    /// The log, for its end offsets.
    pub log: Arc<dyn Log>,
    /// Leases and sessions.
    pub ephemeral: Arc<dyn Ephemeral>,
    /// The other services: routing, history, accounts, presence, push.
    pub peers: Arc<dyn Peers>,
    /// Whose tokens are accepted.
    pub issuers: Vec<Issuer>,
    /// Share of submitted events whose way is traced, 0 to 1.
    pub trace_ratio: f64,
}

/// An edge that is up.
pub struct Served {
    /// For routing and presence.
    pub grpc_edge: EdgeServer<Grpc>,
    /// For devices.
    pub grpc_messenger: MessengerServer<Grpc>,
    /// For devices: `/v1/connect`.
    pub http: axum::Router,
    /// This edge, in this incarnation.
    pub id: EdgeId,
    /// Its instruments.
    pub metrics: Arc<Metrics>,
}

fn rules(config: &Config) -> Rules {
    Rules {
        hello_within: Duration::from_millis(config.hello_ms),
        heartbeat: Duration::from_millis(config.heartbeat_ms),
        resume_within: Duration::from_millis(config.resume_ms),
        events: (config.events_per_s, config.events_burst),
        frames: (config.frames_per_s, config.frames_burst),
        conversations: config.conversations,
        requests: config.requests as usize,
        text_bytes: config.text_bytes,
        page: config.page,
        retained: retained::Bound {
            frames: config.retained_frames as usize,
            bytes: config.retained_bytes as usize,
        },
    }
}

/// Takes the lease and brings the edge up. It drains at the soft stop.
pub async fn serve(deps: Deps, config: Config, lifecycle: &Lifecycle) -> Result<Served, Error> {
    config.validate().map_err(Error::Config)?;
    let Deps {
        doors,
        log,
        ephemeral,
        peers,
        issuers,
        trace_ratio,
    } = deps;
    let id = EdgeId::new(&config.target, doors.rng.u64());
    let call = Duration::from_millis(config.call_ms);
    let first = take_lease(&*ephemeral, &id, call).await?;

    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::new());
    let mailbox = Bound {
        items: config.mailbox_items as usize,
        bytes: config.mailbox_bytes as usize,
    };
    let registry = Registry::new(
        id.clone(),
        Arc::clone(&ephemeral),
        peers.service("presence"),
        call,
        mailbox,
        Arc::clone(&metrics),
    );
    let limits = Limits {
        open: config.submit_open as usize,
        wait: Duration::from_millis(config.submit_wait_ms),
        answer: Duration::from_millis(config.submit_answer_ms),
        trace_ratio,
        call,
        mailbox,
    };
    let (refused_tx, refused_rx) = mpsc::unbounded_channel();
    let submits = Submits::new(doors.clone(), limits, Arc::clone(&metrics), refused_tx);
    let delay = Duration::from_millis(config.receipts_ms);
    let receipts = Coalescer::new(
        delay,
        doors.clone(),
        Arc::clone(&metrics),
        Arc::clone(&submits),
    );
    let syncer = Syncer::new(
        log,
        peers.service("history"),
        doors.clone(),
        Arc::clone(&metrics),
        call,
        config.syncs as usize,
    );
    let asks = Asks::new(&*peers, call);
    let tokens = Tokens::new(issuers, &config, Arc::clone(&doors.clock));
    let sign_in = SignIn::new(
        tokens,
        Arc::clone(&asks),
        doors.clone(),
        Arc::clone(&config),
    );
    let edge = Arc::new(Edge {
        rules: Arc::new(rules(&config)),
        stall: Duration::from_millis(config.stall_ms),
        doors,
        config,
        mailbox,
        metrics: Arc::clone(&metrics),
        registry,
        sign_in,
        submits,
        receipts,
        syncer,
        asks,
        lifecycle: lifecycle.clone(),
        draining: AtomicBool::new(false),
        parcels: AtomicU64::new(0),
    });
    edge.registry.register_all(first);
    spawn_tasks(&edge, &*peers, ephemeral, refused_rx, first, call);

    let frame_bytes = edge.config.frame_bytes as usize;
    let grpc = Grpc(Arc::clone(&edge));
    Ok(Served {
        grpc_edge: EdgeServer::new(grpc.clone()).max_decoding_message_size(usize::MAX),
        grpc_messenger: MessengerServer::new(grpc).max_decoding_message_size(frame_bytes),
        http: http::router(edge),
        id,
        metrics,
    })
}

/// The epoch in which the lease was taken.
async fn take_lease(ephemeral: &dyn Ephemeral, id: &EdgeId, call: Duration) -> Result<u64, Error> {
    let mut pause = Duration::from_millis(100);
    let mut last = None;
    for _ in 0..5 {
        match timeout(call, ephemeral.renew(id, 0)).await {
            Ok(Ok(renewal)) => return Ok(renewal.epoch),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease cannot be taken; trying again");
                last = Some(error);
            }
            Err(_) => tracing::warn!("the lease cannot be taken in time; trying again"),
        }
        sleep(pause).await;
        pause *= 2;
    }
    let silent = || tandem_ephemeral::EphemeralError::Unavailable("no answer in time".to_owned());
    Err(last.unwrap_or_else(silent).into())
}

fn spawn_tasks(
    edge: &Arc<Edge>,
    peers: &dyn Peers,
    ephemeral: Arc<dyn Ephemeral>,
    refused: mpsc::UnboundedReceiver<crate::domain::receipts::Key>,
    epoch: u64,
    call: Duration,
) {
    let ended = CancellationToken::new();
    let lifecycle = &edge.lifecycle;
    // each of these runs until the sessions have gone, not only until the soft stop
    let until_ended = |name, task: futures::future::BoxFuture<'static, ()>| {
        let ended = ended.clone();
        lifecycle.spawn(name, OnEnd::Stop, async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = task => {}
            }
        });
    };
    let e = Arc::clone(edge);
    until_ended(
        "edge registry",
        Box::pin(async move { e.registry.run().await }),
    );
    let e = Arc::clone(edge);
    until_ended(
        "edge presence",
        Box::pin(async move { e.registry.tell_presence().await }),
    );
    let e = Arc::clone(edge);
    until_ended(
        "edge receipts",
        Box::pin(async move { e.receipts.run(refused).await }),
    );
    let e = Arc::clone(edge);
    until_ended(
        "edge end offsets",
        Box::pin(async move { e.syncer.run().await }),
    );
    let (e, push) = (Arc::clone(edge), peers.service("push"));
    until_ended(
        "edge vapid key",
        Box::pin(async move { e.sign_in.learn_vapid(push).await }),
    );
    let submits =
        Arc::clone(&edge.submits).run(peers.replicas("routing"), lifecycle.clone(), ended.clone());
    until_ended("edge submits", Box::pin(submits));
    let keeper = Keeper {
        registry: Arc::clone(&edge.registry),
        ephemeral: Arc::clone(&ephemeral),
        clock: Arc::clone(&edge.doors.clock),
        metrics: Arc::clone(&edge.metrics),
        mailbox: edge.mailbox,
        call,
    };
    until_ended("edge lease", Box::pin(keeper.run(epoch)));
    let drain = drain(Arc::clone(edge), ephemeral, ended.clone(), call);
    lifecycle.spawn("edge drain", OnEnd::Fine, drain);
}

/// Waits for the soft stop, asks the devices to leave at a pace, and gives the lease back.
async fn drain(
    edge: Arc<Edge>,
    ephemeral: Arc<dyn Ephemeral>,
    ended: CancellationToken,
    call: Duration,
) {
    edge.lifecycle.stopped().await;
    edge.draining.store(true, Ordering::Release);
    let pace = Duration::from_secs(1) / edge.config.drain_per_s.max(1);
    let step = (edge.config.drain_per_s as usize).div_ceil(20).max(1);
    let mut told = 0;
    for handle in edge.registry.all() {
        // nobody comes back from one that waits for a resume, so it takes no turn
        let paced = handle.is_attached();
        let leave = Item::Drain(edge.reconnect_after());
        let _ = handle.mailbox.push(leave, edge.mailbox);
        told += usize::from(paced);
        if paced && told % step == 0 {
            sleep(pace * step as u32).await;
        }
    }
    // what was confirmed and sent is still said, if routing is there to hear it
    for _ in 0..100 {
        if edge.registry.is_empty()
            && edge.registry.is_settled()
            && edge.receipts.is_empty()
            && edge.submits.open() == 0
        {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    if !matches!(
        timeout(call, ephemeral.release(edge.registry.edge())).await,
        Ok(Ok(()))
    ) {
        tracing::warn!("the lease was not given back: it lapses by itself");
    }
    ended.cancel();
}
