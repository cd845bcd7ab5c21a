//! Which routing replica each submitted event takes, and what is unanswered there.
//!
//! A conversation's events keep their order: they take one lane, and take another only once all of them
//! are answered, or the lane failed and they are moved together, in order. With an event that is refused
//! for now, what its session sent to its conversation after it is refused, too.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ahash::{AHashMap, AHashSet};
use tandem_kernel::{EventId, SessionId, seq::rendezvous};
use tandem_proto::client::Rejected;

use super::courses::{Courses, Held, Sent, Turn};

/// What waited for longer may be in the log already.
const LATE: Duration = Duration::from_secs(10);

/// Names a lane for as long as it is there.
pub type LaneId = u32;

#[derive(Debug)]
struct Slot<T> {
    conversation: Arc<str>,
    item: T,
    /// `None`: no device sent it, and it has no order.
    turn: Option<(SessionId, EventId, Turn)>,
    /// Was handed to a stream, whatever became of that.
    sent: bool,
    since: Duration,
    /// When the stream that is open now had it.
    given: Duration,
}

#[derive(Debug)]
struct Lane<T> {
    /// Ref of the first slot.
    base: u64,
    slots: VecDeque<Option<Slot<T>>>,
    /// How many slots have been handed to the stream that is open now.
    given: usize,
    open: usize,
    /// No longer among the replicas: takes no new conversation.
    leaving: bool,
    /// Its last stream failed and none was opened since: takes a new conversation only if all others are so.
    down: bool,
}

/// The lanes to all replicas. `T` is a submitted event.
#[derive(Debug)]
pub struct Lanes<T> {
    by_id: BTreeMap<LaneId, Lane<T>>,
    /// Lanes by replica name, in order of names.
    names: Vec<(Arc<str>, LaneId)>,
    next: LaneId,
    homes: AHashMap<Arc<str>, (LaneId, u32)>,
    /// While there is no replica at all.
    waiting: VecDeque<Slot<T>>,
    open: usize,
    courses: Courses,
}

/// An event to be sent: its ref, the event, and whether it may have been sent before.
#[derive(Debug, PartialEq, Eq)]
pub struct Give<'a, T> {
    /// The ref, to be answered.
    pub reference: u64,
    /// The event.
    pub item: &'a T,
    /// It was on a stream already, or waited so long that its device may have sent it through another edge.
    pub again: bool,
    /// With one of a chain that it refuses for now, routing refuses all that follow. 0: of none.
    pub chain: u64,
}

/// An event that was refused for now.
#[derive(Debug, PartialEq)]
pub struct Refused<T> {
    /// Its conversation.
    pub conversation: Arc<str>,
    /// The event.
    pub item: T,
    /// To be told to the device, if one sent it.
    pub held: Option<Held>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            names: Vec::new(),
            next: 0,
            homes: AHashMap::new(),
            waiting: VecDeque::new(),
            open: 0,
            courses: Courses::default(),
        }
    }
}

struct Name<'a>(&'a (Arc<str>, LaneId));

impl AsRef<str> for Name<'_> {
    fn as_ref(&self) -> &str {
        &self.0.0
    }
}

impl<T> Lanes<T> {
    /// Unanswered events in all.
    pub fn open(&self) -> usize {
        self.open
    }

    /// The replicas are these now. Returns the lanes that are new, and those that can end at once.
    pub fn set_replicas<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> (Vec<(Arc<str>, LaneId)>, Vec<LaneId>) {
        let mut old = std::mem::take(&mut self.names);
        let mut new = Vec::new();
        for name in names {
            if let Some(at) = old.iter().position(|(n, _)| n.as_ref() == name) {
                self.names.push(old.swap_remove(at));
                continue;
            }
            let id = self.next;
            self.next += 1;
            let lane = Lane {
                base: 1,
                slots: VecDeque::new(),
                given: 0,
                open: 0,
                leaving: false,
                down: false,
            };
            self.by_id.insert(id, lane);
            self.names.push((Arc::from(name), id));
            new.push((Arc::from(name), id));
        }
        self.names.sort();
        let mut ended = Vec::new();
        for (_, id) in old {
            if let Some(lane) = self.by_id.get_mut(&id) {
                lane.leaving = true;
                if lane.open == 0 {
                    self.by_id.remove(&id);
                    ended.push(id);
                }
            }
        }
        ended.sort_unstable();
        for slot in std::mem::take(&mut self.waiting) {
            self.place(slot);
        }
        (new, ended)
    }

