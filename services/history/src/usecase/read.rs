//! A record, read.

use prost::Message;
use tandem_chassis::telemetry;
use tandem_kernel::{
    Code, EventId,
    event::{Envelope, Kind},
};
use tandem_log::Stored;

/// Largest row that is stored, in bytes: far above what the limits of frames allow.
const MAX_RECORD: usize = 256 * 1024;

/// An envelope and the id by which copies of it are recognised: receipts have none, since a copy of a
/// receipt says nothing new.
pub(crate) fn read(stored: &Stored) -> Result<(Envelope, Option<EventId>), (Code, String)> {
    let malformed = |reason: &str| (Code::Malformed, reason.to_owned());
    let record = &stored.record;
    if record.value.len() > MAX_RECORD {
        return Err((
            Code::TooLarge,
            "the record is larger than a row may be".into(),
        ));
    }
    let envelope = Envelope::decode(record.value.clone())
        .map_err(|e| malformed(&format!("not an envelope: {e}")))?;
    let event = envelope
        .event
        .as_ref()
        .ok_or_else(|| malformed("an envelope without an event"))?;
    let kind = event.body.as_ref().and_then(|b| b.kind.as_ref());
    let kind = kind.ok_or_else(|| malformed("an event of no kind that is known"))?;
    if event.conversation.as_bytes() != record.key {
        return Err(malformed(
            "the record's key is not the event's conversation",
        ));
    }
    if event.sender.is_empty() {
        return Err(malformed("an event without a sender"));
    }
    let id = match kind {
        Kind::Receipt(_) => None,
        _ => Some(EventId::parse(&event.event_id).map_err(|e| malformed(&e.to_string()))?),
    };
    Ok((envelope, id))
}

/// The span of storing it, if its trace is sampled.
pub(crate) fn span(stored: &Stored) -> Option<tracing::Span> {
    let (_, value) = stored
        .record
        .headers
        .iter()
        .find(|(n, _)| n == telemetry::TRACEPARENT)?;
    let span = telemetry::child(std::str::from_utf8(value).ok()?, || {
        tracing::info_span!("history.store", partition = stored.place.partition)
    });
    Some(span)
}
