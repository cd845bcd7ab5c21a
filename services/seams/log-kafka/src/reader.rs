//! Readers: what the group asks is told first, then records, as many as there are.
//!
//! A change of the group's is answered with the call of `next` after the one that told it, so that a user may
//! commit what it loses, and may move where it begins. Heartbeats go on in the background meanwhile.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::{Offset, consumer::Consumer, error::KafkaError};
use tandem_kernel::UnixMillis;
use tandem_log::{LogError, Next, Reader, Start};

use crate::{
    Inner,
    context::Change,
    error,
    member::{Member, offset},
    offsets::Ask,
    record::Ready,
};

/// Most records that are taken from librdkafka at once.
const FILL: usize = 1024;
/// How often librdkafka is told that we live though nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// How long the last commits of partitions that are given up may take.
const LAST_COMMITS: Duration = Duration::from_secs(5);
/// How long a move in a partition may take, and how often it is tried.
const MOVE: (Duration, u32) = (Duration::from_secs(5), 100);
const MOVE_AGAIN: Duration = Duration::from_millis(20);

/// A reader of a topic, in a group or by itself.
pub struct KafkaReader {
    inner: Arc<Inner>,
    member: Arc<Member>,
    /// In a group.
    grouped: bool,
    /// Where partitions begin that the group has never committed; empty: with their oldest records.
    starts: Vec<u64>,
    /// What has been told and is to be answered.
    told: Option<Change>,
    /// Assigned partitions, and whether they are paused.
    assigned: BTreeMap<u32, bool>,
    /// Where reading is to go on, of partitions that were moved or just assigned.
    moves: BTreeMap<u32, u64>,
    /// An error ended the consumer: another is to take its place.
    broken: bool,
    /// What was taken from librdkafka.
    ready: Ready,
}

impl KafkaReader {
    /// A member more of the group.
    pub async fn member(
        inner: Arc<Inner>,
        topic: &str,
        group: &str,
        start: Start,
    ) -> Result<Self, LogError> {
        let starts = match start {
            Start::Oldest => Vec::new(),
            Start::Newest => inner.offsets.ends(topic).await?,
        };
        let member = inner.join(topic, group)?;
        member
            .consumer
            .subscribe(&[topic])
            .map_err(error::unavailable)?;
        Ok(Self::new(inner, member, true, starts))
    }

    /// A reader of all partitions.
    pub async fn follower(inner: Arc<Inner>, topic: &str, start: Start) -> Result<Self, LogError> {
        let starts = match start {
            Start::Oldest => inner.offsets.of_all(topic, Ask::Oldest).await?,
            Start::Newest => inner.offsets.ends(topic).await?,
        };
        let member = inner.join(topic, "")?;
        let all = (0..starts.len()).filter_map(|p| u32::try_from(p).ok());
        member.context().ask(Change::Assign(all.collect()));
        Ok(Self::new(inner, member, false, starts))
    }

    fn new(inner: Arc<Inner>, member: Arc<Member>, grouped: bool, starts: Vec<u64>) -> Self {
        Self {
            inner,
            member,
            grouped,
            starts,
            told: None,
            assigned: BTreeMap::new(),
            moves: BTreeMap::new(),
            broken: false,
            ready: Ready::default(),
        }
    }

    /// Tells what the group asks, if it asks anything.
    async fn tell(&mut self) -> Result<Option<Next>, LogError> {
        let Some(change) = self.member.context().change() else {
            return Ok(None);
        };
        let next = match &change {
            Change::Assign(partitions) => {
                let places = self.places(partitions).await?;
                for (partition, offset) in &places {
                    self.assigned.insert(*partition, false);
                    self.moves.insert(*partition, *offset);
                    if self.grouped {
                        self.member.began(*partition, *offset);
                    }
                }
                Next::Assigned(places)
            }
            Change::Revoke(partitions) => {
                self.ready.forget(|p| partitions.contains(&p));
                self.moves.retain(|p, _| !partitions.contains(p));
                let mut lost = partitions.clone();
                lost.retain(|p| self.assigned.contains_key(p));
                Next::Revoked(lost)
            }
        };
        self.told = Some(change);
        let worth = match &next {
            Next::Assigned(places) => !places.is_empty(),
            Next::Revoked(lost) => !lost.is_empty(),
            Next::Records(..) => true,
        };
        Ok(worth.then_some(next))
    }

