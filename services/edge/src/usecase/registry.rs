//! The sessions of this edge: here by id and by device, and in the ephemeral store.
//!
//! What the store should say of a session stands in its handle; one task brings the store there, in
//! groups, and tries again for as long as it must. So a slow store holds nothing up, and the changes of one
//! session keep their order.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use tandem_chassis::grpc::Channel;
use tandem_ephemeral::{Ephemeral, Session};
use tandem_kernel::{Address, DeviceId, EdgeId, SessionId};
use tandem_proto::{
    client::{DeviceClass, Status},
    presence::{ChangedRequest, presence_client::PresenceClient},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    mailbox::{Bound, Item, Mailbox},
    metrics::Metrics,
};

/// A session as the rest of the edge sees it.
pub struct Handle {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user: Address,
    /// The device.
    pub device: DeviceId,
    /// The device's class.
    pub class: DeviceClass,
    /// What waits for it.
    pub mailbox: Mailbox,
    record: Mutex<Record>,
}

struct Record {
    status: Status,
    message: String,
    attached: bool,
    /// The session is over; true: its user is due at once.
    gone: Option<bool>,
    /// Once it is registered, the session is told, and syncs.
    tell: bool,
    queued: bool,
    /// It is among those that are written once more.
    again: bool,
}

impl Handle {
    /// Whether it has a connection; otherwise it waits for a resume.
    pub fn is_attached(&self) -> bool {
        self.record.lock().attached
    }

    /// A handle of a session that has just begun.
    pub fn new(
        id: SessionId,
        user: Address,
        device: DeviceId,
        class: DeviceClass,
        status: Status,
    ) -> Self {
        let record = Record {
            status,
            message: String::new(),
            attached: true,
            gone: None,
            tell: true,
            queued: false,
            again: false,
        };
        Self {
            id,
            user,
            device,
            class,
            mailbox: Mailbox::default(),
            record: Mutex::new(record),
        }
    }
}

enum Job {
    Session(Arc<Handle>),
    /// Everything before it is registered in this epoch.
    Epoch(u64),
}

/// The registry.
pub struct Registry {
    edge: EdgeId,
    ephemeral: Arc<dyn Ephemeral>,
    presence: Channel,
    call: Duration,
    mailbox: Bound,
    metrics: Arc<Metrics>,
    sessions: RwLock<AHashMap<SessionId, Arc<Handle>>>,
    devices: Mutex<AHashMap<(Address, DeviceId), SessionId>>,
    jobs: Mutex<VecDeque<Job>>,
    /// To be written once more then: a change without an answer may be done after those that followed it.
    again: Mutex<VecDeque<(Instant, Arc<Handle>)>>,
    wake: Notify,
    gate: tokio::sync::Mutex<()>,
    registered: AtomicU64,
    changed: Mutex<Vec<Address>>,
    changed_wake: Notify,
}

/// Most sessions in one call.
const GROUP: usize = 256;
/// After so long, what was not answered is done or never will be.
const AGAIN: Duration = Duration::from_secs(10);

