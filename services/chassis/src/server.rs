//! One port: HTTP/1.1 with upgrades, HTTP/2 and gRPC, told apart by their first octets.

use std::{io, net::SocketAddr, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};

use crate::{
    Doors, Lifecycle,
    lifecycle::OnEnd,
    net::{BoxIo, Listener},
};

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
    let inner = lifecycle.clone();
    lifecycle.spawn("http.accept", OnEnd::Stop, accept(listener, inner, router));
    Ok(bound)
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
