//! The service between a scripted accounts and scripted edges, on the embedded log and ephemeral store.

#![allow(dead_code, reason = "each test file takes what it needs")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prost::Message;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, LocalPeers, local},
};
use tandem_ephemeral::{Ephemeral, Session};
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_kernel::{
    ACCOUNTS_TOPIC, Address, DeviceId, EdgeId, SessionId, event::AccountChange, seq::partition_of,
};
use tandem_log::{Log, Record, Retention, TopicSpec};
use tandem_log_disk::DiskLog;
use tandem_presence::{Config, Deps};
use tandem_proto::{
    accounts::{
        ChangeContactRequest, FindRequest, PushTargetsRequest, PushTargetsResponse,
        RelationsRequest, RelationsResponse, SetPushTokenRequest, SetPushTokenResponse,
        SignInRequest, SignInResponse,
        accounts_server::{Accounts, AccountsServer},
    },
    client::{Contact, DeviceClass, Found, Presence, Status, contact::State},
    edge::{
        DeliverAck, DeliverBatch,
        delivery::What,
        edge_server::{Edge, EdgeServer},
    },
    presence::{ChangedRequest, SnapshotRequest, presence_client::PresenceClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status as Failure, Streaming};

pub const PARTITIONS: u32 = 2;

/// Version of the account, and how they see others.
type Person = (u64, BTreeMap<String, State>);

/// Relations as the test sets them.
#[derive(Clone, Default)]
pub struct FakeAccounts {
    people: Arc<Mutex<BTreeMap<String, Person>>>,
    pub down: Arc<AtomicBool>,
}

type Answer<T> = Result<Response<T>, Failure>;

#[tonic::async_trait]
impl Accounts for FakeAccounts {
    async fn relations(&self, request: Request<RelationsRequest>) -> Answer<RelationsResponse> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Failure::unavailable("down"));
        }
        let people = self.people.lock();
        let Some((version, relations)) = people.get(&request.get_ref().user) else {
            return Ok(Response::new(RelationsResponse::default()));
        };
        let contacts = relations.iter().filter(|(_, state)| **state != State::None);
        Ok(Response::new(RelationsResponse {
            exists: true,
            version: *version,
            contacts: contacts
                .map(|(user, state)| contact(user, *state))
                .collect(),
            ..RelationsResponse::default()
        }))
    }

    async fn change_contact(&self, _: Request<ChangeContactRequest>) -> Answer<Contact> {
        Err(Failure::unimplemented("not presence's"))
    }

    async fn sign_in(&self, _: Request<SignInRequest>) -> Answer<SignInResponse> {
        Err(Failure::unimplemented("not presence's"))
    }

    async fn find(&self, _: Request<FindRequest>) -> Answer<Found> {
        Err(Failure::unimplemented("not presence's"))
    }

    async fn set_push_token(
        &self,
        _: Request<SetPushTokenRequest>,
    ) -> Answer<SetPushTokenResponse> {
        Err(Failure::unimplemented("not presence's"))
    }

    async fn push_targets(&self, _: Request<PushTargetsRequest>) -> Answer<PushTargetsResponse> {
        Err(Failure::unimplemented("not presence's"))
    }
}

fn contact(user: &str, state: State) -> Contact {
    Contact {
        user: user.to_owned(),
        state: state.into(),
        ..Contact::default()
    }
}

