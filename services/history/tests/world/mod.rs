//! History on the embedded log and store, and people who write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use prost::Message;
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, local},
};
use tandem_history::{Config, Deps, HistoryControl, serve};
use tandem_kernel::{
    event::{
        Body, Delete, Edit, Envelope, Event, GroupCreate, Kind, MemberLeave, MemberRemove,
        MembersAdd, Reaction, Receipt, Text,
    },
    seq::{Seq, partition_of},
};
use tandem_log::{Log, Record, Retention, TopicSpec};
use tandem_log_disk::DiskLog;
use tandem_proto::{
    client::{self, Head, Page},
    history::{
        HeadsRequest, LookupRequest, LookupResponse, PageRequest, SyncPart, SyncRequest,
        history_client::HistoryClient,
    },
};
use tandem_store::Store;
use tandem_store_disk::DiskStore;
use tokio_stream::StreamExt;
use tonic::Status;

pub const PARTITIONS: u32 = 3;
pub const TOPIC: &str = "conversations.g1";
pub const AB: &str = "o:alice@x.test,bob@x.test";
pub const GROUP: &str = "g:018f4d2e-0000-7000-8000-000000000001@x.test";

pub fn at(name: &str) -> String {
    format!("{name}@x.test")
}

/// What a test says of an event, with everything usual left out.
#[derive(Debug, Clone)]
pub struct Say {
    pub conversation: String,
    pub sender: String,
    pub kind: Kind,
    pub id: Option<String>,
    pub retry: bool,
    pub request: bool,
    pub withheld: Vec<String>,
}

pub fn say(conversation: &str, sender: &str, kind: Kind) -> Say {
    Say {
        conversation: conversation.into(),
        sender: at(sender),
        kind,
        id: None,
        retry: false,
        request: false,
        withheld: Vec::new(),
    }
}

impl Say {
    pub fn withheld(mut self, from: &str) -> Self {
        self.withheld.push(at(from));
        self
    }
}

pub fn text(words: &str) -> Kind {
    Kind::Text(Text {
        text: words.into(),
        ..Text::default()
    })
}

pub fn edit(target: u64, words: &str) -> Kind {
    Kind::Edit(Edit {
        target,
        text: Some(Text {
            text: words.into(),
            ..Text::default()
        }),
    })
}

pub fn delete(target: u64) -> Kind {
    Kind::Delete(Delete { target })
}

pub fn react(target: u64, emoji: &str) -> Kind {
    Kind::Reaction(Reaction {
        target,
        emoji: emoji.into(),
    })
}

pub fn receipt(delivered: u64, read: u64) -> Kind {
    Kind::Receipt(Receipt {
        delivered,
        read,
        ..Receipt::default()
    })
}

