//! Answers devices' questions through the other services.

use std::{sync::Arc, time::Duration};

use tandem_chassis::{
    grpc::{Channel, Peers, code_of},
    rng::Rng,
};
use tandem_kernel::{Address, Code, DeviceId};
use tandem_proto::{
    accounts::{
        ChangeContactRequest, FindRequest, RelationsRequest, SetPushTokenRequest,
        accounts_client::AccountsClient,
    },
    client::{Contacts, Done, Presence, contact::State, request::Op, response},
    history::{HeadsRequest, PageRequest, history_client::HistoryClient},
    presence::{SnapshotRequest, presence_client::PresenceClient},
    routing::{MembersRequest, routing_client::RoutingClient},
};
use tokio::time::{sleep, timeout};
use tonic::{Response, Status};

use crate::domain::effect::Refusal;

/// The ways to the other services.
pub struct Asks {
    /// Accounts.
    pub accounts: Channel,
    /// History.
    pub history: Channel,
    /// Presence.
    pub presence: Channel,
    /// Routing, any replica.
    pub routing: Channel,
    /// Deadline of each call.
    pub call: Duration,
}

impl Asks {
    /// Through `peers`.
    pub fn new(peers: &dyn Peers, call: Duration) -> Arc<Self> {
        Arc::new(Self {
            accounts: peers.service("accounts"),
            history: peers.service("history"),
            presence: peers.service("presence"),
            routing: peers.service("routing"),
            call,
        })
    }

    /// Calls with the deadline.
    pub async fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Refusal> {
        match timeout(self.call, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(refusal(&status)),
            Err(_) => Err(Refusal {
                code: Code::DeadlineExceeded,
                message: "the service did not answer in time".to_owned(),
                retry_after: Some(Duration::from_secs(1)),
            }),
        }
    }

    /// The statuses of the user's contacts.
    pub async fn presences(&self, viewer: &Address) -> Result<Vec<Presence>, Refusal> {
        let request = SnapshotRequest {
            viewer: viewer.as_str().to_owned(),
            users: Vec::new(),
        };
        let mut client =
            PresenceClient::new(self.presence.clone()).max_decoding_message_size(usize::MAX);
        Ok(self.call(client.snapshot(request)).await?.presences)
    }

    /// The statuses of the user's contacts, however long it takes to have them.
    pub async fn presences_at_last(&self, viewer: &Address, rng: &Rng) -> Vec<Presence> {
        let mut pause = Duration::from_millis(500);
        loop {
            match self.presences(viewer).await {
                Ok(presences) => return presences,
                Err(refusal) => {
                    tracing::debug!(code = refusal.code.as_str(), "statuses are asked for again");
                }
            }
            let jitter = rng.below(pause.as_millis() as u64);
            sleep(pause / 2 + Duration::from_millis(jitter)).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// The answer to a question.
    pub async fn ask(
        &self,
        user: &Address,
        device: &DeviceId,
        op: Op,
    ) -> Result<response::Result, Refusal> {
        let who = user.as_str().to_owned();
        let mut history =
            HistoryClient::new(self.history.clone()).max_decoding_message_size(usize::MAX);
        let mut accounts =
            AccountsClient::new(self.accounts.clone()).max_decoding_message_size(usize::MAX);
        match op {
            Op::Page(page) => {
                let request = PageRequest {
                    user: who,
                    page: Some(page),
                };
                Ok(response::Result::Page(
                    self.call(history.page(request)).await?,
                ))
            }
            Op::Heads(heads) => {
                let request = HeadsRequest {
                    user: who,
                    heads: Some(heads),
                };
                Ok(response::Result::Heads(
                    self.call(history.heads(request)).await?,
                ))
            }
            Op::Contacts(_) => self.contacts(user, accounts).await,
            Op::ContactChange(change) => {
                let request = ChangeContactRequest {
                    user: who,
                    change: Some(change),
                };
                let contact = self.call(accounts.change_contact(request)).await?;
                Ok(response::Result::Contacts(Contacts {
                    contacts: vec![contact],
                }))
            }
            Op::PushToken(change) => {
                let request = SetPushTokenRequest {
                    user: who,
                    device: device.as_str().to_owned(),
                    token: change.token,
                    only_if: None,
                };
                self.call(accounts.set_push_token(request)).await?;
                Ok(response::Result::Done(Done {}))
            }
            Op::Members(members) => {
                let mut routing =
                    RoutingClient::new(self.routing.clone()).max_decoding_message_size(usize::MAX);
                let request = MembersRequest {
                    conversation: members.conversation,
                    user: who,
                };
                let members = self.call(routing.members(request)).await?.members;
                members
                    .map(response::Result::Members)
                    .ok_or_else(|| Refusal::new(Code::NotFound, "no such group"))
            }
            Op::Find(find) => {
                let request = FindRequest {
                    viewer: who,
                    who: find.who,
                };
                Ok(response::Result::Found(
                    self.call(accounts.find(request)).await?,
                ))
            }
        }
    }

    async fn contacts(
        &self,
        user: &Address,
        mut accounts: AccountsClient<Channel>,
    ) -> Result<response::Result, Refusal> {
        let request = RelationsRequest {
            user: user.as_str().to_owned(),
        };
        let relations = self.call(accounts.relations(request));
        let (relations, presences) = tokio::join!(relations, self.presences(user));
        let mut contacts = relations?.contacts;
        // without presence the list is still of use
        let presences = presences.unwrap_or_default();
        let by_user: ahash::AHashMap<&str, &Presence> =
            presences.iter().map(|p| (p.user.as_str(), p)).collect();
        for contact in &mut contacts {
            if contact.state() == State::Mutual {
                contact.presence = by_user.get(contact.user.as_str()).map(|p| (*p).clone());
            }
        }
        Ok(response::Result::Contacts(Contacts { contacts }))
    }
}

fn refusal(status: &Status) -> Refusal {
    let code = code_of(status);
    let again = matches!(
        code,
        Code::Unavailable | Code::RateLimited | Code::DeadlineExceeded | Code::Draining
    );
    Refusal {
        code,
        message: if code == Code::Internal {
            "internal error".to_owned()
        } else {
            status.message().to_owned()
        },
        retry_after: again.then_some(Duration::from_secs(1)),
    }
}
