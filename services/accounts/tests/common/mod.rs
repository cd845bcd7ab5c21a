//! The service on the embedded adapters, with a log that can be made to fail.

#![allow(dead_code, reason = "each test file takes what it needs")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use prost::Message;
use tandem_accounts::{Config, Deps};
use tandem_chassis::{
    Doors, Lifecycle,
    grpc::{Channel, code_of, local},
};
use tandem_kernel::{ACCOUNTS_TOPIC, Code, event::AccountChange};
use tandem_log::{Appended, Log, LogError, Next, Reader, Record, Start, Stored, TopicSpec};
use tandem_log_disk::DiskLog;
use tandem_proto::{
    accounts::{
        Account, ChangeContactRequest, ConnectRequest, PushTarget, PushTargetsRequest,
        RelationsRequest, UpsertRequest, accounts_client::AccountsClient,
        provisioning_client::ProvisioningClient,
    },
    client::{Contact, ContactChange, contact::State, contact_change::Action},
};
use tandem_store_disk::DiskStore;
use tonic::Status;

/// A log whose appends or readers can be stopped.
pub struct Faulty {
    inner: Arc<DiskLog>,
    pub refuse_appends: AtomicBool,
    pub mute: AtomicBool,
}

#[async_trait]
impl Log for Faulty {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        self.inner.ensure_topic(spec).await
    }

    async fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        self.inner.partitions(topic).await
    }

    fn append(
        &self,
        topic: &str,
        records: Vec<(u32, Record)>,
    ) -> BoxFuture<'static, Vec<Result<Appended, LogError>>> {
        if self.refuse_appends.load(Ordering::SeqCst) {
            let refused = || Err(LogError::Unavailable("refused by the test".to_owned()));
            let answers = records.iter().map(|_| refused()).collect();
            return futures::future::ready(answers).boxed();
        }
        self.inner.append(topic, records)
    }

    async fn end_offsets(&self, topic: &str) -> Result<Vec<u64>, LogError> {
        self.inner.end_offsets(topic).await
    }

    async fn committed(&self, topic: &str, group: &str) -> Result<Vec<Option<u64>>, LogError> {
        self.inner.committed(topic, group).await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, LogError> {
        self.inner.read(topic, partition, from, limit).await
    }

    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
        start: Start,
    ) -> Result<Box<dyn Reader>, LogError> {
        if self.mute.load(Ordering::SeqCst) {
            return Ok(Box::new(Mute));
        }
        self.inner.subscribe(topic, group, start).await
    }

    async fn follow(&self, topic: &str, start: Start) -> Result<Box<dyn Reader>, LogError> {
        self.inner.follow(topic, start).await
    }
}

/// A reader to whom nothing is assigned.
struct Mute;

#[async_trait]
impl Reader for Mute {
    async fn next(&mut self) -> Result<Next, LogError> {
        std::future::pending().await
    }

    async fn commit(&mut self, _: u32, _: u64) -> Result<(), LogError> {
        Ok(())
    }

    async fn seek(&mut self, _: u32, _: u64) -> Result<(), LogError> {
        Ok(())
    }

    async fn offset_at(&mut self, _: u32, _: tandem_kernel::UnixMillis) -> Result<u64, LogError> {
        Ok(0)
    }

    async fn pause(&mut self, _: u32, _: bool) -> Result<(), LogError> {
        Ok(())
    }
}

/// The service, and what outlives it.
pub struct Suite {
    _folder: tempfile::TempDir,
    doors: Doors,
    pub log: Arc<Faulty>,
    store: Arc<DiskStore>,
    _ground: Lifecycle,
    config: Config,
    life: Lifecycle,
    pub accounts: AccountsClient<Channel>,
    pub provisioning: ProvisioningClient<Channel>,
}

pub fn config() -> Config {
    Config {
        create_on_sign_in: true,
        ..Config::default()
    }
}

impl Suite {
    pub async fn start() -> Self {
        Self::with(config()).await
    }