pub fn create(title: &str, members: &[&str]) -> Kind {
    let members = members.iter().map(|m| at(m)).collect();
    Kind::GroupCreate(GroupCreate {
        title: title.into(),
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

/// A suite of log, store and history.
pub struct World {
    pub doors: Doors,
    pub log: Arc<DiskLog>,
    pub store: Arc<dyn Store>,
    pub disk: Arc<DiskStore>,
    pub config: Config,
    pub history: HistoryClient<Channel>,
    pub control: HistoryControl,
    pub lifecycle: Lifecycle,
    seams: Lifecycle,
    #[allow(dead_code, reason = "kept until the end")]
    folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Config::default(), |disk| disk).await
    }

    pub async fn with(config: Config, wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let doors = Doors::for_test(7);
        let seams = Lifecycle::new();
        let log_folder = folder.path().join("log");
        let options = tandem_log_disk::Options::default();
        let log = DiskLog::open(&log_folder, doors.clone(), options, &seams)
            .await
            .unwrap();
        let options = tandem_store_disk::Options::default();
        let store_folder = folder.path().join("store");
        let disk = DiskStore::open(&store_folder, doors.clone(), &seams, &options).unwrap();
        let spec = TopicSpec {
            name: TOPIC.into(),
            partitions: PARTITIONS,
            retention: Retention::Delete {
                age: None,
                bytes: None,
            },
        };
        log.ensure_topic(&spec).await.unwrap();
        let store = wrap(Arc::clone(&disk) as Arc<dyn Store>);
        let lifecycle = Lifecycle::new();
        let deps = Deps {
            doors: doors.clone(),
            log: Arc::clone(&log) as Arc<dyn Log>,
            store: Arc::clone(&store),
        };
        let served = serve(deps, config.clone(), &lifecycle).await.unwrap();
        let history = HistoryClient::new(local(served.grpc));
        let control = served.control;
        Self {
            doors,
            log,
            store,
            disk,
            config,
            history,
            control,
            lifecycle,
            seams,
            folder,
        }
    }

    /// Ends history where it stands and starts it again.
    pub async fn restart(&mut self) {
        self.lifecycle.abort();
        self.lifecycle.run_to_end(Duration::from_secs(5)).await;
        self.lifecycle = Lifecycle::new();
        let deps = Deps {
            doors: self.doors.clone(),
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            store: Arc::clone(&self.store),
        };
        let served = serve(deps, self.config.clone(), &self.lifecycle)
            .await
            .unwrap();
        self.history = HistoryClient::new(local(served.grpc));
        self.control = served.control;
    }

    pub fn envelope(&self, say: Say) -> (u32, Record) {
        let id = say
            .id
            .unwrap_or_else(|| self.doors.rng.event_id(self.doors.clock.unix()).to_string());
        let event = Event {
            event_id: id,
            conversation: say.conversation.clone(),
            sender: say.sender,
            body: Some(Body {
                kind: Some(say.kind),
            }),
            request: say.request,
            ..Event::default()
        };
        let envelope = Envelope {
            event: Some(event),
            device: "d".into(),
            retry: say.retry,
            withheld_from: say.withheld,
        };
        let key = say.conversation.into_bytes();
        let partition = partition_of(&key, PARTITIONS);
        let value = envelope.encode_to_vec().into();
        (
            partition,
            Record {
                key: key.into(),
                value,
                headers: Vec::new(),
            },
        )
    }

    /// Appends an event; its seq.
    pub async fn append(&self, say: Say) -> u64 {
        let record = self.envelope(say);
        let appended = self
            .log
            .append(TOPIC, vec![record])
            .await
            .remove(0)
            .unwrap();
        Seq::new(1, appended.place.offset).0
    }

    pub async fn says(&self, conversation: &str, sender: &str, kind: Kind) -> u64 {
        self.append(say(conversation, sender, kind)).await
    }

    /// Waits until history has stored everything appended so far.
    pub async fn settle(&mut self) {
        self.sync("nobody", &[]).await;
    }

    pub async fn ends(&self) -> Vec<u64> {
        self.log.end_offsets(TOPIC).await.unwrap()
    }

    pub async fn try_sync(
        &mut self,
        user: &str,
        have: &[(&str, u64)],
    ) -> Result<tonic::Streaming<SyncPart>, Status> {
        let have: HashMap<String, u64> = have.iter().map(|(c, s)| ((*c).into(), *s)).collect();
        let ends = self.ends().await;
        let request = SyncRequest {
            user: at(user),
            have,
            ends,
            generation: 1,
        };
        Ok(self.history.sync(request).await?.into_inner())
    }

    /// All heads of a sync, to its completion.
    pub async fn sync(&mut self, user: &str, have: &[(&str, u64)]) -> Vec<Head> {
        let mut parts = self.try_sync(user, have).await.unwrap();
        let whole = async {
            let mut heads = Vec::new();
            while let Some(part) = parts.next().await {
                let part = part.unwrap();
                heads.extend(part.heads);
                if part.complete {
                    return heads;
                }
            }
            panic!("the sync ended before it was complete");
        };
        let whole = tokio::time::timeout(Duration::from_secs(20), whole);
        whole.await.expect("the sync completes")
    }

    pub async fn head(&mut self, user: &str, conversation: &str) -> Head {
        let heads = self.heads(user).await;
        heads
            .into_iter()
            .find(|h| h.conversation == conversation)
            .expect("the head is there")
    }

    pub async fn heads(&mut self, user: &str) -> Vec<Head> {
        let request = HeadsRequest {
            user: at(user),
            heads: None,
        };
        self.history
            .heads(request)
            .await
            .unwrap()
            .into_inner()
            .heads
    }

    pub async fn try_page(
        &mut self,
        user: &str,
        conversation: &str,
        (before, after, limit): (u64, u64, u32),
    ) -> Result<Page, Status> {
        let page = client::PageRequest {
            conversation: conversation.into(),
            before,
            after,
            limit,
        };
        let request = PageRequest {
            user: at(user),
            page: Some(page),
        };
        Ok(self.history.page(request).await?.into_inner())
    }

    pub async fn page(&mut self, user: &str, conversation: &str) -> Vec<Event> {
        self.try_page(user, conversation, (0, 0, 200))
            .await
            .unwrap()
            .events
    }

    pub async fn lookup(&mut self, request: LookupRequest) -> LookupResponse {
        self.history.lookup(request).await.unwrap().into_inner()
    }

    /// All rows of history, in a form that can be compared.
    pub async fn parked(&self) -> Vec<tandem_kernel::event::Parked> {
        let records = self.log.read("history.parked", 0, 0, 100).await.unwrap();
        let parked =
            |r: tandem_log::Stored| tandem_kernel::event::Parked::decode(r.record.value).unwrap();
        records.into_iter().map(parked).collect()
    }
}

pub fn words(event: &Event) -> String {
    let folded = event.folded.as_ref();
    if folded.is_some_and(|f| f.deleted_seq != 0) {
        return "<deleted>".into();
    }
    if let Some(text) = folded.and_then(|f| f.edited.as_ref()) {
        return text.text.clone();
    }
    match event.body.as_ref().and_then(|b| b.kind.as_ref()) {
        Some(Kind::Text(text)) => text.text.clone(),
        Some(Kind::Edit(_)) => "<edit>".into(),
        Some(Kind::Delete(_)) => "<delete>".into(),
        Some(Kind::Reaction(_)) => "<reaction>".into(),
        Some(Kind::Nudge(_)) => "<nudge>".into(),
        _ => "<group>".into(),
    }
}

pub fn all_words(events: &[Event]) -> Vec<String> {
    events.iter().map(words).collect()
}
