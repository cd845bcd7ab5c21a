//! A person's device, on the client library.

use std::{sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle};
use tandem_client::{Client, DevIssuer, DevTokenRequest, Options, Server, Update};
use tandem_proto::client::{self, DeviceClass};
use tokio::sync::mpsc;

use crate::Up;

/// How long anything may take before a test gives up. Generous: CI's machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connected device.
pub struct Device {
    /// Its session.
    pub client: Client,
    /// What it is told.
    pub updates: mpsc::UnboundedReceiver<Update>,
    lifecycle: Lifecycle,
}

impl Device {
    /// Connects `user`'s device `id`.
    pub fn connect(up: &Up, user: &str, id: &str) -> Self {
        let server = Server::parse(&up.url()).expect("an address");
        Self::connect_to(server, user, id)
    }

    /// The same, over gRPC.
    pub fn connect_by_grpc(up: &Up, user: &str, id: &str) -> Self {
        let url = up.url().replace("ws://", "grpc://");
        Self::connect_to(Server::parse(&url).expect("an address"), user, id)
    }

    fn connect_to(server: Server, user: &str, id: &str) -> Self {
        let doors = Doors::real();
        let tokens = DevIssuer {
            doors: doors.clone(),
            authority: server.authority.clone(),
            request: DevTokenRequest {
                user: user.to_owned(),
                ..DevTokenRequest::default()
            },
        };
        let device = client::Device {
            id: id.to_owned(),
            class: DeviceClass::Pc.into(),
            agent: "e2e".into(),
        };
        let lifecycle = Lifecycle::new();
        let mut options = Options::new(doors, server, Arc::new(tokens), device);
        options.retry_max = Duration::from_millis(500);
        let (client, updates) = Client::connect(options, &lifecycle);
        Self {
            client,
            updates,
            lifecycle,
        }
    }

    /// Waits until `seen` says so of what the device holds.
    pub async fn until(&self, what: &str, seen: impl Fn(&tandem_client::Core) -> bool) {
        let wait = async {
            while !self.client.look(&seen) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain until {what}");
        }
    }

    /// Waits until it is synced.
    pub async fn synced(&self) {
        self.until("it is synced", tandem_client::Core::is_synced)
            .await;
    }

    /// The messages that the device shows in a conversation, as (author's local part, text).
    pub fn shows(&self, conversation: &str) -> Vec<(String, String)> {
        self.client.look(|core| {
            let Some(conversation) = core.conversation(conversation) else {
                return Vec::new();
            };
            let messages = conversation.messages();
            messages
                .filter_map(|m| {
                    let local = m
                        .event
                        .sender
                        .split('@')
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    m.text.map(|t| (local, t.text.clone()))
                })
                .collect()
        })
    }

    /// Waits until it shows so many messages, and returns them.
    pub async fn shows_at_least(&self, conversation: &str, count: usize) -> Vec<(String, String)> {
        let wait = async {
            loop {
                let shown = self.shows(conversation);
                if shown.len() >= count {
                    return shown;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let shown = tokio::time::timeout(PATIENCE, wait).await;
        shown.unwrap_or_else(|_| panic!("{:?} where {count} were to be", self.shows(conversation)))
    }

    /// Sends a text and waits until it is accepted; its seq.
    pub async fn say(&self, to: &str, text: &str) -> u64 {
        let sent = self.client.send_text(to, text).outcome();
        let outcome = tokio::time::timeout(PATIENCE, sent)
            .await
            .expect("an answer in time");
        outcome.expect("accepted").seq
    }

    /// Ends the session, with a goodbye.
    pub async fn leave(self) {
        self.client.stop();
        self.lifecycle.stop();
        self.lifecycle.run_to_end(Duration::from_secs(5)).await;
    }
}

/// The conversation of two of the ready-made people.
pub fn between(a: &str, b: &str) -> String {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    format!("o:{a}@tandem.test,{b}@tandem.test")
}
