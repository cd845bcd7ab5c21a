//! Carries events to routing: one stream to each replica, batches that form by themselves, and nothing
//! forgotten while a replica is away.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, Replicas},
    lifecycle::OnEnd,
    telemetry,
};
use tandem_kernel::{Address, Code, DeviceId, EventId, Pulse, SessionId, pulse::BEAT};
use tandem_proto::{
    client::{Rejected, Submit, Typing},
    routing::{
        AnswerBatch, SubmitBatch, SubmitItem, answer, routing_client::RoutingClient,
        submit_item::What,
    },
};
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::Span;

use crate::{
    domain::{
        courses::{Held, Sent},
        effect::Answer,
        lanes::{LaneId, Lanes, Refused},
        receipts::Key,
    },
    mailbox::{Bound, Item},
    metrics::Metrics,
    usecase::registry::Handle,
};

/// Who wants to know what became of an event.
#[derive(Clone)]
pub enum Origin {
    /// A session, whose device has acknowledged refusals up to this number.
    Session(Arc<Handle>, u64),
    /// The receipts of a user in a conversation.
    Receipt(Key),
}

struct Pending {
    origin: Origin,
    submit: Submit,
    /// From the device's tap to routing's answer.
    span: Span,
}

impl Pending {
    fn sender(&self) -> (&Address, Option<&DeviceId>) {
        match &self.origin {
            Origin::Session(handle, _) => (&handle.user, Some(&handle.device)),
            Origin::Receipt((user, _)) => (user, None),
        }
    }
}

struct Port {
    wake: Arc<Notify>,
    signals: Vec<SubmitItem>,
    up: bool,
}

#[derive(Default)]
struct State {
    lanes: Lanes<Pending>,
    ports: BTreeMap<LaneId, Port>,
}

/// How events are carried.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Unanswered events at once.
    pub open: usize,
    /// How long an event waits for a replica.
    pub wait: Duration,
    /// How long a replica may take for an answer.
    pub answer: Duration,
    /// How long it may take to open a stream.
    pub call: Duration,
    /// Share of events that are traced.
    pub trace_ratio: f64,
    /// Of the sessions' mailboxes.
    pub mailbox: Bound,
}

/// The carrier.
pub struct Submits {
    state: Mutex<State>,
    count: AtomicU64,
    doors: Doors,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Told when a receipt was refused for good.
    refused_receipts: mpsc::UnboundedSender<Key>,
    /// What devices sent while the edge stood still, another edge may have taken to the log.
    pulse: Pulse,
}

/// An event that is not answered within so many times `submit_answer_ms`, though others are, was forgotten.
const FORGOTTEN: u32 = 4;
/// Most events in one batch.
const BATCH: usize = 512;
/// Most typing signals that wait in a lane.
const SIGNALS: usize = 1024;

fn unavailable() -> Rejected {
    Rejected {
        event_id: String::new(),
        code: Code::Unavailable.as_str().to_owned(),
        message: "the service cannot take events at the moment".to_owned(),
        retry_after_ms: 2_000,
    }
}

/// Whether the event of this number is one of those that make up the share, evenly spread.
fn is_traced(count: u64, ratio: f64) -> bool {
    let traced_up_to = |n: u64| (n as f64 * ratio) as u64;
    traced_up_to(count + 1) > traced_up_to(count)
}

// boxed: the compiler cannot see otherwise that the future is Send
fn open(
    channel: Channel,
    batches: mpsc::Receiver<SubmitBatch>,
    call: Duration,
) -> BoxFuture<'static, Result<Streaming<AnswerBatch>, String>> {
    Box::pin(async move {
        let mut client = RoutingClient::new(channel).max_decoding_message_size(usize::MAX);
        match timeout(call, client.submit(ReceiverStream::new(batches))).await {
            Ok(Ok(answers)) => Ok(answers.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("routing did not open the stream in time".to_owned()),
        }
    })
}

impl Submits {
    /// One that has no replicas yet.
    pub fn new(
        doors: Doors,
        limits: Limits,
        metrics: Arc<Metrics>,
        refused_receipts: mpsc::UnboundedSender<Key>,
    ) -> Arc<Self> {
        let pulse = Pulse::new(doors.clock.monotonic());
        Arc::new(Self {
            pulse,
            state: Mutex::default(),
            count: AtomicU64::new(0),
            doors,
            limits,
            metrics,
            refused_receipts,
        })
    }

