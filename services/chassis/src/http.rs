//! HTTP(S) client for what lies outside the suite: push gateways, key sets. HTTP/1.1 and HTTP/2,
//! pooled, no redirects, no proxies, sockets through [`Doors`].

use std::{
    error::Error as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioIo, TokioTimer},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName},
    },
};
use tower::Service;

use crate::{
    Doors, Lifecycle,
    lifecycle::OnEnd,
    net::{BoxIo, Network},
};

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How long connections may outlive the soft stop, for what is under way.
const GRACE: Duration = Duration::from_secs(1);
/// Largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Whom the client trusts to vouch for https servers.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// The machine's certificate authorities.
    #[default]
    System,
    /// These authorities alone.
    Only(Vec<CertificateDer<'static>>),
}

/// Which addresses the client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Any.
    #[default]
    Any,
    /// Public ones. For addresses that strangers name: a name that stands for a private, loopback or
    /// otherwise special address is refused, and what was checked is what is connected to.
    Public,
}

/// What the client is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest time to connect, with TLS.
    pub connect: Duration,
    /// Longest time from the call to the whole answer.
    pub total: Duration,
    /// Where it may connect to.
    pub reach: Reach,
    /// Who vouches for https servers.
    pub roots: Roots,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(10),
            reach: Reach::Any,
            roots: Roots::System,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HttpError {
    /// The address is not one that the client connects to.
    #[error("{0} is not a public address")]
    NotPublic(String),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke, the answer cannot be read, or it is too large.
    #[error("exchange failed: {0}")]
    Exchange(String),
    /// The client cannot be made.
    #[error("cannot set up tls: {0}")]
    Tls(String),
}

/// The client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct HttpClient {
    inner: Client<Connector, Full<Bytes>>,
    total: Duration,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    /// A client. Its connections end with the soft stop of `lifecycle`.
    pub fn new(doors: &Doors, lifecycle: &Lifecycle, options: Options) -> Result<Self, HttpError> {
        let connector = Connector {
            net: Arc::clone(&doors.net),
            tls: TlsConnector::from(Arc::new(tls(options.roots)?)),
            reach: options.reach,
            timeout: options.connect,
        };
        let inner = Client::builder(Spawner(lifecycle.clone()))
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self {
            inner,
            total: options.total,
        })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError> {
        tokio::time::timeout(self.total, async {
            let answer = self
                .inner
                .request(request)
                .await
                .map_err(|e| classify(&e))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER)
                .collect()
                .await
                .map_err(|e| HttpError::Exchange(e.to_string()))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        })
        .await
        .map_err(|_| HttpError::Timeout)?
    }
}

fn tls(roots: Roots) -> Result<ClientConfig, HttpError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                tracing::warn!("this machine has no certificate authorities: https will fail");
            }
        }
        Roots::Only(certificates) => {
            for certificate in certificates {
                store
                    .add(certificate)
                    .map_err(|e| HttpError::Tls(e.to_string()))?;
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| HttpError::Tls(e.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn classify(error: &hyper_util::client::legacy::Error) -> HttpError {
    let mut source = error.source();
    let mut last = error.to_string();
    while let Some(e) = source {
        let io = e.downcast_ref::<io::Error>();
        let inner = io
            .and_then(|io| io.get_ref())
            .and_then(|e| e.downcast_ref::<HttpError>());
        if let Some(known) = inner.or_else(|| e.downcast_ref::<HttpError>()) {
            return known.clone();
        }
        last = e.to_string();
        source = e.source();
    }
    if error.is_connect() {
        HttpError::Connect(last)
    } else {
        HttpError::Exchange(last)
    }
}

/// Runs the connections' tasks under the lifecycle.
#[derive(Clone)]
struct Spawner(Lifecycle);

impl hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for Spawner {
    fn execute(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let lifecycle = self.0.clone();
        self.0.spawn("http.connection", OnEnd::Fine, async move {
            tokio::select! {
                biased;
                () = task => {}
                () = async { lifecycle.stopped().await; tokio::time::sleep(GRACE).await } => {}
            }
        });
    }
}

#[derive(Clone)]
struct Connector {
    net: Arc<dyn Network>,
    tls: TlsConnector,
    reach: Reach,
    timeout: Duration,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Conn, HttpError> {
        let failed = |e: &dyn std::fmt::Display| HttpError::Connect(e.to_string());
        let host = uri
            .host()
            .ok_or_else(|| failed(&"no host in the address"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(failed(&"neither http nor https")),
        };
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let target = format!("{host}:{port}");
        let io = match self.reach {
            Reach::Any => self.net.connect(&target).await.map_err(|e| failed(&e))?,
            Reach::Public => self.connect_public(&target).await?,
        };
        if !https {
            return Ok(Conn {
                io: TokioIo::new(io),
                h2: false,
            });
        }
        let name = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(name).map_err(|e| failed(&e))?;
        let io = self.tls.connect(name, io).await.map_err(|e| failed(&e))?;
        let h2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Conn {
            io: TokioIo::new(Box::new(io)),
            h2,
        })
    }

    async fn connect_public(&self, target: &str) -> Result<BoxIo, HttpError> {
        let failed = |e: io::Error| HttpError::Connect(e.to_string());
        let addresses = self.net.resolve(target).await.map_err(failed)?;
        if let Some(bad) = addresses.iter().find(|a| !is_public(a.ip())) {
            return Err(HttpError::NotPublic(bad.ip().to_string()));
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
        for address in addresses {
            match self.net.connect(&address.to_string()).await {
                Ok(io) => return Ok(io),
                Err(e) => last = e,
            }
        }
        Err(failed(last))
    }
}

impl Service<Uri> for Connector {
    type Response = Conn;
    type Error = HttpError;
    type Future = BoxFuture<'static, Result<Conn, HttpError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let timeout = this.timeout;
            tokio::time::timeout(timeout, this.connect(uri))
                .await
                .map_err(|_| HttpError::Connect("no connection in time".into()))?
        })
    }
}

/// A connection, with what TLS agreed on.
struct Conn {
    io: TokioIo<BoxIo>,
    h2: bool,
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        if self.h2 {
            Connected::new().negotiated_h2()
        } else {
            Connected::new()
        }
    }
}

