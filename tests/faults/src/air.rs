//! A device's network: any of the edges, and an end of the connection whenever the harness says so.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_chassis::{
    Doors,
    net::{BoxIo, Listener, Network},
    rng::Rng,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a device calls its server; [`Air`] leads to one of the edges.
pub const EDGE: &str = "edge:1";

/// The air between a device and the edges.
pub struct Air {
    real: Arc<dyn Network>,
    edges: Vec<String>,
    next: AtomicUsize,
    /// Cancelled: what is connected breaks. `None`: nothing connects.
    cut: Mutex<Option<CancellationToken>>,
}

impl Air {
    /// Clear air to these edges (`host:port`), of which a random one is the first.
    pub fn new(doors: &Doors, edges: Vec<String>, rng: &Rng) -> Arc<Self> {
        let first = rng.below(edges.len() as u64) as usize;
        Arc::new(Self {
            real: doors.net.clone(),
            edges,
            next: AtomicUsize::new(first),
            cut: Mutex::new(Some(CancellationToken::new())),
        })
    }

    /// The device has no network any more.
    pub fn leave(&self) {
        if let Some(cut) = self.cut.lock().take() {
            cut.cancel();
        }
    }

    /// It has one again.
    pub fn come_back(&self) {
        self.cut.lock().get_or_insert_default();
    }

    /// Whether it has one.
    pub fn is_clear(&self) -> bool {
        self.cut.lock().is_some()
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NetworkUnreachable, "no network")
}

#[async_trait]
impl Network for Air {
    async fn listen(&self, addr: &str) -> io::Result<Box<dyn Listener>> {
        self.real.listen(addr).await
    }

    async fn connect(&self, addr: &str) -> io::Result<BoxIo> {
        let cut = self.cut.lock().clone().ok_or_else(gone)?;
        let addr = if addr == EDGE {
            // whoever lost one edge tries another
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            &self.edges[next % self.edges.len()]
        } else {
            addr
        };
        let io = tokio::select! {
            io = self.real.connect(addr) => io?,
            () = cut.cancelled() => return Err(gone()),
        };
        let ends = Box::pin(cut.cancelled_owned());
        Ok(Box::new(Cuttable { io, ends }))
    }

    async fn resolve(&self, addr: &str) -> io::Result<Vec<SocketAddr>> {
        self.real.resolve(addr).await
    }
}

struct Cuttable {
    io: BoxIo,
    ends: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cuttable {
    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.ends.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(gone()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(gone()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(gone()));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
