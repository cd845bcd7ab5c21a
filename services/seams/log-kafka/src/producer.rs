//! Appending: one idempotent producer, replaced when an error has ended it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use parking_lot::RwLock;
use rdkafka::{ClientConfig, producer::Producer as _};
use tandem_chassis::Doors;
use tandem_log::{LogError, Record};

use crate::{
    aside::Aside,
    context::Context,
    error,
    lane::{Answer, Call, Lane, Producer},
    metrics,
};

/// How much longer than the delivery timeout an answer is waited for.
const GRACE: Duration = Duration::from_secs(5);
/// How long a poll for deliveries waits for one.
const POLL: Duration = Duration::from_millis(500);
/// How often a close looks whether all is answered.
const LOOK: Duration = Duration::from_millis(5);

/// By topic and partition.
type Lanes = BTreeMap<Arc<str>, BTreeMap<u32, Arc<Lane>>>;

/// What appends.
pub struct Appender(Arc<Shared>);

/// What its lanes share.
pub struct Shared {
    config: ClientConfig,
    /// The producer and its number; `None` once closed.
    producer: RwLock<Option<(Arc<Running>, u64)>>,
    lanes: RwLock<Lanes>,
    /// A producer is being replaced.
    replacing: AtomicBool,
    pub max_record: usize,
    pub max_buffered: usize,
    /// Bytes that wait or are on their way.
    buffered: Arc<AtomicUsize>,
    closing: AtomicBool,
    timeout: Duration,
    doors: Doors,
    aside: Aside,
    pub metrics: metrics::Appends,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// A producer whose deliveries are taken on a thread of its own, until this is dropped.
struct Running {
    producer: Arc<Producer>,
    ended: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl Appender {
    pub fn new(config: &crate::Config, doors: Doors, aside: Aside) -> Result<Self, LogError> {
        let shared = Shared {
            config: config.producer(),
            producer: RwLock::default(),
            lanes: RwLock::default(),
            replacing: AtomicBool::new(false),
            max_record: config.max_record_bytes,
            max_buffered: usize::try_from(config.buffer_bytes).unwrap_or(usize::MAX),
            buffered: Arc::default(),
            closing: AtomicBool::new(false),
            timeout: Duration::from_millis(config.delivery_timeout_ms),
            doors,
            aside,
            metrics: metrics::Appends::new(),
        };
        let shared = Arc::new(shared);
        let first = shared.begin(1)?;
        *shared.producer.write() = Some((first, 1));
        Ok(Self(shared))
    }

    /// See [`tandem_log::Log::append`]. When a record fails in a way that may pass, so do those of the call that
    /// still wait: what is appended again later should not come after what followed it.
    pub fn append(
        &self,
        topic: &str,
        records: Vec<(u32, Record)>,
    ) -> BoxFuture<'static, Vec<Answer>> {
        let (shared, count) = (Arc::clone(&self.0), records.len());
        if count == 0 {
            return std::future::ready(Vec::new()).boxed();
        }
        if shared.closing.load(Ordering::Acquire) {
            return std::future::ready(vec![Err(LogError::Closed); count]).boxed();
        }
        let (call, answers) = Call::new(count, Arc::clone(&shared.buffered));
        let begun = shared.now();
        let until = begun + shared.timeout / 2;
        let mut bytes = 0;
        let mut touched: BTreeMap<u32, Arc<Lane>> = BTreeMap::new();
        for (index, (partition, record)) in records.into_iter().enumerate() {
            bytes += record.key.len() + record.value.len();
            let lane = touched
                .entry(partition)
                .or_insert_with(|| shared.lane(topic, partition));
            lane.push(&shared, (&call, index), record, until);
        }
        for lane in touched.values() {
            lane.go(&shared);
        }
        async move {
            let answers = tokio::time::timeout(shared.timeout + GRACE, answers).await;
            let lost = || Err(error::unavailable("no answer in time"));
            let answers: Vec<Answer> = match answers {
                Ok(Ok(answers)) => answers
                    .into_iter()
                    .map(|a| a.unwrap_or_else(lost))
                    .collect(),
                _ => std::iter::repeat_with(lost).take(count).collect(),
            };
            let failed = answers.iter().filter(|a| a.is_err()).count();
            shared.metrics.records.add((count - failed) as u64);
            shared.metrics.failed.add(failed as u64);
            if failed == 0 {
                shared.metrics.bytes.add(bytes as u64);
            }
            let took = shared.now().saturating_sub(begun);
            shared.metrics.took.record(took.as_secs_f64());
            answers
        }
        .boxed()
    }