impl Registry {
    /// An empty one.
    pub fn new(
        edge: EdgeId,
        ephemeral: Arc<dyn Ephemeral>,
        presence: Channel,
        call: Duration,
        mailbox: Bound,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            edge,
            ephemeral,
            presence,
            call,
            mailbox,
            metrics,
            sessions: RwLock::default(),
            devices: Mutex::default(),
            jobs: Mutex::default(),
            again: Mutex::default(),
            wake: Notify::new(),
            gate: tokio::sync::Mutex::default(),
            registered: AtomicU64::new(0),
            changed: Mutex::default(),
            changed_wake: Notify::new(),
        })
    }

    /// This edge.
    pub fn edge(&self) -> &EdgeId {
        &self.edge
    }

    /// The epoch in which all sessions are registered; 0: in none.
    pub fn registered(&self) -> u64 {
        self.registered.load(Ordering::Acquire)
    }

    /// Takes a new session in. An older one of the same device is told that it is replaced.
    pub fn insert(&self, handle: &Arc<Handle>) {
        self.sessions.write().insert(handle.id, Arc::clone(handle));
        let key = (handle.user.clone(), handle.device.clone());
        let old = self.devices.lock().insert(key, handle.id);
        if let Some(old) = old.and_then(|id| self.get(id)) {
            let _ = old.mailbox.push(Item::Replaced, self.mailbox);
        }
        self.queue(handle, |_| {});
    }

    /// The session of this id.
    pub fn get(&self, id: SessionId) -> Option<Arc<Handle>> {
        self.sessions.read().get(&id).cloned()
    }

    /// Looks several up under one lock.
    pub fn with(&self, each: impl FnOnce(&AHashMap<SessionId, Arc<Handle>>)) {
        each(&self.sessions.read());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in order of their ids.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        let mut all: Vec<_> = self.sessions.read().values().cloned().collect();
        all.sort_unstable_by_key(|h| h.id);
        all
    }

    /// The session is over.
    pub fn remove(&self, handle: &Arc<Handle>, at_once: bool) {
        handle.mailbox.close();
        self.sessions.write().remove(&handle.id);
        {
            let mut devices = self.devices.lock();
            let key = (handle.user.clone(), handle.device.clone());
            if devices.get(&key) == Some(&handle.id) {
                devices.remove(&key);
            }
        }
        self.queue(handle, |r| r.gone = Some(at_once));
    }

    /// The session's connection was lost or made again.
    pub fn attached(&self, handle: &Arc<Handle>, attached: bool) {
        let mut news = false;
        self.queue_if(handle, |r| {
            news = r.attached != attached;
            r.attached = attached;
            news
        });
    }

    /// The person chose a status.
    pub fn status(&self, handle: &Arc<Handle>, status: Status, message: String) {
        self.queue(handle, |r| {
            r.status = status;
            r.message = message;
        });
    }

    /// The device is back with a status that was chosen while it was away.
    pub fn status_again(&self, handle: &Arc<Handle>, status: Status) {
        self.queue(handle, |r| r.status = status);
    }

    /// While it is held, nothing is registered.
    pub async fn gate(&self) -> impl Sized + '_ {
        self.gate.lock().await
    }

    /// The store has forgotten the sessions: all are registered anew, and then synced. To be called with the
    /// gate held since before the renewal that told of it.
    pub fn register_all(&self, epoch: u64) {
        self.registered.store(0, Ordering::Release);
        for handle in self.all() {
            self.metrics.resyncs.add(1);
            let _ = handle.mailbox.push(Item::Unsynced, self.mailbox);
            self.queue(&handle, |r| r.tell = true);
        }
        self.jobs.lock().push_back(Job::Epoch(epoch));
        self.wake.notify_one();
    }

    fn queue(&self, handle: &Arc<Handle>, change: impl FnOnce(&mut Record)) {
        self.queue_if(handle, |r| {
            change(r);
            true
        });
    }

    fn queue_if(&self, handle: &Arc<Handle>, change: impl FnOnce(&mut Record) -> bool) {
        {
            let mut record = handle.record.lock();
            if !change(&mut record) || record.queued {
                return;
            }
            record.queued = true;
        }
        self.jobs.lock().push_back(Job::Session(Arc::clone(handle)));
        self.metrics.unregistered.add(1);
        self.wake.notify_one();
    }

    /// Whether the store says what it should.
    pub fn is_settled(&self) -> bool {
        self.jobs.lock().is_empty() && self.metrics.unregistered.get() <= 0
    }

    /// Brings the store to where it should be, for ever.
    pub async fn run(&self) {
        let mut backoff = Duration::from_millis(50);
        loop {
            let next = self.queue_again();
            let group = self.take();
            if group.is_empty() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = sleep_until(next) => {}
                }
                continue;
            }
            match self.write(&group).await {
                Ok(()) => backoff = Duration::from_millis(50),
                Err(error) => {
                    tracing::warn!(error, "sessions cannot be registered; trying again");
                    self.put_back(group);
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    /// Queues what is due to be written once more. Returns when something will be.
    fn queue_again(&self) -> Instant {
        let now = Instant::now();
        loop {
            let handle = {
                let mut again = self.again.lock();
                match again.front() {
                    Some((at, _)) if *at <= now => again.pop_front(),
                    Some((at, _)) => return *at,
                    None => return now + AGAIN,
                }
            };
            if let Some((_, handle)) = handle {
                self.queue(&handle, |r| r.again = false);
            }
        }
    }

    fn take(&self) -> Vec<Job> {
        let mut jobs = self.jobs.lock();
        let many = jobs.len().min(GROUP);
        jobs.drain(..many).collect()
    }

    fn put_back(&self, group: Vec<Job>) {
        let mut jobs = self.jobs.lock();
        for job in group.into_iter().rev() {
            if let Job::Session(handle) = &job {
                // queued again by now, or not: here it comes first
                handle.record.lock().queued = true;
            }
            jobs.push_front(job);
        }
    }

    async fn write(&self, group: &[Job]) -> Result<(), String> {
        let (mut puts, mut removals, mut tell, mut users) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for job in group {
            let Job::Session(handle) = job else { continue };
            let mut record = handle.record.lock();
            record.queued = false;
            users.push(handle.user.clone());
            if let Some(at_once) = record.gone {
                removals.push((handle, at_once));
                continue;
            }
            if std::mem::take(&mut record.tell) {
                tell.push(handle);
            }
            puts.push(Session {
                id: handle.id,
                user: handle.user.clone(),
                edge: self.edge.clone(),
                device: handle.device.clone(),
                class: handle.class,
                status: record.status,
                message: record.message.clone(),
                attached: record.attached,
            });
        }
        if !puts.is_empty() {
            let _gate = self.gate.lock().await;
            let put = self.call(self.ephemeral.put(&puts)).await;
            if put.is_err() {
                for handle in tell {
                    handle.record.lock().tell = true;
                }
                self.unanswered(group);
                return put;
            }
        }
        for handle in tell {
            let _ = handle.mailbox.push(Item::Registered, self.mailbox);
        }
        for (handle, at_once) in removals {
            self.call(self.ephemeral.remove(&handle.user, handle.id, at_once))
                .await?;
        }
        for job in group {
            if let Job::Epoch(epoch) = job {
                self.registered.store(*epoch, Ordering::Release);
            }
        }
        self.metrics.unregistered.add(-(users.len() as i64));
        self.changed.lock().append(&mut users);
        self.changed_wake.notify_one();
        Ok(())
    }

    fn unanswered(&self, group: &[Job]) {
        let mut again = self.again.lock();
        for job in group {
            let Job::Session(handle) = job else { continue };
            if !std::mem::replace(&mut handle.record.lock().again, true) {
                again.push_back((Instant::now() + AGAIN, Arc::clone(handle)));
            }
        }
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, tandem_ephemeral::EphemeralError>>,
    ) -> Result<T, String> {
        match timeout(self.call, call).await {
            Ok(done) => done.map_err(|e| e.to_string()),
            Err(_) => Err("the ephemeral store does not answer in time".to_owned()),
        }
    }

    /// Tells presence whose sessions changed, for ever: one call at a time, with all that came meanwhile.
    /// Best effort: what is missed, presence's sweep finds.
    pub async fn tell_presence(&self) {
        let mut client = PresenceClient::new(self.presence.clone());
        loop {
            let mut users = std::mem::take(&mut *self.changed.lock());
            if users.is_empty() {
                self.changed_wake.notified().await;
                continue;
            }
            users.sort_unstable();
            users.dedup();
            let users = users.iter().map(|u| u.as_str().to_owned()).collect();
            match timeout(self.call, client.changed(ChangedRequest { users })).await {
                Ok(Ok(_)) => {}
                Ok(Err(status)) => {
                    tracing::debug!(error = status.message(), "presence was not told");
                }
                Err(_) => tracing::debug!("presence was not told in time"),
            }
        }
    }
}