/// What an edge was given.
#[derive(Clone, Default)]
pub struct FakeEdge {
    batches: Arc<Mutex<Vec<DeliverBatch>>>,
    /// It takes batches and never answers.
    pub frozen: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl Edge for FakeEdge {
    type DeliverStream = ReceiverStream<Result<DeliverAck, Failure>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverBatch>>,
    ) -> Answer<Self::DeliverStream> {
        let (acks, stream) = mpsc::channel(8);
        let this = self.clone();
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                if this.frozen.load(Ordering::SeqCst) {
                    continue;
                }
                let id = batch.id;
                this.batches.lock().push(batch);
                if acks.send(Ok(DeliverAck { id })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl FakeEdge {
    /// Frames for a session, in order.
    pub fn frames(&self, session: SessionId) -> Vec<What> {
        let octets = session.to_bytes();
        let batches = self.batches.lock();
        let deliveries = batches.iter().flat_map(|b| &b.deliveries);
        deliveries
            .filter(|d| d.sessions.iter().any(|s| **s == octets))
            .filter_map(|d| d.what.clone())
            .collect()
    }

    pub fn largest_batch(&self) -> usize {
        let batches = self.batches.lock();
        let sizes = batches
            .iter()
            .map(|b| b.deliveries.iter().map(|d| d.sessions.len()).sum());
        sizes.max().unwrap_or(0)
    }
}

/// A device with a session on an edge.
#[derive(Clone)]
pub struct Device {
    pub session: Session,
    pub edge: FakeEdge,
}

impl Device {
    /// All statuses that came of a user, in order.
    pub fn raw(&self, of: &str) -> Vec<Presence> {
        let frames = self.edge.frames(self.session.id).into_iter();
        frames
            .filter_map(|what| match what {
                What::Presence(p) if p.user == at(of) => Some(p),
                _ => None,
            })
            .collect()
    }

    /// What an edge lets through of them: only rising versions.
    pub fn saw(&self, of: &str) -> Vec<Status> {
        let mut last = 0;
        let mut seen = Vec::new();
        for presence in self.raw(of) {
            if presence.version > last {
                last = presence.version;
                seen.push(presence.status());
            }
        }
        seen
    }

    /// Relations that it was told of.
    pub fn contacts(&self) -> Vec<(String, State)> {
        let frames = self.edge.frames(self.session.id).into_iter();
        frames
            .filter_map(|what| match what {
                What::Contact(c) => c.contact.map(|c| (c.user.clone(), c.state())),
                _ => None,
            })
            .collect()
    }

    /// Everything that came.
    pub fn count(&self) -> usize {
        self.edge.frames(self.session.id).len()
    }

    pub async fn sees(&self, of: &str, status: Status) {
        let what = format!("{} sees {of} {status:?}", self.session.user);
        eventually(&what, || async { self.saw(of).last() == Some(&status) }).await;
    }
}

pub struct Suite {
    _folder: tempfile::TempDir,
    pub doors: Doors,
    pub lifecycle: Lifecycle,
    pub log: Arc<DiskLog>,
    pub ephemeral: Arc<MemoryEphemeral>,
    pub accounts: FakeAccounts,
    pub peers: LocalPeers,
    pub presence: PresenceClient<Channel>,
    edges: Arc<Mutex<BTreeMap<String, (EdgeId, FakeEdge)>>>,
    alive: Arc<Mutex<BTreeSet<EdgeId>>>,
    devices: Mutex<u128>,
}

impl Suite {
    pub async fn start() -> Self {
        let suite = Self::without_topic(Config::default()).await;
        suite.make_topic().await;
        // the readers look for it again after a moment
        tokio::time::sleep(Duration::from_secs(10)).await;
        suite
    }

    pub async fn without_topic(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (doors, lifecycle) = (Doors::for_test(1), Lifecycle::new());
        let options = tandem_log_disk::Options::default();
        let log = DiskLog::open(folder.path(), doors.clone(), options, &lifecycle)
            .await
            .unwrap();
        let ephemeral = MemoryEphemeral::new(doors.clone());
        let (accounts, peers) = (FakeAccounts::default(), LocalPeers::new());
        peers.set("accounts", local(AccountsServer::new(accounts.clone())));
        let deps = Deps {
            doors: doors.clone(),
            log: log.clone(),
            ephemeral: ephemeral.clone(),
            peers: Arc::new(peers.clone()),
        };
        let served = tandem_presence::serve(deps, config, &lifecycle)
            .await
            .unwrap();
        Self {
            _folder: folder,
            doors,
            lifecycle,
            log,
            ephemeral,
            accounts,
            peers,
            presence: PresenceClient::new(local(served.presence)),
            edges: Arc::default(),
            alive: Arc::default(),
            devices: Mutex::new(0),
        }
    }

    pub async fn make_topic(&self) {
        let spec = TopicSpec {
            name: ACCOUNTS_TOPIC.to_owned(),
            partitions: PARTITIONS,
            retention: Retention::Compact,
        };
        self.log.ensure_topic(&spec).await.unwrap();
    }

    /// An edge that renews its lease until it is killed.
    pub async fn edge(&self, name: &str) -> (EdgeId, FakeEdge) {
        if let Some(known) = self.edges.lock().get(name) {
            return known.clone();
        }
        let (id, edge) = (EdgeId::new(name, 1), FakeEdge::default());
        self.peers.set(name, local(EdgeServer::new(edge.clone())));
        self.edges
            .lock()
            .insert(name.to_owned(), (id.clone(), edge.clone()));
        self.alive.lock().insert(id.clone());
        let renewal = self.ephemeral.renew(&id, 0).await.unwrap();
        let (ephemeral, alive) = (self.ephemeral.clone(), self.alive.clone());
        let (renewed, mut epoch) = (id.clone(), renewal.epoch);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                if !alive.lock().contains(&renewed) {
                    return;
                }
                epoch = ephemeral.renew(&renewed, epoch).await.unwrap().epoch;
            }
        });
        (id, edge)
    }

