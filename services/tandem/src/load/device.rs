//! A device under load: the client library's core in its lean form, one connection, one record.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tandem_chassis::{Doors, rng::Rng};
use tandem_client::{
    Server,
    carrier::{Broken, Connection},
    domain::{Core, Update},
};
use tandem_kernel::event::{Event, Kind};
use tandem_proto::client::{
    ClientFrame, Device, DeviceClass, Hello, ServerFrame, Status, client_frame, server_frame,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    check::Seen,
    ledger::{Ledger, add},
    plan::Plan,
};

/// What all devices of a run share.
pub struct Run {
    /// Clock, randomness, network.
    pub doors: Doors,
    /// Where to; each device begins with another of them, and goes to the next when a connection ends.
    pub servers: Vec<Server>,
    /// What is sent.
    pub plan: Plan,
    /// Ids of the plan's conversations.
    pub talks: Vec<String>,
    /// Addresses of the people.
    pub addresses: Vec<String>,
    /// Their tokens.
    pub tokens: Vec<String>,
    /// How many devices each conversation has.
    pub audience: Vec<u64>,
    /// The record.
    pub ledger: Ledger,
    /// Messages up to this number only begin groups, and are in no statistics.
    pub setup: u32,
    /// Connections being opened at once.
    pub doorway: Semaphore,
    /// Devices that are synced now.
    pub synced: watch::Sender<i64>,
    /// "As fast as acknowledged": messages in flight for each device; 0 before the beginning and after
    /// the end.
    pub window: watch::Sender<u32>,
    /// Share of messages that go to groups.
    pub group_share: f64,
    /// Most messages to send, for "as fast as acknowledged".
    pub budget: u64,
    /// Everything ends.
    pub stop: CancellationToken,
}

impl Run {
    fn now_us(&self) -> u64 {
        self.doors.clock.monotonic().as_micros() as u64
    }
}

/// What a device leaves behind.
#[derive(Debug, Default)]
pub struct Memory {
    /// Which device.
    pub device: u32,
    /// Copies that it saw.
    pub seen: Vec<Seen>,
    /// Places that it was told for its own.
    pub told: Vec<Seen>,
}

/// One device.
pub struct Dev {
    run: Arc<Run>,
    index: u32,
    person: u32,
    name: String,
    core: Core,
    memory: Memory,
    known: HashSet<u32, ahash::RandomState>,
    /// Highest live place in this connection, by conversation.
    live: BTreeMap<u32, u64>,
    rng: Rng,
    words: String,
    took_us: Vec<u64>,
    counted_synced: bool,
    only_looks: bool,
    in_flight: u32,
    connections: usize,
}

impl Dev {
    /// Device `index` of the plan, or one beyond it for `person`.
    pub fn new(run: Arc<Run>, index: u32, person: u32, seed: u64) -> Self {
        let name = format!("load-{index}");
        let memory = Memory {
            device: index,
            ..Memory::default()
        };
        Self {
            run,
            index,
            person,
            name,
            core: Core::lean(),
            memory,
            // the order of this set is never looked at
            known: HashSet::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
            live: BTreeMap::new(),
            rng: Rng::from_seed(seed ^ u64::from(index)),
            words: String::new(),
            took_us: Vec::new(),
            counted_synced: false,
            only_looks: false,
            in_flight: 0,
            connections: 0,
        }
    }

