//! Writes frames, and lets a connection go that takes none.

use std::{
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll},
};

use tokio::time::timeout;

use super::{Connection, LAST};

/// How a write ended.
pub(super) enum Written {
    /// Everything is on its way.
    All,
    /// Something urgent came first.
    Interrupted,
    /// The connection is gone.
    Gone,
    /// The device takes nothing.
    Stalled,
}

impl Connection {
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        let Some(wire) = &mut self.wire else {
            return Poll::Ready(Written::All);
        };
        while !self.out.is_empty() {
            match wire.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Written::Gone),
                Poll::Pending => return Poll::Pending,
            }
            if let Some(frame) = self.out.pop_front() {
                self.edge.metrics.frames_out.add(1);
                if wire.start_send(&frame).is_err() {
                    return Poll::Ready(Written::Gone);
                }
            }
        }
        wire.poll_flush(cx).map(|flushed| {
            if flushed.is_ok() {
                Written::All
            } else {
                Written::Gone
            }
        })
    }

    pub(super) async fn write(&mut self) -> Written {
        if self.wire.is_none() || self.out.is_empty() {
            return Written::All;
        }
        let written = match poll_fn(|cx| Poll::Ready(self.poll_write(cx))).await {
            Poll::Ready(written) => written,
            Poll::Pending => Box::pin(self.write_slowly()).await,
        };
        if self.out.is_empty() && self.out.capacity() > 64 {
            self.out = VecDeque::new();
        }
        if let (Some(at), Written::All) = (self.sample.take(), &written) {
            let took = self.now().saturating_sub(at);
            self.edge
                .metrics
                .deliver_ms
                .record(took.as_secs_f64() * 1000.0);
        }
        written
    }

    /// Waits for a device that does not take everything at once, for as long as it takes something.
    pub(super) async fn write_slowly(&mut self) -> Written {
        let stall = self.edge.stall;
        loop {
            let left = self.out.len();
            let attempt = timeout(
                stall,
                poll_fn(|cx| {
                    if let Poll::Ready(written) = self.poll_write(cx) {
                        return Poll::Ready(written);
                    }
                    match &self.handle {
                        Some(handle) => handle
                            .mailbox
                            .poll_urgent(cx)
                            .map(|()| Written::Interrupted),
                        None => Poll::Pending,
                    }
                }),
            )
            .await;
            match attempt {
                Ok(written) => return written,
                Err(_) if self.out.len() < left => {}
                Err(_) => return Written::Stalled,
            }
        }
    }

    /// Writes the last frames and closes the connection.
    pub(super) async fn let_go(&mut self) {
        self.disconnect = false;
        self.count(None);
        if let Some(handle) = self.handle.take_if(|_| self.session.is_over()) {
            self.edge.remove(&handle, self.at_once);
        }
        let written = timeout(LAST, poll_fn(|cx| self.poll_write(cx))).await;
        self.out.clear();
        if let (Some(mut wire), Ok(Written::All)) = (self.wire.take(), written) {
            wire.close(LAST).await;
        }
    }
}
