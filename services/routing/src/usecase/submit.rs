//! Submit: one stream from an edge, its items admitted and appended.
//!
//! Each conversation has a lane. A lane has at most one append or one question to another service
//! under way, and what comes meanwhile waits behind it: so a conversation's order holds whatever the
//! log or another service does, and no conversation waits for another. All lanes that can go
//! on go to the log in one append.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use ahash::AHashMap;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tandem_chassis::telemetry;
use tandem_kernel::{
    Address, Code, ConversationId, EventId, Seq, UnixMillis, group::changes_group,
};
use tandem_log::{Appended, LogError, Record};
use tandem_proto::{
    client::{Accepted, Rejected, Submit},
    routing::{Answer, answer},
};

use crate::{
    domain::{
        generations::Generations,
        item::{Conversation, Item, Refused},
    },
    usecase::{
        admit::{Admission, Decision, Known, Learned, record, retried},
        facts::GENERATION,
    },
};

/// Conversation ids that a stream keeps taken apart.
const CONVERSATIONS: usize = 10_000;
/// Broken chains that a stream remembers.
const BROKEN: usize = 10_000;
/// First and longest wait before what the log did not confirm is appended again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A submitted event, before it is read.
pub struct Submitted {
    pub reference: u64,
    pub user: String,
    pub device: String,
    pub submit: Submit,
    pub traceparent: String,
    /// What of it is refused for now, refuses what follows; 0: none.
    pub chain: u64,
}

struct Waiting {
    reference: u64,
    chain: u64,
    taken: Duration,
    event_id: String,
    item: Result<Item, Refused>,
    traceparent: String,
}

struct Lane {
    conversation: Arc<Conversation>,
    queue: VecDeque<Waiting>,
    /// Facts asked for, for the head of the queue.
    known: Known,
    busy: bool,
    touched: bool,
}

/// A place in an append, lane by lane, each lane in order.
struct Slot {
    conversation: Arc<Conversation>,
    reference: u64,
    what: What,
}

enum What {
    /// Answered already, to be said after what is before it.
    Said(answer::Result),
    Event(Box<Sent>),
}

struct Sent {
    event_id: String,
    conversation: String,
    id: EventId,
    changes_group: bool,
    record: Record,
    appended: Option<Appended>,
    /// Lasts until the log has the event.
    _span: tracing::Span,
}

enum Done {
    /// What became of the events among the slots that were not appended yet, in order.
    Appended {
        slots: Vec<Slot>,
        results: Vec<Result<Appended, LogError>>,
        /// How long was waited before this repetition; `None`: it was the first time.
        waited: Option<Duration>,
    },
    Learned(ConversationId, Result<Learned, Refused>),
}

/// One submit stream.
pub struct Stream {
    shared: Arc<Admission>,
    lanes: AHashMap<ConversationId, Lane>,
    /// Lanes that may be able to go on, in the order in which they became so.
    touched: Vec<ConversationId>,
    conversations: Generations<String, Arc<Conversation>>,
    /// Chains of which an event was refused for now: what follows in them was sent without knowing that.
    broken: Generations<u64, Refused>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    answers: Vec<Answer>,
    queued: usize,
    /// Appends being repeated.
    repeating: usize,
}

impl Stream {
    pub fn new(shared: Arc<Admission>) -> Self {
        Self {
            shared,
            lanes: AHashMap::new(),
            touched: Vec::new(),
            conversations: Generations::new(CONVERSATIONS),
            broken: Generations::new(BROKEN),
            under_way: FuturesUnordered::new(),
            answers: Vec::new(),
            queued: 0,
            repeating: 0,
        }
    }

    /// Whether more may be taken.
    pub fn has_room(&self) -> bool {
        self.queued < self.shared.config.stream_queue
    }

    /// Whether nothing is waiting or under way.
    pub fn is_idle(&self) -> bool {
        self.queued == 0 && self.under_way.is_empty()
    }

    /// Whether the log does not confirm what is under way.
    pub fn is_unconfirmed(&self) -> bool {
        self.repeating > 0
    }

    /// The answers since the last call, in order for each conversation.
    pub fn answers(&mut self) -> Vec<Answer> {
        mem::take(&mut self.answers)
    }

