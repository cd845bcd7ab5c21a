//! Delivery of one partition: read, fold, address, hand to the edges, and say how far everything is done.
//!
//! Batches are handed over one after the other and several may be unacknowledged at once. When an edge
//! fails one, nothing more is addressed until all that is on its way has been settled: acknowledged,
//! handed over once more, or its sessions flagged for resync. So a session never gets a later event of a
//! conversation while it lacks an earlier one and is not flagged.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use ahash::AHashMap;
use bytes::Bytes;
use parking_lot::Mutex;
use tandem_chassis::{
    Doors,
    telemetry::{self, TRACEPARENT},
};
use tandem_ephemeral::{Ephemeral, Reach};
use tandem_kernel::{Address, ConversationId, EdgeId, Seq, UnixMillis, event::Event};
use tandem_log::{Log, Stored};
use tandem_proto::edge::{Delivery, delivery::What};
use tokio::sync::{mpsc, oneshot};

use crate::{
    config::Config,
    domain::{
        fold::Folder,
        generations::Generations,
        item::Conversation,
        recent::{Dedupe, Windows},
    },
    edges::Edges,
    error::Error,
    metrics::Metrics,
    usecase::{directory::Directory, facts::EventFacts},
};

/// Groups that a partition's reader keeps folded.
const GROUPS: usize = 4_096;
/// Conversation ids that it keeps taken apart.
const CONVERSATIONS: usize = 10_000;
/// About how many bytes go to an edge as one request.
const BYTES: usize = 512 << 10;
/// First and longest wait for a store that does not answer.
const WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What all partitions share.
pub struct Delivering {
    pub log: Arc<dyn Log>,
    pub topic: String,
    pub partitions: u32,
    pub doors: Doors,
    pub config: Config,
    pub metrics: Arc<Metrics>,
    pub directory: Arc<Directory>,
    pub facts: Arc<EventFacts>,
    pub ephemeral: Arc<dyn Ephemeral>,
    pub edges: Edges,
}

/// How far a partition is done.
pub struct Progress {
    pub partition: u32,
    /// Which reading of the partition says so.
    pub tenure: u64,
    /// The first offset not done yet.
    pub offset: u64,
    /// Records done since the last time.
    pub records: usize,
}

/// An event with those who are to see it.
pub struct Addressed {
    pub event: Event,
    pub stored: Stored,
    pub users: Users,
    /// Bytes of its record.
    pub size: usize,
}

/// Those who are to see an event.
pub enum Users {
    /// Both members of a one-to-one conversation.
    Pair(Arc<Conversation>),
    /// A group's members.
    Members(Arc<[Address]>),
    /// These.
    Named(Vec<Address>),
}

impl Users {
    pub(super) fn each(&self, mut f: impl FnMut(&Address)) {
        match self {
            Self::Pair(conversation) => {
                if let Some((a, b)) = &conversation.pair {
                    f(a);
                    f(b);
                }
            }
            Self::Members(members) => members.iter().for_each(f),
            Self::Named(users) => users.iter().for_each(f),
        }
    }
}

/// A batch on its way.
struct Sent {
    /// To be decoded again should it fail.
    again: Vec<(Stored, Users)>,
    requests: Vec<(EdgeId, oneshot::Receiver<()>)>,
    /// Edges that failed it.
    failed: Vec<EdgeId>,
    end: u64,
    records: usize,
    taken_at: UnixMillis,
}

/// One partition's delivery.
pub struct Lane {
    pub(super) shared: Arc<Delivering>,
    pub(super) partition: u32,
    tenure: u64,
    /// Below it everything was done before; it is read to remember it.
    pub(super) floor: u64,
    pub(super) dedupe: Arc<Mutex<Dedupe>>,
    pub(super) windows: Windows,
    pub(super) folders: Generations<ConversationId, Folder>,
    pub(super) conversations: Generations<String, Arc<Conversation>>,
    sent: VecDeque<Sent>,
    epoch: u64,
    progress: mpsc::UnboundedSender<Progress>,
}