    /// Where to begin with these partitions.
    async fn places(&self, partitions: &[u32]) -> Result<Vec<(u32, u64)>, LogError> {
        let topic = &self.member.topic;
        let mut places = BTreeMap::new();
        if self.grouped {
            let (member, list) = (Arc::clone(&self.member), partitions.to_vec());
            let timeout = self.inner.timeout;
            let committed = self.inner.blocking(move || {
                let list = member.list(list.into_iter().map(|p| (p, Offset::Invalid)));
                let list = member.consumer.committed_offsets(list, timeout);
                crate::offsets::found(
                    &list.map_err(|e| error::of(e, &member.topic))?,
                    &member.topic,
                )
            });
            for (partition, place) in committed.await? {
                if let Some(place) = place {
                    places.insert(partition, place);
                }
            }
        }
        let mut new = Vec::new();
        for partition in partitions {
            if !places.contains_key(partition) {
                match self.starts.get(*partition as usize) {
                    Some(start) => drop(places.insert(*partition, *start)),
                    None => new.push(*partition),
                }
            }
        }
        if !new.is_empty() {
            places.extend(self.inner.offsets.of(topic, &new, Ask::Oldest).await?);
        }
        Ok(places.into_iter().collect())
    }

    /// Does what has been told.
    async fn answer(&mut self) -> Result<(), LogError> {
        match &self.told {
            None => return Ok(()),
            Some(Change::Assign(partitions)) => {
                let begin = partitions.iter().filter_map(|p| {
                    let place = self.moves.remove(p)?;
                    Some((*p, offset(place)))
                });
                let list = self.member.list(begin);
                let answered = if self.grouped {
                    self.member.consumer.incremental_assign(&list)
                } else {
                    self.member.consumer.assign(&list)
                };
                self.report(answered);
                let paused = partitions
                    .iter()
                    .filter(|p| self.assigned.get(p) == Some(&true));
                let paused = self.member.list(paused.map(|p| (*p, Offset::Invalid)));
                if paused.count() > 0 {
                    self.report(self.member.consumer.pause(&paused));
                }
            }
            Some(Change::Revoke(partitions)) => {
                let member = Arc::clone(&self.member);
                let commits = self.inner.blocking(move || {
                    member.commit_now();
                    Ok(())
                });
                if tokio::time::timeout(LAST_COMMITS, commits).await.is_err() {
                    tracing::warn!(
                        topic = &*self.member.topic,
                        "partitions are given up without their last commits; another reads a little again"
                    );
                }
                let list = partitions.iter().map(|p| (*p, Offset::Invalid));
                let list = self.member.list(list);
                // or they would still be paused when they come back
                self.report(self.member.consumer.resume(&list));
                self.report(self.member.consumer.incremental_unassign(&list));
                self.member.forget(partitions);
                self.assigned.retain(|p, _| !partitions.contains(p));
            }
        }
        self.told = None;
        self.member.context().answered();
        Ok(())
    }

    /// The group's next change says what came too late.
    fn report(&self, answered: Result<(), KafkaError>) {
        if let Err(error) = answered {
            tracing::warn!(%error, topic = &*self.member.topic, "kafka did not take what it had asked for");
        }
    }

    /// Moves in partitions as asked.
    async fn make_moves(&mut self) -> Result<(), LogError> {
        for _ in 0..=MOVE.1 {
            if self.moves.is_empty() {
                return Ok(());
            }
            let (member, moves) = (Arc::clone(&self.member), self.moves.clone());
            let moved = self.inner.blocking(move || {
                let list = member.list(moves.iter().map(|(p, o)| (*p, offset(*o))));
                let list = member.consumer.seek_partitions(list, MOVE.0);
                let list = list.map_err(error::unavailable)?;
                let done = list.elements().into_iter().filter(|e| e.error().is_ok());
                let done = done.filter_map(|e| u32::try_from(e.partition()).ok());
                Ok(done.collect::<Vec<u32>>())
            });
            let moved = moved.await?;
            self.moves.retain(|p, _| !moved.contains(p));
            if !self.moves.is_empty() {
                // fetching has not begun yet
                tokio::time::sleep(MOVE_AGAIN).await;
            }
        }
        Err(error::unavailable("moving in a partition failed"))
    }

