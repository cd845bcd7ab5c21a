//! What waits to be appended to one partition, and the way of each answer back to its call.
//!
//! One group of records is handed to librdkafka at a time; those that come meanwhile form the next one. With an
//! idempotent producer librdkafka sends no more at once itself, and spins while it has more.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord},
};
use tandem_kernel::{Place, UnixMillis};
use tandem_log::{Appended, LogError, Record};
use tokio::sync::oneshot;

use crate::{context::Context, error, producer::Shared};

pub type Producer = BaseProducer<Context>;
pub type Answer = Result<Appended, LogError>;

/// Most that is handed over at once.
const GROUP: (usize, usize) = (4096, 512 << 10);
/// What a record costs in memory beside its bytes, about.
const AROUND: usize = 256;

/// A partition's.
#[derive(Debug)]
pub struct Lane {
    topic: Arc<str>,
    partition: u32,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Handed to the producer that has this number.
    producer: u64,
    in_flight: usize,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    slot: Box<Slot>,
    until: Duration,
}

/// A call of `append`.
#[derive(Debug)]
pub struct Call {
    state: Mutex<State>,
    /// Something of it failed in a way that may pass: what still waits is not to come after that.
    broken: AtomicBool,
    buffered: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    answers: Vec<Option<Answer>>,
    left: usize,
    done: Option<oneshot::Sender<Vec<Option<Answer>>>>,
}

impl Call {
    /// A call of so many records, and where its answers come.
    pub fn new(
        count: usize,
        buffered: Arc<AtomicUsize>,
    ) -> (Arc<Self>, oneshot::Receiver<Vec<Option<Answer>>>) {
        let (done, answers) = oneshot::channel();
        let state = State {
            answers: vec![None; count],
            left: count,
            done: Some(done),
        };
        let call = Self {
            state: Mutex::new(state),
            broken: AtomicBool::new(false),
            buffered,
        };
        (Arc::new(call), answers)
    }

    fn answer(&self, index: usize, answer: Answer) {
        if matches!(answer, Err(LogError::Unavailable(_) | LogError::Closed)) {
            self.broken.store(true, Ordering::Relaxed);
        }
        let mut state = self.state.lock();
        state.answers[index] = Some(answer);
        state.left -= 1;
        if state.left == 0
            && let Some(done) = state.done.take()
        {
            let _ = done.send(std::mem::take(&mut state.answers));
        }
    }
}

/// Where a record's answer belongs. A slot that is dropped answers, too, so that no call waits for ever.
#[derive(Debug)]
pub struct Slot {
    call: Arc<Call>,
    index: usize,
    lane: Arc<Lane>,
    shared: Arc<Shared>,
    /// The producer that has the record.
    producer: u64,
    size: usize,
    answered: bool,
}

impl Slot {
    fn answer(&mut self, answer: Answer) {
        if !std::mem::replace(&mut self.answered, true) {
            self.call
                .buffered
                .fetch_sub(self.size + AROUND, Ordering::Relaxed);
            self.call.answer(self.index, answer);
        }
    }

    /// What became of the record.
    pub fn delivered(mut self, result: &DeliveryResult<'_>) {
        let answer = match result {
            Ok(message) => match u64::try_from(message.offset()) {
                Ok(offset) => Ok(Appended {
                    place: Place {
                        partition: self.lane.partition,
                        offset,
                    },
                    at: UnixMillis(message.timestamp().to_millis().unwrap_or(0)),
                }),
                // an earlier try had appended it, and the broker has forgotten where
                Err(_) => Err(error::unavailable("appended, but where is not known")),
            },
            Err((KafkaError::MessageProduction(code), _)) => Err(self.failed(*code)),
            Err((error, _)) => Err(error::unavailable(error)),
        };
        self.answer(answer);
        let (lane, shared) = (Arc::clone(&self.lane), Arc::clone(&self.shared));
        lane.landed(&shared, self.producer);
    }

    fn failed(&self, code: RDKafkaErrorCode) -> LogError {
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => {
                LogError::TooLarge(self.size)
            }
            _ => error::of_code(code, &self.lane.topic),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.answer(Err(error::unavailable("the producer ended")));
    }
}

fn size(record: &Record) -> usize {
    let headers = record.headers.iter().map(|(k, v)| k.len() + v.len());
    record.key.len() + record.value.len() + headers.sum::<usize>()
}

