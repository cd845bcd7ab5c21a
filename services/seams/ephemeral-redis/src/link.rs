//! The way to Redis: one primary, or a Cluster. It reconnects by itself; a command fails rather than
//! waits for long.

use std::{fs, path::Path, sync::Arc, time::Duration};

use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, aio::SendError,
    io::tcp::TcpSettings,
};
use tandem_chassis::Doors;

use crate::{
    cluster::Cluster,
    config::{Config, Mode, split},
    metrics::Metrics,
    single::Single,
};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There was no answer in time.
    Timeout,
    /// Redis, or the node concerned, is not there.
    Unreachable(String),
    /// Redis answered with an error.
    Refused(String),
    /// What it answered cannot be understood.
    Corrupt(String),
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Io if error.is_timeout() => Self::Timeout,
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => {
                Self::Unreachable(error.to_string())
            }
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::Corrupt(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Where Redis is and how it is signed in to.
pub(crate) struct Target {
    pub nodes: Vec<ConnectionInfo>,
    pub certificates: Option<redis::TlsCertificates>,
    pub connect: Duration,
    pub answer: Duration,
    pub in_flight: usize,
}

impl Target {
    /// Reads the files that the config names. The error names the key.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let read = |key: &str, file: &str| {
            if file.is_empty() {
                return Ok(None);
            }
            fs::read(Path::new(file))
                .map(Some)
                .map_err(|e| format!("redis.{key}: cannot read {file}: {e}"))
        };
        let certificates = if config.tls {
            let cert = read("cert_file", &config.cert_file)?;
            let key = read("key_file", &config.key_file)?;
            Some(redis::TlsCertificates {
                root_cert: read("ca_file", &config.ca_file)?,
                client_tls: cert
                    .zip(key)
                    .map(|(client_cert, client_key)| redis::ClientTlsConfig {
                        client_cert,
                        client_key,
                    }),
            })
        } else {
            None
        };
        let nodes = config.nodes().map(|a| node(a, config));
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            certificates,
            connect: config.connect_timeout(),
            answer: config.answer_timeout(),
            in_flight: config.in_flight,
        })
    }
}

fn node(address: &str, config: &Config) -> Result<ConnectionInfo, String> {
    let (host, port) =
        split(address).ok_or_else(|| format!("redis.addresses: {address} is not host:port"))?;
    let address = if config.tls {
        ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host.to_owned(), port)
    };
    let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if !config.username.is_empty() {
        settings = settings.set_username(&config.username);
    }
    if !config.password.is_empty() {
        settings = settings.set_password(&config.password);
    }
    address
        .into_connection_info()
        .map(|info| {
            info.set_redis_settings(settings)
                .set_tcp_settings(tcp(config))
        })
        .map_err(|e| format!("redis.addresses: {e}"))
}

/// A peer that takes nothing is given up, so that a cut is over soon after the network is back.
pub(crate) fn tcp(config: &Config) -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(config.connect_timeout() + config.answer_timeout())
}

/// Counts connections that are lost.
pub(crate) fn counting(
    metrics: &Arc<Metrics>,
) -> impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static {
    let metrics = Arc::clone(metrics);
    move |push| {
        if push.kind == PushKind::Disconnection {
            metrics.disconnects.add(1);
        }
        Ok(())
    }
}

/// An open way.
pub(crate) enum Link {
    Single(Box<Single>),
    Cluster(Box<Cluster>),
}

impl Link {
    /// Connects once.
    pub(crate) async fn open(
        config: &Config,
        target: Target,
        doors: &Doors,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Fault> {
        let (nodes, certificates) = (target.nodes.clone(), target.certificates.clone());
        if config.mode != Mode::Cluster {
            let single = Single::new(target, doors, metrics);
            let cluster = single.open(config.mode == Mode::Auto).await?;
            if !cluster {
                return Ok(Self::Single(Box::new(single)));
            }
        }
        let cluster = Cluster::open(config, nodes, certificates, doors, metrics).await?;
        Ok(Self::Cluster(Box::new(cluster)))
    }

    /// Sends a command to the primary that holds its key.
    pub(crate) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::Single(single) => single.send(command).await,
            Self::Cluster(cluster) => cluster.send(command).await,
        }
    }
}
