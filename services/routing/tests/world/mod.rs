//! routing on the embedded log, store and ephemeral store, with accounts, history and an edge that do as
//! they are told.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "a test that cannot go on fails"
)]

mod faults;
mod peers;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, LocalPeers, local},
};
use tandem_ephemeral::{Ephemeral, Session};
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_kernel::{
    Address, DeviceId, EdgeId, SessionId,
    event::{
        Body, Envelope, GroupCreate, Kind, MemberLeave, MemberRemove, MembersAdd, Receipt, Text,
    },
    seq::partition_of,
};
use tandem_log::{Log, Record, Retention, TopicSpec};
use tandem_log_disk::{DiskLog, Options};
use tandem_proto::{
    client::{DeviceClass, Event, Status, Submit, Typing},
    edge::edge_server::EdgeServer,
    routing::{
        AnswerBatch, MembersRequest, MembersResponse, SubmitBatch, SubmitItem, answer,
        routing_client::RoutingClient, submit_item::What,
    },
};
use tandem_routing::{Config, Deps, serve};
use tandem_store::Store;
use tandem_store_disk::DiskStore;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

pub use faults::{FaultyEphemeral, FaultyLog};
pub use peers::{FakeAccounts, FakeEdge, FakeHistory, Mode, Seen};

pub const TOPIC: &str = "conversations.g1";
pub const PARTITIONS: u32 = 3;
pub const AB: &str = "o:alice@x.test,bob@x.test";
pub const GROUP: &str = "g:018f4d2e-0000-7000-8000-000000000001@x.test";

pub fn at(name: &str) -> String {
    format!("{name}@x.test")
}

pub fn address(name: &str) -> Address {
    Address::parse(&at(name)).unwrap()
}

pub fn text(words: &str) -> Kind {
    Kind::Text(Text {
        text: words.into(),
        ..Text::default()
    })
}

pub fn create(members: &[&str]) -> Kind {
    let members = members.iter().map(|m| at(m)).collect();
    Kind::GroupCreate(GroupCreate {
        title: "friends".into(),
        members,
    })
}

pub fn add(member: &str) -> Kind {
    Kind::MembersAdd(MembersAdd {
        members: vec![at(member)],
    })
}

pub fn remove(member: &str) -> Kind {
    Kind::MemberRemove(MemberRemove { member: at(member) })
}

pub fn leave() -> Kind {
    Kind::MemberLeave(MemberLeave {})
}

pub fn delivered(seq: u64) -> Kind {
    Kind::Receipt(Receipt {
        delivered: seq,
        ..Receipt::default()
    })
}

pub fn read(seq: u64) -> Kind {
    Kind::Receipt(Receipt {
        read: seq,
        ..Receipt::default()
    })
}

/// What outlives a routing process.
pub struct World {
    pub doors: Doors,
    pub log: Arc<FaultyLog>,
    pub store: Arc<dyn Store>,
    pub ephemeral: Arc<FaultyEphemeral>,
    pub peers: Arc<LocalPeers>,
    pub accounts: Arc<FakeAccounts>,
    pub history: Arc<FakeHistory>,
    pub edge: FakeEdge,
    pub edge_id: EdgeId,
    pub config: Config,
    pub base: Lifecycle,
    _folder: tempfile::TempDir,
}