    /// Waits until something that is under way is done, for ever if nothing is. Cancel safe.
    pub async fn progress(&mut self) {
        match self.under_way.next().await {
            Some(done) => self.done(done),
            None => std::future::pending().await,
        }
        while let Some(Some(done)) = self.under_way.next().now_or_never() {
            self.done(done);
        }
    }

    /// Takes an event in.
    pub fn take(&mut self, submitted: Submitted) {
        let Submitted {
            reference,
            user,
            device,
            mut submit,
            traceparent,
            chain,
        } = submitted;
        let now = self.shared.doors.clock.monotonic();
        submit.retry |= self.shared.pulse.is_late(now);
        let found = self.conversation(&user, &submit);
        let (user, conversation) = match found {
            Ok(found) => found,
            Err(refused) => {
                let said = rejected(&self.shared, submit.event_id, &refused);
                self.answers.push(Answer {
                    r#ref: reference,
                    result: Some(said),
                });
                return;
            }
        };
        let event_id = submit.event_id.clone();
        let item = self
            .shared
            .read(user, device, Arc::clone(&conversation), submit);
        let id = conversation.id.clone();
        let lane = self.lanes.entry(id).or_insert_with(|| Lane {
            conversation,
            queue: VecDeque::with_capacity(1),
            known: Known::default(),
            busy: false,
            touched: false,
        });
        lane.queue.push_back(Waiting {
            reference,
            chain,
            taken: now,
            event_id,
            item,
            traceparent,
        });
        self.queued += 1;
        touch(lane, &mut self.touched);
    }

    fn conversation(
        &mut self,
        user: &str,
        submit: &Submit,
    ) -> Result<(Address, Arc<Conversation>), Refused> {
        const USER: Refused = Refused::new(Code::InvalidArgument, "the sender is no address");
        let user = Address::parse(user).map_err(|_| USER)?;
        if let Some(found) = self.conversations.get_mut(submit.conversation.as_str()) {
            return Ok((user, Arc::clone(found)));
        }
        let id = Admission::conversation_of(&user, submit)?;
        let conversation = self.conversations.entry(&id.as_str().to_owned(), || {
            Conversation::new(id, self.shared.partitions)
        });
        Ok((user, Arc::clone(conversation)))
    }

    /// Moves every lane on that can go on.
    pub fn pump(&mut self) {
        let (mut slots, mut records) = (Vec::new(), Vec::new());
        while !self.touched.is_empty() {
            for id in mem::take(&mut self.touched) {
                if let Some(mut lane) = self.lanes.remove(&id) {
                    lane.touched = false;
                    self.pump_lane(&mut lane, &mut slots, &mut records);
                    if lane.busy || !lane.queue.is_empty() {
                        self.lanes.insert(id, lane);
                    }
                }
                if records.len() >= self.shared.config.append_group {
                    self.append(mem::take(&mut slots), mem::take(&mut records));
                }
            }
        }
        if !records.is_empty() {
            self.append(slots, records);
        }
    }

    fn pump_lane(
        &mut self,
        lane: &mut Lane,
        slots: &mut Vec<Slot>,
        records: &mut Vec<(u32, Record)>,
    ) {
        let begin = slots.len();
        while !lane.busy
            && let Some(head) = lane.queue.front()
            && slots.len() - begin < self.shared.config.append_group
        {
            let broken = self.broken.get_mut(&head.chain).map(|r| r.clone());
            let decision = match (&head.item, broken) {
                (_, Some(refused)) => Decision::Refuse(refused),
                (Err(refused), None) => Decision::Refuse(refused.clone()),
                (Ok(item), None) => self.shared.decide(item, &lane.known),
            };
            let decision = match decision {
                Decision::Ask(_) if slots.len() > begin => break,
                Decision::Ask(question) => {
                    if let Ok(item) = &head.item {
                        lane.busy = true;
                        let ask = Arc::clone(&self.shared).ask(
                            Arc::clone(&lane.conversation),
                            item.sender.clone(),
                            item.event_id,
                            question,
                        );
                        let id = lane.conversation.id.clone();
                        self.under_way
                            .push(ask.map(|l| Done::Learned(id, l)).boxed());
                    }
                    break;
                }
                decided => decided,
            };
            lane.known = Known::default();
            self.queued -= 1;
            let Some(head) = lane.queue.pop_front() else {
                break;
            };
            if let Decision::Refuse(refused) = &decision
                && refused.retry_after_ms > 0
                && head.chain > 0
            {
                self.broken.insert(head.chain, refused.clone());
            }
            let reference = head.reference;
            let what = self.settle(head, decision, records);
            match what {
                What::Said(said) if slots.len() == begin => {
                    self.answers.push(Answer {
                        r#ref: reference,
                        result: Some(said),
                    });
                }
                what => {
                    let conversation = Arc::clone(&lane.conversation);
                    slots.push(Slot {
                        conversation,
                        reference,
                        what,
                    });
                }
            }
        }
        lane.busy |= slots.len() > begin;
    }

