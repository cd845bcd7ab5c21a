//! Accounts and routing, as far as push calls them.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::Stream;
use parking_lot::Mutex;
use tandem_chassis::grpc::{LocalPeers, local, status};
use tandem_kernel::Code;
use tandem_proto::{
    accounts::{
        self, FindRequest, PushTarget, PushTargetsRequest, PushTargetsResponse,
        SetPushTokenRequest, SetPushTokenResponse,
        accounts_server::{Accounts, AccountsServer},
    },
    client::{Contact, Found, PushToken},
    routing::{
        AnswerBatch, MembersRequest, MembersResponse, SubmitBatch,
        routing_server::{Routing, RoutingServer},
    },
};
use tonic::{Request, Response, Status, Streaming};

#[derive(Default)]
pub struct State {
    /// (user, device) → token.
    pub tokens: Mutex<BTreeMap<(String, String), PushToken>>,
    pub groups: Mutex<BTreeMap<String, MembersResponse>>,
    pub routing_down: AtomicBool,
    pub accounts_down: AtomicBool,
    /// Questions that accounts refused because it is down.
    pub refused: AtomicUsize,
    pub members_calls: AtomicUsize,
}

#[derive(Clone, Default)]
pub struct Fakes(pub Arc<State>);

impl Fakes {
    pub fn serve(peers: &LocalPeers) -> Self {
        let fakes = Self::default();
        peers.set("accounts", local(AccountsServer::new(fakes.clone())));
        peers.set("routing", local(RoutingServer::new(fakes.clone())));
        fakes
    }

    pub fn subscribe(&self, user: &str, device: &str, token: PushToken) {
        self.0
            .tokens
            .lock()
            .insert((format!("{user}@x.test"), device.to_owned()), token);
    }
}

#[tonic::async_trait]
impl Accounts for Fakes {
    async fn relations(
        &self,
        _: Request<accounts::RelationsRequest>,
    ) -> Result<Response<accounts::RelationsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn change_contact(
        &self,
        _: Request<accounts::ChangeContactRequest>,
    ) -> Result<Response<Contact>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn sign_in(
        &self,
        _: Request<accounts::SignInRequest>,
    ) -> Result<Response<accounts::SignInResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn find(&self, request: Request<FindRequest>) -> Result<Response<Found>, Status> {
        let who = request.into_inner().who;
        let name = who.split('@').next().unwrap_or_default().to_uppercase();
        Ok(Response::new(Found { user: who, name }))
    }

    async fn set_push_token(
        &self,
        request: Request<SetPushTokenRequest>,
    ) -> Result<Response<SetPushTokenResponse>, Status> {
        let request = request.into_inner();
        let key = (request.user, request.device);
        let mut tokens = self.0.tokens.lock();
        if request.token.is_none()
            && (request.only_if.is_none() || request.only_if == tokens.get(&key).cloned())
        {
            tokens.remove(&key);
        }
        Ok(Response::new(SetPushTokenResponse {}))
    }

    async fn push_targets(
        &self,
        request: Request<PushTargetsRequest>,
    ) -> Result<Response<PushTargetsResponse>, Status> {
        if self.0.accounts_down.load(Ordering::Relaxed) {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return Err(status(Code::Unavailable, "accounts is down"));
        }
        let users = request.into_inner().users;
        let tokens = self.0.tokens.lock();
        let of_them = tokens.iter().filter(|((user, _), _)| users.contains(user));
        let targets = of_them
            .map(|((user, device), token)| PushTarget {
                user: user.clone(),
                device: device.clone(),
                token: Some(token.clone()),
                country: "GB".into(),
                brand: "acme".into(),
            })
            .collect();
        Ok(Response::new(PushTargetsResponse { targets }))
    }
}

#[tonic::async_trait]
impl Routing for Fakes {
    type SubmitStream = Pin<Box<dyn Stream<Item = Result<AnswerBatch, Status>> + Send>>;

    async fn submit(
        &self,
        _: Request<Streaming<SubmitBatch>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn members(
        &self,
        request: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        self.0.members_calls.fetch_add(1, Ordering::Relaxed);
        if self.0.routing_down.load(Ordering::Relaxed) {
            return Err(status(Code::Unavailable, "routing is down"));
        }
        let found = self
            .0
            .groups
            .lock()
            .get(&request.into_inner().conversation)
            .cloned();
        found
            .map(Response::new)
            .ok_or_else(|| status(Code::NotFound, "no such group"))
    }
}