    /// Follows the replicas until `ended`.
    pub async fn run(
        self: Arc<Self>,
        mut replicas: Replicas,
        lifecycle: Lifecycle,
        ended: CancellationToken,
    ) {
        let mut tick = tokio::time::interval(BEAT);
        let mut changed = true;
        loop {
            if changed {
                let now = replicas.borrow_and_update().clone();
                let new = self.set_replicas(now.iter().map(|r| r.name.as_str()));
                for (name, id, wake) in new {
                    let Some(replica) = now.iter().find(|r| r.name == *name) else {
                        continue;
                    };
                    let lane =
                        Arc::clone(&self).lane(id, replica.channel.clone(), wake, ended.clone());
                    lifecycle.spawn("edge submits", OnEnd::Fine, lane);
                }
            }
            tokio::select! {
                () = ended.cancelled() => return,
                r = replicas.changed() => {
                    changed = r.is_ok();
                    if !changed {
                        // whoever knew the replicas is gone: they stay as they are
                        ended.cancelled().await;
                        return;
                    }
                }
                _ = tick.tick() => {
                    changed = false;
                    self.pulse.beat(self.doors.clock.monotonic());
                    self.expire();
                }
            }
        }
    }

    fn set_replicas<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Vec<(Arc<str>, LaneId, Arc<Notify>)> {
        let mut state = self.state.lock();
        let (new, ended) = state.lanes.set_replicas(names);
        for id in ended {
            if let Some(port) = state.ports.remove(&id) {
                port.wake.notify_one();
            }
        }
        new.into_iter()
            .map(|(name, id)| {
                let wake = Arc::new(Notify::new());
                wake.notify_one();
                state.ports.insert(
                    id,
                    Port {
                        wake: Arc::clone(&wake),
                        signals: Vec::new(),
                        up: false,
                    },
                );
                (name, id, wake)
            })
            .collect()
    }

    /// Takes an event of a session or a receipt. It is answered to its origin, sooner or later.
    pub fn submit(&self, conversation: Arc<str>, origin: Origin, mut submit: Submit) {
        self.metrics.submits.add(1);
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let span = if is_traced(count, self.limits.trace_ratio) {
            tracing::info_span!("edge.submit")
        } else {
            Span::none()
        };
        let sent = match &origin {
            Origin::Session(handle, known) => sent(handle, &submit.event_id, *known),
            Origin::Receipt(_) => None,
        };
        let now = self.doors.clock.monotonic();
        submit.retry |= self.pulse.is_late(now);
        let pending = Pending {
            origin,
            submit,
            span,
        };
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.lanes.open() >= self.limits.open {
            let held = sent.map(|sent| state.lanes.hold(&conversation, sent, &unavailable()));
            self.refuse(state, conversation, pending.origin, held);
            return;
        }
        match state
            .lanes
            .submit(Arc::clone(&conversation), sent, pending, now)
        {
            Ok(lane) => {
                if let Some(port) = lane.and_then(|id| state.ports.get(&id)) {
                    port.wake.notify_one();
                }
            }
            Err((pending, held)) => self.refuse(state, conversation, pending.origin, Some(held)),
        }
    }

    /// Refuses an event for now that has not come to routing.
    pub fn postpone(&self, handle: &Arc<Handle>, conversation: Arc<str>, rejected: &Rejected) {
        let mut state = self.state.lock();
        if let Some(sent) = sent(handle, &rejected.event_id, 0) {
            let held = state.lanes.hold(&conversation, sent, rejected);
            let origin = Origin::Session(Arc::clone(handle), 0);
            self.refuse(&mut state, conversation, origin, Some(held));
        }
    }

    /// The session is over.
    pub fn forget(&self, session: SessionId) {
        self.state.lock().lanes.forget(session);
    }

    /// Takes a signal, which is carried now or not at all.
    pub fn typing(&self, user: &Address, device: &DeviceId, conversation: String, active: bool) {
        let mut state = self.state.lock();
        let Some(id) = state.lanes.lane_of(&conversation) else {
            return;
        };
        let Some(port) = state.ports.get_mut(&id) else {
            return;
        };
        if port.up && port.signals.len() < SIGNALS {
            port.signals.push(SubmitItem {
                r#ref: 0,
                user: user.as_str().to_owned(),
                device: device.as_str().to_owned(),
                what: Some(What::Typing(Typing {
                    conversation,
                    active,
                })),
                traceparent: String::new(),
                chain: 0,
            });
            port.wake.notify_one();
        }
    }