impl Lane {
    pub fn new(topic: Arc<str>, partition: u32) -> Self {
        Self {
            topic,
            partition,
            queue: Mutex::default(),
        }
    }

    /// Puts a record of a call at the end.
    pub fn push(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        (call, index): (&Arc<Call>, usize),
        record: Record,
        until: Duration,
    ) {
        let size = size(&record);
        let buffered = call.buffered.fetch_add(size + AROUND, Ordering::Relaxed);
        let mut slot = Box::new(Slot {
            call: Arc::clone(call),
            index,
            lane: Arc::clone(self),
            shared: Arc::clone(shared),
            producer: 0,
            size,
            answered: false,
        });
        if size > shared.max_record {
            slot.answer(Err(LogError::TooLarge(size)));
        } else if call.broken.load(Ordering::Relaxed) {
            slot.answer(Err(error::unavailable("what came before it was refused")));
        } else if buffered > shared.max_buffered {
            shared.metrics.refused.add(1);
            slot.answer(Err(error::unavailable("too much waits to be appended")));
        } else {
            let waiting = Waiting {
                record,
                slot,
                until,
            };
            self.queue.lock().waiting.push_back(waiting);
        }
    }

    /// Hands over what waits, unless something is on its way.
    pub fn go(&self, shared: &Arc<Shared>) {
        let ended = {
            let mut queue = self.queue.lock();
            if queue.in_flight > 0 {
                return;
            }
            self.hand_over(shared, &mut queue)
        };
        if let Some(number) = ended {
            shared.replace(number);
        }
    }

    /// One that this producer had has been answered.
    fn landed(&self, shared: &Arc<Shared>, producer: u64) {
        {
            let mut queue = self.queue.lock();
            if queue.producer != producer {
                return;
            }
            queue.in_flight = queue.in_flight.saturating_sub(1);
        }
        self.go(shared);
    }

    /// What an ended producer had is no longer waited for.
    pub fn begin_again(&self, shared: &Arc<Shared>) {
        self.queue.lock().in_flight = 0;
        self.go(shared);
    }

    /// Answers what waits: it will not be appended.
    pub fn close(&self) {
        let waiting = std::mem::take(&mut self.queue.lock().waiting);
        for mut one in waiting {
            one.slot.answer(Err(LogError::Closed));
        }
    }

    /// Gives the producer's number if an error has ended it.
    fn hand_over(&self, shared: &Arc<Shared>, queue: &mut Queue) -> Option<u64> {
        let Some((producer, number)) = shared.producer() else {
            for mut waiting in queue.waiting.drain(..) {
                waiting.slot.answer(Err(LogError::Closed));
            }
            return None;
        };
        queue.producer = number;
        let now = shared.now();
        let mut bytes = 0;
        while queue.in_flight < GROUP.0
            && bytes < GROUP.1
            && let Some(mut waiting) = queue.waiting.pop_front()
        {
            bytes += waiting.slot.size;
            if waiting.slot.call.broken.load(Ordering::Relaxed) {
                let why = "what came before it failed";
                waiting.slot.answer(Err(error::unavailable(why)));
                continue;
            }
            if now > waiting.until {
                let why = "it waited too long to be appended";
                waiting.slot.answer(Err(error::unavailable(why)));
                continue;
            }
            waiting.slot.producer = number;
            match self.send(&producer, &waiting.record, waiting.slot) {
                Ok(()) => queue.in_flight += 1,
                Err(RDKafkaErrorCode::Fatal) => return Some(number),
                Err(_) => {}
            }
        }
        None
    }

    fn send(
        &self,
        producer: &Producer,
        record: &Record,
        slot: Box<Slot>,
    ) -> Result<(), RDKafkaErrorCode> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header {
                key,
                value: Some(&value[..]),
            });
        }
        let mut sent = BaseRecord::with_opaque_to(&self.topic, slot)
            .partition(i32::try_from(self.partition).unwrap_or(i32::MAX))
            .key(&record.key[..])
            .headers(headers);
        // to a compacted topic, a value of no bytes is the end of its key
        if !record.value.is_empty() {
            sent = sent.payload(&record.value[..]);
        }
        let Err((error, unsent)) = producer.send(sent) else {
            return Ok(());
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let mut slot = unsent.delivery_opaque;
        let answer = slot.failed(code);
        slot.answer(Err(answer));
        Err(code)
    }
}
