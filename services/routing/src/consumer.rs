//! The reader of the conversations' topic in the group `routing`: gives each partition's records to its
//! lane, and commits how far the lanes are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tandem_chassis::{Lifecycle, lifecycle::OnEnd, metrics::Gauge};
use tandem_kernel::UnixMillis;
use tandem_log::{LogError, Next, Reader, Stored};
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::recent::Dedupe,
    error::Error,
    metrics::Metrics,
    usecase::{
        admit::Dedupes,
        deliver::{Delivering, Lane, Progress},
        directory::Directory,
    },
};

/// How long what is on its way may take when a partition is given up.
const GIVE_UP: Duration = Duration::from_secs(2);
/// How often lag is looked at.
const LAG: Duration = Duration::from_secs(5);
/// First and longest wait after a failed read.
const WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A partition being delivered.
struct Active {
    records: mpsc::UnboundedSender<Vec<Stored>>,
    ended: oneshot::Receiver<()>,
    cancel: CancellationToken,
    tenure: u64,
    queued: usize,
    paused: bool,
    done: u64,
}

/// The reader.
pub struct Consumer {
    pub shared: Arc<Delivering>,
    pub directory: Arc<Directory>,
    pub dedupes: Arc<Dedupes>,
    pub lifecycle: Lifecycle,
    reader: Box<dyn Reader>,
    active: BTreeMap<u32, Active>,
    lag: BTreeMap<u32, Gauge>,
    tenures: u64,
    progress: (
        mpsc::UnboundedSender<Progress>,
        mpsc::UnboundedReceiver<Progress>,
    ),
}

impl Consumer {
    pub fn new(
        shared: Arc<Delivering>,
        dedupes: Arc<Dedupes>,
        lifecycle: Lifecycle,
        reader: Box<dyn Reader>,
    ) -> Self {
        Self {
            directory: Arc::clone(&shared.directory),
            shared,
            dedupes,
            lifecycle,
            reader,
            active: BTreeMap::new(),
            lag: BTreeMap::new(),
            tenures: 0,
            progress: mpsc::unbounded_channel(),
        }
    }

    /// Reads until the process stops, then finishes what is on its way and commits.
    pub async fn run(mut self) {
        let lifecycle = self.lifecycle.clone();
        let mut lag = tokio::time::interval(LAG);
        lag.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wait = WAIT.0;
        loop {
            let result = tokio::select! {
                () = lifecycle.stopped() => break,
                Some(progress) = self.progress.1.recv() => self.progressed(progress).await,
                next = self.reader.next() => match next {
                    Ok(next) => self.handle(next).await,
                    Err(error) => Err(error.into()),
                },
                _ = lag.tick() => {
                    self.look_at_lag().await;
                    Ok(())
                }
            };
            match result {
                Ok(()) => wait = WAIT.0,
                Err(Error::Log(LogError::Closed)) => break,
                Err(error) => {
                    tracing::warn!(%error, "reading the conversations failed; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT.1);
                }
            }
        }
        let all: Vec<u32> = self.active.keys().copied().collect();
        self.give_up(&all).await;
    }

    async fn handle(&mut self, next: Next) -> Result<(), Error> {
        match next {
            Next::Records(partition, records) => {
                let Some(active) = self.active.get_mut(&partition) else {
                    return Ok(());
                };
                active.queued += records.len();
                if active.records.send(records).is_err() {
                    let reason = format!("delivery of partition {partition} ended by itself");
                    self.lifecycle.fail(reason);
                    return Ok(());
                }
                if active.queued > self.shared.config.partition_queue && !active.paused {
                    active.paused = true;
                    self.reader.pause(partition, true).await?;
                }
                Ok(())
            }
            Next::Assigned(partitions) => {
                let again: Vec<u32> = partitions.iter().map(|(p, _)| *p).collect();
                self.give_up(&again).await;
                for (partition, offset) in partitions {
                    self.insist_on(partition, offset).await?;
                }
                Ok(())
            }
            Next::Revoked(partitions) => {
                self.give_up(&partitions).await;
                Ok(())
            }
        }
    }

    /// Begins with a partition, however often that takes: nobody else would.
    async fn insist_on(&mut self, partition: u32, offset: u64) -> Result<(), Error> {
        let mut wait = WAIT.0;
        loop {
            match self.assigned(partition, offset).await {
                // given to another meanwhile, or there is nothing more to read
                Ok(()) | Err(Error::Log(LogError::NotAssigned(_) | LogError::Closed)) => {
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(%error, partition, "beginning with a partition failed");
                }
            }
            tokio::select! {
                () = self.lifecycle.stopped() => return Ok(()),
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT.1),
            }
        }
    }