    /// Unanswered events.
    pub fn open(&self) -> usize {
        self.state.lock().lanes.open()
    }

    fn expire(&self) {
        let now = self.doors.clock.monotonic();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        self.metrics.unanswered.set(state.lanes.open() as i64);
        if let Some(since) = now.checked_sub(self.limits.wait) {
            let expired = state.lanes.expire(since, &unavailable());
            self.refuse_all(state, expired);
        }
    }

    fn refuse_all(&self, state: &mut State, refused: Vec<Refused<Pending>>) {
        for one in refused {
            self.refuse(state, one.conversation, one.item.origin, one.held);
        }
    }

    /// Told while the lanes are locked: so a session learns of its refusals in their order, and before it is
    /// refused or admitted anything more.
    fn refuse(
        &self,
        state: &mut State,
        conversation: Arc<str>,
        origin: Origin,
        held: Option<Held>,
    ) {
        match (origin, held) {
            (Origin::Session(handle, _), Some(held)) => {
                let answer = Box::new(Answer::Postponed(held));
                let item = Item::Answer(conversation, answer);
                if handle.mailbox.push(item, self.limits.mailbox).is_err() {
                    // it is gone; its device sends everything again, with `retry`
                    state.lanes.forget(handle.id);
                }
            }
            (Origin::Receipt(key), _) => {
                let _ = self.refused_receipts.send(key);
            }
            // what a device sends has its turn
            (Origin::Session(..), None) => {}
        }
    }

    fn answer(&self, conversation: Arc<str>, origin: Origin, answer: Answer) {
        match origin {
            Origin::Session(handle, _) => {
                // a session that is gone asks again, with `retry`
                let _ = handle.mailbox.push(
                    Item::Answer(conversation, Box::new(answer)),
                    self.limits.mailbox,
                );
            }
            Origin::Receipt(key) => {
                if matches!(answer, Answer::Rejected(_)) {
                    let _ = self.refused_receipts.send(key);
                }
            }
        }
    }

