//! Parking: records that cannot be read, and notifications that were given up.

use std::{sync::Arc, time::Duration};

use prost::Message;
use tandem_chassis::Doors;
use tandem_kernel::{Code, PUSH_DEAD_TOPIC, Place, event::Parked, parked_topic};
use tandem_log::{Log, Stored, parking};
use tandem_proto::push::DeadLetter;

use crate::metrics::Metrics;

/// Name of the service in parked records.
const SERVICE: &str = "push";
/// Code of the record that says that a dead letter is settled.
pub const REPLAYED: &str = "replayed";

/// Parks durably: does not return before the log has it.
#[derive(Clone)]
pub struct Parking {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The doors.
    pub doors: Doors,
    /// Instruments.
    pub metrics: Metrics,
}

impl Parking {
    /// A record of `topic` that cannot be read.
    pub async fn unreadable(&self, topic: &str, stored: &Stored, reason: String) {
        self.metrics.unreadable.add(1);
        let (partition, offset) = (stored.place.partition, stored.place.offset);
        tracing::error!(topic, partition, offset, %reason, "record cannot be read, parked");
        let at = self.doors.clock.unix();
        let parked = parking::parked(SERVICE, topic, stored, Code::Malformed, reason, at);
        self.append(&parked_topic(SERVICE), &parked).await;
    }

    /// A notification that is given up. `letter` says for whom and why; no text is kept.
    pub async fn dead(&self, topic: &str, partition: u32, offset: u64, letter: DeadLetter) {
        self.metrics.given_up.add(1);
        tracing::warn!(
            code = letter.code,
            reason = letter.reason,
            "notification given up, parked"
        );
        let parked = Parked {
            topic: topic.to_owned(),
            partition,
            offset,
            service: SERVICE.to_owned(),
            code: letter.code.clone(),
            reason: letter.reason.clone(),
            key: letter.conversation.clone().into(),
            value: letter.encode_to_vec().into(),
            at_ms: self.doors.clock.unix().0,
        };
        self.append(PUSH_DEAD_TOPIC, &parked).await;
    }

    /// The dead letter at `place` is settled and need not be listed any more.
    pub async fn settled(&self, place: Place) {
        let parked = Parked {
            topic: PUSH_DEAD_TOPIC.to_owned(),
            partition: place.partition,
            offset: place.offset,
            service: SERVICE.to_owned(),
            code: REPLAYED.to_owned(),
            at_ms: self.doors.clock.unix().0,
            ..Parked::default()
        };
        self.append(PUSH_DEAD_TOPIC, &parked).await;
    }

    async fn append(&self, topic: &str, parked: &Parked) {
        loop {
            match parking::park_on(&*self.log, topic, parked).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(topic, %error, "cannot park yet"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
