//! Puts routing together.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tandem_chassis::{Doors, Lifecycle, grpc::Peers, lifecycle::OnEnd};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::{ACCOUNTS_TOPIC, Pulse, conversations_topic, pulse::BEAT};
use tandem_log::{Log, LogError, Retention, Start, TopicSpec, parking};
use tandem_proto::routing::routing_server::RoutingServer;
use tandem_store::Store;
use tokio::sync::mpsc;

use crate::{
    config::Config,
    consumer::Consumer,
    domain::rate::Rates,
    edges::Edges,
    error::Error,
    grpc::Grpc,
    metrics::Metrics,
    usecase::{
        admit::{Admission, Dedupes},
        deliver::Delivering,
        directory::{Directory, TABLE},
        facts::{EventFacts, GENERATION},
        relations::{RelationsCache, follow},
        typing::TypingTask,
    },
};

/// Largest batch that an edge may submit, in bytes.
const BATCH_BYTES: usize = 64 << 20;

/// What routing stands on.
pub struct Deps {
    /// Clock, randomness.
    pub doors: Doors,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store, for the directory.
    pub store: Arc<dyn Store>,
    /// Where sessions are.
    pub ephemeral: Arc<dyn Ephemeral>,
    /// accounts, history and the edges.
    pub peers: Arc<dyn Peers>,
}

/// What was started.
pub struct Served {
    /// To be mounted on a server or wrapped in process.
    pub grpc: RoutingServer<Grpc>,
}

/// Starts routing: its topics and table are there, its reader has joined the group and changes of accounts
/// are followed once this returns.
pub async fn serve(deps: Deps, config: Config, lifecycle: &Lifecycle) -> Result<Served, Error> {
    config.validate().map_err(Error::Config)?;
    let Deps {
        doors,
        log,
        store,
        ephemeral,
        peers,
    } = deps;
    let topic = conversations_topic(GENERATION);
    let partitions = ensure(&*log, &*store, &config).await?;

    let metrics = Arc::new(Metrics::new());
    let relations = Arc::new(RelationsCache::new(
        peers.service("accounts"),
        doors.clone(),
        &config,
    ));
    let changes = log.follow(ACCOUNTS_TOPIC, Start::Newest).await?;
    let following = follow(
        Arc::clone(&log),
        Arc::clone(&relations),
        changes,
        lifecycle.clone(),
    );
    lifecycle.spawn("routing account changes", OnEnd::Stop, following);

    let directory = Arc::new(Directory::new(store, doors.clone(), partitions, &config));
    let cooldown = Duration::from_millis(config.peer_cooldown_ms);
    let history = peers.service("history");
    let facts = EventFacts::new(
        Arc::clone(&log),
        topic.clone(),
        history,
        doors.clone(),
        Arc::clone(&metrics),
        cooldown,
    );
    let facts = Arc::new(facts);
    let edges = Edges::new(peers, doors.clone(), lifecycle.clone(), &config);
    let dedupes = Arc::new(Dedupes::default());

    let reader = log.subscribe(&topic, "routing", Start::Oldest).await?;
    let delivering = Arc::new(Delivering {
        log: Arc::clone(&log),
        topic: topic.clone(),
        partitions,
        doors: doors.clone(),
        config: config.clone(),
        metrics: Arc::clone(&metrics),
        directory: Arc::clone(&directory),
        facts: Arc::clone(&facts),
        ephemeral: Arc::clone(&ephemeral),
        edges: edges.clone(),
    });
    let consumer = Consumer::new(delivering, Arc::clone(&dedupes), lifecycle.clone(), reader);
    lifecycle.spawn("routing reader", OnEnd::Stop, consumer.run());

    let (typing, signals) = mpsc::channel(config.typing_queue);
    let pulse = Pulse::new(doors.clock.monotonic());
    let shared = Arc::new(Admission {
        pulse,
        log,
        topic,
        partitions,
        doors,
        rates: Mutex::new(Rates::new(config.events_per_s, config.events_burst)),
        config,
        metrics,
        relations,
        directory,
        facts,
        dedupes,
    });
    let beating = beat(Arc::clone(&shared), lifecycle.clone());
    lifecycle.spawn("routing pulse", OnEnd::Fine, beating);
    let task = TypingTask {
        shared: Arc::clone(&shared),
        ephemeral,
        edges,
        signals,
    };
    lifecycle.spawn("routing typing", OnEnd::Stop, task.run(lifecycle.clone()));

    let grpc = Grpc {
        shared,
        typing,
        lifecycle: lifecycle.clone(),
    };
    Ok(Served {
        grpc: RoutingServer::new(grpc).max_decoding_message_size(BATCH_BYTES),
    })
}

/// Once it returns, the service's table and topics are there. Says how many partitions the
/// conversations' topic has, which the config only decides when the topic is made.
pub async fn ensure(log: &dyn Log, store: &dyn Store, config: &Config) -> Result<u32, Error> {
    let topic = conversations_topic(GENERATION);
    store.ensure_table(TABLE).await?;
    let age = Some(Duration::from_millis(config.log_retention_ms));
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: config.partitions,
        retention: Retention::Delete { age, bytes: None },
    };
    let partitions = match log.partitions(&topic).await {
        Ok(partitions) => partitions,
        Err(LogError::NoTopic(_)) => config.partitions,
        Err(error) => return Err(error.into()),
    };
    log.ensure_topic(&TopicSpec { partitions, ..spec }).await?;
    log.ensure_topic(&parking::topic("routing")).await?;
    Ok(partitions)
}

async fn beat(shared: Arc<Admission>, lifecycle: Lifecycle) {
    let mut every = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            () = lifecycle.stopped() => return,
            _ = every.tick() => shared.pulse.beat(shared.doors.clock.monotonic()),
        }
    }
}
