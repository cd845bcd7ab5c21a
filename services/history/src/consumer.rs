//! Reads the log: groups of records form while the last group is written, and a place is committed once
//! everything below it is durable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::FutureExt;
use tandem_chassis::{Doors, Lifecycle};
use tandem_kernel::event::Parked;
use tandem_log::{Log, LogError, Next, Start, parking};
use tandem_store::Batch;
use tokio::sync::watch;

use crate::{
    Config, Error,
    control::{HistoryControl, Pause},
    domain::recent::Recent,
    intake::Intake,
    metrics::Metrics,
    places::Places,
    tables::Tables,
    usecase::ingest::{Copies, Ingest, Outgoing, Tagged},
};

/// The group in whose name history reads, and the service's name.
pub(crate) const GROUP: &str = "history";

/// While there is always more to do, places are committed this often.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// What the reader is made of.
pub(crate) struct Consumer {
    pub doors: Doors,
    pub log: Arc<dyn Log>,
    pub tables: Tables,
    pub metrics: Arc<Metrics>,
    pub places: Arc<Places>,
    pub copies: Copies,
    pub config: Config,
    pub generation: u16,
    wanted: watch::Receiver<bool>,
    is: watch::Sender<bool>,
}

struct Session {
    intake: Intake,
    ingest: Ingest,
    /// By partition: the first offset that is not handled yet, and the committed one.
    floors: BTreeMap<u32, (u64, u64)>,
    committed_at: Duration,
    /// When the last group began.
    began_at: Duration,
}

enum Ended {
    Stopped,
    Failed(Error),
}

impl From<LogError> for Ended {
    fn from(e: LogError) -> Self {
        Self::Failed(e.into())
    }
}