    pub async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (doors, ground) = (Doors::for_test(1), Lifecycle::new());
        let options = tandem_log_disk::Options::default();
        let path = folder.path().join("log");
        let log = DiskLog::open(&path, doors.clone(), options, &ground)
            .await
            .unwrap();
        let log = Arc::new(Faulty {
            inner: log,
            refuse_appends: AtomicBool::new(false),
            mute: AtomicBool::new(false),
        });
        let options = tandem_store_disk::Options::default();
        let store = DiskStore::open(
            &folder.path().join("store"),
            doors.clone(),
            &ground,
            &options,
        )
        .unwrap();
        let (life, accounts, provisioning) = begin(&doors, &log, &store, &config).await;
        Self {
            _folder: folder,
            doors,
            log,
            store,
            _ground: ground,
            config,
            life,
            accounts,
            provisioning,
        }
    }

    /// Ends the service where it stands.
    pub async fn crash(&mut self) {
        self.life.abort();
        self.life.run_to_end(Duration::from_secs(1)).await;
    }

    /// Starts it again.
    pub async fn restart(&mut self) {
        self.crash().await;
        let begun = begin(&self.doors, &self.log, &self.store, &self.config).await;
        (self.life, self.accounts, self.provisioning) = begun;
    }

    pub async fn upsert(&self, request: UpsertRequest) -> Result<Account, Status> {
        self.provisioning
            .clone()
            .upsert(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Creates subscribers of `x.test`.
    pub async fn people(&self, names: &[&str]) {
        for name in names {
            self.upsert(person(name)).await.unwrap();
        }
    }

    pub async fn connect(&self, a: &str, b: &str) {
        let request = ConnectRequest { a: at(a), b: at(b) };
        self.provisioning.clone().connect(request).await.unwrap();
    }

    pub async fn change(&self, user: &str, who: &str, action: Action) -> Result<State, Status> {
        self.change_named(user, &at(who), action, "")
            .await
            .map(|c| c.state())
    }

    pub async fn change_named(
        &self,
        user: &str,
        who: &str,
        action: Action,
        name: &str,
    ) -> Result<Contact, Status> {
        let change = ContactChange {
            who: who.to_owned(),
            action: action.into(),
            name: name.to_owned(),
        };
        let request = ChangeContactRequest {
            user: at(user),
            change: Some(change),
        };
        self.accounts
            .clone()
            .change_contact(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub async fn contacts(&self, user: &str) -> Vec<Contact> {
        let request = RelationsRequest { user: at(user) };
        self.accounts
            .clone()
            .relations(request)
            .await
            .unwrap()
            .into_inner()
            .contacts
    }

    pub async fn push_targets(&self, users: &[&str]) -> Vec<PushTarget> {
        let request = PushTargetsRequest {
            users: users.iter().map(|u| at(u)).collect(),
        };
        self.accounts
            .clone()
            .push_targets(request)
            .await
            .unwrap()
            .into_inner()
            .targets
    }

    pub async fn version(&self, user: &str) -> u64 {
        let request = RelationsRequest { user: at(user) };
        self.accounts
            .clone()
            .relations(request)
            .await
            .unwrap()
            .into_inner()
            .version
    }

    /// How `user` sees the other.
    pub async fn state(&self, user: &str, other: &str) -> State {
        let contacts = self.contacts(user).await;
        let found = contacts.iter().find(|c| c.user == at(other));
        found.map_or(State::None, Contact::state)
    }

    /// Waits until the two see each other so.
    pub async fn settles(&self, a: &str, b: &str, want: (State, State)) {
        let mut seen = (State::Unspecified, State::Unspecified);
        for _ in 0..600 {
            seen = (self.state(a, b).await, self.state(b, a).await);
            if seen == want {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{a} and {b} see {seen:?} instead of {want:?}");
    }

    /// The group has handled everything that is in the topic.
    pub async fn drained(&self) {
        eventually("the topic is read to its end", || async {
            let ends = self.log.end_offsets(ACCOUNTS_TOPIC).await.unwrap();
            let group = tandem_accounts::GROUP;
            let done = self.log.committed(ACCOUNTS_TOPIC, group).await.unwrap();
            ends.iter()
                .zip(done)
                .all(|(end, done)| done.unwrap_or(0) >= *end)
        })
        .await;
    }

    /// All records about `user` in the topic, oldest first.
    pub async fn records(&self, user: &str) -> Vec<AccountChange> {
        let mut all = Vec::new();
        for partition in 0..self.config.partitions {
            for stored in self
                .log
                .read(ACCOUNTS_TOPIC, partition, 0, 10_000)
                .await
                .unwrap()
            {
                all.push(AccountChange::decode(&*stored.record.value).unwrap());
            }
        }
        all.retain(|c| c.user == at(user));
        all
    }
}

async fn begin(
    doors: &Doors,
    log: &Arc<Faulty>,
    store: &Arc<DiskStore>,
    config: &Config,
) -> (
    Lifecycle,
    AccountsClient<Channel>,
    ProvisioningClient<Channel>,
) {
    let life = Lifecycle::new();
    let deps = Deps {
        doors: doors.clone(),
        log: log.clone(),
        store: store.clone(),
    };
    let served = tandem_accounts::serve(deps, config.clone(), &life)
        .await
        .unwrap();
    let accounts = AccountsClient::new(local(served.accounts));
    (
        life,
        accounts,
        ProvisioningClient::new(local(served.provisioning)),
    )
}

pub fn at(name: &str) -> String {
    format!("{name}@x.test")
}

pub fn person(name: &str) -> UpsertRequest {
    UpsertRequest {
        user: at(name),
        ..UpsertRequest::default()
    }
}

pub fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    code_of(&result.unwrap_err())
}

pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never came: {what}");
}
