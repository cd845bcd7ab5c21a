//! What librdkafka tells its clients beside records: log lines, errors, deliveries, rebalances.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::ProducerContext,
    types::RDKafkaRespErr,
};

use crate::lane::Slot;

/// What the group asks of a member, to be answered with [`Context::answer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// To read these partitions, too.
    Assign(Vec<u32>),
    /// To read these no longer.
    Revoke(Vec<u32>),
}

/// One a client.
#[derive(Debug, Default)]
pub struct Context {
    /// Callbacks so far: tells a poll that only served one of them from a poll that found nothing.
    events: AtomicU64,
    /// What the group asks and was not answered, in order.
    changes: Mutex<VecDeque<Change>>,
    /// The member is leaving: nobody else will answer.
    leaving: AtomicBool,
    /// What went wrong last.
    last_error: Mutex<Option<String>>,
}

impl Context {
    /// Callbacks so far.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// As if the group asked it.
    pub fn ask(&self, change: Change) {
        self.changes.lock().push_back(change);
    }

    /// What the group asks first.
    pub fn change(&self) -> Option<Change> {
        self.changes.lock().front().cloned()
    }

    /// What the group asked first has been answered.
    pub fn answered(&self) {
        self.changes.lock().pop_front();
    }

    /// From now on the group is answered at once. Gives what was not answered.
    pub fn leave(&self) -> VecDeque<Change> {
        self.leaving.store(true, Ordering::Release);
        std::mem::take(&mut *self.changes.lock())
    }

    /// What went wrong last, for people.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    fn happened(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.happened();
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", facility, "{text}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{text}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.happened();
        if matches!(error, KafkaError::PartitionEOF(_)) {
            return;
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::warn!(reason, "no broker is reached");
        } else {
            tracing::debug!(%error, reason, "kafka");
        }
        *self.last_error.lock() = Some(format!("{error}: {reason}"));
    }
}

impl ConsumerContext for Context {
    /// Only notes what the group asks: whoever reads is told first, and answers then.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.happened();
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving.load(Ordering::Acquire) {
            let answer = if assigned {
                consumer.incremental_assign(list)
            } else {
                consumer.incremental_unassign(list)
            };
            if let Err(error) = answer {
                tracing::debug!(%error, "the group was not answered while leaving it");
            }
            return;
        }
        let elements = list.elements();
        let partitions = elements
            .iter()
            .filter_map(|e| u32::try_from(e.partition()).ok())
            .collect();
        self.ask(if assigned {
            Change::Assign(partitions)
        } else {
            Change::Revoke(partitions)
        });
    }

    fn commit_callback(&self, _: KafkaResult<()>, _: &TopicPartitionList) {
        self.happened();
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Slot>;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: Box<Slot>) {
        slot.delivered(result);
    }
}