    /// Runs until the run stops; sends the numbers of `queue` as they come.
    pub async fn talk(mut self, mut queue: mpsc::UnboundedReceiver<u32>) -> Memory {
        let stop = self.run.stop.clone();
        let mut failures = 0u32;
        while !stop.is_cancelled() {
            let before = self.run.ledger.opened.load(Relaxed);
            let ended = tokio::select! {
                ended = self.connection(&mut queue) => ended,
                () = stop.cancelled() => break,
            };
            self.core.disconnected();
            self.count_synced();
            let opened = self.run.ledger.opened.load(Relaxed) > before;
            failures = if opened { 0 } else { failures + 1 };
            if let Err(reason) = ended {
                *self.run.ledger.closings.lock().entry(reason).or_default() += 1;
            }
            let most = (50u64 << failures.min(5)).min(1000);
            let pause = Duration::from_millis(25 + self.rng.below(most));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        self.memory
    }

    /// Connects, fetches everything and returns what there is; `None` if that takes longer than `most`.
    pub async fn look(mut self, most: Duration) -> Option<Memory> {
        self.only_looks = true;
        let (_keep, mut queue) = mpsc::unbounded_channel();
        let looked = async {
            while self.connection(&mut queue).await.is_err() {
                self.core.disconnected();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(most, looked).await.ok()?;
        Some(self.memory)
    }

    fn count_synced(&mut self) {
        let now = self.core.is_synced();
        if now != self.counted_synced && !self.only_looks {
            self.counted_synced = now;
            self.run
                .synced
                .send_modify(|n| *n += if now { 1 } else { -1 });
        }
    }

    fn hello(&self) -> ClientFrame {
        let hello = Hello {
            token: self.run.tokens[self.person as usize].clone(),
            device: Some(Device {
                id: self.name.clone(),
                class: DeviceClass::Pc.into(),
                agent: concat!("tandem-load/", env!("CARGO_PKG_VERSION")).into(),
            }),
            status: Status::Online.into(),
            ..self.core.hello()
        };
        ClientFrame {
            ack: 0,
            frame: Some(client_frame::Frame::Hello(hello)),
        }
    }

    /// Opens a session and pumps frames until it breaks; says why it did.
    async fn connection(&mut self, queue: &mut mpsc::UnboundedReceiver<u32>) -> Result<(), String> {
        let run = self.run.clone();
        let mut frames: Vec<ServerFrame> = Vec::new();
        self.live.clear();
        let server = (self.index as usize + self.connections) % run.servers.len();
        self.connections += 1;
        let mut connection = {
            let _in = run.doorway.acquire().await.map_err(|e| e.to_string())?;
            let opened = async {
                let mut connection = Connection::open(&run.doors, &run.servers[server]).await?;
                connection.send([self.hello()]).await?;
                connection.receive(&mut frames).await?;
                Ok::<_, Broken>(connection)
            };
            let opened = tokio::time::timeout(Duration::from_secs(15), opened).await;
            opened
                .map_err(|_| "no welcome in time".to_owned())?
                .map_err(|e| short(&e))?
        };
        let mut window = run.window.subscribe();
        let mut closing = None;
        self.take(&mut frames, &mut closing);
        let tick = tokio::time::sleep(Duration::from_secs(1));
        tokio::pin!(tick);
        let (mut sent, mut heard) = (run.doors.clock.monotonic(), run.doors.clock.monotonic());
        loop {
            if self.only_looks && self.core.is_synced() {
                return Ok(());
            }
            self.fill(*window.borrow_and_update());
            let (out, wait) = self.core.take_out(run.doors.clock.monotonic());
            if !out.is_empty() {
                sent = run.doors.clock.monotonic();
                connection.send(out).await.map_err(|e| short(&e))?;
            }
            tokio::select! {
                received = connection.receive(&mut frames) => {
                    heard = run.doors.clock.monotonic();
                    self.take(&mut frames, &mut closing);
                    if let Err(e) = received {
                        return Err(closing.unwrap_or_else(|| short(&e)));
                    }
                }
                Some(number) = queue.recv() => {
                    self.submit(number);
                    while let Ok(number) = queue.try_recv() {
                        self.submit(number);
                    }
                }
                changed = window.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = held(wait) => {}
                () = &mut tick => {
                    tick.as_mut().reset(tokio::time::Instant::now() + Duration::from_secs(1));
                    self.core.tick();
                    let now = run.doors.clock.monotonic();
                    if now.saturating_sub(heard) > self.core.heartbeat() * 5 / 2 {
                        return Err("silence".into());
                    }
                    if now.saturating_sub(sent) >= self.core.heartbeat() {
                        sent = now;
                        connection.send([self.core.ping()]).await.map_err(|e| short(&e))?;
                    }
                }
            }
        }
    }

    /// "As fast as acknowledged": keeps as many in flight as it may.
    fn fill(&mut self, window: u32) {
        while self.in_flight < window && !self.only_looks {
            let run = self.run.clone();
            if u64::from(run.ledger.len()) >= run.budget {
                return;
            }
            let Some(talk) = run.plan.pick(self.index, run.group_share, &self.rng) else {
                return;
            };
            let Some(number) = run.ledger.write(self.index, talk, 0, run.now_us()) else {
                return;
            };
            self.submit(number);
        }
    }

    fn submit(&mut self, number: u32) {
        let run = self.run.clone();
        let Some(slot) = run.ledger.slot(number) else {
            return;
        };
        let talk = slot.talk.load(Relaxed);
        let body = if number < run.setup {
            run.plan.beginning(talk, &run.addresses)
        } else {
            run.plan.body(number, slot.text.load(Relaxed))
        };
        let now = run.doors.clock.unix().0;
        let id = run
            .ledger
            .event_id(number, u64::try_from(now).unwrap_or(0), self.rng.u64());
        self.in_flight += 1;
        self.core
            .submit(&run.talks[talk as usize], id.to_string(), body, now);
    }

    /// Takes frames, and notes what they bring.
    fn take(&mut self, frames: &mut Vec<ServerFrame>, closing: &mut Option<String>) {
        let run = self.run.clone();
        let now = run.doors.clock.monotonic();
        for frame in frames.drain(..) {
            if let Some(server_frame::Frame::Closing(c)) = &frame.frame {
                *closing = Some(format!("closed: {}", c.code));
            }
            self.core.on_frame(frame, now);
        }
        let now_us = now.as_micros() as u64;
        for update in self.core.take_updates() {
            match update {
                Update::Event { event, live } => self.see(&event, live, now_us),
                Update::Accepted {
                    event_id,
                    conversation,
                    seq,
                } => {
                    self.accepted(&event_id, &conversation, seq, now_us);
                }
                Update::Rejected {
                    event_id, problem, ..
                } => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    if let Some(number) = run.ledger.number_of(&event_id) {
                        run.ledger.refuse(number, &problem.code);
                    }
                }
                Update::Connected { .. } => {
                    add(&run.ledger.opened, 1);
                    run.ledger
                        .limit
                        .store(self.core.limits().events_per_s, Relaxed);
                }
                _ => {}
            }
        }
        self.count_synced();
        if !self.took_us.is_empty() {
            run.ledger.latencies(self.index, &mut self.took_us);
        }
    }

    fn accepted(&mut self, event_id: &str, conversation: &str, seq: u64, now_us: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let ledger = &self.run.ledger;
        let Some(number) = ledger.number_of(event_id) else {
            return;
        };
        let Some(slot) = ledger.slot(number) else {
            return;
        };
        let talk = slot.talk.load(Relaxed) as usize;
        if self.run.talks[talk] != conversation {
            add(&ledger.altered, 1);
        }
        self.memory.told.push(Seen {
            message: number,
            seq,
            live: true,
        });
        ledger.accept(number, self.run.audience[talk] - 1, now_us);
    }

    fn see(&mut self, event: &Event, live: bool, now_us: u64) {
        let run = self.run.clone();
        let ledger = &run.ledger;
        let kind = event.body.as_ref().and_then(|b| b.kind.as_ref());
        if matches!(kind, Some(Kind::Receipt(_))) {
            add(&ledger.receipts, 1);
            return;
        }
        let number = ledger.number_of(&event.event_id);
        let Some((number, slot)) = number.and_then(|n| Some((n, ledger.slot(n)?))) else {
            add(&ledger.foreign, 1);
            return;
        };
        let (talk, device) = (slot.talk.load(Relaxed), slot.device.load(Relaxed));
        if live {
            let highest = self.live.entry(talk).or_default();
            if event.seq <= *highest {
                add(&ledger.unordered, 1);
            }
            *highest = event.seq.max(*highest);
        }
        self.memory.seen.push(Seen {
            message: number,
            seq: event.seq,
            live,
        });
        if !self.known.insert(number) {
            add(&ledger.copies, 1);
            return;
        }
        let sender = &run.addresses[run.plan.devices[device as usize] as usize];
        let faithful = match kind {
            Some(Kind::Text(text)) if number >= run.setup => {
                run.plan
                    .words(number, slot.text.load(Relaxed), &mut self.words);
                text.text == self.words
            }
            Some(Kind::GroupCreate(_)) => number < run.setup,
            _ => false,
        };
        if !faithful || *sender != event.sender || run.talks[talk as usize] != event.conversation {
            add(&ledger.altered, 1);
        }
        if device != self.index && !self.only_looks {
            add(&ledger.delivered, 1);
            if number >= run.setup {
                self.took_us
                    .push(now_us.saturating_sub(slot.due_us.load(Relaxed)));
            }
        }
    }
}

/// Waits for what the limits hold back.
async fn held(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// A reason without what varies, to be counted.
fn short(e: &Broken) -> String {
    match e {
        Broken::Io(e) => format!("connection: {}", e.kind()),
        Broken::WebSocket(_) => "connection broke".into(),
        other => other.to_string(),
    }
}