/// A routing process.
pub struct Routing {
    pub channel: Channel,
    pub lifecycle: Lifecycle,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (doors, base) = (Doors::real(), Lifecycle::new());
        let path = folder.path().join("log");
        let log = DiskLog::open(&path, doors.clone(), Options::default(), &base);
        let log: Arc<dyn Log> = log.await.unwrap();
        let retention = Retention::Compact;
        let spec = TopicSpec {
            name: "accounts".into(),
            partitions: 1,
            retention,
        };
        log.ensure_topic(&spec).await.unwrap();
        let store: Arc<dyn Store> = DiskStore::open(
            &folder.path().join("store"),
            doors.clone(),
            &base,
            &tandem_store_disk::Options::default(),
        )
        .unwrap();
        let ephemeral = FaultyEphemeral::new(MemoryEphemeral::new(doors.clone()));
        let peers = Arc::new(LocalPeers::new());
        let accounts = FakeAccounts::new(Arc::clone(&log));
        let history = FakeHistory::new();
        let edge = FakeEdge::new();
        let edge_id = EdgeId::new("edge-1", 1);
        ephemeral.renew(&edge_id, 0).await.unwrap();
        peers.set("accounts", local(accounts.server()));
        peers.set("history", local(history.server()));
        peers.set("edge-1", local(EdgeServer::new(edge.clone())));
        for (a, b) in [
            ("alice", "bob"),
            ("alice", "chloe"),
            ("bob", "chloe"),
            ("alice", "dan"),
        ] {
            accounts.connect(a, b);
        }
        let config = Config {
            partitions: PARTITIONS,
            accounts_timeout_ms: 300,
            history_timeout_ms: 300,
            peer_cooldown_ms: 50,
            edge_ack_timeout_ms: 400,
            edge_cooldown_ms: 200,
            ..Config::default()
        };
        let log = FaultyLog::new(log);
        Self {
            doors,
            log,
            store,
            ephemeral,
            peers,
            accounts,
            history,
            edge,
            edge_id,
            config,
            base,
            _folder: folder,
        }
    }

    pub async fn start(&self) -> Routing {
        let lifecycle = Lifecycle::new();
        let deps = Deps {
            doors: self.doors.clone(),
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            store: Arc::clone(&self.store),
            ephemeral: Arc::clone(&self.ephemeral) as Arc<dyn Ephemeral>,
            peers: Arc::clone(&self.peers) as Arc<dyn tandem_chassis::grpc::Peers>,
        };
        let served = serve(deps, self.config.clone(), &lifecycle).await.unwrap();
        Routing {
            channel: local(served.grpc),
            lifecycle,
        }
    }

    /// A session of `name` on `edge`.
    pub async fn session_on(&self, edge: &EdgeId, name: &str, id: u128) -> SessionId {
        let session = Session {
            id: SessionId(id),
            user: address(name),
            edge: edge.clone(),
            device: DeviceId::parse(&format!("d{id}")).unwrap(),
            class: DeviceClass::Pc,
            status: Status::Online,
            message: String::new(),
            attached: true,
        };
        self.ephemeral.put(&[session]).await.unwrap();
        SessionId(id)
    }

    pub async fn session(&self, name: &str, id: u128) -> SessionId {
        self.session_on(&self.edge_id, name, id).await
    }

    /// Puts an envelope into the log as another replica would.
    pub async fn append(&self, envelope: &Envelope) -> u64 {
        let key = Bytes::from(envelope.event.as_ref().unwrap().conversation.clone());
        let value = Bytes::from(envelope.encode_to_vec());
        self.append_raw(key, value).await
    }

    pub async fn append_raw(&self, key: Bytes, value: Bytes) -> u64 {
        let partition = partition_of(&key, PARTITIONS);
        let record = Record {
            key,
            value,
            headers: Vec::new(),
        };
        let appended = self.log.append(TOPIC, vec![(partition, record)]).await;
        appended[0].as_ref().unwrap().place.offset | 1 << 48
    }

    pub fn envelope(&self, conversation: &str, sender: &str, kind: Kind) -> Envelope {
        Envelope {
            event: Some(Event {
                event_id: self.event_id(),
                conversation: conversation.into(),
                sender: at(sender),
                body: Some(Body { kind: Some(kind) }),
                ..Event::default()
            }),
            device: "d".into(),
            ..Envelope::default()
        }
    }

    pub fn event_id(&self) -> String {
        self.doors.rng.event_id(self.doors.clock.unix()).to_string()
    }

    /// Everything in the log of a conversation.
    pub async fn logged(&self, conversation: &str) -> Vec<Envelope> {
        let partition = partition_of(conversation.as_bytes(), PARTITIONS);
        let records = self.log.read(TOPIC, partition, 0, 100_000).await.unwrap();
        let of = records
            .iter()
            .filter(|s| s.record.key == conversation.as_bytes());
        of.map(|s| Envelope::decode(s.record.value.as_ref()).unwrap())
            .collect()
    }
}

impl Routing {
    pub async fn stop(&self) {
        self.lifecycle.stop();
        self.lifecycle.run_to_end(Duration::from_secs(5)).await;
    }