impl Lane {
    pub fn new(
        shared: Arc<Delivering>,
        partition: u32,
        tenure: u64,
        floor: u64,
        dedupe: Arc<Mutex<Dedupe>>,
        progress: mpsc::UnboundedSender<Progress>,
    ) -> Self {
        let windows = Windows::new(shared.config.recent_conversations);
        let epoch = shared.edges.epoch();
        Self {
            shared,
            partition,
            tenure,
            floor,
            dedupe,
            windows,
            folders: Generations::new(GROUPS),
            conversations: Generations::new(CONVERSATIONS),
            sent: VecDeque::new(),
            epoch,
            progress,
        }
    }

    /// Delivers what comes, and when no more comes, ends when all is done.
    pub async fn run(mut self, mut records: mpsc::UnboundedReceiver<Vec<Stored>>) {
        let group = self.shared.config.deliver_group;
        let mut waiting: VecDeque<Stored> = VecDeque::new();
        let mut open = true;
        while open || !waiting.is_empty() || !self.sent.is_empty() {
            let room = self.sent.len() < self.shared.config.deliver_in_flight;
            if room && !waiting.is_empty() {
                while waiting.len() < group
                    && let Ok(more) = records.try_recv()
                {
                    waiting.extend(more);
                }
                let batch = waiting.drain(..waiting.len().min(group)).collect();
                self.deliver(batch).await;
                continue;
            }
            tokio::select! {
                biased;
                () = acknowledged(self.sent.front_mut()) => self.settle_front().await,
                more = records.recv(), if open && room => match more {
                    Some(more) => waiting.extend(more),
                    None => open = false,
                },
            }
        }
    }

    async fn deliver(&mut self, batch: Vec<Stored>) {
        let Some((end, taken_at)) = batch
            .last()
            .map(|s| s.place.offset + 1)
            .zip(batch.first().map(|s| s.at))
        else {
            return;
        };
        let records = batch.len();
        let addressed = self.address(batch).await;
        if self.shared.edges.epoch() != self.epoch {
            self.settle_all().await;
        }
        let epoch = self.epoch;
        let (mut again, mut requests) = (Vec::new(), Vec::new());
        if !addressed.is_empty() {
            let (users, reach) = self.shared.reach(&addressed).await;
            for (edge, deliveries, bytes) in deliveries(addressed, &users, reach, &mut again) {
                let sessions = deliveries.iter().map(|d| d.sessions.len() as u64).sum();
                self.shared.metrics.delivered.add(sessions);
                let request = self.shared.edges.send(&edge, deliveries, bytes, epoch);
                requests.push((edge, request));
            }
        }
        // the last one is waited for first, as its answer comes last
        self.sent.push_back(Sent {
            again,
            requests,
            failed: Vec::new(),
            end,
            records,
            taken_at,
        });
    }

    /// The batch in front was acknowledged, or failed.
    async fn settle_front(&mut self) {
        if self.sent.front().is_some_and(|s| !s.failed.is_empty()) {
            return self.settle_all().await;
        }
        if let Some(sent) = self.sent.pop_front() {
            self.report(&sent);
        }
    }

    fn report(&self, sent: &Sent) {
        let took = self.shared.doors.clock.unix().since(sent.taken_at);
        self.shared
            .metrics
            .deliver_ms
            .record(took.as_secs_f64() * 1e3);
        let (partition, tenure) = (self.partition, self.tenure);
        let progress = Progress {
            partition,
            tenure,
            offset: sent.end,
            records: sent.records,
        };
        // without a reader there is nobody to commit
        let _ = self.progress.send(progress);
    }

