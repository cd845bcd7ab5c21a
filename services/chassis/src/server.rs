//! One port: HTTP/1.1 with upgrades, HTTP/2 and gRPC, told apart by their first octets.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
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
};

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A client that has not sent its request head by then is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens on `addr` and serves `router` until the soft stop; requests under way are finished then.
/// Returns where it listens.
pub async fn serve(
    doors: &Doors,
    lifecycle: &Lifecycle,
    addr: &str,
    router: Router,
) -> io::Result<SocketAddr> {
    let listener = doors.net.listen(addr).await?;
    let bound = listener.local_addr()?;
    let (inner, router) = (lifecycle.clone(), router.fallback(otherwise));
    lifecycle.spawn("http.accept", OnEnd::Stop, accept(listener, inner, router));
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

async fn accept(mut listener: Box<dyn Listener>, lifecycle: Lifecycle, router: Router) {
    loop {
        let accepted = tokio::select! {
            () = lifecycle.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, _)) => {
                let task = connection(io, lifecycle.clone(), router.clone());
                lifecycle.spawn("http.connection", OnEnd::Fine, task);
            }
            Err(error) => {
                // out of file descriptors, most likely: others may close theirs
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(io: BoxIo, lifecycle: Lifecycle, router: Router) {
    let begun = tokio::select! {
        begun = timeout(HEAD_TIMEOUT, Begun::read(io)) => begun,
        () = lifecycle.stopped() => return,
    };
    let Ok(Ok(io)) = begun else {
        tracing::debug!("a connection began with nothing to tell what it is");
        return;
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
        .keep_alive_interval(Duration::from_secs(20));
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = lifecycle.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
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
            let serving = connection(Box::new(server), Lifecycle::new(), Router::new());
            let serving = tokio::spawn(serving);
            client.write_all(said).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            serving.await.unwrap();
        }
    }
}