impl Consumer {
    #[allow(
        clippy::too_many_arguments,
        reason = "explicit dependencies, made in one place"
    )]
    pub fn new(
        doors: Doors,
        log: Arc<dyn Log>,
        tables: Tables,
        metrics: Arc<Metrics>,
        places: Arc<Places>,
        copies: Copies,
        config: Config,
        generation: u16,
    ) -> (Self, HistoryControl) {
        let (control, wanted, is) = HistoryControl::new();
        let this = Self {
            doors,
            log,
            tables,
            metrics,
            places,
            copies,
            config,
            generation,
            wanted,
            is,
        };
        (this, control)
    }

    /// Reads until the soft stop.
    pub async fn run(mut self, lifecycle: Lifecycle) {
        let mut pause = Pause::new(&self.config);
        loop {
            match self.session(&lifecycle, &mut pause).await {
                Ended::Stopped => return,
                Ended::Failed(error) => {
                    self.failed("reading the log", &error);
                    tokio::select! {
                        () = pause.wait() => {}
                        () = lifecycle.stopped() => return,
                    }
                }
            }
        }
    }

    fn failed(&self, what: &str, error: &Error) {
        self.metrics.retries.add(1);
        self.metrics.unavailable.set(1);
        tracing::warn!(%error, what, "trying again");
    }

    async fn session(&mut self, lifecycle: &Lifecycle, pause: &mut Pause) -> Ended {
        match self.read_on(lifecycle, pause).await {
            Ok(()) => Ended::Stopped,
            Err(ended) => ended,
        }
    }

    async fn read_on(&mut self, lifecycle: &Lifecycle, pause: &mut Pause) -> Result<(), Ended> {
        let topic = tandem_kernel::conversations_topic(self.generation);
        self.places
            .set_partitions(self.log.partitions(&topic).await?);
        self.copies.lock().clear();
        let reader = self.log.subscribe(&topic, GROUP, Start::Oldest).await?;
        let ingest = Ingest::new(
            self.tables.clone(),
            Arc::clone(&self.metrics),
            Arc::clone(&self.copies),
            &self.config,
            self.generation,
        );
        let intake = Intake {
            reader,
            pending: Vec::new(),
            count: 0,
            most: self.config.group_records,
            bytes: 0,
            most_bytes: self.config.group_bytes,
            held: None,
            failed: None,
        };
        let mut session = Session {
            intake,
            ingest,
            floors: BTreeMap::new(),
            committed_at: self.doors.clock.monotonic(),
            began_at: Duration::ZERO,
        };
        loop {
            self.hold(lifecycle).await?;
            let intake = &mut session.intake;
            if intake.count == 0 && intake.open() {
                tokio::select! {
                    biased;
                    () = lifecycle.stopped() => return Ok(()),
                    Ok(()) = self.wanted.changed() => {
                        self.wanted.mark_changed();
                        continue;
                    }
                    next = intake.reader.next() => intake.take(next),
                }
            }
            self.linger(&mut session).await;
            let intake = &mut session.intake;
            // what is there already joins the group
            while intake.open() {
                match intake.reader.next().now_or_never() {
                    Some(next) => intake.take(next),
                    None => break,
                }
            }
            if intake.count > 0 {
                self.handle(&mut session, lifecycle).await?;
            }
            if let Some(error) = session.intake.failed.take() {
                return Err(error.into());
            }
            match session.intake.held.take() {
                Some(Next::Assigned(partitions)) => self.assigned(&mut session, partitions).await?,
                Some(Next::Revoked(partitions)) => self.revoked(&mut session, &partitions).await,
                Some(Next::Records(..)) | None => {}
            }
            pause.reset();
            self.metrics.unavailable.set(0);
            if lifecycle.stopping() {
                self.commit(&mut session).await;
                return Ok(());
            }
        }
    }

    /// Lets the group grow until it is time for the next one, unless somebody waits for a sync. History is on
    /// nobody's way but theirs.
    async fn linger(&self, session: &mut Session) {
        let next = session.began_at + Duration::from_millis(self.config.linger_ms);
        let now = self.doors.clock.monotonic();
        if now < next && session.intake.open() && !self.places.awaited() {
            let wait = tokio::time::sleep(next.saturating_sub(now));
            session.intake.beside(wait).await;
        }
        session.began_at = self.doors.clock.monotonic();
    }

    /// Stands still while a test wants it.
    async fn hold(&mut self, lifecycle: &Lifecycle) -> Result<(), Ended> {
        if !*self.wanted.borrow_and_update() {
            return Ok(());
        }
        self.is.send_replace(true);
        tokio::select! {
            // an error: nobody is left to resume it
            _ = self.wanted.wait_for(|paused| !*paused) => {}
            () = lifecycle.stopped() => return Err(Ended::Stopped),
        }
        self.is.send_replace(false);
        Ok(())
    }

    async fn assigned(
        &mut self,
        session: &mut Session,
        partitions: Vec<(u32, u64)>,
    ) -> Result<(), Ended> {
        let topic = tandem_kernel::conversations_topic(self.generation);
        for (partition, place) in partitions {
            // copies are recognised by what was appended shortly before
            let first = self.log.read(&topic, partition, place, 1).await?;
            let at = first
                .first()
                .map_or_else(|| self.doors.clock.unix(), |s| s.at);
            let window = i64::try_from(self.config.copies_ms).unwrap_or(i64::MAX);
            let at = tandem_kernel::UnixMillis(at.0.saturating_sub(window));
            let back = session
                .intake
                .reader
                .offset_at(partition, at)
                .await?
                .min(place);
            if back < place {
                session.intake.reader.seek(partition, back).await?;
            }
            let seed = std::array::from_fn(|_| self.doors.rng.u64());
            self.copies
                .lock()
                .insert(partition, Recent::new(window, seed));
            session.floors.insert(partition, (place, place));
            self.places.set_own(partition, true);
            self.places.advance(partition, place);
            tracing::info!(partition, place, back, "reading a partition");
        }
        Ok(())
    }

    async fn revoked(&self, session: &mut Session, partitions: &[u32]) {
        // what is durable need not be read again
        self.commit(session).await;
        for partition in partitions {
            session.floors.remove(partition);
            session.ingest.forget(*partition);
            self.copies.lock().remove(partition);
            self.places.set_own(*partition, false);
            tracing::info!(partition, "partition is another reader's");
        }
    }

    /// Folds and writes what is pending, and goes on reading meanwhile.
    async fn handle(&mut self, session: &mut Session, lifecycle: &Lifecycle) -> Result<(), Ended> {
        let Session {
            intake,
            ingest,
            floors,
            committed_at,
            began_at: _,
        } = session;
        let (count, records) = intake.group();
        self.metrics.group.record(count as f64);
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for (partition, records) in &records {
            if let Some(last) = records.last() {
                ends.insert(*partition, last.place.offset + 1);
            }
        }
        let floor = |p| floors.get(&p).map_or(u64::MAX, |(floor, _)| *floor);
        let mut group = ingest.read(records, floor);

        let mut pause = Pause::new(&self.config);
        let outgoing = loop {
            match intake.beside(ingest.fold(&mut group)).await {
                Ok(outgoing) => break outgoing,
                Err(error) => {
                    self.again(
                        "loading conversations",
                        &error,
                        intake,
                        &mut pause,
                        lifecycle,
                    )
                    .await?;
                    group.drop_partitions(intake.lost());
                    ends.retain(|p, _| !intake.lost().contains(p));
                }
            }
        };
        let Outgoing {
            first,
            with_head,
            parked,
            spans,
        } = outgoing;
        let began = self.doors.clock.monotonic();
        self.park(parked, intake, lifecycle).await?;
        for mut batches in [first, with_head] {
            batches.retain(|(p, _)| ends.contains_key(p));
            self.write(batches, intake, &mut ends, lifecycle).await?;
        }
        drop(spans);
        let now = self.doors.clock.monotonic();
        self.metrics
            .write_ms
            .record(now.saturating_sub(began).as_secs_f64() * 1e3);

        for (partition, end) in ends {
            if let Some((floor, _)) = floors.get_mut(&partition)
                && *floor < end
            {
                *floor = end;
                self.places.advance(partition, end);
            }
        }
        let due = now.saturating_sub(*committed_at) >= COMMIT_EVERY;
        if due || intake.count == 0 || intake.held.is_some() {
            *committed_at = now;
            self.commit(session).await;
        }
        Ok(())
    }

    /// Writes until it is durable. A partition that is lost meanwhile is not written again, since its
    /// new reader does, and leaves `ends`.
    async fn write(
        &self,
        mut batches: Vec<Tagged>,
        intake: &mut Intake,
        ends: &mut BTreeMap<u32, u64>,
        lifecycle: &Lifecycle,
    ) -> Result<(), Ended> {
        let mut pause = Pause::new(&self.config);
        while !batches.is_empty() {
            let attempt: Vec<Batch> = batches.iter().map(|(_, b)| b.clone()).collect();
            match intake.beside(self.tables.write(attempt)).await {
                Ok(()) => break,
                Err(error) => {
                    self.again("writing", &error, intake, &mut pause, lifecycle)
                        .await?;
                }
            }
            ends.retain(|p, _| !intake.lost().contains(p));
            batches.retain(|(p, _)| ends.contains_key(p));
        }
        Ok(())
    }

    /// Puts aside what cannot be handled, until that is durable.
    async fn park(
        &self,
        parked: Vec<Parked>,
        intake: &mut Intake,
        lifecycle: &Lifecycle,
    ) -> Result<(), Ended> {
        let mut pause = Pause::new(&self.config);
        for one in parked {
            tracing::warn!(
                partition = one.partition,
                offset = one.offset,
                code = one.code,
                reason = one.reason,
                "record parked"
            );
            loop {
                match intake.beside(parking::park(&*self.log, &one)).await {
                    Ok(()) => break,
                    Err(error) => {
                        let error = error.into();
                        self.again("parking", &error, intake, &mut pause, lifecycle)
                            .await?;
                    }
                }
            }
            self.metrics.parked.add(1);
        }
        Ok(())
    }

    /// Tells of a failure and waits before the next attempt; gives up only when stopping.
    async fn again(
        &self,
        what: &str,
        error: &Error,
        intake: &mut Intake,
        pause: &mut Pause,
        lifecycle: &Lifecycle,
    ) -> Result<(), Ended> {
        self.failed(what, error);
        if lifecycle.stopping() {
            return Err(Ended::Stopped);
        }
        tokio::select! {
            () = intake.beside(pause.wait()) => Ok(()),
            () = lifecycle.stopped() => Err(Ended::Stopped),
        }
    }

    /// Commits what is durable. A failure costs nothing but a longer replay.
    async fn commit(&self, session: &mut Session) {
        for (partition, (floor, committed)) in &mut session.floors {
            if *committed >= *floor {
                continue;
            }
            match session.intake.reader.commit(*partition, *floor).await {
                Ok(()) => *committed = *floor,
                Err(LogError::NotAssigned(_)) => {}
                Err(error) => {
                    self.metrics.retries.add(1);
                    tracing::warn!(%error, partition, "place not committed");
                }
            }
        }
    }
}