    /// The lane that an event of the conversation takes now.
    pub fn lane_of(&self, conversation: &str) -> Option<LaneId> {
        if let Some((id, _)) = self.homes.get(conversation) {
            return Some(*id);
        }
        match self.names.as_slice() {
            [] => None,
            [(_, id)] => Some(*id),
            many => {
                let is_up = |id| self.by_id.get(id).is_some_and(|lane| !lane.down);
                let any_up = many.iter().any(|(_, id)| is_up(id));
                let among = many.iter().filter(|(_, id)| !any_up || is_up(id));
                let names: Vec<Name<'_>> = among.map(Name).collect();
                rendezvous(conversation.as_bytes(), &names).map(|n| n.0.1)
            }
        }
    }

    /// Takes an event in; `sent`: the device's part in it. Returns the lane that has something to give now;
    /// or the event, as one before it was refused for now.
    pub fn submit(
        &mut self,
        conversation: Arc<str>,
        sent: Option<Sent>,
        item: T,
        now: Duration,
    ) -> Result<Option<LaneId>, (T, Held)> {
        let turn = match sent.map(|s| (s, self.courses.admit(&conversation, s))) {
            Some((_, Err(held))) => return Err((item, held)),
            Some((sent, Ok(turn))) => Some((sent.session, sent.event, turn)),
            None => None,
        };
        self.open += 1;
        Ok(self.place(Slot {
            conversation,
            item,
            turn,
            sent: false,
            since: now,
            given: now,
        }))
    }

    /// An event of a device is refused for now without having been taken in.
    pub fn hold(&mut self, conversation: &Arc<str>, sent: Sent, rejected: &Rejected) -> Held {
        self.courses.hold(conversation, sent, rejected)
    }

    /// The session is over, and what it has open goes on.
    pub fn forget(&mut self, session: SessionId) {
        self.courses.forget(session);
    }

    fn place(&mut self, slot: Slot<T>) -> Option<LaneId> {
        let id = self.lane_of(&slot.conversation);
        let Some((id, lane)) = id.and_then(|id| self.by_id.get_mut(&id).map(|l| (id, l))) else {
            self.waiting.push_back(slot);
            return None;
        };
        match self.homes.get_mut(&slot.conversation) {
            Some((_, open)) => *open += 1,
            None => {
                self.homes.insert(Arc::clone(&slot.conversation), (id, 1));
            }
        }
        lane.slots.push_back(Some(slot));
        lane.open += 1;
        Some(id)
    }

