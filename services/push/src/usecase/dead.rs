//! Dead letters: listing them, and trying them again.
//!
//! A letter that was replayed is followed on the topic by a record that says so; letters are read from
//! the end, so that record is seen before the letter.

use std::{collections::BTreeSet, sync::Arc};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use prost::Message;
use tandem_kernel::{Address, Code, ConversationId, PUSH_DEAD_TOPIC, Place, Seq, event::Parked};
use tandem_log::{Log, LogError};
use tandem_proto::push::DeadLetter;
use tokio_util::sync::CancellationToken;

use super::{
    deliver::Deliverer,
    parking::{Parking, REPLAYED},
    send::End,
};
use crate::domain::{
    backoff::Backoff,
    notification::{Content, Notice},
};

/// Records read at once.
const CHUNK: u64 = 500;
/// Most letters replayed in one call.
pub const MOST: usize = 10_000;
/// Replays at once.
const AT_ONCE: usize = 32;

/// The dead letters.
pub struct Dead {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Sends them.
    pub deliverer: Arc<Deliverer>,
    /// Remembers which are settled.
    pub parking: Parking,
}

impl Dead {
    /// Letters that are not settled, newest first, at most `limit`; only those of `places` unless
    /// that is empty.
    pub async fn list(
        &self,
        limit: usize,
        places: &BTreeSet<Place>,
    ) -> Result<Vec<DeadLetter>, LogError> {
        let (mut letters, mut settled) = (Vec::new(), BTreeSet::new());
        let ends = self.log.end_offsets(PUSH_DEAD_TOPIC).await?;
        for (partition, end) in (0u32..).zip(ends) {
            let lowest = if places.is_empty() {
                0
            } else {
                let of_it = places.iter().filter(|p| p.partition == partition);
                match of_it.map(|p| p.offset).min() {
                    Some(lowest) => lowest,
                    None => continue,
                }
            };
            let mut before = end;
            while before > lowest && letters.len() < limit {
                let from = before.saturating_sub(CHUNK).max(lowest);
                let chunk = self
                    .log
                    .read(PUSH_DEAD_TOPIC, partition, from, CHUNK as usize)
                    .await?;
                let mut found = false;
                for stored in chunk.into_iter().rev().filter(|s| s.place.offset < before) {
                    found = true;
                    let Ok(parked) = Parked::decode(stored.record.value) else {
                        continue;
                    };
                    if parked.topic == PUSH_DEAD_TOPIC && parked.code == REPLAYED {
                        settled.insert(Place {
                            partition: parked.partition,
                            offset: parked.offset,
                        });
                        continue;
                    }
                    let wanted = places.is_empty() || places.contains(&stored.place);
                    if !wanted || settled.contains(&stored.place) || letters.len() >= limit {
                        continue;
                    }
                    let Ok(letter) = DeadLetter::decode(parked.value) else {
                        continue;
                    };
                    letters.push(DeadLetter {
                        offset: stored.place.offset,
                        partition,
                        at_ms: parked.at_ms,
                        ..letter
                    });
                }
                if !found {
                    // what is older has been forgotten
                    break;
                }
                before = from;
            }
        }
        Ok(letters)
    }

    /// Tries letters again: those of `places`, or all. How many were sent, and how many not. A letter that
    /// was sent is settled, and so is one whose device is gone (which counts as not sent).
    pub async fn replay(&self, places: &BTreeSet<Place>) -> Result<(u32, u32), LogError> {
        let letters = self.list(MOST, places).await?;
        let tried: Vec<BoxFuture<'_, bool>> = letters
            .into_iter()
            .map(|letter| self.replay_one(letter).boxed())
            .collect();
        let (mut sent, mut failed) = (0, 0);
        let mut tried = stream::iter(tried).buffer_unordered(AT_ONCE);
        while let Some(ok) = tried.next().await {
            if ok { sent += 1 } else { failed += 1 }
        }
        Ok((sent, failed))
    }

    async fn replay_one(&self, letter: DeadLetter) -> bool {
        let outcome = self.deliverer.replay(&letter).await;
        if outcome.is_ok() {
            let place = Place {
                partition: letter.partition,
                offset: letter.offset,
            };
            self.parking.settled(place).await;
        }
        outcome == Ok(true)
    }
}

impl Deliverer {
    /// Tries a dead letter once more. `Ok(true)`: a device was notified; `Ok(false)`: there is no
    /// such device any more.
    async fn replay(&self, letter: &DeadLetter) -> Result<bool, (Code, String)> {
        let conversation = ConversationId::parse(&letter.conversation)
            .map_err(|e| (Code::Malformed, e.to_string()))?;
        let user = Address::parse(&letter.user).map_err(|e| (Code::Malformed, e.to_string()))?;
        let content = Content {
            conversation,
            seq: Seq(letter.seq),
            sender: None,
            group: String::new(),
            text: None,
            nudge: false,
            request: false,
            at: self.doors.clock.unix(),
            traceparent: String::new(),
        };
        let mut targets = self.devices.of_once(vec![letter.user.clone()]).await?;
        targets.retain(|t| letter.device.is_empty() || t.device == letter.device);
        if targets.is_empty() {
            return Ok(false);
        }
        self.mark(&user, &content.conversation, content.seq).await;
        let never = CancellationToken::new();
        let once = Backoff {
            attempts: 1,
            ..self.backoff
        };
        let (mut sent, mut failure) = (false, None);
        for target in &targets {
            let notice = Notice::Message {
                content: &content,
                sender_name: None,
                hide_text: true,
            };
            match self.sender.send(target, &notice, &never, once).await {
                End::Delivered => {
                    self.metrics.delivered.add(1);
                    sent = true;
                }
                End::Dead | End::Confirmed => {
                    self.devices.forget(target).await;
                    self.metrics.dead.add(1);
                }
                End::GivenUp(code, reason) => failure = Some((code, reason)),
            }
        }
        match failure {
            Some(failure) if !sent => Err(failure),
            _ => Ok(sent),
        }
    }
}
