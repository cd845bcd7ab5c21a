//! Appending: one idempotent producer, replaced when an error has ended it.
//!
//! Each record carries a [`Slot`] through librdkafka, which brings its answer back to the call that it came
//! from. A slot that is dropped answers, too, so that no call waits for ever.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt};
use parking_lot::{Mutex, RwLock};
use rdkafka::{
    ClientConfig, Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};
use tandem_chassis::Doors;
use tandem_kernel::{Place, UnixMillis};
use tandem_log::{Appended, LogError, Record};
use tokio::sync::oneshot;

use crate::{aside::Aside, context::Context, error, metrics};

type Producer = ThreadedProducer<Context>;
type Answer = Result<Appended, LogError>;

/// How much longer than the delivery timeout an answer is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// What appends.
pub struct Appender {
    config: ClientConfig,
    /// `None` once closed.
    producer: RwLock<Option<Arc<Producer>>>,
    max_record: usize,
    timeout: Duration,
    doors: Doors,
    aside: Aside,
    metrics: Arc<metrics::Appends>,
}

/// A call of `append`.
#[derive(Debug)]
struct Call {
    topic: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    answers: Vec<Option<Answer>>,
    left: usize,
    done: Option<oneshot::Sender<Vec<Option<Answer>>>>,
}

/// Where a record's answer belongs.
#[derive(Debug)]
pub struct Slot {
    call: Arc<Call>,
    index: usize,
    answered: bool,
}