    /// Begins with a partition, far enough back to know copies again.
    async fn assigned(&mut self, partition: u32, offset: u64) -> Result<(), Error> {
        let window = Duration::from_millis(self.shared.config.dedupe_ms);
        let first = self
            .shared
            .log
            .read(&self.shared.topic, partition, offset, 1)
            .await?;
        let at = first
            .first()
            .map_or_else(|| self.shared.doors.clock.unix(), |s| s.at);
        let since = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        let back = self
            .reader
            .offset_at(partition, UnixMillis(at.0.saturating_sub(since)))
            .await?;
        if back < offset {
            self.reader.seek(partition, back).await?;
        }
        self.tenures += 1;
        let tenure = self.tenures;
        let seed = self.shared.doors.rng.u64();
        let dedupe = Arc::new(Mutex::new(Dedupe::new(window, seed)));
        self.dedupes.write().insert(partition, Arc::clone(&dedupe));
        self.directory.reads(partition, true);
        let shared = Arc::clone(&self.shared);
        let progress = self.progress.0.clone();
        let lane = Lane::new(shared, partition, tenure, offset, dedupe, progress);
        let (records, receiver) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        self.lifecycle
            .spawn("routing partition", OnEnd::Fine, async move {
                tokio::select! {
                    () = lane.run(receiver) => {}
                    () = cancelled.cancelled() => {}
                }
                // whoever gave it up may have ended
                let _ = end.send(());
            });
        let active = Active {
            records,
            ended,
            cancel,
            tenure,
            queued: 0,
            paused: false,
            done: offset,
        };
        self.active.insert(partition, active);
        Ok(())
    }

    /// Ends with partitions: waits for what is on its way, and commits.
    async fn give_up(&mut self, partitions: &[u32]) {
        let mut ending = Vec::new();
        for partition in partitions {
            if let Some(active) = self.active.remove(partition) {
                self.directory.reads(*partition, false);
                self.dedupes.write().remove(partition);
                if let Some(gauge) = self.lag.get(partition) {
                    gauge.set(0);
                }
                drop(active.records);
                ending.push((*partition, active.tenure, active.cancel, active.ended));
            }
        }
        if ending.is_empty() {
            return;
        }
        let mut tenures = BTreeMap::new();
        let all = async {
            for (_, _, _, ended) in &mut ending {
                // an error says that it has ended, too
                let _ = ended.await;
            }
        };
        if tokio::time::timeout(GIVE_UP, all).await.is_err() {
            tracing::warn!(
                "a partition is given up with events on their way; another reads them again"
            );
        }
        for (partition, tenure, cancel, _) in ending {
            cancel.cancel();
            tenures.insert(partition, tenure);
        }
        let mut places = BTreeMap::new();
        while let Ok(progress) = self.progress.1.try_recv() {
            if tenures.get(&progress.partition) == Some(&progress.tenure) {
                places.insert(progress.partition, progress.offset);
            } else if let Err(error) = self.progressed(progress).await {
                tracing::warn!(%error, "a place was not committed");
            }
        }
        for (partition, offset) in places {
            if let Err(error) = self.reader.commit(partition, offset).await {
                tracing::warn!(%error, partition, "a place was not committed");
            }
        }
    }

    /// Commits how far lanes are.
    async fn progressed(&mut self, first: Progress) -> Result<(), Error> {
        let mut places = BTreeMap::new();
        let mut next = Some(first);
        while let Some(progress) = next {
            if let Some(active) = self.active.get_mut(&progress.partition)
                && active.tenure == progress.tenure
            {
                active.queued = active.queued.saturating_sub(progress.records);
                if progress.offset > active.done {
                    active.done = progress.offset;
                    places.insert(progress.partition, progress.offset);
                }
                if active.paused && active.queued <= self.shared.config.partition_queue / 2 {
                    active.paused = false;
                    self.reader.pause(progress.partition, false).await?;
                }
            }
            next = self.progress.1.try_recv().ok();
        }
        for (partition, offset) in places {
            match self.reader.commit(partition, offset).await {
                // what comes next says so
                Ok(()) | Err(LogError::NotAssigned(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn look_at_lag(&mut self) {
        let Ok(ends) = self.shared.log.end_offsets(&self.shared.topic).await else {
            return;
        };
        for (partition, active) in &self.active {
            let Some(end) = ends.get(*partition as usize) else {
                continue;
            };
            let lag = i64::try_from(end.saturating_sub(active.done)).unwrap_or(i64::MAX);
            self.lag
                .entry(*partition)
                .or_insert_with(|| Metrics::lag(*partition))
                .set(lag);
        }
    }
}
