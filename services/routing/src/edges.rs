//! One stream to each edge, opened when there is something for it.
//!
//! What is sent to an edge reaches it in the order of the calls, or not at all. Every failure moves the
//! `epoch` before anybody is told of it, and a stream takes nothing that was addressed in an
//! epoch before its last failure: so nothing overtakes a failure that its sender has not handled yet.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, Peers},
    lifecycle::OnEnd,
};
use tandem_kernel::EdgeId;
use tandem_proto::edge::{DeliverAck, DeliverBatch, Delivery, edge_client::EdgeClient};
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use crate::config::Config;

/// Most deliveries, and about how many bytes, go to an edge as one batch.
const BATCH: (usize, usize) = (2_048, 1 << 20);

struct Request {
    deliveries: Vec<Delivery>,
    bytes: usize,
    epoch: u64,
    /// Dropped: it failed.
    done: oneshot::Sender<()>,
}

/// The ways to the edges. Cheap to clone.
#[derive(Clone)]
pub struct Edges(Arc<Shared>);

struct Shared {
    peers: Arc<dyn Peers>,
    doors: Doors,
    lifecycle: Lifecycle,
    streams: Mutex<BTreeMap<EdgeId, mpsc::UnboundedSender<Request>>>,
    epoch: AtomicU64,
    ack_timeout: Duration,
    cooldown: Duration,
    idle: Duration,
}

impl Edges {
    pub fn new(peers: Arc<dyn Peers>, doors: Doors, lifecycle: Lifecycle, config: &Config) -> Self {
        Self(Arc::new(Shared {
            peers,
            doors,
            lifecycle,
            streams: Mutex::default(),
            epoch: AtomicU64::new(1),
            ack_timeout: Duration::from_millis(config.edge_ack_timeout_ms),
            cooldown: Duration::from_millis(config.edge_cooldown_ms),
            idle: Duration::from_millis(config.edge_idle_ms),
        }))
    }

    /// Take it before looking up where to deliver.
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Sends deliveries of about `bytes`, addressed in `epoch`. The receiver says when the edge has them,
    /// or fails.
    pub fn send(
        &self,
        edge: &EdgeId,
        deliveries: Vec<Delivery>,
        bytes: usize,
        epoch: u64,
    ) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let request = Request {
            deliveries,
            bytes,
            epoch,
            done,
        };
        let mut streams = self.0.streams.lock();
        let refused = match streams.get(edge) {
            Some(stream) => stream.send(request).err().map(|e| e.0),
            None => Some(request),
        };
        if let Some(request) = refused {
            let (sender, requests) = mpsc::unbounded_channel();
            // the receiver is there, so this cannot fail
            let _ = sender.send(request);
            streams.insert(edge.clone(), sender);
            let stream = Stream {
                client: EdgeClient::new(self.0.peers.target(edge.target())),
                edge: edge.clone(),
                shared: Arc::clone(&self.0),
                requests,
                refuse_below: 0,
                next_id: 1,
                cool_until: Duration::ZERO,
                used_at: self.0.doors.clock.monotonic(),
            };
            self.0
                .lifecycle
                .spawn("routing edge stream", OnEnd::Fine, stream.run());
        }
        receiver
    }
}

struct Unacked {
    id: u64,
    sent_at: Duration,
    done: Vec<oneshot::Sender<()>>,
}

struct Open {
    batches: mpsc::UnboundedSender<DeliverBatch>,
    acks: Streaming<DeliverAck>,
    unacked: VecDeque<Unacked>,
}

struct Stream {
    client: EdgeClient<Channel>,
    edge: EdgeId,
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<Request>,
    refuse_below: u64,
    next_id: u64,
    cool_until: Duration,
    used_at: Duration,
}

/// How an open stream ended.
enum End {
    /// It broke, or could not be opened.
    Broken,
    /// The edge did not answer in time.
    Silent,
    Idle,
}

impl Stream {
    async fn run(mut self) {
        while let Some(first) = self.next().await {
            if self.now() < self.cool_until {
                self.fail(vec![first.done]);
                continue;
            }
            let opened = tokio::time::timeout(self.shared.ack_timeout, self.open()).await;
            let mut open = match opened {
                Ok(Ok(open)) => open,
                Ok(Err(status)) => {
                    let (edge, code) = (self.edge.as_str(), status.code());
                    tracing::debug!(edge, ?code, "no stream to the edge");
                    self.fail(vec![first.done]);
                    continue;
                }
                Err(_) => {
                    self.cool();
                    self.fail(vec![first.done]);
                    continue;
                }
            };
            self.send(&mut open, first);
            let end = self.serve(&mut open).await;
            if let End::Silent = end {
                self.cool();
            }
            let waiting = open
                .unacked
                .into_iter()
                .flat_map(|u| u.done)
                .collect::<Vec<_>>();
            if !waiting.is_empty() {
                self.fail(waiting);
            }
        }
    }