    /// Settles everything on its way, in order. Nothing is unflagged or on its way after it.
    async fn settle_all(&mut self) {
        while let Some(front) = self.sent.front_mut() {
            acknowledged(Some(front)).await;
            if let Some(mut sent) = self.sent.pop_front() {
                if !sent.failed.is_empty() {
                    let again = std::mem::take(&mut sent.again);
                    self.hand_over_again(again, &sent.failed).await;
                }
                self.report(&sent);
            }
        }
        self.epoch = self.shared.edges.epoch();
    }

    /// Hands a batch over once more to the edges that failed it, for those of its recipients who are there
    /// now. If one fails again, its sessions are flagged.
    async fn hand_over_again(&mut self, again: Vec<(Stored, Users)>, failed: &[EdgeId]) {
        let epoch = self.shared.edges.epoch();
        let mut addressed = Vec::with_capacity(again.len());
        for (stored, users) in again {
            if let Some(event) = event_of(&stored) {
                let size = stored.record.value.len();
                addressed.push(Addressed {
                    event,
                    stored,
                    users,
                    size,
                });
            }
        }
        let (users, mut reach) = self.shared.reach(&addressed).await;
        for reach in &mut reach {
            reach.live.retain(|(edge, _)| failed.contains(edge));
        }
        let mut sessions: AHashMap<EdgeId, Vec<(Address, tandem_kernel::SessionId)>> =
            AHashMap::new();
        for (user, reach) in users.list.iter().zip(&reach) {
            for (edge, session) in &reach.live {
                sessions
                    .entry(edge.clone())
                    .or_default()
                    .push((user.clone(), *session));
            }
        }
        let mut requests = Vec::new();
        for (edge, deliveries, bytes) in deliveries(addressed, &users, reach, &mut Vec::new()) {
            let request = self.shared.edges.send(&edge, deliveries, bytes, epoch);
            requests.push((edge, request));
        }
        for (edge, request) in requests {
            if request.await.is_err()
                && let Some(lost) = sessions.remove(&edge)
            {
                self.shared.flag(&lost).await;
            }
        }
    }
}

/// Waits until the batch is acknowledged or has failed; for ever if there is none. Cancel safe.
async fn acknowledged(sent: Option<&mut Sent>) {
    let Some(sent) = sent else {
        return std::future::pending().await;
    };
    while let Some((_, request)) = sent.requests.last_mut() {
        let acknowledged = request.await.is_ok();
        if let Some((edge, _)) = sent.requests.pop()
            && !acknowledged
        {
            sent.failed.push(edge);
        }
    }
}

/// The recipients of a batch, each once.
pub(super) struct Recipients {
    list: Vec<Address>,
    index: AHashMap<Address, u32>,
}

impl Delivering {
    async fn reach(&self, addressed: &[Addressed]) -> (Recipients, Vec<Reach>) {
        let mut users = Recipients {
            list: Vec::new(),
            index: AHashMap::new(),
        };
        let mut last: Option<*const [Address]> = None;
        for one in addressed {
            if let Users::Members(members) = &one.users {
                let this = Arc::as_ptr(members);
                if last.is_some_and(|l| std::ptr::eq(l, this)) {
                    continue;
                }
                last = Some(this);
            }
            one.users.each(|user| {
                if !users.index.contains_key(user) {
                    users.index.insert(user.clone(), users.list.len() as u32);
                    users.list.push(user.clone());
                }
            });
        }
        let reach = self.insist("sessions", || async {
            Ok(self.ephemeral.reach(&users.list).await?)
        });
        let reach = reach.await;
        (users, reach)
    }

    async fn flag(&self, sessions: &[(Address, tandem_kernel::SessionId)]) {
        self.metrics.flagged.add(sessions.len() as u64);
        tracing::warn!(
            sessions = sessions.len(),
            "an edge took no events; its sessions are to resync"
        );
        self.insist("the resync flags", || async {
            Ok(self.ephemeral.flag_resync(sessions).await?)
        })
        .await;
    }