    async fn lane(
        self: Arc<Self>,
        id: LaneId,
        channel: Channel,
        wake: Arc<Notify>,
        ended: CancellationToken,
    ) {
        let mut backoff = Duration::from_millis(50);
        loop {
            let began = self.doors.clock.monotonic();
            let end = tokio::select! {
                () = ended.cancelled() => return,
                end = self.pump(id, channel.clone(), &wake) => end,
            };
            let Err(reason) = end else { return };
            self.metrics.lanes_failed.add(1);
            tracing::warn!(reason, "a submit stream broke");
            if self.fail(id) {
                return;
            }
            if self.doors.clock.monotonic().saturating_sub(began) > Duration::from_secs(5) {
                backoff = Duration::from_millis(50);
            }
            tokio::select! {
                () = ended.cancelled() => return,
                () = sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(Duration::from_secs(2));
        }
    }

    /// True if the lane is gone.
    fn fail(&self, id: LaneId) -> bool {
        let mut state = self.state.lock();
        if let Some(port) = state.ports.get_mut(&id) {
            port.up = false;
            port.signals.clear();
        }
        for woken in state.lanes.failed(id) {
            if let Some(port) = state.ports.get(&woken) {
                port.wake.notify_one();
            }
        }
        let gone = state.lanes.retire(id);
        if gone {
            state.ports.remove(&id);
        }
        gone
    }

    /// Runs one stream. Ok: the lane has nothing more to do for good.
    async fn pump(&self, id: LaneId, channel: Channel, wake: &Notify) -> Result<(), String> {
        let (tx, rx) = mpsc::channel(1);
        let mut answers = open(channel, rx, self.limits.call).await?;
        {
            let mut state = self.state.lock();
            state.lanes.opened(id);
            if let Some(port) = state.ports.get_mut(&id) {
                port.up = true;
            }
        }
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut more = true;
        let mut heard = self.doors.clock.monotonic();
        loop {
            tokio::select! {
                () = wake.notified(), if !more => more = true,
                permit = tx.reserve(), if more => {
                    let permit = permit.map_err(|_| "routing closed the stream".to_owned())?;
                    let items = self.give(id);
                    more = items.len() >= BATCH;
                    if !items.is_empty() {
                        permit.send(SubmitBatch { items });
                    }
                }
                batch = answers.message() => {
                    let batch = batch
                        .map_err(|s| s.message().to_owned())?
                        .ok_or_else(|| "routing ended the stream".to_owned())?;
                    heard = self.doors.clock.monotonic();
                    self.answered(id, batch.answers);
                    if self.state.lock().lanes.retire(id) {
                        return Ok(());
                    }
                }
                _ = tick.tick() => {
                    let state = self.state.lock();
                    let now = self.doors.clock.monotonic();
                    if !state.ports.contains_key(&id) {
                        return Ok(());
                    }
                    if state.lanes.oldest_given(id).is_some_and(|at| self.given_up(at, heard, now)) {
                        return Err("routing does not answer".to_owned());
                    }
                }
            }
        }
    }

    /// Whether a replica that got its oldest unanswered event `at`, and was last heard of at `heard`, is given up:
    /// one that answers others may take its time over one (a partition without a leader), but not for ever.
    fn given_up(&self, at: Duration, heard: Duration, now: Duration) -> bool {
        let answer = self.limits.answer;
        now.saturating_sub(at.max(heard)) > answer || now.saturating_sub(at) > answer * FORGOTTEN
    }

    fn give(&self, id: LaneId) -> Vec<SubmitItem> {
        let now = self.doors.clock.monotonic();
        let mut state = self.state.lock();
        let State { lanes, ports } = &mut *state;
        let mut items = lanes.give(id, BATCH, now, |give| {
            let (user, device) = give.item.sender();
            let mut submit = give.item.submit.clone();
            submit.retry |= give.again;
            SubmitItem {
                r#ref: give.reference,
                user: user.as_str().to_owned(),
                device: device.map(|d| d.as_str().to_owned()).unwrap_or_default(),
                what: Some(What::Submit(submit)),
                traceparent: telemetry::traceparent(&give.item.span),
                chain: give.chain,
            }
        });
        if let Some(port) = ports.get_mut(&id) {
            items.append(&mut port.signals);
        }
        items
    }

    fn answered(&self, id: LaneId, answers: Vec<tandem_proto::routing::Answer>) {
        let mut done = Vec::with_capacity(answers.len());
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            for answer in answers {
                let result = answer.result.unwrap_or_else(no_answer);
                if let answer::Result::Rejected(rejected) = &result
                    && rejected.retry_after_ms > 0
                {
                    let refused = state.lanes.refused(id, answer.r#ref, rejected);
                    self.refuse_all(state, refused);
                    continue;
                }
                let Some((conversation, pending)) = state.lanes.answer(id, answer.r#ref) else {
                    continue;
                };
                let answer = match result {
                    answer::Result::Accepted(accepted) => Answer::Accepted(accepted),
                    answer::Result::Rejected(mut rejected) => {
                        rejected.event_id = pending.submit.event_id;
                        Answer::Rejected(rejected)
                    }
                };
                done.push((conversation, pending.origin, answer));
            }
        }
        for (conversation, origin, answer) in done {
            self.answer(conversation, origin, answer);
        }
    }
}

fn sent(handle: &Handle, event_id: &str, known: u64) -> Option<Sent> {
    let event = EventId::parse(event_id).ok()?;
    Some(Sent {
        session: handle.id,
        event,
        known,
    })
}

fn no_answer() -> answer::Result {
    answer::Result::Rejected(Rejected {
        event_id: String::new(),
        code: Code::Internal.as_str().to_owned(),
        message: "routing gave no answer".to_owned(),
        retry_after_ms: 1_000,
    })
}

#[cfg(test)]
mod tests {
    use super::is_traced;

    #[test]
    fn the_share_of_events_that_are_traced_is_the_one_asked_for() {
        let traced = |ratio| (0..10_000).filter(|n| is_traced(*n, ratio)).count();
        assert_eq!([0.0, 0.01, 0.3, 1.0].map(traced), [0, 100, 3000, 10_000]);
    }
}