    fn now(&self) -> Duration {
        self.shared.doors.clock.monotonic()
    }

    fn cool(&mut self) {
        tracing::warn!(
            edge = self.edge.as_str(),
            "an edge does not acknowledge; passing it over"
        );
        self.cool_until = self.now() + self.shared.cooldown;
    }

    /// The next request that may be sent; `None`: there was none for long, and the stream is forgotten.
    async fn next(&mut self) -> Option<Request> {
        loop {
            // once the process stops, a stream is forgotten as soon as there is nothing for it
            let lifecycle = self.shared.lifecycle.clone();
            let idle = async {
                tokio::select! {
                    () = tokio::time::sleep(self.shared.idle) => {}
                    () = lifecycle.stopped() => {}
                }
            };
            let next = tokio::select! {
                biased;
                request = self.requests.recv() => Ok(request),
                () = idle => Err(()),
            };
            let request = if let Ok(request) = next {
                request?
            } else {
                // whoever sends holds this lock, so nothing is sent to one that is forgotten
                let shared = Arc::clone(&self.shared);
                let mut streams = shared.streams.lock();
                let Ok(request) = self.requests.try_recv() else {
                    streams.remove(&self.edge);
                    return None;
                };
                request
            };
            if request.epoch >= self.refuse_below {
                return Some(request);
            }
            self.fail(vec![request.done]);
        }
    }

    async fn open(&mut self) -> Result<Open, tonic::Status> {
        let (batches, receiver) = mpsc::unbounded_channel();
        let acks = self
            .client
            .deliver(UnboundedReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(Open {
            batches,
            acks,
            unacked: VecDeque::new(),
        })
    }

    /// The epoch moves first; then those who wait are told.
    fn fail(&mut self, waiting: Vec<oneshot::Sender<()>>) {
        self.refuse_below = self.shared.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        drop(waiting);
    }

    /// Sends the request and those that wait behind it.
    fn send(&mut self, open: &mut Open, first: Request) {
        self.used_at = self.now();
        let mut next = Some(first);
        while let Some(request) = next.take() {
            let (mut deliveries, mut bytes) = (request.deliveries, request.bytes);
            let mut done = vec![request.done];
            while deliveries.len() < BATCH.0
                && bytes < BATCH.1
                && let Ok(more) = self.requests.try_recv()
            {
                if more.epoch < self.refuse_below {
                    self.fail(vec![more.done]);
                } else if bytes + more.bytes > BATCH.1 {
                    next = Some(more);
                    break;
                } else {
                    bytes += more.bytes;
                    deliveries.extend(more.deliveries);
                    done.push(more.done);
                }
            }
            let id = self.next_id;
            self.next_id += 1;
            open.unacked.push_back(Unacked {
                id,
                sent_at: self.used_at,
                done,
            });
            // a stream that is gone is noticed by its acks
            let _ = open.batches.send(DeliverBatch { id, deliveries });
        }
    }

    async fn serve(&mut self, open: &mut Open) -> End {
        let mut tick = tokio::time::interval(self.shared.ack_timeout / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lifecycle = self.shared.lifecycle.clone();
        let mut stopped = pin!(lifecycle.stopped());
        loop {
            tokio::select! {
                biased;
                ack = open.acks.message() => match ack {
                    Ok(Some(ack)) => {
                        while open.unacked.front().is_some_and(|u| u.id <= ack.id) {
                            let acked = open.unacked.pop_front();
                            for done in acked.map(|u| u.done).unwrap_or_default() {
                                // whoever waited may have ended
                                let _ = done.send(());
                            }
                        }
                    }
                    Ok(None) | Err(_) => return End::Broken,
                },
                request = self.requests.recv() => match request {
                    Some(request) if request.epoch >= self.refuse_below => self.send(open, request),
                    Some(request) => self.fail(vec![request.done]),
                    None => return End::Idle,
                },
                () = &mut stopped, if open.unacked.is_empty() => return End::Idle,
                _ = tick.tick() => {
                    let now = self.now();
                    let overdue = |u: &Unacked| now > u.sent_at + self.shared.ack_timeout;
                    if open.unacked.front().is_some_and(overdue) {
                        return End::Silent;
                    }
                    if open.unacked.is_empty() && now > self.used_at + self.shared.idle {
                        return End::Idle;
                    }
                }
            }
        }
    }
}