impl Read for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Whether the address is one of the public internet's: none of the special ones (RFC 6890), and no
/// way around them (mapped, translated and tunnelled addresses count as the IPv4 address in them).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let s = v6.segments();
            let low = || Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
            match s {
                [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                    is_public_v4(low())
                }
                [0x2002, a, b, ..] => {
                    is_public_v4(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b)))
                }
                _ => is_public_v6(v6),
            }
        }
    }
}

fn is_public_v4(a: Ipv4Addr) -> bool {
    let [x, y, z, _] = a.octets();
    !(x == 0
        || a.is_private()
        || a.is_loopback()
        || a.is_link_local()
        || a.is_multicast()
        || a.is_documentation()
        || x >= 240
        || (x == 100 && (64..128).contains(&y))
        || (x == 192 && y == 0 && z == 0)
        || (x == 198 && (18..20).contains(&y)))
}

fn is_public_v6(a: Ipv6Addr) -> bool {
    let s = a.segments();
    // global unicast is 2000::/3; of it, documentation and the special block are not public
    s[0] & 0xe000 == 0x2000
        && !(s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8))
        && !(s[0] == 0x3fff && s[1] < 0x1000)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn what_leads_inside_is_not_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "8.8.8.8",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "100.128.0.1",
        ] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }

    async fn one_answer(doors: &Doors) -> u16 {
        let mut listener = doors.net.listen("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let n = io.read(&mut request).await.unwrap();
            assert!(request[..n].starts_with(b"POST /x HTTP/1.1\r\n"));
            io.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            std::future::pending::<()>().await;
        });
        port
    }

    fn post(uri: String) -> Request<Full<Bytes>> {
        Request::post(uri)
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap()
    }

    #[tokio::test]
    async fn a_request_is_answered_over_plain_http() {
        let (doors, lifecycle) = (Doors::for_test(1), Lifecycle::new());
        let port = one_answer(&doors).await;
        let client = HttpClient::new(&doors, &lifecycle, Options::default()).unwrap();
        let answer = client
            .send(post(format!("http://127.0.0.1:{port}/x")))
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.body().as_ref()),
            (201, b"ok".as_slice())
        );
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_before_connecting() {
        let (doors, lifecycle) = (Doors::for_test(1), Lifecycle::new());
        let port = one_answer(&doors).await;
        let options = Options {
            reach: Reach::Public,
            ..Options::default()
        };
        let client = HttpClient::new(&doors, &lifecycle, options).unwrap();
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            let refused = client
                .send(post(format!("http://{host}:{port}/x")))
                .await
                .unwrap_err();
            assert!(
                matches!(refused, HttpError::NotPublic(_)),
                "{host}: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up_in_time() {
        let (doors, lifecycle) = (Doors::for_test(1), Lifecycle::new());
        let listener = doors.net.listen("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = Options {
            total: Duration::from_millis(50),
            ..Options::default()
        };
        let client = HttpClient::new(&doors, &lifecycle, options).unwrap();
        let error = client
            .send(post(format!("http://127.0.0.1:{port}/x")))
            .await
            .unwrap_err();
        assert!(matches!(error, HttpError::Timeout), "{error}");
    }
}