    /// The edge dies without a word.
    pub fn kill(&self, name: &str) {
        let edges = self.edges.lock();
        self.alive.lock().remove(&edges[name].0);
        self.peers.unset(name);
    }

    /// A device of `user` comes, in this status.
    pub async fn device(&self, user: &str, edge: &str, status: Status) -> Device {
        let id = {
            let mut devices = self.devices.lock();
            *devices += 1;
            *devices
        };
        let (edge_id, edge) = self.edge(edge).await;
        let session = Session {
            id: SessionId(id),
            user: address(user),
            edge: edge_id,
            device: DeviceId::parse("d").unwrap(),
            class: DeviceClass::Mobile,
            status,
            message: String::new(),
            attached: true,
        };
        let device = Device { session, edge };
        self.put(&device.session).await;
        device
    }

    /// As an edge does: registers, then says so.
    pub async fn put(&self, session: &Session) {
        self.ephemeral
            .put(std::slice::from_ref(session))
            .await
            .unwrap();
        let users = vec![session.user.to_string()];
        self.presence
            .clone()
            .changed(ChangedRequest { users })
            .await
            .unwrap();
    }

    pub async fn set(&self, device: &mut Device, status: Status) {
        device.session.status = status;
        self.put(&device.session).await;
    }

    /// Sets how `user` sees `other`, as accounts would, and returns once the topic says so.
    pub async fn relate(&self, user: &str, other: &str, state: State) {
        let was = {
            let mut people = self.accounts.people.lock();
            let (version, relations) = people.entry(at(user)).or_default();
            *version += 1;
            relations.insert(at(other), state).unwrap_or(State::None)
        };
        self.tell(user, other, state, was).await;
    }

    /// The topic says (again) how `user` sees `other`.
    pub async fn tell(&self, user: &str, other: &str, state: State, was: State) {
        let version = self
            .accounts
            .people
            .lock()
            .get(&at(user))
            .map_or(0, |p| p.0);
        let change = AccountChange {
            user: at(user),
            version,
            pair: None,
            contact: Some(contact(&at(other), state)),
            was: was.into(),
        };
        self.append(user, change.encode_to_vec()).await;
    }

    pub async fn append(&self, user: &str, value: Vec<u8>) {
        let partition = partition_of(at(user).as_bytes(), PARTITIONS);
        let record = Record {
            key: at(user).into(),
            value: value.into(),
            headers: Vec::new(),
        };
        for appended in self
            .log
            .append(ACCOUNTS_TOPIC, vec![(partition, record)])
            .await
        {
            appended.unwrap();
        }
    }

    /// Makes them contacts, without anything being told.
    pub fn contacts(&self, a: &str, b: &str) {
        let mut people = self.accounts.people.lock();
        people
            .entry(at(a))
            .or_default()
            .1
            .insert(at(b), State::Mutual);
        people
            .entry(at(b))
            .or_default()
            .1
            .insert(at(a), State::Mutual);
    }

    pub async fn snapshot(&self, viewer: &str, users: &[&str]) -> Vec<Presence> {
        let request = SnapshotRequest {
            viewer: at(viewer),
            users: users.iter().map(|u| at(u)).collect(),
        };
        self.presence
            .clone()
            .snapshot(request)
            .await
            .unwrap()
            .into_inner()
            .presences
    }
}

pub fn at(name: &str) -> String {
    format!("{name}@x.test")
}

pub fn address(name: &str) -> Address {
    Address::parse(&at(name)).unwrap()
}

pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come within 5 s: {what}");
}