    fn settle(&self, head: Waiting, decision: Decision, records: &mut Vec<(u32, Record)>) -> What {
        let (item, event_id) = (head.item, head.event_id);
        match (decision, item) {
            (
                Decision::Admit {
                    withheld_from,
                    request,
                },
                Ok(mut item),
            ) => {
                let waited = self
                    .shared
                    .doors
                    .clock
                    .monotonic()
                    .saturating_sub(head.taken);
                // its edge may have given it to another replica meanwhile, and copies may lie far apart
                item.retry |= waited > Duration::from_millis(self.shared.config.late_ms);
                let span =
                    telemetry::child(&head.traceparent, || tracing::info_span!("routing.append"));
                let changes = changes_group(&item.kind);
                if changes {
                    let id = &item.conversation.id;
                    self.shared
                        .directory
                        .admitted(id, item.event_id, &item.sender, &item.kind);
                }
                let (partition, id) = (item.conversation.partition, item.event_id);
                let traceparent = telemetry::traceparent(&span);
                let (record, event_id, conversation) =
                    record(item, event_id, &withheld_from, request, traceparent);
                records.push((partition, record.clone()));
                What::Event(Box::new(Sent {
                    event_id,
                    conversation,
                    id,
                    changes_group: changes,
                    record,
                    appended: None,
                    _span: span,
                }))
            }
            (Decision::Earlier(seq, at), Ok(item)) => {
                self.shared.metrics.answered_again.add(1);
                let conversation = item.conversation.id.as_str().to_owned();
                What::Said(accepted(event_id, conversation, seq, at))
            }
            (Decision::Refuse(refused), _) | (_, Err(refused)) => {
                What::Said(rejected(&self.shared, event_id, &refused))
            }
            (Decision::Ask(_), Ok(_)) => {
                let refused = self
                    .shared
                    .unavailable("the event cannot be decided on now");
                What::Said(rejected(&self.shared, event_id, &refused))
            }
        }
    }

