//! accounts, history and an edge, as tests want them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tandem_kernel::{SessionId, event::AccountChange};
use tandem_log::{Log, Record};
use tandem_proto::{
    accounts::{self, accounts_server},
    client::{self, Contact, Event, Found, TypingEvent, contact::State},
    edge::{DeliverAck, DeliverBatch, delivery::What, edge_server::Edge},
    history::{self, LookupRequest, LookupResponse, history_server},
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::at;

/// A person's version and contacts.
type Contacts = (u64, BTreeMap<String, State>);

/// accounts.
pub struct FakeAccounts {
    log: Arc<dyn Log>,
    contacts: Mutex<BTreeMap<String, Contacts>>,
    pub down: AtomicBool,
    pub asked: AtomicUsize,
}

impl FakeAccounts {
    pub fn new(log: Arc<dyn Log>) -> Arc<Self> {
        let contacts = Mutex::default();
        Arc::new(Self {
            log,
            contacts,
            down: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        })
    }

    pub fn server(self: &Arc<Self>) -> accounts_server::AccountsServer<Self> {
        accounts_server::AccountsServer::from_arc(Arc::clone(self))
    }

    fn set(&self, user: &str, other: &str, state: State) -> u64 {
        let mut contacts = self.contacts.lock();
        let entry = contacts.entry(at(user)).or_default();
        entry.0 += 1;
        entry.1.insert(at(other), state);
        entry.0
    }

    pub fn exists(&self, user: &str) {
        self.contacts.lock().entry(at(user)).or_default().0 += 1;
    }

    pub fn connect(&self, a: &str, b: &str) {
        self.set(a, b, State::Mutual);
        self.set(b, a, State::Mutual);
    }

    /// Blocks, and says so on the topic.
    pub async fn block(&self, blocker: &str, blocked: &str) {
        let version = self.set(blocker, blocked, State::Blocked);
        let change = AccountChange {
            user: at(blocker),
            version,
            ..AccountChange::default()
        };
        let (key, value) = (
            Bytes::from(at(blocker)),
            Bytes::from(change.encode_to_vec()),
        );
        let record = Record {
            key,
            value,
            headers: Vec::new(),
        };
        self.log.append("accounts", vec![(0, record)]).await[0]
            .as_ref()
            .unwrap();
    }
}

#[tonic::async_trait]
impl accounts_server::Accounts for FakeAccounts {
    async fn relations(
        &self,
        request: Request<accounts::RelationsRequest>,
    ) -> Result<Response<accounts::RelationsResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("told to"));
        }
        let contacts = self.contacts.lock();
        let Some((version, of)) = contacts.get(&request.into_inner().user) else {
            return Ok(Response::new(accounts::RelationsResponse::default()));
        };
        let contact = |(user, state): (&String, &State)| Contact {
            user: user.clone(),
            state: (*state).into(),
            ..Contact::default()
        };
        Ok(Response::new(accounts::RelationsResponse {
            exists: true,
            version: *version,
            contacts: of.iter().map(contact).collect(),
            ..accounts::RelationsResponse::default()
        }))
    }
    async fn change_contact(
        &self,
        _: Request<accounts::ChangeContactRequest>,
    ) -> Result<Response<Contact>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn sign_in(
        &self,
        _: Request<accounts::SignInRequest>,
    ) -> Result<Response<accounts::SignInResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn find(&self, _: Request<accounts::FindRequest>) -> Result<Response<Found>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn set_push_token(
        &self,
        _: Request<accounts::SetPushTokenRequest>,
    ) -> Result<Response<accounts::SetPushTokenResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn push_targets(
        &self,
        _: Request<accounts::PushTargetsRequest>,
    ) -> Result<Response<accounts::PushTargetsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// history: knows what it is told.
pub struct FakeHistory {
    pub down: AtomicBool,
    pub places: Mutex<BTreeMap<(String, String), u64>>,
    pub authors: Mutex<BTreeMap<u64, String>>,
    pub asked: Mutex<Vec<LookupRequest>>,
}

impl FakeHistory {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            down: AtomicBool::new(false),
            places: Mutex::default(),
            authors: Mutex::default(),
            asked: Mutex::default(),
        })
    }

    pub fn server(self: &Arc<Self>) -> history_server::HistoryServer<Self> {
        history_server::HistoryServer::from_arc(Arc::clone(self))
    }
}

