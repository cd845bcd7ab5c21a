//! Push on embedded adapters, with accounts, routing and a push service of the tests' own.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod fakes;
pub mod gateway;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tandem_chassis::{Doors, Lifecycle, grpc::LocalPeers, http::Roots, rng::Rng};
use tandem_ephemeral::{Ephemeral, Session};
use tandem_ephemeral_memory::MemoryEphemeral;
use tandem_kernel::{
    Address, Clock, ConversationId, DeviceId, EdgeId, Seq, SessionId, UnixMillis,
    conversations_topic,
    event::{Body, Envelope, Event, Kind, Receipt, Text},
};
use tandem_log::{Log, Record, Retention, TopicSpec};
use tandem_log_disk::{DiskLog, Options};
use tandem_proto::{
    client::{DeviceClass, Status},
    push::push_client::PushClient,
};
use tandem_push::{Config, Deps, VapidKey};

use self::{fakes::Fakes, gateway::Gateway};

/// A clock that tests move, for the ephemeral store alone.
pub struct Moved(Arc<dyn Clock>, AtomicU64);

impl Clock for Moved {
    fn unix(&self) -> UnixMillis {
        self.0
            .unix()
            .plus(Duration::from_millis(self.1.load(Ordering::Relaxed)))
    }
    fn monotonic(&self) -> Duration {
        self.0.monotonic() + Duration::from_millis(self.1.load(Ordering::Relaxed))
    }
}

pub struct Suite {
    pub doors: Doors,
    pub log: Arc<DiskLog>,
    pub ephemeral: Arc<MemoryEphemeral>,
    clock: Arc<Moved>,
    pub peers: Arc<LocalPeers>,
    pub fakes: Fakes,
    pub gateway: Gateway,
    pub config: Config,
    roots: Roots,
    pub push: Lifecycle,
    pub all: Lifecycle,
    _dir: tempfile::TempDir,
}

pub fn user(name: &str) -> Address {
    Address::parse(&format!("{name}@x.test")).unwrap()
}

pub fn alice_bob() -> ConversationId {
    ConversationId::one_to_one(&user("alice"), &user("bob")).unwrap()
}

pub fn text(text: &str) -> Kind {
    Kind::Text(Text {
        text: text.into(),
        ..Text::default()
    })
}

pub fn delivered(seq: Seq) -> Kind {
    Kind::Receipt(Receipt {
        delivered: seq.0,
        ..Receipt::default()
    })
}

pub fn read(seq: Seq) -> Kind {
    Kind::Receipt(Receipt {
        read: seq.0,
        ..Receipt::default()
    })
}

/// Short times, so that tests are quick; a window long enough for a test to act in it.
pub fn quick() -> Config {
    Config {
        window_ms: 300,
        tick_ms: 10,
        commit_ms: 20,
        retry_first_ms: 20,
        retry_max_ms: 50,
        retry_total_ms: 2_000,
        retry_attempts: 3,
        vapid_private_key: VapidKey::generate(&Rng::from_seed(7)).unwrap(),
        vapid_subject: "mailto:ops@x.test".into(),
        allow_http_endpoints: true,
        allow_private_endpoints: true,
        ..Config::default()
    }
}

impl Suite {
    pub async fn new(config: Config) -> Self {
        Self::trusting(config, Roots::Only(Vec::new())).await
    }

    pub async fn trusting(config: Config, roots: Roots) -> Self {
        config.validate().unwrap();
        let doors = Doors::for_test(1);
        let all = Lifecycle::new();
        let dir = tempfile::tempdir().unwrap();
        let log = DiskLog::open(dir.path(), doors.clone(), Options::default(), &all)
            .await
            .unwrap();
        log.ensure_topic(&TopicSpec {
            name: conversations_topic(1),
            partitions: 1,
            retention: Retention::Delete {
                age: None,
                bytes: None,
            },
        })
        .await
        .unwrap();
        let clock = Arc::new(Moved(Arc::clone(&doors.clock), AtomicU64::new(0)));
        let moved = Doors {
            clock: clock.clone(),
            ..doors.clone()
        };
        let peers = Arc::new(LocalPeers::new());
        let suite = Self {
            ephemeral: MemoryEphemeral::new(moved),
            clock,
            fakes: Fakes::serve(&peers),
            gateway: Gateway::start(&doors, &all).await,
            peers,
            log,
            config,
            roots,
            push: Lifecycle::new(),
            all,
            doors,
            _dir: dir,
        };
        suite.serve().await;
        suite
    }

