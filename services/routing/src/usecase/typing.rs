//! Typing signals: shown to the members who are online, if the one who types may write to them. Never
//! appended, never waited for, dropped when there are too many.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use tandem_chassis::Lifecycle;
use tandem_ephemeral::Ephemeral;
use tandem_kernel::{Address, ConversationId, EdgeId};
use tandem_proto::{
    client::{Typing, TypingEvent},
    edge::{Delivery, delivery::What},
};
use tokio::sync::mpsc;

use crate::{domain::item::Conversation, edges::Edges, usecase::admit::Admission};

/// Signals handled at once.
const GROUP: usize = 256;
/// Longest that a signal is worth waiting for the members' relations.
const WORTH: Duration = Duration::from_secs(2);

/// A signal, as submitted.
pub struct Signal {
    pub user: String,
    pub typing: Typing,
}

/// What the task needs.
pub struct TypingTask {
    pub shared: Arc<Admission>,
    pub ephemeral: Arc<dyn Ephemeral>,
    pub edges: Edges,
    pub signals: mpsc::Receiver<Signal>,
}

impl TypingTask {
    /// Handles signals until the process stops.
    pub async fn run(mut self, lifecycle: Lifecycle) {
        let mut signals = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                () = lifecycle.stopped() => return,
                n = self.signals.recv_many(&mut signals, GROUP) => if n == 0 { return },
            }
            // of several signals of one person in one conversation the last one counts
            let mut latest = BTreeMap::new();
            for signal in signals.drain(..) {
                latest.insert(
                    (signal.user, signal.typing.conversation),
                    signal.typing.active,
                );
            }
            let handle = self.handle(latest);
            if tokio::time::timeout(WORTH, handle).await.is_err() {
                self.shared.metrics.typing_dropped.add(1);
            }
        }
    }

    async fn handle(&self, latest: BTreeMap<(String, String), bool>) {
        let audiences = latest
            .into_iter()
            .map(|((user, conversation), active)| async move {
                let audience = self.audience(&user, &conversation).await;
                if audience.is_empty() {
                    self.shared.metrics.typing_dropped.add(1);
                }
                (
                    TypingEvent {
                        conversation,
                        user,
                        active,
                    },
                    audience,
                )
            });
        let audiences = join_all(audiences).await;
        let users: Vec<Address> = audiences
            .iter()
            .flat_map(|(_, a)| a.iter().cloned())
            .collect();
        let epoch = self.edges.epoch();
        // without it nobody can be reached, and a signal is not worth trying again
        let Ok(reach) = self.ephemeral.reach(&users).await else {
            return;
        };
        let mut reach = reach.into_iter();
        let mut edges: BTreeMap<EdgeId, Vec<Delivery>> = BTreeMap::new();
        for (event, audience) in audiences {
            let mut sessions: BTreeMap<EdgeId, Vec<Bytes>> = BTreeMap::new();
            for (edge, session) in reach.by_ref().take(audience.len()).flat_map(|r| r.live) {
                let octets = Bytes::copy_from_slice(&session.to_bytes());
                sessions.entry(edge).or_default().push(octets);
            }
            for (edge, sessions) in sessions {
                let what = Some(What::Typing(event.clone()));
                let delivery = Delivery {
                    sessions,
                    what,
                    traceparent: String::new(),
                };
                edges.entry(edge).or_default().push(delivery);
            }
        }
        for (edge, deliveries) in edges {
            self.shared.metrics.typing.add(deliveries.len() as u64);
            let bytes = 256 * deliveries.len();
            // whether it arrives is of no consequence
            drop(self.edges.send(&edge, deliveries, bytes, epoch));
        }
    }

    /// Who may see that `user` types: contacts, or fellow members, none of whom has blocked the other.
    async fn audience(&self, user: &str, conversation: &str) -> Vec<Address> {
        let (Ok(user), Ok(id)) = (Address::parse(user), ConversationId::parse(conversation)) else {
            return Vec::new();
        };
        let conversation = Conversation::new(id, self.shared.partitions);
        let mut others: Vec<Address> = match &conversation.pair {
            Some(_) => conversation.peer_of(&user).into_iter().cloned().collect(),
            None => match self.group(&conversation).await {
                Some(group) if group.is_member(&user) => group
                    .members
                    .keys()
                    .filter(|m| **m != user)
                    .cloned()
                    .collect(),
                _ => Vec::new(),
            },
        };
        let Ok(relations) = self.shared.relations.load(&others).await else {
            return Vec::new();
        };
        let Ok(own) = self
            .shared
            .relations
            .load(std::slice::from_ref(&user))
            .await
        else {
            return Vec::new();
        };
        let one_to_one = conversation.pair.is_some();
        let mut relations = relations.iter();
        others.retain(|other| {
            let theirs = relations.next();
            let hidden = theirs.is_none_or(|r| r.has_blocked(&user))
                || own.iter().any(|r| r.has_blocked(other))
                || (one_to_one && theirs.is_none_or(|r| !r.is_mutual(&user)));
            !hidden
        });
        others
    }

    async fn group(&self, conversation: &Conversation) -> Option<Arc<tandem_kernel::group::Group>> {
        let now = self.shared.doors.clock.monotonic();
        match self.shared.directory.view(conversation, now) {
            Some(group) => Some(group),
            None => self.shared.directory.load(conversation).await.ok(),
        }
    }
}
