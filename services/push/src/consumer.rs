//! Log records → the window's decisions → work for the deliverer. One loop; its state is the partitions'.

mod decode;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tandem_chassis::{Doors, Lifecycle};
use tandem_ephemeral::Ephemeral;
use tandem_kernel::{Address, UnixMillis};
use tandem_log::{Log, LogError, Next, Reader, Start, Stored};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    domain::{
        item::Item,
        partition::{Bounds, MEMORY_MS, Partition, Taken},
        window::{Effect, Job},
    },
    metrics::Metrics,
    usecase::{
        deliver::{Order, Ticket, Work},
        directory::Directory,
        parking::Parking,
    },
};

/// Name of the group.
pub const GROUP: &str = "push";
/// How long to wait before the log is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long what is under way may take after the soft stop.
const DRAIN: Duration = Duration::from_secs(1);

/// The consumer.
pub struct Consumer {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The conversations topic, and its generation.
    pub topic: (String, u16),
    /// Who has sessions.
    pub ephemeral: Arc<dyn Ephemeral>,
    /// Who is in a group.
    pub directory: Directory,
    /// For what cannot be read.
    pub parking: Parking,
    /// The doors.
    pub doors: Doors,
    /// The config.
    pub config: Config,
    /// Instruments.
    pub metrics: Metrics,
    /// To the deliverer.
    pub work: mpsc::UnboundedSender<Work>,
    /// From the deliverer.
    pub done: mpsc::UnboundedReceiver<Ticket>,
}

/// A partition that is ours.
struct Held {
    partition: Partition,
    generation: u64,
    committed: u64,
    /// Read, but not taken: a group cannot be looked up.
    stalled: Vec<Item>,
    jobs: BTreeMap<Job, CancellationToken>,
}

struct Run {
    consumer: Consumer,
    held: BTreeMap<u32, Held>,
    generation: u64,
    last_commit: Duration,
}

impl Consumer {
    /// Runs until the soft stop. Ends earlier only if the log is closed.
    pub async fn run(self, lifecycle: Lifecycle) {
        let mut reader = loop {
            let subscribed = self.log.subscribe(&self.topic.0, GROUP, Start::Oldest);
            tokio::select! {
                biased;
                () = lifecycle.stopped() => return,
                subscribed = subscribed => match subscribed {
                    Ok(reader) => break reader,
                    Err(LogError::Closed) => return,
                    // routing makes the topic
                    Err(LogError::NoTopic(_)) => {}
                    Err(error) => tracing::warn!(%error, "cannot subscribe yet"),
                },
            }
            sleep(PAUSE).await;
        };
        let mut run = Run {
            consumer: self,
            held: BTreeMap::new(),
            generation: 0,
            last_commit: Duration::ZERO,
        };
        let ended = run.until_stopped(reader.as_mut(), &lifecycle).await;
        if let Err(error) = ended {
            tracing::error!(%error, "the log cannot be read any more");
            return;
        }
        // what is sent within a moment need not be sent again by the next reader
        let _ = timeout(DRAIN, async {
            while run.in_flight() > 0
                && let Some(ticket) = run.consumer.done.recv().await
            {
                run.finished(ticket);
            }
        })
        .await;
        run.commit(reader.as_mut()).await;
    }
}

