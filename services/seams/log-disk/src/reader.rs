//! Readers: from memory when they have caught up, from disk when they are behind.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use tandem_kernel::UnixMillis;
use tandem_log::{LogError, Next, Reader, Start, Stored};
use tokio::sync::Notify;

use crate::{
    Inner,
    group::{Group, MemberId},
    tail::{Bounds, Found},
    topic::Topic,
};

/// Most that one `next` returns.
const NEXT: Bounds = Bounds {
    records: 1024,
    bytes: 1 << 20,
};

/// Records at or above `from`, and where to go on.
async fn fetch(
    inner: &Inner,
    topic: &Arc<Topic>,
    partition: u32,
    from: u64,
    bounds: Bounds,
) -> Result<(Vec<Stored>, u64), LogError> {
    let found = topic.tail(partition)?.lock().find(from, bounds);
    match found {
        Found::Here(records) => {
            let next = records.last().map_or(from, |s| s.place.offset + 1);
            Ok((records, next))
        }
        Found::Nothing(at) => Ok((Vec::new(), at)),
        Found::OnDisk(from) => {
            let id = topic.id;
            inner
                .blocking(move |disk| disk.read(id, partition, from, bounds))
                .await
        }
    }
}

/// Records of a partition from `from` on, at most `limit`.
pub async fn read(
    inner: &Inner,
    topic: &Arc<Topic>,
    partition: u32,
    mut from: u64,
    limit: usize,
) -> Result<Vec<Stored>, LogError> {
    let mut all = Vec::new();
    while all.len() < limit {
        let bounds = Bounds {
            records: (limit - all.len()).min(NEXT.records),
            ..NEXT
        };
        let (records, next) = fetch(inner, topic, partition, from, bounds).await?;
        if records.is_empty() && next <= from {
            break;
        }
        all.extend(records);
        from = next;
    }
    Ok(all)
}

#[derive(Debug, Clone, Copy)]
struct Position {
    offset: u64,
    paused: bool,
}

struct Membership {
    name: Arc<str>,
    group: Arc<Mutex<Group>>,
    id: MemberId,
}

/// A reader of a topic, in a group or by itself.
pub struct DiskReader {
    inner: Arc<Inner>,
    topic: Arc<Topic>,
    member: Option<Membership>,
    positions: BTreeMap<u32, Position>,
    /// What a follower is to be told first.
    untold: Option<Next>,
    /// The partition that was read last.
    turn: u32,
    wake: Arc<Notify>,
}

fn starts(topic: &Topic, start: Start) -> Vec<u64> {
    let start = |t: &Mutex<crate::tail::Tail>| match start {
        Start::Oldest => t.lock().low,
        Start::Newest => t.lock().end,
    };
    topic.tails.iter().map(start).collect()
}

impl DiskReader {
    /// A member more of the group.
    pub fn member(inner: Arc<Inner>, topic: Arc<Topic>, group: &str, start: Start) -> Self {
        let (name, group) = topic.group(group);
        let id = group.lock().join(&starts(&topic, start));
        let mut reader = Self::new(inner, topic);
        reader.member = Some(Membership { name, group, id });
        reader.topic.wake_readers();
        reader
    }

    /// A reader of all partitions.
    pub fn follower(inner: Arc<Inner>, topic: Arc<Topic>, start: Start) -> Self {
        let places = (0..).zip(starts(&topic, start)).collect();
        let mut reader = Self::new(inner, topic);
        let first = Next::Assigned(places);
        reader.apply(&first);
        reader.untold = Some(first);
        reader
    }

    fn new(inner: Arc<Inner>, topic: Arc<Topic>) -> Self {
        let wake = Arc::new(Notify::new());
        topic.add_reader(&wake);
        let turn = topic.partitions();
        Self {
            inner,
            topic,
            member: None,
            positions: BTreeMap::new(),
            untold: None,
            turn,
            wake,
        }
    }