    /// Does it until it is done, which holds the partition. Said once.
    pub(super) async fn insist<T, F>(&self, what: &'static str, mut work: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut wait = WAIT.0;
        loop {
            match work().await {
                Ok(done) => {
                    if wait > WAIT.0 {
                        tracing::info!(what, "delivery goes on");
                    }
                    return done;
                }
                Err(error) => {
                    if wait == WAIT.0 {
                        tracing::error!(%error, what, "delivery of a partition waits");
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT.1);
                }
            }
        }
    }
}

/// The event of a record as devices see it.
pub(super) fn event_of(stored: &Stored) -> Option<Event> {
    use prost::Message;
    let envelope = tandem_kernel::event::Envelope::decode(stored.record.value.as_ref()).ok()?;
    Some(placed(envelope.event?, stored))
}

/// The event with its place.
pub(super) fn placed(mut event: Event, stored: &Stored) -> Event {
    event.seq = Seq::new(super::facts::GENERATION, stored.place.offset).0;
    event.at_ms = stored.at.0;
    event
}

/// The trace of the event's delivery; empty when it is not sampled.
fn traceparent(stored: &Stored) -> String {
    let headers = &stored.record.headers;
    let Some((_, value)) = headers.iter().find(|(name, _)| name == TRACEPARENT) else {
        return String::new();
    };
    let parent = std::str::from_utf8(value).unwrap_or_default();
    let span = telemetry::child(parent, || tracing::info_span!("routing.deliver"));
    telemetry::traceparent(&span)
}

/// Requests for the edges, in order for each edge: deliveries and about how many bytes.
fn deliveries(
    addressed: Vec<Addressed>,
    users: &Recipients,
    reach: Vec<Reach>,
    again: &mut Vec<(Stored, Users)>,
) -> Vec<(EdgeId, Vec<Delivery>, usize)> {
    let mut edges: Vec<EdgeId> = Vec::new();
    let mut sessions: Vec<Vec<(usize, Bytes)>> = Vec::with_capacity(reach.len());
    for reach in reach {
        let of = reach.live.into_iter().map(|(edge, session)| {
            let at = edges.iter().position(|e| *e == edge).unwrap_or_else(|| {
                edges.push(edge);
                edges.len() - 1
            });
            (at, Bytes::copy_from_slice(&session.to_bytes()))
        });
        sessions.push(of.collect());
    }
    let mut full = Vec::new();
    let mut open: Vec<(Vec<Delivery>, usize)> = edges.iter().map(|_| (Vec::new(), 0)).collect();
    for Addressed {
        event,
        stored,
        users: to,
        size,
    } in addressed
    {
        let mut at_edges: Vec<(usize, Vec<Bytes>)> = Vec::with_capacity(1);
        to.each(|user| {
            let Some(index) = users.index.get(user) else {
                return;
            };
            for (edge, session) in &sessions[*index as usize] {
                let known = at_edges.iter_mut().find(|(e, _)| e == edge);
                if let Some((_, list)) = known {
                    list.push(session.clone());
                } else {
                    at_edges.push((*edge, vec![session.clone()]));
                }
            }
        });
        let traceparent = traceparent(&stored);
        let mut event = Some(event);
        let count = at_edges.len();
        for (i, (edge, sessions)) in at_edges.into_iter().enumerate() {
            let of = if i + 1 == count {
                event.take()
            } else {
                event.clone()
            };
            let (deliveries, bytes) = &mut open[edge];
            *bytes += size + 18 * sessions.len();
            let what = of.map(What::Event);
            deliveries.push(Delivery {
                sessions,
                what,
                traceparent: traceparent.clone(),
            });
            if *bytes >= BYTES {
                full.push((edges[edge].clone(), std::mem::take(deliveries), *bytes));
                *bytes = 0;
            }
        }
        if count > 0 {
            again.push((stored, to));
        }
    }
    let rest = edges
        .into_iter()
        .zip(open)
        .filter(|(_, (deliveries, _))| !deliveries.is_empty());
    full.extend(rest.map(|(edge, (deliveries, bytes))| (edge, deliveries, bytes)));
    full
}
