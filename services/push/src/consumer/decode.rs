//! A record → an item.

use prost::Message;
use tandem_chassis::telemetry::TRACEPARENT;
use tandem_kernel::{
    Address, ConversationId, EventId, Seq,
    event::{Envelope, Kind},
    group::changes_group,
};
use tandem_log::Stored;

use crate::domain::item::{Event, Item, What};

/// Reads a record; the error says why it cannot be read.
pub fn item(generation: u16, stored: &Stored) -> Result<Item, String> {
    let envelope = Envelope::decode(stored.record.value.clone()).map_err(|e| e.to_string())?;
    let event = envelope.event.ok_or("no event in the envelope")?;
    let kind = event
        .body
        .and_then(|b| b.kind)
        .ok_or("no body in the event")?;
    let text = match kind {
        Kind::Text(text) => Some(text.text),
        Kind::Nudge(_) => None,
        Kind::Receipt(receipt) => {
            let what = What::Receipt(receipt);
            return made(generation, stored, &event.conversation, &event.sender, what);
        }
        kind if changes_group(&kind) => {
            let id = EventId::parse(&event.event_id).map_err(|e| e.to_string())?;
            let what = What::Group { id, kind };
            return made(generation, stored, &event.conversation, &event.sender, what);
        }
        _ => return Ok(nothing(stored)),
    };
    let header = stored
        .record
        .headers
        .iter()
        .find(|(name, _)| name == TRACEPARENT);
    let what = What::Ring {
        id: EventId::parse(&event.event_id).map_err(|e| e.to_string())?,
        text,
        withheld: envelope.withheld_from,
        request: event.request,
        traceparent: header
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default(),
    };
    made(generation, stored, &event.conversation, &event.sender, what)
}

/// A record with nothing to do.
pub fn nothing(stored: &Stored) -> Item {
    Item {
        offset: stored.place.offset,
        at: stored.at,
        event: None,
    }
}

fn made(
    generation: u16,
    stored: &Stored,
    conversation: &str,
    sender: &str,
    what: What,
) -> Result<Item, String> {
    let event = Event {
        seq: Seq::new(generation, stored.place.offset),
        conversation: ConversationId::parse(conversation).map_err(|e| e.to_string())?,
        sender: Address::parse(sender).map_err(|e| e.to_string())?,
        what,
    };
    Ok(Item {
        offset: stored.place.offset,
        at: stored.at,
        event: Some(event),
    })
}
