//! Does what the model wants done.

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tandem_client::Client;

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

/// The client, and the questions that it has open.
pub struct Deeds {
    client: Client,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl Deeds {
    /// With nothing open.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            asked: FuturesUnordered::new(),
        }
    }

    /// Does an effect, or says what the front end must do.
    pub fn run(&mut self, effect: Effect) -> Option<Own> {
        let client = &self.client;
        match effect {
            // what becomes of it comes as an update
            Effect::Send(to, kind) => drop(client.send(&to, kind)),
            Effect::CreateGroup { title, members } => {
                let created = client.create_group(&title, members).map(|(id, _)| id);
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

    /// Whether every question has its answer.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }
}
