//! A Redis Cluster. The driver follows its changes: moved slots, new primaries, nodes that break off.

use std::{io, sync::Arc, time::Duration};

use parking_lot::RwLock;
use redis::{
    Cmd, ConnectionInfo, FromRedisValue, ProtocolVersion, RedisError, TlsCertificates,
    cluster::{ClusterClient, ClusterConfig},
    cluster_async::ClusterConnection,
};
use tandem_chassis::Doors;
use tandem_kernel::Clock;
use tokio::time::timeout;

use crate::{
    config::Config,
    link::{counting, tcp},
    metrics::Metrics,
};

/// How long a silence may last until the Cluster is looked at anew.
const AGAIN: Duration = Duration::from_secs(3);

pub(crate) struct Cluster {
    client: ClusterClient,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    answer: Duration,
    /// And since when.
    current: RwLock<(ClusterConnection, Duration)>,
}

impl Cluster {
    pub(crate) async fn open(
        config: &Config,
        nodes: Vec<ConnectionInfo>,
        certificates: Option<TlsCertificates>,
        doors: &Doors,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, RedisError> {
        let mut builder = ClusterClient::builder(nodes)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(config.connect_timeout())
            .response_timeout(config.answer_timeout())
            .tcp_settings(tcp(config))
            .min_retry_wait(20)
            .max_retry_wait(250)
            .push_sender(counting(metrics));
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        let client = builder.build()?;
        let connection = client.get_async_connection().await?;
        metrics.connects.add(1);
        Ok(Self {
            client,
            clock: Arc::clone(&doors.clock),
            metrics: Arc::clone(metrics),
            answer: config.answer_timeout(),
            current: RwLock::new((connection, doors.clock.monotonic())),
        })
    }

    pub(crate) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = self.current.read().0.clone();
        let answer = timeout(self.answer, command.query_async(&mut connection)).await;
        answer.unwrap_or_else(|_| {
            self.look_anew();
            Err(io::Error::from(io::ErrorKind::TimedOut).into())
        })
    }

    /// The driver asks a node that is silent for ever, though others may have replaced it: so all are asked anew who
    /// there is. What is under way ends where it was sent.
    fn look_anew(&self) {
        let now = self.clock.monotonic();
        let mut current = self.current.write();
        if now.saturating_sub(current.1) < AGAIN {
            return;
        }
        let config = ClusterConfig::new().set_response_timeout(self.answer);
        let afresh = self.client.get_pending_async_connection_with_config(config);
        *current = (afresh, now);
        self.metrics.connects.add(1);
    }
}
