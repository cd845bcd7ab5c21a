//! The edges: one stream to each, on which parcels go one after the other.
//!
//! A status that an edge does not take is lost; its next change repairs that. Where a change of a
//! relation is lost, the sessions are flagged, so that their devices sync anew.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tandem_chassis::{Lifecycle, grpc::Peers, lifecycle::OnEnd};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::EdgeId;
use tandem_proto::edge::{DeliverAck, DeliverBatch, edge_client::EdgeClient};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{config::Config, domain::parcel::Parcel, metrics::Metrics};

/// Times that a parcel is sent before it is given up.
const TRIES: usize = 2;

/// The edges that something was sent to lately.
pub(crate) struct Edges {
    peers: Arc<dyn Peers>,
    ephemeral: Arc<dyn Ephemeral>,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
    config: Config,
    lines: Mutex<BTreeMap<EdgeId, mpsc::Sender<Parcel>>>,
}

/// An open stream to an edge.
struct Open {
    batches: mpsc::Sender<DeliverBatch>,
    acks: Streaming<DeliverAck>,
    sent: u64,
}

impl Edges {
    pub(crate) fn new(
        peers: Arc<dyn Peers>,
        ephemeral: Arc<dyn Ephemeral>,
        lifecycle: Lifecycle,
        metrics: Arc<Metrics>,
        config: Config,
    ) -> Arc<Self> {
        let lines = Mutex::default();
        Arc::new(Self {
            peers,
            ephemeral,
            lifecycle,
            metrics,
            config,
            lines,
        })
    }

    /// Hands a parcel over; parcels for one edge go in the order of the calls.
    pub(crate) async fn send(self: &Arc<Self>, edge: &EdgeId, parcel: Parcel) {
        let refused = match self.line(edge).try_send(parcel) {
            Ok(()) => return,
            // the line has just ended; the next one is new
            Err(TrySendError::Closed(parcel)) => self.line(edge).try_send(parcel),
            full @ Err(TrySendError::Full(_)) => full,
        };
        if let Err(TrySendError::Full(parcel) | TrySendError::Closed(parcel)) = refused {
            self.lose(edge, parcel).await;
        }
    }

    fn line(self: &Arc<Self>, edge: &EdgeId) -> mpsc::Sender<Parcel> {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get(edge).filter(|l| !l.is_closed()) {
            return line.clone();
        }
        let (sender, parcels) = mpsc::channel(self.config.edge_queue);
        lines.insert(edge.clone(), sender.clone());
        let line = Arc::clone(self).run(edge.clone(), parcels);
        self.lifecycle.spawn("presence.edge", OnEnd::Fine, line);
        sender
    }

    async fn run(self: Arc<Self>, edge: EdgeId, mut parcels: mpsc::Receiver<Parcel>) {
        let idle = Duration::from_millis(self.config.edge_idle_ms);
        let (mut open, mut held) = (None, None);
        self.metrics.edges.add(1);
        loop {
            let mut parcel = if let Some(parcel) = held.take() {
                parcel
            } else {
                let next = tokio::select! {
                    biased;
                    next = tokio::time::timeout(idle, parcels.recv()) => next,
                    () = self.lifecycle.stopped() => break,
                };
                let Ok(Some(parcel)) = next else { break };
                parcel
            };
            // what has queued up meanwhile goes along
            while let Ok(more) = parcels.try_recv() {
                if parcel.sessions() + more.sessions() > self.config.edge_batch {
                    held = Some(more);
                    break;
                }
                parcel.join(more);
            }
            self.deliver(&edge, &mut open, parcel).await;
        }
        parcels.close();
        while let Ok(parcel) = parcels.try_recv() {
            self.deliver(&edge, &mut open, parcel).await;
        }
        self.metrics.edges.add(-1);
        let mut lines = self.lines.lock();
        if lines.get(&edge).is_some_and(mpsc::Sender::is_closed) {
            lines.remove(&edge);
        }
    }

    async fn deliver(&self, edge: &EdgeId, open: &mut Option<Open>, parcel: Parcel) {
        let timeout = Duration::from_millis(self.config.edge_timeout_ms);
        for _ in 0..TRIES {
            let attempt = self.attempt(edge, open, &parcel);
            if let Ok(Some(())) = tokio::time::timeout(timeout, attempt).await {
                self.metrics.delivered.add(parcel.sessions() as u64);
                return;
            }
            *open = None;
        }
        self.lose(edge, parcel).await;
    }

    /// `None`: the stream broke.
    async fn attempt(&self, edge: &EdgeId, open: &mut Option<Open>, parcel: &Parcel) -> Option<()> {
        let stream = match open {
            Some(stream) => stream,
            None => open.insert(self.open(edge).await?),
        };
        stream.sent += 1;
        let batch = DeliverBatch {
            id: stream.sent,
            deliveries: parcel.deliveries.clone(),
        };
        stream.batches.send(batch).await.ok()?;
        while let Ok(Some(ack)) = stream.acks.message().await {
            if ack.id >= stream.sent {
                return Some(());
            }
        }
        None
    }

    async fn open(&self, edge: &EdgeId) -> Option<Open> {
        let mut client = EdgeClient::new(self.peers.target(edge.target()));
        let (batches, stream) = mpsc::channel(1);
        match client.deliver(ReceiverStream::new(stream)).await {
            Ok(acks) => Some(Open {
                batches,
                acks: acks.into_inner(),
                sent: 0,
            }),
            Err(status) => {
                tracing::debug!(%edge, reason = status.message(), "an edge cannot be reached");
                None
            }
        }
    }

    async fn lose(&self, edge: &EdgeId, parcel: Parcel) {
        self.metrics.lost.add(1);
        tracing::warn!(%edge, deliveries = parcel.deliveries.len(), "an edge did not take a parcel");
        // its sessions look at all contacts again when they sync
        if let Err(e) = self.ephemeral.flag_resync(&parcel.to).await {
            tracing::warn!(%edge, error = %e, "sessions that missed a change cannot be flagged");
        }
    }
}