#[tonic::async_trait]
impl history_server::History for FakeHistory {
    type SyncStream = ReceiverStream<Result<history::SyncPart, Status>>;

    async fn sync(
        &self,
        _: Request<history::SyncRequest>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn page(
        &self,
        _: Request<history::PageRequest>,
    ) -> Result<Response<client::Page>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn heads(
        &self,
        _: Request<history::HeadsRequest>,
    ) -> Result<Response<client::Heads>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn lookup(
        &self,
        request: Request<LookupRequest>,
    ) -> Result<Response<LookupResponse>, Status> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("told to"));
        }
        let request = request.into_inner();
        self.asked.lock().push(request.clone());
        let authors = self.authors.lock();
        let key = (request.sender.clone(), request.event_id.clone());
        let span = authors.range(
            request.authors_after + 1..=request.authors_up_to.max(request.authors_after + 1),
        );
        let among: BTreeSet<String> = if request.authors_up_to > 0 {
            span.map(|(_, a)| a.clone()).collect()
        } else {
            BTreeSet::new()
        };
        Ok(Response::new(LookupResponse {
            author: authors.get(&request.author_of).cloned().unwrap_or_default(),
            seq: self.places.lock().get(&key).copied().unwrap_or_default(),
            authors: among.into_iter().collect(),
            marks: None,
        }))
    }
}

/// How the edge behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Takes,
    /// Takes nothing and says nothing.
    Frozen,
    /// Ends every stream.
    Breaks,
}

/// What a session got.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Event(Box<Event>),
    Typing(TypingEvent),
}

/// An edge: remembers what each session got, as an edge would pass it on.
#[derive(Clone)]
pub struct FakeEdge(Arc<EdgeState>);

pub struct EdgeState {
    mode: Mutex<Mode>,
    changed: Arc<Notify>,
    seen: Mutex<BTreeMap<SessionId, Vec<Seen>>>,
    pub batches: AtomicUsize,
}

impl FakeEdge {
    pub fn new() -> Self {
        Self(Arc::new(EdgeState {
            mode: Mutex::new(Mode::Takes),
            changed: Arc::new(Notify::new()),
            seen: Mutex::default(),
            batches: AtomicUsize::new(0),
        }))
    }

    pub fn set(&self, mode: Mode) {
        *self.0.mode.lock() = mode;
        self.0.changed.notify_waiters();
    }

    pub fn seen(&self, session: SessionId) -> Vec<Seen> {
        self.0
            .seen
            .lock()
            .get(&session)
            .cloned()
            .unwrap_or_default()
    }

    pub fn events(&self, session: SessionId) -> Vec<Event> {
        let seen = self.seen(session).into_iter();
        seen.filter_map(|s| {
            if let Seen::Event(e) = s {
                Some(*e)
            } else {
                None
            }
        })
        .collect()
    }

    pub fn seqs(&self, session: SessionId) -> Vec<u64> {
        self.events(session).iter().map(|e| e.seq).collect()
    }

    /// Waits until the session has this many frames.
    pub async fn has(&self, session: SessionId, count: usize) {
        let enough = async {
            while self.seen(session).len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), enough).await;
        assert!(
            waited.is_ok(),
            "only {} of {count}",
            self.seen(session).len()
        );
    }

    fn take(&self, batch: &DeliverBatch) {
        let mut seen = self.0.seen.lock();
        for delivery in &batch.deliveries {
            for session in &delivery.sessions {
                let of = seen
                    .entry(SessionId::from_slice(session).unwrap())
                    .or_default();
                match delivery.what.clone().unwrap() {
                    What::Event(event) => of.push(Seen::Event(Box::new(event))),
                    What::Typing(typing) => of.push(Seen::Typing(typing)),
                    other => panic!("routing does not send {other:?}"),
                }
            }
        }
    }
}

#[tonic::async_trait]
impl Edge for FakeEdge {
    type DeliverStream = ReceiverStream<Result<DeliverAck, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverBatch>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let mut batches = request.into_inner();
        let (acks, receiver) = mpsc::channel(16);
        let this = Arc::clone(&self.0);
        let edge = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                loop {
                    let changed = this.changed.notified();
                    let mode = *this.mode.lock();
                    match mode {
                        Mode::Takes => break,
                        Mode::Breaks => return,
                        Mode::Frozen => changed.await,
                    }
                }
                this.batches.fetch_add(1, Ordering::SeqCst);
                edge.take(&batch);
                if acks.send(Ok(DeliverAck { id: batch.id })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