    /// What a kill does.
    pub async fn kill(&self) {
        self.lifecycle.abort();
        self.lifecycle.run_to_end(Duration::from_secs(1)).await;
    }

    pub async fn connect(&self, world: &World) -> Client {
        let (items, receiver) = mpsc::unbounded_channel();
        let mut client = RoutingClient::new(self.channel.clone());
        let answers = client
            .submit(UnboundedReceiverStream::new(receiver))
            .await
            .unwrap();
        Client {
            doors: world.doors.clone(),
            items: Some(items),
            chain: 0,
            answers: answers.into_inner(),
            next: 1,
            answered: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    pub async fn members(
        &self,
        conversation: &str,
        user: &str,
    ) -> Result<MembersResponse, tonic::Status> {
        let request = MembersRequest {
            conversation: conversation.into(),
            user: user.into(),
        };
        RoutingClient::new(self.channel.clone())
            .members(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

/// An edge's submit stream.
pub struct Client {
    doors: Doors,
    items: Option<mpsc::UnboundedSender<SubmitBatch>>,
    /// Of what is sent from here on.
    pub chain: u64,
    answers: Streaming<AnswerBatch>,
    next: u64,
    answered: BTreeMap<u64, answer::Result>,
    pub order: Vec<u64>,
}

impl Client {
    pub fn submit(&self, conversation: &str, kind: Kind) -> Submit {
        Submit {
            event_id: self.doors.rng.event_id(self.doors.clock.unix()).to_string(),
            conversation: conversation.into(),
            body: Some(Body { kind: Some(kind) }),
            ..Submit::default()
        }
    }

    pub fn send_as(&mut self, sender: &str, device: &str, submits: Vec<Submit>) -> Vec<u64> {
        let first = self.next;
        self.next += submits.len() as u64;
        let items = submits
            .into_iter()
            .zip(first..)
            .map(|(submit, reference)| SubmitItem {
                r#ref: reference,
                user: at(sender),
                device: device.into(),
                what: Some(What::Submit(submit)),
                traceparent: String::new(),
                chain: self.chain,
            });
        let batch = SubmitBatch {
            items: items.collect(),
        };
        self.items.as_ref().unwrap().send(batch).unwrap();
        (first..self.next).collect()
    }

    pub fn typing(&self, sender: &str, conversation: &str) {
        let typing = Typing {
            conversation: conversation.into(),
            active: true,
        };
        let item = SubmitItem {
            user: at(sender),
            device: "d".into(),
            what: Some(What::Typing(typing)),
            ..SubmitItem::default()
        };
        self.items
            .as_ref()
            .unwrap()
            .send(SubmitBatch { items: vec![item] })
            .unwrap();
    }

    pub fn close(&mut self) {
        self.items = None;
    }

    /// The next batch of answers; `None`: the stream has ended.
    pub async fn more(&mut self) -> Option<()> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.answers.message());
        let batch = next.await.expect("no answer").ok().flatten()?;
        for answer in batch.answers {
            self.order.push(answer.r#ref);
            self.answered.insert(answer.r#ref, answer.result.unwrap());
        }
        Some(())
    }

    pub async fn answer(&mut self, reference: u64) -> answer::Result {
        while !self.answered.contains_key(&reference) {
            self.more().await.expect("the stream ended");
        }
        self.answered.remove(&reference).unwrap()
    }

    /// Submits and waits: the seq, or the code.
    pub async fn say(
        &mut self,
        sender: &str,
        conversation: &str,
        kind: Kind,
    ) -> Result<u64, String> {
        let device = if matches!(kind, Kind::Receipt(_)) {
            ""
        } else {
            "d"
        };
        let submit = self.submit(conversation, kind);
        self.put(sender, device, submit).await
    }

    pub async fn put(&mut self, sender: &str, device: &str, submit: Submit) -> Result<u64, String> {
        let reference = self.send_as(sender, device, vec![submit])[0];
        match self.answer(reference).await {
            answer::Result::Accepted(accepted) => Ok(accepted.seq),
            answer::Result::Rejected(rejected) => Err(rejected.code),
        }
    }
}
