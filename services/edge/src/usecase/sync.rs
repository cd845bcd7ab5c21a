//! Sync: the log's end offsets once a session is registered, then what history has, until history has passed
//! them. Tried again for as long as the session lives.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future::BoxFuture, stream};
use parking_lot::Mutex;
use tandem_chassis::{Doors, grpc::Channel};
use tandem_kernel::{Address, conversations_topic};
use tandem_log::Log;
use tandem_proto::{
    client::Head,
    history::{SyncPart, SyncRequest, history_client::HistoryClient},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{sleep, timeout},
};
use tonic::Streaming;

use crate::{domain::places::Ends, metrics::Metrics};

/// What comes of a sync.
pub enum Step {
    /// It begins from these end offsets on.
    From(Ends),
    /// Heads, and whether the barrier is passed.
    Part(Vec<Head>, bool),
}

/// Shared by all sessions of an edge.
pub struct Syncer {
    log: Arc<dyn Log>,
    history: Channel,
    doors: Doors,
    metrics: Arc<Metrics>,
    call: Duration,
    waiting: Mutex<Vec<oneshot::Sender<Ends>>>,
    wake: Notify,
    permits: Arc<Semaphore>,
}

/// Generation of the conversations' topic.
const GENERATION: u16 = 1;

enum State {
    Begin,
    Asked(Ends, OwnedSemaphorePermit),
    Reading(Box<Streaming<SyncPart>>, Option<OwnedSemaphorePermit>),
    Done,
}

struct Run {
    syncer: Arc<Syncer>,
    user: Address,
    have: HashMap<String, u64>,
    state: State,
    began: Duration,
    backoff: Duration,
}

impl Syncer {
    /// At most `at_once` syncs wait for their first part at a time.
    pub fn new(
        log: Arc<dyn Log>,
        history: Channel,
        doors: Doors,
        metrics: Arc<Metrics>,
        call: Duration,
        at_once: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            log,
            history,
            doors,
            metrics,
            call,
            waiting: Mutex::default(),
            wake: Notify::new(),
            permits: Arc::new(Semaphore::new(at_once)),
        })
    }

    /// Fetches end offsets for ever: one fetch serves all who asked before it began.
    pub async fn run(&self) {
        loop {
            self.wake.notified().await;
            let mut backoff = Duration::from_millis(50);
            while !self.waiting.lock().is_empty() {
                let asked = std::mem::take(&mut *self.waiting.lock());
                match timeout(
                    self.call,
                    self.log.end_offsets(&conversations_topic(GENERATION)),
                )
                .await
                {
                    Ok(Ok(ends)) => {
                        let ends = Ends {
                            generation: GENERATION,
                            offsets: Arc::new(ends),
                        };
                        for one in asked {
                            let _ = one.send(ends.clone());
                        }
                        continue;
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "end offsets cannot be had; trying again");
                    }
                    Err(_) => tracing::warn!("end offsets cannot be had in time; trying again"),
                }
                self.waiting
                    .lock()
                    .extend(asked.into_iter().filter(|a| !a.is_closed()));
                sleep(backoff).await;
                backoff = (backoff * 2).min(Duration::from_secs(2));
            }
        }
    }

    async fn ends(&self) -> Option<Ends> {
        let (tx, rx) = oneshot::channel();
        self.waiting.lock().push(tx);
        self.wake.notify_one();
        rx.await.ok()
    }

    /// The steps of a sync, up to the part with which the barrier is passed. The session must be
    /// registered before it is polled first.
    pub fn start(
        self: &Arc<Self>,
        user: Address,
        have: HashMap<String, u64>,
    ) -> impl Stream<Item = Step> + Send + use<> {
        let run = Run {
            syncer: Arc::clone(self),
            user,
            have,
            state: State::Begin,
            began: self.doors.clock.monotonic(),
            backoff: Duration::from_millis(100),
        };
        stream::unfold(run, |mut run| async move {
            run.next().await.map(|part| (part, run))
        })
        .boxed()
    }
}

// boxed: the compiler cannot see otherwise that the future is Send
fn open(
    history: Channel,
    request: SyncRequest,
    call: Duration,
) -> BoxFuture<'static, Result<Streaming<SyncPart>, String>> {
    Box::pin(async move {
        let mut client = HistoryClient::new(history).max_decoding_message_size(usize::MAX);
        match timeout(call, client.sync(request)).await {
            Ok(Ok(parts)) => Ok(parts.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("history does not answer in time".to_owned()),
        }
    })
}

impl Run {
    async fn next(&mut self) -> Option<Step> {
        loop {
            match &mut self.state {
                State::Done => return None,
                State::Begin => {
                    let permit = Arc::clone(&self.syncer.permits)
                        .acquire_owned()
                        .await
                        .ok()?;
                    let ends = self.syncer.ends().await?;
                    self.state = State::Asked(ends.clone(), permit);
                    return Some(Step::From(ends));
                }
                State::Asked(..) => self.ask().await,
                State::Reading(parts, permit) => match parts.message().await {
                    Ok(Some(part)) => {
                        *permit = None;
                        for head in &part.heads {
                            self.have.insert(head.conversation.clone(), head.last_seq);
                        }
                        if part.complete {
                            let now = self.syncer.doors.clock.monotonic();
                            let took = now.saturating_sub(self.began);
                            self.syncer
                                .metrics
                                .sync_ms
                                .record(took.as_secs_f64() * 1000.0);
                            self.state = State::Done;
                        }
                        return Some(Step::Part(part.heads, part.complete));
                    }
                    Ok(None) => {
                        self.again("history ended the sync before it was complete".to_owned())
                            .await;
                    }
                    Err(status) => {
                        let reason = status.message().to_owned();
                        self.again(reason).await;
                    }
                },
            }
        }
    }

    async fn ask(&mut self) {
        let State::Asked(ends, permit) = std::mem::replace(&mut self.state, State::Begin) else {
            return;
        };
        let request = SyncRequest {
            user: self.user.as_str().to_owned(),
            have: self.have.clone(),
            ends: ends.offsets.as_ref().clone(),
            generation: u32::from(ends.generation),
        };
        match open(self.syncer.history.clone(), request, self.syncer.call).await {
            Ok(parts) => self.state = State::Reading(Box::new(parts), Some(permit)),
            Err(reason) => {
                drop(permit);
                self.again(reason).await;
            }
        }
    }

    async fn again(&mut self, reason: String) {
        tracing::debug!(reason, "a sync is tried again");
        self.state = State::Begin;
        // around the middle, so that those who failed together do not come back together
        let jitter = self.syncer.doors.rng.below(self.backoff.as_millis() as u64);
        sleep(self.backoff / 2 + Duration::from_millis(jitter)).await;
        self.backoff = (self.backoff * 2).min(Duration::from_secs(5));
    }
}