    async fn serve(&self) {
        let deps = Deps {
            doors: self.doors.clone(),
            log: self.log.clone(),
            ephemeral: self.ephemeral.clone(),
            peers: self.peers.clone(),
            roots: self.roots.clone(),
        };
        let served = tandem_push::serve(deps, self.config.clone(), &self.push)
            .await
            .unwrap();
        self.peers
            .set("push", tandem_chassis::grpc::local(served.grpc));
    }

    /// Push ends where it stands, as a killed process does.
    pub async fn kill(&self) {
        self.push.abort();
        self.push.run_to_end(Duration::from_secs(1)).await;
    }

    pub async fn restart(&mut self) {
        self.push = Lifecycle::new();
        self.serve().await;
    }

    pub fn client(&self) -> PushClient<tandem_chassis::grpc::Channel> {
        use tandem_chassis::grpc::Peers;
        PushClient::new(self.peers.service("push"))
    }

    /// The ephemeral store is old enough that absence means offline.
    pub fn settle(&self) {
        self.clock.1.fetch_add(20_000, Ordering::Relaxed);
    }

    /// Puts a session of `who` there.
    pub async fn online(&self, who: &str) {
        let edge = EdgeId::new("edge:1", 1);
        let epoch = self.ephemeral.renew(&edge, 0).await.unwrap().epoch;
        let session = Session {
            id: SessionId(self.doors.rng.session_id().0),
            user: user(who),
            edge: edge.clone(),
            device: DeviceId::parse("pc").unwrap(),
            class: DeviceClass::Pc,
            status: Status::Online,
            message: String::new(),
            attached: true,
        };
        self.ephemeral.put(&[session]).await.unwrap();
        self.ephemeral.renew(&edge, epoch).await.unwrap();
    }

    /// Appends an event as routing would.
    pub async fn append(&self, conversation: &ConversationId, sender: &str, kind: Kind) -> Seq {
        self.append_with(conversation, sender, kind, |_| ()).await
    }

    pub async fn append_with(
        &self,
        conversation: &ConversationId,
        sender: &str,
        kind: Kind,
        change: impl FnOnce(&mut Envelope),
    ) -> Seq {
        let event = Event {
            event_id: self.doors.rng.event_id(self.doors.clock.unix()).to_string(),
            conversation: conversation.to_string(),
            sender: user(sender).to_string(),
            body: Some(Body { kind: Some(kind) }),
            ..Event::default()
        };
        let mut envelope = Envelope {
            event: Some(event),
            ..Envelope::default()
        };
        change(&mut envelope);
        self.append_raw(conversation.as_str(), envelope.encode_to_vec())
            .await
    }

    pub async fn append_raw(&self, key: &str, value: Vec<u8>) -> Seq {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let record = Record {
            key,
            value: value.into(),
            headers: Vec::new(),
        };
        let answers = self
            .log
            .append(&conversations_topic(1), vec![(0, record)])
            .await;
        Seq::new(1, answers[0].as_ref().unwrap().place.offset)
    }

    /// Appends many records that push has nothing to do with.
    pub async fn fill(&self, conversation: &ConversationId, count: usize) {
        let event = Event {
            conversation: conversation.to_string(),
            sender: user("alice").to_string(),
            body: Some(Body {
                kind: Some(delivered(Seq(1))),
            }),
            ..Event::default()
        };
        let envelope = Envelope {
            event: Some(event),
            ..Envelope::default()
        };
        let record = Record {
            value: envelope.encode_to_vec().into(),
            ..Record::default()
        };
        let records = vec![(0, record); count];
        let answers = self.log.append(&conversations_topic(1), records).await;
        assert!(answers.iter().all(Result::is_ok));
    }

    /// The group's place.
    pub async fn committed(&self) -> u64 {
        let all = self
            .log
            .committed(&conversations_topic(1), "push")
            .await
            .unwrap();
        all[0].unwrap_or(0)
    }

    /// Waits until push has nothing left to do up to here.
    pub async fn wait_committed(&self, seq: Seq) {
        eventually(async || self.committed().await > seq.offset()).await;
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        self.push.abort();
        self.all.abort();
    }
}

/// Waits until it is so; fails after 10 s.
pub async fn eventually(mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not become so within 10 s");
}

pub async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
