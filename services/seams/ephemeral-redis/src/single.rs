//! One primary: whichever of the addresses is it now.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, RedisError,
    ServerErrorKind, aio::MultiplexedConnection,
};
use tandem_chassis::Doors;
use tandem_kernel::Clock;

use crate::{
    link::{Target, counting},
    metrics::Metrics,
};

/// After an attempt to connect failed, how long commands fail at once before the next.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Single {
    target: Target,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    numbers: AtomicU64,
    current: RwLock<Option<(u64, MultiplexedConnection)>>,
    /// When the last attempt failed, and how. Held while one is made.
    failed: tokio::sync::Mutex<Option<(Duration, RedisError)>>,
}

impl Single {
    pub(crate) fn new(target: Target, doors: &Doors, metrics: &Arc<Metrics>) -> Self {
        Self {
            target,
            clock: Arc::clone(&doors.clock),
            metrics: Arc::clone(metrics),
            numbers: AtomicU64::new(0),
            current: RwLock::new(None),
            failed: tokio::sync::Mutex::default(),
        }
    }

    /// Connects, unless (with `detect`) it is a Cluster that is there: then true.
    pub(crate) async fn open(&self, detect: bool) -> Result<bool, RedisError> {
        let mut last = none();
        for node in &self.target.nodes {
            match self.connect(node, detect).await {
                Ok(Found::Cluster) => return Ok(true),
                Ok(Found::Primary(connection)) => {
                    let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                    *self.current.write() = Some((number, connection));
                    self.metrics.connects.add(1);
                    return Ok(false);
                }
                Ok(Found::Replica) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let (number, mut connection) = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        if answer.as_ref().is_err_and(of_the_connection) {
            let mut current = self.current.write();
            if current.as_ref().is_some_and(|c| c.0 == number) {
                *current = None;
            }
        }
        answer
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let Some(current) = self.current.read().clone() {
            return Ok(current);
        }
        let mut failed = self.failed.lock().await;
        if let Some(current) = self.current.read().clone() {
            return Ok(current);
        }
        if let Some((at, error)) = &*failed
            && self.clock.monotonic().saturating_sub(*at) < PAUSE
        {
            return Err(error.clone());
        }
        let opened = self.open(false).await.map(|_| ());
        let current = self.current.read().clone();
        *failed = opened.err().map(|error| (self.clock.monotonic(), error));
        match (&*failed, current) {
            (Some((_, error)), _) => Err(error.clone()),
            (None, current) => current.ok_or_else(none),
        }
    }

    async fn connect(&self, node: &ConnectionInfo, detect: bool) -> Result<Found, RedisError> {
        let client = match &self.target.certificates {
            Some(certificates) => Client::build_with_tls(node.clone(), certificates.clone())?,
            None => Client::open(node.clone())?,
        };
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.target.connect))
            .set_response_timeout(Some(self.target.answer))
            .set_pipeline_buffer_size(self.target.in_flight)
            .set_push_sender(counting(&self.metrics));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&settings)
            .await?;
        if detect {
            let cluster = info(&mut connection, "cluster").await?;
            if cluster.contains("cluster_enabled:1") {
                return Ok(Found::Cluster);
            }
        }
        let replication = info(&mut connection, "replication").await?;
        if replication.contains("role:master") {
            Ok(Found::Primary(connection))
        } else {
            Ok(Found::Replica)
        }
    }
}

enum Found {
    Primary(MultiplexedConnection),
    Replica,
    Cluster,
}

async fn info(connection: &mut MultiplexedConnection, section: &str) -> Result<String, RedisError> {
    redis::cmd("INFO")
        .arg(section)
        .query_async(connection)
        .await
}

fn none() -> RedisError {
    (ErrorKind::Io, "none of redis.addresses is a primary").into()
}

/// Whether another connection is needed: it is lost or silent, or leads to who is not the primary (any more).
fn of_the_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}