    /// Gives up to `most` events of the lane that its open stream has not had, in order.
    pub fn give<R>(
        &mut self,
        id: LaneId,
        most: usize,
        now: Duration,
        mut each: impl FnMut(Give<'_, T>) -> R,
    ) -> Vec<R> {
        let Some(lane) = self.by_id.get_mut(&id) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        while out.len() < most && lane.given < lane.slots.len() {
            let reference = lane.base + lane.given as u64;
            if let Some(Some(slot)) = lane.slots.get_mut(lane.given) {
                out.push(each(Give {
                    reference,
                    item: &slot.item,
                    again: slot.sent || now.saturating_sub(slot.since) > LATE,
                    chain: slot.turn.map_or(0, |(_, _, turn)| turn.chain),
                }));
                slot.sent = true;
                slot.given = now;
            }
            lane.given += 1;
        }
        out
    }

    /// The final answer came: the event is done. `None`: it is not (or no longer) waited for.
    pub fn answer(&mut self, id: LaneId, reference: u64) -> Option<(Arc<str>, T)> {
        let slot = self.take(id, reference)?;
        if let Some((session, ..)) = slot.turn {
            self.courses.answered(&slot.conversation, session);
        }
        Some((slot.conversation, slot.item))
    }

    /// Routing refused the event for now, and will refuse the rest of its chain. Returns it, and what its
    /// session sent to its conversation after it.
    pub fn refused(&mut self, id: LaneId, reference: u64, rejected: &Rejected) -> Vec<Refused<T>> {
        let Some(first) = self.take(id, reference) else {
            return Vec::new();
        };
        let (conversation, turn) = (Arc::clone(&first.conversation), first.turn);
        let mut out = vec![self.refuse(first, true, rejected)];
        let Some((session, _, turn)) = turn else {
            return out;
        };
        if self.courses.open(&conversation, session) > 0
            && let Some(lane) = self.by_id.get(&id)
        {
            let follows = |slot: &Slot<T>| {
                slot.conversation == conversation
                    && matches!(&slot.turn, Some((s, _, t)) if *s == session && t.order > turn.order)
            };
            let references: Vec<u64> = (lane.base..)
                .zip(&lane.slots)
                .filter(|(_, slot)| slot.as_ref().is_some_and(follows))
                .map(|(reference, _)| reference)
                .collect();
            for reference in references {
                if let Some(slot) = self.take(id, reference) {
                    out.push(self.refuse(slot, true, rejected));
                }
            }
        }
        out
    }

    fn take(&mut self, id: LaneId, reference: u64) -> Option<Slot<T>> {
        let lane = self.by_id.get_mut(&id)?;
        let at = usize::try_from(reference.checked_sub(lane.base)?).ok()?;
        let slot = lane.slots.get_mut(at)?.take()?;
        self.close(id, &slot.conversation);
        Some(slot)
    }

    fn refuse(&mut self, slot: Slot<T>, by_routing: bool, rejected: &Rejected) -> Refused<T> {
        let held = slot.turn.map(|(session, event, turn)| {
            let conversation = &slot.conversation;
            self.courses
                .refused(conversation, session, event, turn, by_routing, rejected)
        });
        Refused {
            conversation: slot.conversation,
            item: slot.item,
            held,
        }
    }

    fn close(&mut self, id: LaneId, conversation: &Arc<str>) {
        self.open -= 1;
        if let Some(lane) = self.by_id.get_mut(&id) {
            lane.open -= 1;
            while matches!(lane.slots.front(), Some(None)) {
                lane.slots.pop_front();
                lane.base += 1;
                lane.given = lane.given.saturating_sub(1);
            }
        }
        self.leave_home(conversation);
    }

    fn leave_home(&mut self, conversation: &Arc<str>) {
        if let Some((_, open)) = self.homes.get_mut(conversation) {
            *open -= 1;
            if *open == 0 {
                self.homes.remove(conversation);
            }
        }
    }

    /// Whether the lane has nothing more to do for good; it is forgotten then.
    pub fn retire(&mut self, id: LaneId) -> bool {
        match self.by_id.get(&id) {
            Some(lane) if lane.leaving && lane.open == 0 => {
                self.by_id.remove(&id);
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    /// The lane has a stream.
    pub fn opened(&mut self, id: LaneId) {
        if let Some(lane) = self.by_id.get_mut(&id) {
            lane.down = false;
        }
    }

    /// The lane's stream is dead: what is unanswered is taken up anew, in order, by whichever lane
    /// each conversation takes now. Returns the lanes that have something to give.
    pub fn failed(&mut self, id: LaneId) -> Vec<LaneId> {
        let Some(lane) = self.by_id.get_mut(&id) else {
            return Vec::new();
        };
        let slots = std::mem::take(&mut lane.slots);
        lane.base += slots.len() as u64;
        lane.given = 0;
        lane.open = 0;
        lane.down = true;
        if lane.leaving {
            self.by_id.remove(&id);
        }
        for slot in slots.iter().flatten() {
            self.leave_home(&slot.conversation);
        }
        let mut woken: Vec<LaneId> = slots
            .into_iter()
            .flatten()
            .filter_map(|s| self.place(s))
            .collect();
        woken.sort_unstable();
        woken.dedup();
        woken
    }

    /// Refuses what waits since before `since` and was never on a stream: it is certainly not in the log.
    /// What came after it in its conversation goes with it, or it would overtake what is submitted again.
    pub fn expire(&mut self, since: Duration, rejected: &Rejected) -> Vec<Refused<T>> {
        let mut expired = Vec::new();
        let mut ended = AHashSet::new();
        let mut expires = |slot: &Slot<T>| {
            let expires = !slot.sent && (slot.since < since || ended.contains(&slot.conversation));
            if expires {
                ended.insert(Arc::clone(&slot.conversation));
            }
            expires
        };
        let mut kept = VecDeque::new();
        for slot in std::mem::take(&mut self.waiting) {
            if expires(&slot) {
                self.open -= 1;
                expired.push(slot);
            } else {
                kept.push_back(slot);
            }
        }
        self.waiting = kept;
        let ids: Vec<LaneId> = self.by_id.keys().copied().collect();
        for id in ids {
            let begun = expired.len();
            if let Some(lane) = self.by_id.get_mut(&id) {
                for place in lane.slots.range_mut(lane.given.min(lane.slots.len())..) {
                    if place.as_ref().is_some_and(&mut expires) {
                        expired.extend(place.take());
                    }
                }
            }
            let conversations: Vec<_> = expired[begun..]
                .iter()
                .map(|slot| Arc::clone(&slot.conversation))
                .collect();
            for conversation in conversations {
                self.close(id, &conversation);
            }
        }
        expired
            .into_iter()
            .map(|slot| self.refuse(slot, false, rejected))
            .collect()
    }

    /// Since when the lane's open stream has had its oldest unanswered event.
    pub fn oldest_given(&self, id: LaneId) -> Option<Duration> {
        let lane = self.by_id.get(&id)?;
        lane.slots
            .iter()
            .take(lane.given)
            .flatten()
            .map(|s| s.given)
            .next()
    }
}

#[cfg(test)]
mod tests;
