//! Putting push together.

use std::sync::Arc;

use tandem_chassis::{Doors, Lifecycle, grpc::Peers, http::Roots, lifecycle::OnEnd};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::{PUSH_DEAD_TOPIC, conversations_topic};
use tandem_log::{Log, TopicSpec, parking};
use tandem_proto::{
    accounts::accounts_client::AccountsClient, push::push_server::PushServer,
    routing::routing_client::RoutingClient,
};
use tokio::sync::mpsc;

use crate::{
    config::Config,
    consumer::Consumer,
    error::Error,
    grpc::PushService,
    metrics::Metrics,
    ports::Channel,
    usecase::{dead::Dead, deliver::Deliverer, directory::Directory, parking::Parking},
    web_push::WebPush,
};

/// Generation of the conversations topic.
const GENERATION: u16 = 1;

/// What push stands on.
pub struct Deps {
    /// The doors.
    pub doors: Doors,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Who has sessions, and which notifications stand.
    pub ephemeral: Arc<dyn Ephemeral>,
    /// The way to accounts and routing.
    pub peers: Arc<dyn Peers>,
    /// Who vouches for push services.
    pub roots: Roots,
}

/// What push serves.
pub struct Served {
    /// The gRPC service, to be mounted.
    pub grpc: PushServer<PushService>,
}

/// Once it returns, the topics for what cannot be read and for what cannot be delivered are there.
pub async fn ensure(log: &dyn Log) -> Result<(), Error> {
    let dead = TopicSpec {
        name: PUSH_DEAD_TOPIC.to_owned(),
        ..parking::topic("push")
    };
    for topic in [dead, parking::topic("push")] {
        log.ensure_topic(&topic).await?;
    }
    Ok(())
}

/// Starts push. Its reader and its deliverer run until the soft stop.
pub async fn serve(deps: Deps, config: Config, lifecycle: &Lifecycle) -> Result<Served, Error> {
    let Deps {
        doors,
        log,
        ephemeral,
        peers,
        roots,
    } = deps;
    ensure(&*log).await?;
    let channel = Arc::new(WebPush::new(&doors, &config, lifecycle, roots)?);
    let public_key = channel.public_key();
    let metrics = Metrics::new(channel.name());
    let parking = Parking {
        log: Arc::clone(&log),
        doors: doors.clone(),
        metrics: metrics.clone(),
    };
    let topic = conversations_topic(GENERATION);
    let deliverer = Arc::new(Deliverer::new(
        AccountsClient::new(peers.service("accounts")),
        Arc::clone(&ephemeral),
        channel,
        parking.clone(),
        topic.clone(),
        &config,
    ));
    let (work, orders) = mpsc::unbounded_channel();
    let (tickets, done) = mpsc::unbounded_channel();
    lifecycle.spawn(
        "push.deliver",
        OnEnd::Stop,
        Arc::clone(&deliverer).run(orders, tickets),
    );
    let consumer = Consumer {
        log: Arc::clone(&log),
        topic: (topic, GENERATION),
        ephemeral,
        directory: Directory {
            routing: RoutingClient::new(peers.service("routing")),
            timeout: Config::millis(config.call_timeout_ms),
        },
        parking: parking.clone(),
        doors,
        config,
        metrics,
        work,
        done,
    };
    lifecycle.spawn("push.read", OnEnd::Stop, consumer.run(lifecycle.clone()));
    let dead = Dead {
        log,
        deliverer,
        parking,
    };
    Ok(Served {
        grpc: PushServer::new(PushService::new(public_key, dead)),
    })
}