impl Run {
    async fn until_stopped(
        &mut self,
        reader: &mut dyn Reader,
        lifecycle: &Lifecycle,
    ) -> Result<(), LogError> {
        let mut tick = interval(Config::millis(self.consumer.config.tick_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = self.in_flight() < self.consumer.config.in_flight;
            tokio::select! {
                biased;
                () = lifecycle.stopped() => return Ok(()),
                Some(ticket) = self.consumer.done.recv() => self.finished(ticket),
                _ = tick.tick() => self.tick(reader).await,
                next = reader.next(), if room => match next {
                    Ok(Next::Assigned(partitions)) => {
                        for (partition, offset) in partitions {
                            self.assigned(reader, partition, offset).await;
                        }
                    }
                    Ok(Next::Revoked(partitions)) => self.revoked(reader, &partitions).await,
                    Ok(Next::Records(partition, records)) => {
                        self.records(reader, partition, records).await;
                    }
                    Err(error @ (LogError::Closed | LogError::NoTopic(_))) => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the log, trying again");
                        sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.held.values().map(|held| held.jobs.len()).sum()
    }

    fn finished(&mut self, ticket: Ticket) {
        if let Some(held) = self.held.get_mut(&ticket.partition)
            && held.generation == ticket.generation
        {
            held.jobs.remove(&ticket.job);
            held.partition.window().done(ticket.job);
        }
    }

    /// Takes a partition over, going back far enough to know copies and new groups.
    async fn assigned(&mut self, reader: &mut dyn Reader, partition: u32, offset: u64) {
        let config = &self.consumer.config;
        let bounds = Bounds {
            hold_ms: i64::try_from(config.window_ms).unwrap_or(i64::MAX),
            groups: config.groups,
            text: config.text_bytes,
        };
        loop {
            match self.rewind(reader, partition, offset).await {
                Ok(()) => break,
                Err(LogError::NotAssigned(_) | LogError::Closed) => return,
                Err(error) => tracing::warn!(partition, %error, "cannot rewind yet"),
            }
            sleep(PAUSE).await;
        }
        self.generation += 1;
        let held = Held {
            partition: Partition::new(offset, bounds),
            generation: self.generation,
            committed: offset,
            stalled: Vec::new(),
            jobs: BTreeMap::new(),
        };
        if let Some(before) = self.held.insert(partition, held) {
            before.cancel();
        }
    }

    async fn rewind(
        &self,
        reader: &mut dyn Reader,
        partition: u32,
        offset: u64,
    ) -> Result<(), LogError> {
        let first = self
            .consumer
            .log
            .read(&self.consumer.topic.0, partition, offset, 1)
            .await?;
        let at = first
            .first()
            .map_or_else(|| self.consumer.doors.clock.unix(), |s| s.at);
        let back = reader
            .offset_at(partition, UnixMillis(at.0.saturating_sub(MEMORY_MS)))
            .await?;
        if back < offset {
            reader.seek(partition, back).await?;
        }
        Ok(())
    }

    async fn revoked(&mut self, reader: &mut dyn Reader, partitions: &[u32]) {
        self.commit(reader).await;
        for partition in partitions {
            if let Some(held) = self.held.remove(partition) {
                held.cancel();
            }
        }
    }

    async fn records(&mut self, reader: &mut dyn Reader, partition: u32, records: Vec<Stored>) {
        let Some(held) = self.held.get_mut(&partition) else {
            return;
        };
        let (topic, generation) = &self.consumer.topic;
        let mut items = std::mem::take(&mut held.stalled);
        let was_stalled = !items.is_empty();
        items.reserve(records.len());
        for stored in records {
            match decode::item(*generation, &stored) {
                Ok(item) => items.push(item),
                Err(reason) => {
                    if held.partition.is_new(stored.place.offset) {
                        self.consumer
                            .parking
                            .unreadable(topic, &stored, reason)
                            .await;
                    }
                    items.push(decode::nothing(&stored));
                }
            }
        }
        if was_stalled {
            held.stalled = items;
        } else {
            self.feed(reader, partition, items).await;
        }
    }

    /// Takes items, unless a group cannot be looked up: then the partition waits for it.
    async fn feed(&mut self, reader: &mut dyn Reader, partition: u32, items: Vec<Item>) {
        let Some(held) = self.held.get_mut(&partition) else {
            return;
        };
        let missing = held.partition.missing(&items);
        if !missing.is_empty() {
            let directory = &self.consumer.directory;
            let groups = join_all(missing.iter().map(|id| directory.group(id))).await;
            for (id, group) in missing.into_iter().zip(groups) {
                match group {
                    Ok(group) => held.partition.load(id, group),
                    Err(error) => {
                        if held.stalled.is_empty() {
                            tracing::warn!(partition, %error, "a group cannot be looked up, waiting");
                        }
                        held.stalled = items;
                        let _ = reader.pause(partition, true).await;
                        return;
                    }
                }
            }
        }
        let mut effects = Vec::new();
        let from = held.partition.window().next_entry();
        for item in items {
            match held.partition.take(item, &mut effects) {
                Taken::Yes => {}
                Taken::Copy => self.consumer.metrics.copies.add(1),
                Taken::Void => self.consumer.metrics.void.add(1),
            }
        }
        let now = self.consumer.doors.clock.unix();
        let window_ms = self.consumer.config.window_ms;
        let mut fresh = held.partition.window().waiting_since(from);
        // what is older is decided by what else is in the log
        fresh.retain(|(_, _, at)| now.since(*at) < Config::millis(window_ms));
        let offline = self.consumer.offline(&fresh).await;
        if !offline.is_empty() {
            for (job, user, _) in &fresh {
                if offline.contains(user) {
                    held.partition.window().notify_now(*job, &mut effects);
                }
            }
        }
        held.partition.window().decide(&mut effects);
        self.dispatch(partition, effects);
    }

    fn dispatch(&mut self, partition: u32, effects: Vec<Effect>) {
        let Some(held) = self.held.get_mut(&partition) else {
            return;
        };
        let ttl = Config::millis(self.consumer.config.ttl_ms);
        let now = self.consumer.doors.clock.unix();
        let (mut orders, mut reads) = (Vec::new(), BTreeMap::new());
        for effect in effects {
            match effect {
                Effect::Notify { job, .. } if held.jobs.contains_key(&job) => {}
                Effect::Notify { job, content, .. } if now.since(content.at) >= ttl => {
                    self.consumer.metrics.expired.add(1);
                    held.partition.window().done(job);
                }
                Effect::Notify { job, user, content } => {
                    let confirmed = CancellationToken::new();
                    held.jobs.insert(job, confirmed.clone());
                    let ticket = Ticket {
                        partition,
                        generation: held.generation,
                        job,
                    };
                    orders.push(Order {
                        ticket,
                        user,
                        content,
                        confirmed,
                    });
                }
                Effect::Cancel(job) => {
                    if let Some(confirmed) = held.jobs.get(&job) {
                        confirmed.cancel();
                    }
                }
                Effect::Withdraw {
                    user,
                    conversation,
                    up_to,
                } => {
                    let read = reads.entry((user, conversation)).or_insert(up_to);
                    *read = up_to.max(*read);
                }
            }
        }
        // a deliverer that is gone has stopped the process
        if !orders.is_empty() {
            let _ = self.consumer.work.send(Work::Notify(orders));
        }
        if !reads.is_empty() {
            let reads = reads
                .into_iter()
                .map(|((user, c), up_to)| (user, c, up_to))
                .collect();
            let _ = self.consumer.work.send(Work::Withdraw(reads));
        }
    }

    async fn tick(&mut self, reader: &mut dyn Reader) {
        let stalled: Vec<u32> = self
            .held
            .iter()
            .filter(|(_, h)| !h.stalled.is_empty())
            .map(|(p, _)| *p)
            .collect();
        for partition in stalled {
            let Some(held) = self.held.get_mut(&partition) else {
                continue;
            };
            let items = std::mem::take(&mut held.stalled);
            self.feed(reader, partition, items).await;
            if self
                .held
                .get(&partition)
                .is_some_and(|h| h.stalled.is_empty())
            {
                let _ = reader.pause(partition, false).await;
            }
        }
        let now = self.consumer.doors.clock.unix();
        if self
            .held
            .values_mut()
            .any(|h| h.partition.window().overdue(now))
        {
            match self.consumer.log.end_offsets(&self.consumer.topic.0).await {
                Ok(ends) => self.ended(&ends, now),
                Err(error) => tracing::warn!(%error, "the log does not say where it ends"),
            }
        }
        let (mut waiting, mut notifying) = (0, 0);
        for held in self.held.values_mut() {
            let (w, n) = held.partition.window().size();
            (waiting, notifying) = (waiting + w, notifying + n);
        }
        self.consumer.metrics.waiting.set(waiting as i64);
        self.consumer.metrics.notifying.set(notifying as i64);
        let monotonic = self.consumer.doors.clock.monotonic();
        let every = Config::millis(self.consumer.config.commit_ms);
        if monotonic.saturating_sub(self.last_commit) >= every {
            self.last_commit = monotonic;
            self.commit(reader).await;
        }
    }

    fn ended(&mut self, ends: &[u64], asked: UnixMillis) {
        let partitions: Vec<u32> = self.held.keys().copied().collect();
        for partition in partitions {
            let Some(held) = self.held.get_mut(&partition) else {
                continue;
            };
            if let Some(end) = ends.get(partition as usize) {
                held.partition.window().ended(*end, asked);
            }
            let mut effects = Vec::new();
            held.partition.window().decide(&mut effects);
            self.dispatch(partition, effects);
        }
    }

    async fn commit(&mut self, reader: &mut dyn Reader) {
        for (partition, held) in &mut self.held {
            let place = held.partition.window().commit_place();
            if place <= held.committed {
                continue;
            }
            match reader.commit(*partition, place).await {
                Ok(()) => held.committed = place,
                // another has it by now, or it is tried again soon
                Err(error) => tracing::debug!(partition, %error, "cannot commit"),
            }
        }
    }
}

impl Held {
    fn cancel(self) {
        for confirmed in self.jobs.into_values() {
            confirmed.cancel();
        }
    }
}

impl Consumer {
    /// Those of the users who have no session, as far as absence can be told from a store that is
    /// filling.
    async fn offline(&self, fresh: &[(Job, Address, UnixMillis)]) -> BTreeSet<Address> {
        let mut users: Vec<Address> = fresh.iter().map(|(_, user, _)| user.clone()).collect();
        if users.is_empty() {
            return BTreeSet::new();
        }
        users.sort_unstable();
        users.dedup();
        let limit = Config::millis(self.config.call_timeout_ms);
        let Ok(Ok(reach)) = timeout(limit, self.ephemeral.reach(&users)).await else {
            // everybody is waited for
            return BTreeSet::new();
        };
        let away: BTreeSet<Address> = users
            .into_iter()
            .zip(reach)
            .filter(|(_, reach)| reach.attached == 0)
            .map(|(user, _)| user)
            .collect();
        if away.is_empty() {
            return away;
        }
        match timeout(limit, self.ephemeral.settled()).await {
            Ok(Ok(true)) => away,
            _ => BTreeSet::new(),
        }
    }
}
