//! gRPC: one client type for local, remote and mock, and the sets of replicas behind names.
//!
//! `Channel` is what every generated client stands on: in `tandem up` it wraps the server's own tower
//! service, with no socket between; elsewhere it is a tonic channel. One code path, either way.

mod call;
mod config;
mod heard;
mod line;
mod methods;
mod remote;
mod set;

pub use config::PeersConfig;
pub use remote::RemotePeers;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use tandem_kernel::Code;
use tokio::sync::watch;
use tonic::{Status, body::Body, metadata::MetadataValue};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use crate::Doors;

/// An error on the way to a service. A type of its own, so that the compiler sees that clients' futures
/// are `Send` (which it does not for a boxed `dyn Error` in a generic client).
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BoxError(Box<dyn std::error::Error + Send + Sync>);

impl From<tonic::transport::Error> for BoxError {
    fn from(error: tonic::transport::Error) -> Self {
        Self(error.into())
    }
}

/// What a generated client stands on. Cheap to clone.
pub type Channel = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, BoxError>;

/// Name of the metadata entry that carries the error code's text.
pub const CODE_METADATA: &str = "tandem-code";

/// The server of a service as a channel, for clients in the same process.
pub fn local<S>(server: S) -> Channel
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(server.map_err(|never| match never {}))
}

/// A channel to the server at `host:port` over HTTP/2 without TLS. It connects at the first call, and
/// again after the connection was lost.
pub fn remote(doors: &Doors, addr: &str) -> Result<Channel, BoxError> {
    let (net, target) = (Arc::clone(&doors.net), addr.to_owned());
    let connector = tower::service_fn(move |_: http::Uri| {
        let (net, target) = (Arc::clone(&net), target.clone());
        async move { net.connect(&target).await.map(TokioIo::new) }
    });
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{addr}"))?
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector);
    Ok(BoxCloneSyncService::new(channel.map_err(Into::into)))
}

/// One replica of a service.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Stable name, for rendezvous hashing.
    pub name: String,
    /// The way to it.
    pub channel: Channel,
}

impl AsRef<str> for Replica {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// The replicas of a service as they change.
pub type Replicas = watch::Receiver<Arc<Vec<Replica>>>;

/// Where the other services are.
pub trait Peers: Send + Sync + 'static {
    /// Any replica of the service (`accounts`, `history`, ...), balanced.
    fn service(&self, name: &'static str) -> Channel;

    /// All replicas of the service, ordered by name.
    fn replicas(&self, name: &'static str) -> Replicas;

    /// A certain process, by the target that it gave (`EdgeId::target`).
    fn target(&self, target: &str) -> Channel;
}

/// Peers in one process: a registry of servers, filled as they come up. A call to one that is not there
/// (yet, or any more) is `Unavailable`.
#[derive(Debug, Clone, Default)]
pub struct LocalPeers(Arc<RwLock<BTreeMap<String, ReplicasSender>>>);

type ReplicasSender = watch::Sender<Arc<Vec<Replica>>>;

impl LocalPeers {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// `channel` leads to the service's only replica from now on.
    pub fn set(&self, name: &str, channel: Channel) {
        let replica = Replica {
            name: name.to_owned(),
            channel,
        };
        self.sender(name).send_replace(Arc::new(vec![replica]));
    }

    /// The service has gone.
    pub fn unset(&self, name: &str) {
        self.sender(name).send_replace(Arc::new(Vec::new()));
    }

    fn sender(&self, name: &str) -> ReplicasSender {
        if let Some(sender) = self.0.read().get(name) {
            return sender.clone();
        }
        self.0
            .write()
            .entry(name.to_owned())
            .or_insert_with(|| watch::Sender::new(Arc::new(Vec::new())))
            .clone()
    }
}

impl Peers for LocalPeers {
    fn service(&self, name: &'static str) -> Channel {
        BoxCloneSyncService::new(Late(self.sender(name).subscribe()))
    }

    fn replicas(&self, name: &'static str) -> Replicas {
        self.sender(name).subscribe()
    }

    fn target(&self, target: &str) -> Channel {
        BoxCloneSyncService::new(Late(self.sender(target).subscribe()))
    }
}

/// Finds the server at each call.
#[derive(Clone)]
struct Late(Replicas);

impl Service<http::Request<Body>> for Late {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = futures::future::Either<
        <Channel as Service<http::Request<Body>>>::Future,
        std::future::Ready<Result<http::Response<Body>, BoxError>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // local servers are always ready, so none is polled for it
        let replica = self.0.borrow().first().map(|r| r.channel.clone());
        if let Some(mut channel) = replica {
            futures::future::Either::Left(channel.call(request))
        } else {
            let status = Status::unavailable("service is not running in this process");
            futures::future::Either::Right(std::future::ready(Ok(status.into_http())))
        }
    }
}

/// A gRPC status for an error code; the code's text goes along in the metadata.
pub fn status(code: Code, message: impl Into<String>) -> Status {
    let mut status = Status::new(tonic::Code::from_i32(code.grpc()), message);
    if let Ok(value) = MetadataValue::try_from(code.as_str()) {
        status.metadata_mut().insert(CODE_METADATA, value);
    }
    status
}

/// The error code that a status carries; derived from the gRPC code if another program made it.
pub fn code_of(status: &Status) -> Code {
    let named = status
        .metadata()
        .get(CODE_METADATA)
        .and_then(|v| v.to_str().ok());
    if let Some(code) = named.and_then(Code::parse) {
        return code;
    }
    match status.code() {
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::PermissionDenied => Code::Forbidden,
        tonic::Code::Unauthenticated => Code::TokenInvalid,
        tonic::Code::ResourceExhausted => Code::RateLimited,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::AlreadyExists => Code::Conflict,
        tonic::Code::Internal | tonic::Code::DataLoss | tonic::Code::Unimplemented => {
            Code::Internal
        }
        _ => Code::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_survives_the_way_through_a_status() {
        for code in Code::ALL {
            assert_eq!(code_of(&status(*code, "x")), *code);
        }
    }

    #[tokio::test]
    async fn a_call_to_a_service_that_is_not_there_is_unavailable() {
        let peers = LocalPeers::new();
        let answer = peers
            .service("history")
            .oneshot(http::Request::new(Body::empty()))
            .await
            .unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
}