    fn apply(&mut self, next: &Next) {
        match next {
            Next::Assigned(places) => {
                let place = |(p, offset): &(u32, u64)| {
                    (
                        *p,
                        Position {
                            offset: *offset,
                            paused: false,
                        },
                    )
                };
                self.positions.extend(places.iter().map(place));
            }
            Next::Revoked(lost) => self.positions.retain(|p, _| !lost.contains(p)),
            Next::Records(..) => {}
        }
    }

    /// What the group says.
    fn step(&mut self) -> Option<Next> {
        let Some(member) = &self.member else {
            return self.untold.take();
        };
        let (next, released) = member.group.lock().step(member.id);
        if released {
            self.topic.wake_readers();
        }
        if let Some(next) = &next {
            self.apply(next);
        }
        next
    }

    /// Records of the next partition that has any.
    async fn records(&mut self) -> Result<Option<Next>, LogError> {
        let after = self.positions.range(self.turn.saturating_add(1)..);
        let turns: Vec<(u32, Position)> = after
            .chain(self.positions.range(..=self.turn))
            .filter(|(_, place)| !place.paused)
            .map(|(p, place)| (*p, *place))
            .collect();
        for (partition, mut place) in turns {
            loop {
                let (records, next) =
                    fetch(&self.inner, &self.topic, partition, place.offset, NEXT).await?;
                let moved = next > place.offset;
                place.offset = next;
                if moved {
                    self.positions.insert(partition, place);
                }
                if !records.is_empty() {
                    self.turn = partition;
                    return Ok(Some(Next::Records(partition, records)));
                }
                if !moved {
                    break;
                }
            }
        }
        Ok(None)
    }

    fn position(&mut self, partition: u32) -> Result<&mut Position, LogError> {
        self.positions
            .get_mut(&partition)
            .ok_or(LogError::NotAssigned(partition))
    }
}

impl Drop for DiskReader {
    fn drop(&mut self) {
        self.topic.remove_reader(&self.wake);
        if let Some(member) = &self.member {
            member.group.lock().leave(member.id);
            self.topic.wake_readers();
        }
    }
}

#[async_trait]
impl Reader for DiskReader {
    async fn next(&mut self) -> Result<Next, LogError> {
        loop {
            if self.inner.is_ended() {
                return Err(LogError::Closed);
            }
            if let Some(next) = self.step() {
                return Ok(next);
            }
            if let Some(next) = self.records().await? {
                return Ok(next);
            }
            self.wake.notified().await;
        }
    }

    async fn commit(&mut self, partition: u32, offset: u64) -> Result<(), LogError> {
        let Some(member) = &self.member else {
            return Err(LogError::NotAssigned(partition));
        };
        if self.inner.is_ended() {
            return Err(LogError::Closed);
        }
        if !member.group.lock().commit(member.id, partition, offset) {
            return Err(LogError::NotAssigned(partition));
        }
        let first = {
            let mut dirty = self.inner.dirty.lock();
            let first = dirty.is_empty();
            dirty.insert((self.topic.id, Arc::clone(&member.name), partition), offset);
            first
        };
        if first {
            self.inner.wake.notify_one();
        }
        Ok(())
    }

    async fn seek(&mut self, partition: u32, offset: u64) -> Result<(), LogError> {
        self.position(partition)?.offset = offset;
        Ok(())
    }

    async fn offset_at(&mut self, partition: u32, at: UnixMillis) -> Result<u64, LogError> {
        self.position(partition)?;
        let (bounds, known) = {
            let tail = self.topic.tail(partition)?.lock();
            ((tail.low, tail.end), tail.offset_at(at))
        };
        if let Some(offset) = known {
            return Ok(offset);
        }
        let topic = self.topic.id;
        self.inner
            .blocking(move |disk| disk.offset_at(topic, partition, bounds, at))
            .await
    }

    async fn pause(&mut self, partition: u32, paused: bool) -> Result<(), LogError> {
        self.position(partition)?.paused = paused;
        Ok(())
    }
}
