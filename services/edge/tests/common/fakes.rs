//! Stand-ins for the services behind an edge.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{Stream, future::BoxFuture};
use parking_lot::Mutex;
use tandem_chassis::grpc::{LocalPeers, Peers, status};
use tandem_edge::domain::admit;
use tandem_ephemeral::Ephemeral;
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_kernel::{Address, Code, ConversationId, Seq};
use tandem_log::{Appended, Log, LogError, Reader, Record, Start, Stored, TopicSpec};
use tandem_proto::{
    accounts::{self, accounts_server::Accounts},
    client::{
        self, Accepted, Brand, Event, Head, Presence as Pres, Rejected, Status as St, body::Kind,
    },
    edge::{DeliverBatch, Delivery, delivery::What, edge_client::EdgeClient},
    history::{self, SyncPart, SyncRequest, history_server::History},
    presence::{self, presence_server::Presence},
    routing::{
        self, Answer, AnswerBatch, SubmitBatch, SubmitItem, answer, routing_server::Routing,
        submit_item,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub struct Fakes {
    pub log: Arc<FakeLog>,
    pub routing: FakeRouting,
    pub history: FakeHistory,
    pub accounts: FakeAccounts,
    pub presence: FakePresence,
}

impl Fakes {
    pub fn new(ephemeral: Arc<MemoryEphemeral>, peers: Arc<LocalPeers>) -> Self {
        Self {
            log: Arc::default(),
            routing: FakeRouting(Arc::new(RoutingState {
                ephemeral,
                peers,
                seen: Mutex::default(),
                mode: watch::Sender::new(Mode::Accept),
                offset: AtomicU64::new(1),
                deliver: AtomicBool::new(true),
                broken: Mutex::default(),
            })),
            history: FakeHistory::default(),
            accounts: FakeAccounts,
            presence: FakePresence::default(),
        }
    }
}

/// A log that only knows its end.
pub struct FakeLog {
    pub fetches: AtomicUsize,
    pub end: AtomicU64,
}

impl Default for FakeLog {
    fn default() -> Self {
        Self {
            fetches: AtomicUsize::new(0),
            end: AtomicU64::new(1),
        }
    }
}

#[async_trait]
impl Log for FakeLog {
    async fn ensure_topic(&self, _: &TopicSpec) -> Result<(), LogError> {
        Err(LogError::Closed)
    }
    async fn partitions(&self, _: &str) -> Result<u32, LogError> {
        Ok(1)
    }
    fn append(
        &self,
        _: &str,
        _: Vec<(u32, Record)>,
    ) -> BoxFuture<'static, Vec<Result<Appended, LogError>>> {
        Box::pin(async { Vec::new() })
    }
    async fn end_offsets(&self, _: &str) -> Result<Vec<u64>, LogError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(vec![self.end.load(Ordering::Relaxed)])
    }
    async fn committed(&self, _: &str, _: &str) -> Result<Vec<Option<u64>>, LogError> {
        Err(LogError::Closed)
    }
    async fn read(&self, _: &str, _: u32, _: u64, _: usize) -> Result<Vec<Stored>, LogError> {
        Err(LogError::Closed)
    }
    async fn subscribe(&self, _: &str, _: &str, _: Start) -> Result<Box<dyn Reader>, LogError> {
        Err(LogError::Closed)
    }
    async fn follow(&self, _: &str, _: Start) -> Result<Box<dyn Reader>, LogError> {
        Err(LogError::Closed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Accepts and delivers.
    Accept,
    /// Takes events and says nothing.
    Silent,
    /// Ends every stream.
    Break,
    /// Refuses events for now.
    Refuse,
}

pub struct RoutingState {
    ephemeral: Arc<MemoryEphemeral>,
    peers: Arc<LocalPeers>,
    pub seen: Mutex<Vec<SubmitItem>>,
    pub mode: watch::Sender<Mode>,
    offset: AtomicU64,
    pub deliver: AtomicBool,
    broken: Mutex<BTreeSet<u64>>,
}

/// Appends to nothing, but numbers, answers and delivers as routing does.
#[derive(Clone)]
pub struct FakeRouting(pub Arc<RoutingState>);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FakeRouting {
    pub fn set(&self, mode: Mode) {
        self.0.mode.send_replace(mode);
    }

    /// Texts as they came: (event id, retry).
    pub fn texts(&self) -> Vec<(String, bool)> {
        self.submits(|k| matches!(k, Kind::Text(_)))
            .into_iter()
            .map(|(_, s)| (s.event_id, s.retry))
            .collect()
    }

    /// Receipts as they came: who, and which.
    pub fn receipts(&self) -> Vec<(String, client::Receipt)> {
        let all = self.submits(|k| matches!(k, Kind::Receipt(_)));
        all.into_iter()
            .filter_map(|(item, s)| match s.body?.kind? {
                Kind::Receipt(r) => {
                    assert_eq!(item.device, "");
                    Some((item.user, r))
                }
                _ => None,
            })
            .collect()
    }

    fn submits(&self, pick: impl Fn(&Kind) -> bool) -> Vec<(SubmitItem, client::Submit)> {
        let seen = self.0.seen.lock();
        seen.iter()
            .filter_map(|item| match &item.what {
                Some(submit_item::What::Submit(s)) => Some((item.clone(), s.clone())),
                _ => None,
            })
            .filter(|(_, s)| {
                s.body
                    .as_ref()
                    .and_then(|b| b.kind.as_ref())
                    .is_some_and(&pick)
            })
            .collect()
    }

    fn event(item: &SubmitItem, submit: &client::Submit, seq: u64) -> Event {
        Event {
            event_id: submit.event_id.clone(),
            conversation: submit.conversation.clone(),
            seq,
            sender: item.user.clone(),
            at_ms: 1,
            body: submit.body.clone(),
            ..Event::default()
        }
    }

    /// Delivers an event to the members' sessions, and waits for the edge's acknowledgement.
    pub async fn deliver(&self, event: Event) {
        let id = ConversationId::parse(&event.conversation).unwrap();
        let (a, b) = id.pair().unwrap();
        let mut by_edge: BTreeMap<_, Vec<bytes::Bytes>> = BTreeMap::new();
        for reach in self.0.ephemeral.reach(&[a, b]).await.unwrap() {
            for (edge, session) in reach.live {
                by_edge
                    .entry(edge)
                    .or_default()
                    .push(session.to_bytes().to_vec().into());
            }
        }
        for (edge, sessions) in by_edge {
            let delivery = Delivery {
                sessions,
                what: Some(What::Event(event.clone())),
                traceparent: String::new(),
            };
            let batch = DeliverBatch {
                id: 1,
                deliveries: vec![delivery],
            };
            let mut client = EdgeClient::new(self.0.peers.target(edge.target()));
            let mut acks = client
                .deliver(futures::stream::iter([batch]))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(acks.message().await.unwrap().map(|a| a.id), Some(1));
        }
    }

    async fn handle(&self, item: &SubmitItem) -> Option<Answer> {
        self.0.seen.lock().push(item.clone());
        let Some(submit_item::What::Submit(submit)) = &item.what else {
            return None;
        };
        if *self.0.mode.borrow() == Mode::Silent {
            return None;
        }
        // as routing does, what follows in the chain of a refused one is refused
        if *self.0.mode.borrow() == Mode::Refuse && item.chain > 0 {
            self.0.broken.lock().insert(item.chain);
        }
        if self.0.broken.lock().contains(&item.chain) {
            let rejected = Rejected {
                code: "unavailable".into(),
                retry_after_ms: 1_000,
                ..Rejected::default()
            };
            return Some(Answer {
                r#ref: item.r#ref,
                result: Some(answer::Result::Rejected(rejected)),
            });
        }
        let user = Address::parse(&item.user).unwrap();
        if admit::in_conversation(&user, &submit.conversation).is_err() {
            let rejected = Rejected {
                code: "not_a_member".into(),
                ..Rejected::default()
            };
            return Some(Answer {
                r#ref: item.r#ref,
                result: Some(answer::Result::Rejected(rejected)),
            });
        }
        let seq = Seq::new(1, self.0.offset.fetch_add(1, Ordering::Relaxed)).0;
        if self.0.deliver.load(Ordering::Relaxed) {
            self.deliver(Self::event(item, submit, seq)).await;
        }
        let accepted = Accepted {
            event_id: submit.event_id.clone(),
            conversation: submit.conversation.clone(),
            seq,
            at_ms: 1,
        };
        Some(Answer {
            r#ref: item.r#ref,
            result: Some(answer::Result::Accepted(accepted)),
        })
    }
}

#[tonic::async_trait]
impl Routing for FakeRouting {
    type SubmitStream = Out<AnswerBatch>;

    async fn submit(
        &self,
        request: Request<Streaming<SubmitBatch>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let mut mode = self.0.mode.subscribe();
        if *mode.borrow() == Mode::Break {
            return Err(status(Code::Unavailable, "broken"));
        }
        let (tx, rx) = mpsc::channel(16);
        let (this, mut batches) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            loop {
                let batch = tokio::select! {
                    _ = mode.wait_for(|m| *m == Mode::Break) => return,
                    batch = batches.message() => batch,
                };
                let Ok(Some(SubmitBatch { items })) = batch else {
                    return;
                };
                let mut answers = Vec::new();
                for item in &items {
                    answers.extend(this.handle(item).await);
                }
                if tx.send(Ok(AnswerBatch { answers })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn members(
        &self,
        _: Request<routing::MembersRequest>,
    ) -> Result<Response<routing::MembersResponse>, Status> {
        Err(status(Code::NotAMember, "not a member of the conversation"))
    }
}

/// History that has what it is given, and completes when it may.
#[derive(Clone)]
pub struct FakeHistory {
    pub heads: Arc<Mutex<Vec<Head>>>,
    pub syncs: Arc<Mutex<Vec<SyncRequest>>>,
    pub complete: watch::Sender<bool>,
}

impl Default for FakeHistory {
    fn default() -> Self {
        Self {
            heads: Arc::default(),
            syncs: Arc::default(),
            complete: watch::Sender::new(true),
        }
    }
}

#[tonic::async_trait]
impl History for FakeHistory {
    type SyncStream = Out<SyncPart>;

    async fn sync(
        &self,
        request: Request<SyncRequest>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        self.syncs.lock().push(request.into_inner());
        let (tx, rx) = mpsc::channel(4);
        let mut complete = self.complete.subscribe();
        let heads = self.heads.lock().clone();
        tokio::spawn(async move {
            let _ = tx
                .send(Ok(SyncPart {
                    heads,
                    complete: false,
                }))
                .await;
            let _ = complete.wait_for(|c| *c).await;
            let _ = tx
                .send(Ok(SyncPart {
                    heads: Vec::new(),
                    complete: true,
                }))
                .await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn page(
        &self,
        request: Request<history::PageRequest>,
    ) -> Result<Response<client::Page>, Status> {
        let page = request.into_inner().page.unwrap();
        let event = Event {
            conversation: page.conversation.clone(),
            seq: u64::from(page.limit),
            sender: "bob@tandem.test".into(),
            ..Event::default()
        };
        Ok(Response::new(client::Page {
            conversation: page.conversation,
            events: vec![event],
            more: false,
        }))
    }

    async fn heads(
        &self,
        _: Request<history::HeadsRequest>,
    ) -> Result<Response<client::Heads>, Status> {
        Ok(Response::new(client::Heads {
            heads: self.heads.lock().clone(),
        }))
    }

    async fn lookup(
        &self,
        _: Request<history::LookupRequest>,
    ) -> Result<Response<history::LookupResponse>, Status> {
        Err(status(Code::Internal, "not asked by an edge"))
    }
}

/// Knows everybody; the plan `pc` has only that.
#[derive(Clone, Default)]
pub struct FakeAccounts;

#[tonic::async_trait]
impl Accounts for FakeAccounts {
    async fn relations(
        &self,
        _: Request<accounts::RelationsRequest>,
    ) -> Result<Response<accounts::RelationsResponse>, Status> {
        let contact = client::Contact {
            user: "bob@tandem.test".into(),
            state: client::contact::State::Mutual.into(),
            ..client::Contact::default()
        };
        Ok(Response::new(accounts::RelationsResponse {
            exists: true,
            contacts: vec![contact],
            ..Default::default()
        }))
    }
    async fn change_contact(
        &self,
        _: Request<accounts::ChangeContactRequest>,
    ) -> Result<Response<client::Contact>, Status> {
        Err(status(Code::NotFound, "no such subscriber"))
    }
    async fn sign_in(
        &self,
        request: Request<accounts::SignInRequest>,
    ) -> Result<Response<accounts::SignInResponse>, Status> {
        let SignInRequestOf { user, plan } = request.into_inner().into();
        if user.starts_with("nobody@") {
            return Err(status(Code::NoAccount, "no such account"));
        }
        let all: &[&str] = if plan == "pc" {
            &["pc"]
        } else {
            &["pc", "mobile", "portal"]
        };
        Ok(Response::new(accounts::SignInResponse {
            account: Some(accounts::Account {
                user,
                state: accounts::account::State::Active.into(),
                ..Default::default()
            }),
            entitlements: all.iter().map(|e| (*e).to_owned()).collect(),
            brand: Some(Brand {
                id: "b".into(),
                name: "Brand".into(),
                support_url: "https://help.test/plans".into(),
            }),
        }))
    }
    async fn find(
        &self,
        request: Request<accounts::FindRequest>,
    ) -> Result<Response<client::Found>, Status> {
        Ok(Response::new(client::Found {
            user: request.into_inner().who,
            name: "found".into(),
        }))
    }
    async fn set_push_token(
        &self,
        _: Request<accounts::SetPushTokenRequest>,
    ) -> Result<Response<accounts::SetPushTokenResponse>, Status> {
        Ok(Response::new(accounts::SetPushTokenResponse {}))
    }
    async fn push_targets(
        &self,
        _: Request<accounts::PushTargetsRequest>,
    ) -> Result<Response<accounts::PushTargetsResponse>, Status> {
        Err(status(Code::Internal, "not asked by an edge"))
    }
}

struct SignInRequestOf {
    user: String,
    plan: String,
}

impl From<accounts::SignInRequest> for SignInRequestOf {
    fn from(r: accounts::SignInRequest) -> Self {
        Self {
            user: r.user,
            plan: r.plan,
        }
    }
}

/// Shows bob online to everybody.
#[derive(Clone, Default)]
pub struct FakePresence {
    pub changed: Arc<Mutex<Vec<String>>>,
    pub down: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl Presence for FakePresence {
    async fn snapshot(
        &self,
        _: Request<presence::SnapshotRequest>,
    ) -> Result<Response<presence::SnapshotResponse>, Status> {
        if self.down.load(Ordering::SeqCst) {
            return Err(status(Code::Unavailable, "down"));
        }
        let bob = Pres {
            user: "bob@tandem.test".into(),
            status: St::Online.into(),
            version: 5,
            ..Pres::default()
        };
        Ok(Response::new(presence::SnapshotResponse {
            presences: vec![bob],
        }))
    }
    async fn changed(
        &self,
        request: Request<presence::ChangedRequest>,
    ) -> Result<Response<presence::ChangedResponse>, Status> {
        self.changed.lock().extend(request.into_inner().users);
        Ok(Response::new(presence::ChangedResponse {}))
    }
}