    /// Takes records from librdkafka, and whatever else it has to say.
    fn fill(&mut self) -> Result<(), LogError> {
        for _ in 0..FILL {
            let before = self.member.context().events();
            let Some(polled) = self.member.consumer.poll(Duration::ZERO) else {
                if self.member.context().events() == before {
                    break;
                }
                continue;
            };
            let message = match polled {
                Ok(message) => message,
                Err(KafkaError::MessageConsumptionFatal(code)) => {
                    self.broken = true;
                    return Err(error::unavailable(code));
                }
                // the consumer goes on by itself
                Err(error) => {
                    error::passes(&error, &self.member.topic);
                    continue;
                }
            };
            self.ready.push(&message);
        }
        Ok(())
    }

    /// Takes part with another consumer; all that the former one had is given up.
    fn begin_again(&mut self) -> Result<Option<Next>, LogError> {
        tracing::error!(
            topic = &*self.member.topic,
            "the reader's consumer ended; beginning another"
        );
        let member = self.inner.join(&self.member.topic, &self.member.group)?;
        let topics = [&*member.topic];
        member
            .consumer
            .subscribe(&topics)
            .map_err(error::unavailable)?;
        std::mem::replace(&mut self.member, member).leave();
        (self.broken, self.told) = (false, None);
        self.moves.clear();
        self.ready.forget(|_| true);
        let lost: Vec<u32> = std::mem::take(&mut self.assigned).into_keys().collect();
        Ok((!lost.is_empty()).then_some(Next::Revoked(lost)))
    }

    fn records(&mut self) -> Option<Next> {
        let assigned = &self.assigned;
        let (partition, records) = self.ready.take(|p| assigned.get(&p) == Some(&false))?;
        Some(Next::Records(partition, records))
    }

    fn check(&self, partition: u32) -> Result<(), LogError> {
        let revoked = matches!(&self.told, Some(Change::Revoke(lost)) if lost.contains(&partition));
        if self.assigned.contains_key(&partition) && !revoked {
            Ok(())
        } else {
            Err(LogError::NotAssigned(partition))
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.member.leave();
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<Next, LogError> {
        let mut closed = self.inner.closed.subscribe();
        loop {
            if *closed.borrow() {
                return Err(LogError::Closed);
            }
            if self.broken
                && let Some(next) = self.begin_again()?
            {
                return Ok(next);
            }
            self.answer().await?;
            if let Some(next) = self.tell().await? {
                return Ok(next);
            }
            if self.told.is_some() {
                continue;
            }
            self.make_moves().await?;
            if let Some(next) = self.records() {
                return Ok(next);
            }
            self.fill()?;
            if self.member.context().change().is_some() {
                continue;
            }
            if let Some(next) = self.records() {
                return Ok(next);
            }
            tokio::select! {
                () = self.member.wake.notified() => {}
                () = tokio::time::sleep(IDLE) => {}
                _ = closed.changed() => {}
            }
        }
    }

    async fn commit(&mut self, partition: u32, offset: u64) -> Result<(), LogError> {
        if *self.inner.closed.borrow() {
            return Err(LogError::Closed);
        }
        if !self.grouped || !self.assigned.contains_key(&partition) {
            return Err(LogError::NotAssigned(partition));
        }
        self.member.commit(partition, offset);
        Ok(())
    }

    async fn seek(&mut self, partition: u32, offset: u64) -> Result<(), LogError> {
        self.check(partition)?;
        self.ready.forget(|p| p == partition);
        self.moves.insert(partition, offset);
        Ok(())
    }

    async fn offset_at(&mut self, partition: u32, at: UnixMillis) -> Result<u64, LogError> {
        self.check(partition)?;
        let topic = &self.member.topic;
        self.inner.offsets.at(topic, partition, at).await
    }

    async fn pause(&mut self, partition: u32, paused: bool) -> Result<(), LogError> {
        self.check(partition)?;
        let list = self.member.list([(partition, Offset::Invalid)]);
        // with its assignment, if that is yet to be answered
        let begins = matches!(&self.told, Some(Change::Assign(won)) if won.contains(&partition));
        if !begins {
            let done = if paused {
                self.member.consumer.pause(&list)
            } else {
                self.member.consumer.resume(&list)
            };
            done.map_err(error::unavailable)?;
        }
        self.assigned.insert(partition, paused);
        Ok(())
    }
}