    /// Takes no more appends and waits until those that were taken are answered.
    pub async fn close(&self) {
        let shared = &self.0;
        shared.closing.store(true, Ordering::Release);
        let answered = async {
            while shared.buffered.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(shared.timeout, answered)
            .await
            .is_err()
        {
            tracing::warn!("appends are given up with the log's close");
        }
        shared.end();
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.0.closing.store(true, Ordering::Release);
        self.0.end();
    }
}

impl Shared {
    /// Begins a producer.
    fn begin(self: &Arc<Self>, number: u64) -> Result<Arc<Running>, LogError> {
        let producer: Producer = self
            .config
            .create_with_context(Context::default())
            .map_err(error::unavailable)?;
        self.metrics.producers.add(1);
        let running = Running {
            producer: Arc::new(producer),
            ended: Arc::default(),
        };
        let (producer, ended) = (Arc::clone(&running.producer), Arc::clone(&running.ended));
        let shared = Arc::downgrade(self);
        self.aside.run(move || {
            while !ended.load(Ordering::Acquire) {
                producer.poll(POLL);
                if producer.client().fatal_error().is_some()
                    && let Some(shared) = shared.upgrade()
                {
                    shared.replace(number);
                }
            }
            // ending it answers what it still had
            drop(producer);
        });
        Ok(Arc::new(running))
    }

    /// Lets go of the producer.
    fn end(&self) {
        let producer = self.producer.write().take();
        drop(producer);
        for lane in self.all_lanes() {
            lane.close();
        }
    }

    /// The producer and its number; `None` once closed.
    pub fn producer(&self) -> Option<(Arc<Producer>, u64)> {
        let current = self.producer.read();
        let (running, number) = current.as_ref()?;
        Some((Arc::clone(&running.producer), *number))
    }

    pub fn now(&self) -> Duration {
        self.doors.clock.monotonic()
    }

    fn lane(&self, topic: &str, partition: u32) -> Arc<Lane> {
        let known = |lanes: &Lanes| lanes.get(topic)?.get(&partition).cloned();
        if let Some(lane) = known(&self.lanes.read()) {
            return lane;
        }
        let mut lanes = self.lanes.write();
        let topic: Arc<str> = topic.into();
        let of_topic = lanes.entry(Arc::clone(&topic)).or_default();
        let lane = of_topic
            .entry(partition)
            .or_insert_with(|| Arc::new(Lane::new(topic, partition)));
        Arc::clone(lane)
    }

    fn all_lanes(&self) -> Vec<Arc<Lane>> {
        let lanes = self.lanes.read();
        lanes.values().flat_map(|l| l.values().cloned()).collect()
    }

    /// Begins another producer in the place of this one, which an error has ended.
    pub fn replace(self: &Arc<Self>, number: u64) {
        if self.replacing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        self.aside.run(move || {
            let replaced = shared.replace_now(number);
            shared.replacing.store(false, Ordering::Release);
            if replaced {
                for lane in shared.all_lanes() {
                    lane.begin_again(&shared);
                }
            }
        });
    }

    fn replace_now(self: &Arc<Self>, number: u64) -> bool {
        let Some((ended, current)) = self.producer() else {
            return false;
        };
        if current != number {
            return false;
        }
        let reason = ended.client().fatal_error();
        tracing::error!(?reason, "the producer ended; beginning another");
        let new = match self.begin(number + 1) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(%error, "no new producer; trying again with the next append");
                return false;
            }
        };
        let mut producer = self.producer.write();
        let open = producer.is_some();
        if open {
            *producer = Some((new, number + 1));
        }
        open
    }
}
