//! Parking: what a service cannot handle is put aside on its topic `<service>.parked`, with the reason, so
//! that the partition goes on and an SRE can look.

use std::time::Duration;

use prost::Message;
use tandem_kernel::{Code, UnixMillis, event::Parked, parked_topic};

use crate::{Log, LogError, Record, Retention, Stored, TopicSpec};

/// How long parked records are kept.
const KEEP: Duration = Duration::from_hours(30 * 24);

/// The topic on which `service` parks.
pub fn topic(service: &str) -> TopicSpec {
    TopicSpec {
        name: parked_topic(service),
        partitions: 1,
        retention: Retention::Delete {
            age: Some(KEEP),
            bytes: None,
        },
    }
}

/// A record of `topic` as it is parked by `service` at `at`. `reason` must name no message text.
pub fn parked(
    service: &str,
    topic: &str,
    stored: &Stored,
    code: Code,
    reason: impl Into<String>,
    at: UnixMillis,
) -> Parked {
    Parked {
        topic: topic.to_owned(),
        partition: stored.place.partition,
        offset: stored.place.offset,
        service: service.to_owned(),
        code: code.as_str().to_owned(),
        reason: reason.into(),
        key: stored.record.key.clone(),
        value: stored.record.value.clone(),
        at_ms: at.0,
    }
}

/// Appends to `topic`; durable once it returns. It may be called again after an error: parked twice is
/// better than not at all.
pub async fn park_on(log: &dyn Log, topic: &str, parked: &Parked) -> Result<(), LogError> {
    let record = Record {
        key: parked.key.clone(),
        value: parked.encode_to_vec().into(),
        headers: vec![("v".to_owned(), "1".into())],
    };
    let appended = log.append(topic, vec![(0, record)]).await;
    appended.into_iter().try_for_each(|one| one.map(|_| ()))
}

/// Parks on the service's own topic.
pub async fn park(log: &dyn Log, parked: &Parked) -> Result<(), LogError> {
    park_on(log, &parked_topic(&parked.service), parked).await
}