    fn append(&self, slots: Vec<Slot>, records: Vec<(u32, Record)>) {
        let shared = Arc::clone(&self.shared);
        let begun = shared.doors.clock.monotonic();
        // called here, not in the future: the calls' order is the log's
        let append = shared.log.append(&shared.topic, records);
        let done = async move {
            let results = append.await;
            let took = shared.doors.clock.monotonic().saturating_sub(begun);
            shared.metrics.append_ms.record(took.as_secs_f64() * 1e3);
            Done::Appended {
                slots,
                results,
                waited: None,
            }
        };
        self.under_way.push(done.boxed());
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Learned(id, learned) => {
                if let Some(lane) = self.lanes.get_mut(&id) {
                    lane.known.learn(learned);
                    lane.busy = false;
                    touch(lane, &mut self.touched);
                }
            }
            Done::Appended {
                mut slots,
                results,
                waited,
            } => {
                self.repeating -= usize::from(waited.is_some());
                let mut results = results.into_iter();
                for slot in &mut slots {
                    self.appended(slot, &mut results);
                }
                // a lane whose events are not all in the log says nothing and stays busy
                let mut again = Vec::new();
                let mut rest = slots.into_iter().peekable();
                while let Some(first) = rest.next() {
                    let conversation = Arc::clone(&first.conversation);
                    let mut lane = vec![first];
                    while let Some(next) =
                        rest.next_if(|s| Arc::ptr_eq(&s.conversation, &conversation))
                    {
                        lane.push(next);
                    }
                    if lane.iter().all(is_settled) {
                        self.say(lane);
                        if let Some(lane) = self.lanes.get_mut(&conversation.id) {
                            lane.busy = false;
                            touch(lane, &mut self.touched);
                        }
                    } else {
                        again.append(&mut lane);
                    }
                }
                if !again.is_empty() {
                    let wait = waited.map_or(RETRY.0, |w| (w * 2).min(RETRY.1));
                    self.append_again(again, wait);
                }
            }
        }
    }

    fn appended(
        &self,
        slot: &mut Slot,
        results: &mut impl Iterator<Item = Result<Appended, LogError>>,
    ) {
        let What::Event(sent) = &mut slot.what else {
            return;
        };
        if sent.appended.is_some() {
            return;
        }
        match results.next() {
            Some(Ok(appended)) => {
                sent.appended = Some(appended);
                self.shared.metrics.admitted.add(1);
                if sent.changes_group {
                    let seq = Seq::new(GENERATION, appended.place.offset);
                    self.shared
                        .directory
                        .appended(&slot.conversation.id, sent.id, seq);
                }
            }
            // the one error that says that it is not in the log and never will be
            Some(Err(LogError::TooLarge(_))) => {
                let refused =
                    Refused::new(Code::TooLarge, "the event is larger than the log takes");
                let event_id = mem::take(&mut sent.event_id);
                slot.what = What::Said(rejected(&self.shared, event_id, &refused));
            }
            Some(Err(error)) => tracing::debug!(%error, "an append is to be repeated"),
            None => {}
        }
    }

    fn say(&mut self, lane: Vec<Slot>) {
        for slot in lane {
            let said = match slot.what {
                What::Said(said) => said,
                What::Event(sent) => {
                    let Some(Appended { place, at }) = sent.appended else {
                        continue;
                    };
                    let seq = Seq::new(GENERATION, place.offset);
                    accepted(sent.event_id, sent.conversation, seq, at)
                }
            };
            self.answers.push(Answer {
                r#ref: slot.reference,
                result: Some(said),
            });
        }
    }

    /// What became of these is not known, so they are neither accepted nor rejected: they go to the log
    /// again, marked, and readers drop the copies.
    fn append_again(&mut self, slots: Vec<Slot>, wait: Duration) {
        let shared = Arc::clone(&self.shared);
        let mut records = Vec::new();
        for slot in &slots {
            if let What::Event(sent) = &slot.what
                && sent.appended.is_none()
            {
                records.push((slot.conversation.partition, retried(&sent.record)));
            }
        }
        shared.metrics.append_retries.add(records.len() as u64);
        tracing::warn!(
            events = records.len(),
            "the log did not confirm events; appending them again"
        );
        self.repeating += 1;
        let done = async move {
            tokio::time::sleep(wait).await;
            let results = shared.log.append(&shared.topic, records).await;
            Done::Appended {
                slots,
                results,
                waited: Some(wait),
            }
        };
        self.under_way.push(done.boxed());
    }
}

fn touch(lane: &mut Lane, touched: &mut Vec<ConversationId>) {
    if !lane.touched {
        lane.touched = true;
        touched.push(lane.conversation.id.clone());
    }
}

fn is_settled(slot: &Slot) -> bool {
    match &slot.what {
        What::Said(_) => true,
        What::Event(sent) => sent.appended.is_some(),
    }
}

fn accepted(event_id: String, conversation: String, seq: Seq, at: UnixMillis) -> answer::Result {
    answer::Result::Accepted(Accepted {
        event_id,
        conversation,
        seq: seq.0,
        at_ms: at.0,
    })
}

fn rejected(shared: &Admission, event_id: String, refused: &Refused) -> answer::Result {
    shared.metrics.refuse(refused.code);
    answer::Result::Rejected(Rejected {
        event_id,
        code: refused.code.as_str().to_owned(),
        message: refused.message.to_owned(),
        retry_after_ms: refused.retry_after_ms,
    })
}
