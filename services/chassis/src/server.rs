//! One port: HTTP/1.1 with upgrades, HTTP/2 and gRPC, told apart by their first octets.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::timeout,
};

use crate::{
    Doors, Lifecycle,
    lifecycle::OnEnd,
    net::{BoxIo, Listener},
    tls::Tls,
};

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A client that has not sent its request head by then is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How a port treats its connections. The defaults are for the port that other services call.
#[derive(Debug, Clone)]
pub struct Options {
    /// TLS, or none.
    pub tls: Option<Tls>,
    /// A connection older than this, and up to a tenth more, takes no new requests, and its client is
    /// told to make another: so clients spread over new replicas and use rotated certificates.
    pub max_connection_age: Option<Duration>,
    /// What is still under way then is cut off after this.
    pub grace: Duration,
    /// How often an HTTP/2 client is asked for a sign of life, and how long it may take to give one.
    pub keep_alive: Duration,
    /// Requests under way on one HTTP/2 connection, at most.
    pub streams: u32,
    /// Serve through the whole drain, up to the hard stop, which cuts off what is under way. For probes and
    /// metrics, and for an edge that is delivered to while its devices leave. Otherwise the soft stop
    /// closes the port, and requests under way are finished.
    pub through_drain: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            max_connection_age: Some(Duration::from_mins(30)),
            grace: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            streams: 1_000,
            through_drain: false,
        }
    }
}

impl Options {
    /// For a port that devices connect to: their connections may last.
    pub fn for_clients() -> Self {
        Self {
            max_connection_age: None,
            keep_alive: Duration::from_secs(20),
            streams: 200,
            ..Self::default()
        }
    }
}

/// Serves `router` on `addr` without TLS, to clients of any kind; see [`serve_with`].
pub async fn serve(
    doors: &Doors,
    lifecycle: &Lifecycle,
    addr: &str,
    router: Router,
) -> io::Result<SocketAddr> {
    serve_with(doors, lifecycle, addr, router, Options::for_clients()).await
}

/// Listens on `addr` and serves `router` until the soft stop (see [`Options::through_drain`]); requests
/// under way are finished then. Returns where it listens.
pub async fn serve_with(
    doors: &Doors,
    lifecycle: &Lifecycle,
    addr: &str,
    router: Router,
    options: Options,
) -> io::Result<SocketAddr> {
    let listener = doors.net.listen(addr).await?;
    let bound = listener.local_addr()?;
    let port = Port {
        doors: doors.clone(),
        lifecycle: lifecycle.clone(),
        router: router.fallback(otherwise),
        options: Arc::new(options),
    };
    port.spawn("http.accept", OnEnd::Stop, port.clone().accept(listener));
    Ok(bound)
}

/// Answers what nobody serves, each kind of client in its own way.
async fn otherwise(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|k| k.as_bytes().starts_with(b"application/grpc")) {
        return tonic::Status::unimplemented("no such method").into_http();
    }
    (StatusCode::NOT_FOUND, "there is nothing here\n").into_response()
}

#[derive(Clone)]
struct Port {
    doors: Doors,
    lifecycle: Lifecycle,
    router: Router,
    options: Arc<Options>,
}

impl Port {
    fn spawn(
        &self,
        name: &'static str,
        on_end: OnEnd,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        if self.options.through_drain {
            self.lifecycle.spawn_support(name, task);
        } else {
            self.lifecycle.spawn(name, on_end, task);
        }
    }

    /// Ends when the port closes.
    async fn closed(&self) {
        if self.options.through_drain {
            std::future::pending::<()>().await;
        }
        self.lifecycle.stopped().await;
    }

    async fn accept(self, mut listener: Box<dyn Listener>) {
        loop {
            let accepted = tokio::select! {
                () = self.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((io, _)) => {
                    let task = self.clone().connection(io);
                    self.spawn("http.connection", OnEnd::Fine, task);
                }
                Err(error) => {
                    // out of file descriptors, most likely: others may close theirs
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn begin(&self, io: BoxIo) -> io::Result<Begun> {
        let begin = async {
            let io = match &self.options.tls {
                Some(tls) => tls.accept(io).await?,
                None => io,
            };
            Begun::read(io).await
        };
        timeout(HEAD_TIMEOUT, begin)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connection(self, io: BoxIo) {
        let begun = tokio::select! {
            begun = self.begin(io) => begun,
            () = self.closed() => return,
        };
        let io = match begun {
            Ok(io) => io,
            Err(error) => {
                tracing::debug!(%error, "a connection did not come to a request");
                return;
            }
        };
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(16 * 1024);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(self.options.keep_alive)
            .keep_alive_timeout(self.options.keep_alive)
            .max_concurrent_streams(self.options.streams);
        let service = TowerToHyperService::new(self.router.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.closed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.age() => {
                connection.as_mut().graceful_shutdown();
                let ended = timeout(self.options.grace, connection).await;
                ended.unwrap_or_else(|_| Err("cut off: too old".into()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Ends when a connection that begins now is old.
    async fn age(&self) {
        match self.options.max_connection_age {
            Some(age) => {
                let tenth = age.as_millis() as u64 / 10;
                let more = Duration::from_millis(self.doors.rng.below(tenth + 1));
                tokio::time::sleep(age + more).await;
            }
            None => std::future::pending().await,
        }
    }
}

/// A connection of which enough was read to tell HTTP/2 from HTTP/1.1. What serves it tells them apart
/// by the same octets, and would wait for them for ever.
struct Begun {
    first: Vec<u8>,
    at: usize,
    io: BoxIo,
}

impl Begun {
    async fn read(mut io: BoxIo) -> io::Result<Self> {
        let mut first = Vec::with_capacity(PREFACE.len());
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            let left = (PREFACE.len() - first.len()) as u64;
            if (&mut io).take(left).read_buf(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Self { first, at: 0, io })
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(rest) = self.first.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return Pin::new(&mut self.io).poll_read(cx, to);
        };
        let taken = rest.len().min(to.remaining());
        to.put_slice(&rest[..taken]);
        self.at += taken;
        if self.at == self.first.len() {
            (self.first, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test(start_paused = true)]
    async fn what_a_connection_began_with_is_read_by_who_serves_it() {
        for said in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            PREFACE,
            b"PRI * no, after all",
        ] {
            let (mut client, server) = tokio::io::duplex(64);
            let begun = tokio::spawn(Begun::read(Box::new(server)));
            for octet in said {
                client.write_all(&[*octet]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
            let mut read = Vec::new();
            begun
                .await
                .unwrap()
                .unwrap()
                .read_to_end(&mut read)
                .await
                .unwrap();
            assert_eq!(read, said);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_says_what_it_is_is_let_go() {
        for said in [b"".as_slice(), b"PRI * HT"] {
            let (mut client, server) = tokio::io::duplex(64);
            let port = Port {
                doors: Doors::for_test(1),
                lifecycle: Lifecycle::new(),
                router: Router::new(),
                options: Arc::default(),
            };
            let serving = tokio::spawn(port.connection(Box::new(server)));
            client.write_all(said).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            serving.await.unwrap();
        }
    }
}
