//! Facts about single events: from the log while it has them, else from history.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use prost::Message;
use tandem_chassis::{Doors, grpc::Channel};
use tandem_kernel::{
    Address, EventId, Seq,
    event::{Envelope, Kind},
};
use tandem_log::Log;
use tandem_proto::history::{LookupRequest, LookupResponse, history_client::HistoryClient};

use crate::{
    domain::{admission::Target, item::Conversation},
    error::Error,
    metrics::Metrics,
};

/// Generation of the conversations' topic.
pub const GENERATION: u16 = 1;

/// Asks log and history.
pub struct EventFacts {
    log: Arc<dyn Log>,
    topic: String,
    history: HistoryClient<Channel>,
    doors: Doors,
    metrics: Arc<Metrics>,
    cooldown: Duration,
    down_until: Mutex<Duration>,
}

impl EventFacts {
    pub fn new(
        log: Arc<dyn Log>,
        topic: String,
        history: Channel,
        doors: Doors,
        metrics: Arc<Metrics>,
        cooldown: Duration,
    ) -> Self {
        let history = HistoryClient::new(history);
        let down_until = Mutex::new(Duration::ZERO);
        Self {
            log,
            topic,
            history,
            doors,
            metrics,
            cooldown,
            down_until,
        }
    }

    /// The text message at `seq` of the conversation; `None`: there is none.
    pub async fn target(
        &self,
        conversation: &Conversation,
        seq: Seq,
        deadline: Duration,
    ) -> Result<Option<Target>, Error> {
        if seq.generation() == GENERATION {
            let read = self
                .log
                .read(&self.topic, conversation.partition, seq.offset(), 1);
            // a log that does not answer in time says no more than one that has forgotten
            if let Ok(Ok(records)) = tokio::time::timeout(deadline, read).await
                && let Some(stored) = records.first().filter(|s| s.place.offset == seq.offset())
            {
                return Ok(text_of(
                    conversation,
                    &stored.record.key,
                    &stored.record.value,
                ));
            }
        }
        let request = LookupRequest {
            conversation: conversation.id.as_str().to_owned(),
            author_of: seq.0,
            ..LookupRequest::default()
        };
        let answer = self.lookup(request, deadline).await?;
        let author = Address::parse(&answer.author).ok();
        Ok(author.map(|author| Target {
            author,
            withheld_from: Vec::new(),
        }))
    }

    /// The place of the event in history; `None`: history has not seen it.
    pub async fn place_of(
        &self,
        conversation: &Conversation,
        sender: &str,
        event_id: EventId,
        deadline: Duration,
    ) -> Result<Option<Seq>, Error> {
        let request = LookupRequest {
            conversation: conversation.id.as_str().to_owned(),
            event_id: event_id.to_string(),
            sender: sender.to_owned(),
            ..LookupRequest::default()
        };
        let seq = self.lookup(request, deadline).await?.seq;
        Ok((seq != 0).then_some(Seq(seq)))
    }

    /// Asks history, unless it did not answer a moment ago.
    pub async fn lookup(
        &self,
        request: LookupRequest,
        deadline: Duration,
    ) -> Result<LookupResponse, Error> {
        const DOWN: Error = Error::Peer("history");
        if self.doors.clock.monotonic() < *self.down_until.lock() {
            return Err(DOWN);
        }
        let mut history = self.history.clone();
        let answer = tokio::time::timeout(deadline, history.lookup(request)).await;
        let Ok(Ok(response)) = answer else {
            self.metrics.lookup_failed.add(1);
            *self.down_until.lock() = self.doors.clock.monotonic() + self.cooldown;
            return Err(DOWN);
        };
        Ok(response.into_inner())
    }
}

fn text_of(conversation: &Conversation, key: &[u8], value: &[u8]) -> Option<Target> {
    if *key != *conversation.key {
        return None;
    }
    let envelope = Envelope::decode(value).ok()?;
    let event = envelope.event?;
    let text = matches!(event.body.and_then(|b| b.kind), Some(Kind::Text(_)));
    let author = Address::parse(&event.sender).ok().filter(|_| text)?;
    let withheld = envelope.withheld_from.iter();
    Some(Target {
        author,
        withheld_from: withheld.filter_map(|w| Address::parse(w).ok()).collect(),
    })
}
