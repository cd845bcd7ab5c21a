//! Does what the model wants done.

use std::collections::BTreeSet;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tandem_client::{Client, Update};

use super::model::{Answer, Effect};

/// Messages that one scroll fetches.
const PAGE: u32 = 50;

/// What a front end has to do itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Sound the bell.
    Bell,
    /// End.
    Quit,
}

/// The client, and what it has under way.
pub struct Deeds {
    client: Client,
    /// Ids of events without their answer.
    sent: BTreeSet<String>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl Deeds {
    /// With nothing open.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            sent: BTreeSet::new(),
            asked: FuturesUnordered::new(),
        }
    }

    /// Does an effect, or says what the front end must do.
    pub fn run(&mut self, effect: Effect) -> Option<Own> {
        let client = &self.client;
        match effect {
            // what becomes of it comes as an update
            Effect::Send(to, kind) => {
                self.sent.insert(client.send(&to, kind).event_id);
            }
            Effect::CreateGroup { title, members } => {
                let created = client.create_group(&title, members).map(|(id, sent)| {
                    self.sent.insert(sent.event_id);
                    id
                });
                self.asked.push(async { Answer::Created(created) }.boxed());
            }
            Effect::Read(conversation, seq) => client.read(&conversation, seq),
            Effect::Typing(conversation, active) => client.typing(&conversation, active),
            Effect::Presence(status, message) => client.set_presence(status, &message),
            Effect::Back(id) => {
                let client = client.clone();
                let answer = async move {
                    let result = client.page_back(&id, PAGE).await;
                    Answer::Back(id, result)
                };
                self.asked.push(answer.boxed());
            }
            Effect::Relation {
                who,
                action,
                name,
                done,
            } => {
                let client = client.clone();
                let answer = async move {
                    let result = client.contact_change(&who, action, &name).await;
                    Answer::Relation(action, done, result)
                };
                self.asked.push(answer.boxed());
            }
            Effect::Members(id) => {
                let client = client.clone();
                let answer = async move {
                    let result = client.members(&id).await;
                    Answer::Members(id, result)
                };
                self.asked.push(answer.boxed());
            }
            Effect::Bell => return Some(Own::Bell),
            Effect::Quit => return Some(Own::Quit),
        }
        None
    }

    /// Waits for an answer; for ever if nothing was asked.
    pub async fn answer(&mut self) -> Answer {
        match self.asked.next().await {
            Some(answer) => answer,
            None => futures::future::pending().await,
        }
    }

    /// Notes what an update says of what is under way; whether it ended something.
    pub fn told(&mut self, update: &Update) -> bool {
        match update {
            // comes after `Accepted`, and the model has what it leads to
            Update::Event { event, .. } => self.sent.remove(&event.event_id),
            Update::Rejected { event_id, .. } => self.sent.remove(event_id),
            _ => false,
        }
    }

    /// Whether every question has its answer.
    pub fn all_answered(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether everything sent has its answer, too.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.sent.is_empty()
    }
}