impl Slot {
    fn answer(&mut self, answer: Answer) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        let mut state = self.call.state.lock();
        state.answers[self.index] = Some(answer);
        state.left -= 1;
        if state.left == 0
            && let Some(done) = state.done.take()
        {
            let _ = done.send(std::mem::take(&mut state.answers));
        }
    }

    /// What became of the record.
    pub fn delivered(mut self, result: &DeliveryResult<'_>) {
        let answer = match result {
            Ok(message) => match (
                u32::try_from(message.partition()),
                u64::try_from(message.offset()),
            ) {
                (Ok(partition), Ok(offset)) => Ok(Appended {
                    place: Place { partition, offset },
                    at: UnixMillis(message.timestamp().to_millis().unwrap_or(0)),
                }),
                // it had been appended by an earlier try, and the broker has forgotten where
                _ => Err(error::unavailable("appended, but where is not known")),
            },
            Err((KafkaError::MessageProduction(code), message)) => {
                Err(self.failed(*code, message.payload_len() + message.key_len()))
            }
            Err((error, _)) => Err(error::unavailable(error)),
        };
        self.answer(answer);
    }

    fn failed(&self, code: RDKafkaErrorCode, size: usize) -> LogError {
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => {
                LogError::TooLarge(size)
            }
            _ => error::of_code(code, &self.call.topic),
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

impl Appender {
    pub fn new(config: &crate::Config, doors: Doors, aside: Aside) -> Result<Self, LogError> {
        let this = Self {
            config: config.producer(),
            producer: RwLock::default(),
            max_record: config.max_record_bytes,
            timeout: Duration::from_millis(config.delivery_timeout_ms),
            doors,
            aside,
            metrics: Arc::new(metrics::Appends::new()),
        };
        let first = this.create()?;
        *this.producer.write() = Some(first);
        Ok(this)
    }

    fn create(&self) -> Result<Arc<Producer>, LogError> {
        let producer = self
            .config
            .create_with_context(Context::default())
            .map_err(error::unavailable)?;
        self.metrics.producers.add(1);
        Ok(Arc::new(producer))
    }

    /// See [`tandem_log::Log::append`]. When a record is refused here, so are those of the call that come after
    /// it in its partition: what is appended again later must not come after what followed it.
    pub fn append(
        &self,
        topic: &str,
        records: Vec<(u32, Record)>,
    ) -> BoxFuture<'static, Vec<Answer>> {
        let count = records.len();
        let Some(producer) = self.producer.read().clone() else {
            return std::future::ready(vec![Err(LogError::Closed); count]).boxed();
        };
        if count == 0 {
            return std::future::ready(Vec::new()).boxed();
        }
        let (done, answers) = oneshot::channel();
        let call = Arc::new(Call {
            topic: topic.to_owned(),
            state: Mutex::new(State {
                answers: vec![None; count],
                left: count,
                done: Some(done),
            }),
        });
        let begun = self.doors.clock.monotonic();
        let (mut bytes, mut refused) = (0, BTreeSet::new());
        for (index, (partition, record)) in records.into_iter().enumerate() {
            bytes += record.key.len() + record.value.len();
            let slot = Box::new(Slot {
                call: Arc::clone(&call),
                index,
                answered: false,
            });
            self.send(&producer, partition, &record, slot, &mut refused);
        }
        let (clock, metrics) = (Arc::clone(&self.doors.clock), Arc::clone(&self.metrics));
        let wait = self.timeout + GRACE;
        async move {
            let answers = tokio::time::timeout(wait, answers).await;
            let lost = || Err(error::unavailable("no answer in time"));
            let answers: Vec<Answer> = match answers {
                Ok(Ok(answers)) => answers
                    .into_iter()
                    .map(|a| a.unwrap_or_else(lost))
                    .collect(),
                _ => std::iter::repeat_with(lost).take(count).collect(),
            };
            let failed = answers.iter().filter(|a| a.is_err()).count();
            metrics.records.add((count - failed) as u64);
            metrics.failed.add(failed as u64);
            if failed == 0 {
                metrics.bytes.add(bytes as u64);
            }
            let took = clock.monotonic().saturating_sub(begun);
            metrics.took.record(took.as_secs_f64());
            answers
        }
        .boxed()
    }

    fn send(
        &self,
        producer: &Arc<Producer>,
        partition: u32,
        record: &Record,
        mut slot: Box<Slot>,
        refused: &mut BTreeSet<u32>,
    ) {
        let size = size(record);
        if size > self.max_record {
            slot.answer(Err(LogError::TooLarge(size)));
            return;
        }
        let Ok(number) = i32::try_from(partition) else {
            slot.answer(Err(LogError::NoTopic(slot.call.topic.clone())));
            return;
        };
        if refused.contains(&partition) {
            slot.answer(Err(error::unavailable("the one before it was refused")));
            return;
        }
        let call = Arc::clone(&slot.call);
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header {
                key,
                value: Some(&value[..]),
            });
        }
        let mut sent = BaseRecord::with_opaque_to(&call.topic, slot)
            .partition(number)
            .key(&record.key[..])
            .headers(headers);
        // to a compacted topic, a value of no bytes is the end of its key
        if !record.value.is_empty() {
            sent = sent.payload(&record.value[..]);
        }
        let Err((error, unsent)) = producer.send(sent) else {
            return;
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let mut slot = unsent.delivery_opaque;
        let answer = slot.failed(code, size);
        if matches!(answer, LogError::Unavailable(_)) {
            refused.insert(partition);
        }
        slot.answer(Err(answer));
        match code {
            RDKafkaErrorCode::QueueFull => self.metrics.refused.add(1),
            RDKafkaErrorCode::Fatal => self.replace(producer),
            _ => {}
        }
    }

    /// Begins a new producer in the place of one that an error has ended.
    fn replace(&self, ended: &Arc<Producer>) {
        let mut current = self.producer.write();
        if !current.as_ref().is_some_and(|c| Arc::ptr_eq(c, ended)) {
            return;
        }
        let reason = ended.client().fatal_error();
        tracing::error!(?reason, "the producer ended; beginning another");
        match self.create() {
            Ok(new) => {
                if let Some(old) = current.replace(new) {
                    // ending it answers what it still had, and blocks
                    self.aside.run(move || drop(old));
                }
            }
            Err(error) => {
                tracing::error!(%error, "no new producer; trying again with the next append");
            }
        }
    }

    /// Takes no more appends and waits until those that were taken are answered.
    pub async fn close(&self) {
        let Some(producer) = self.producer.write().take() else {
            return;
        };
        let timeout = self.timeout;
        let flushed = self.doors.threads.run(move || {
            let flushed = producer.flush(timeout);
            drop(producer);
            flushed
        });
        if let Ok(Err(error)) = flushed.await {
            tracing::warn!(%error, "appends are given up with the log's close");
        }
    }
}
