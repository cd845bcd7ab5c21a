//! Which routing replica each submitted event takes, and what is unanswered there.
//!
//! A conversation's events keep their order: they take one lane, and take another only once all of them
//! are answered, or the lane failed and they are moved together, in order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ahash::{AHashMap, AHashSet};
use tandem_kernel::seq::rendezvous;

/// Names a lane for as long as it is there.
pub type LaneId = u32;

#[derive(Debug)]
struct Slot<T> {
    conversation: Arc<str>,
    item: T,
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
}

/// An event to be sent: its ref, the event, and whether it may have been sent before.
#[derive(Debug, PartialEq, Eq)]
pub struct Give<'a, T> {
    /// The ref, to be answered.
    pub reference: u64,
    /// The event.
    pub item: &'a T,
    /// It was on a stream already.
    pub again: bool,
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
                let names: Vec<Name<'_>> = many.iter().map(Name).collect();
                rendezvous(conversation.as_bytes(), &names).map(|n| n.0.1)
            }
        }
    }

    /// Takes an event in. Returns the lane that has something to give now.
    pub fn submit(&mut self, conversation: Arc<str>, item: T, now: Duration) -> Option<LaneId> {
        self.open += 1;
        self.place(Slot {
            conversation,
            item,
            sent: false,
            since: now,
            given: now,
        })
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
                    again: slot.sent,
                }));
                slot.sent = true;
                slot.given = now;
            }
            lane.given += 1;
        }
        out
    }

    /// An answer came: the event is done. `None`: it is not (or no longer) waited for.
    pub fn answer(&mut self, id: LaneId, reference: u64) -> Option<(Arc<str>, T)> {
        let lane = self.by_id.get_mut(&id)?;
        let at = usize::try_from(reference.checked_sub(lane.base)?).ok()?;
        let slot = lane.slots.get_mut(at)?.take()?;
        self.close(id, &slot.conversation);
        Some((slot.conversation, slot.item))
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

    /// Takes out what waits since before `since` and was never on a stream: it is certainly not in the log.
    /// What came after it in its conversation goes with it, or it would overtake what is submitted again.
    pub fn expire(&mut self, since: Duration) -> Vec<(Arc<str>, T)> {
        let mut out = Vec::new();
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
                out.push((slot.conversation, slot.item));
            } else {
                kept.push_back(slot);
            }
        }
        self.waiting = kept;
        let ids: Vec<LaneId> = self.by_id.keys().copied().collect();
        for id in ids {
            let mut expired = Vec::new();
            if let Some(lane) = self.by_id.get_mut(&id) {
                for place in lane.slots.range_mut(lane.given.min(lane.slots.len())..) {
                    if place.as_ref().is_some_and(&mut expires)
                        && let Some(slot) = place.take()
                    {
                        expired.push((slot.conversation, slot.item));
                    }
                }
            }
            for (conversation, item) in expired {
                self.close(id, &conversation);
                out.push((conversation, item));
            }
        }
        out
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
mod tests {
    use super::*;

    const T0: Duration = Duration::ZERO;

    fn c(n: u32) -> Arc<str> {
        Arc::from(format!("c{n}").as_str())
    }

    fn given(lanes: &mut Lanes<u32>, id: LaneId) -> Vec<(u64, u32, bool)> {
        lanes.give(id, 100, T0, |g| (g.reference, *g.item, g.again))
    }

    #[test]
    fn what_no_stream_answered_is_sent_again_in_order() {
        let mut lanes = Lanes::default();
        let (new, _) = lanes.set_replicas(["a"]);
        let a = new[0].1;
        for i in 1..=3 {
            assert_eq!(lanes.submit(c(0), i, T0), Some(a));
        }
        assert_eq!(
            given(&mut lanes, a),
            [(1, 1, false), (2, 2, false), (3, 3, false)]
        );
        assert_eq!(lanes.answer(a, 2), Some((c(0), 2)));
        assert_eq!(lanes.answer(a, 2), None);
        lanes.submit(c(0), 4, T0);
        assert_eq!(lanes.failed(a), [a]);
        let again = given(&mut lanes, a);
        assert_eq!(
            again.iter().map(|g| (g.1, g.2)).collect::<Vec<_>>(),
            [(1, true), (3, true), (4, false)]
        );
        for (reference, item, _) in again {
            assert_eq!(lanes.answer(a, reference), Some((c(0), item)));
        }
        assert_eq!(lanes.open(), 0);
    }

    #[test]
    fn a_conversation_moves_only_once_it_is_answered_or_its_lane_is_dead() {
        let mut lanes = Lanes::default();
        let a = lanes.set_replicas(["a"]).0[0].1;
        for i in 0..64 {
            lanes.submit(c(i), i, T0);
        }
        let refs = given(&mut lanes, a);
        let b = lanes.set_replicas(["a", "b"]).0[0].1;
        assert!(
            (0..64).all(|i| lanes.lane_of(&c(i)) == Some(a)),
            "unanswered: they stay"
        );
        for (reference, ..) in refs {
            lanes.answer(a, reference);
        }
        assert!(
            (0..64).any(|i| lanes.lane_of(&c(i)) == Some(b)),
            "answered: some move"
        );
        lanes.submit(c(1), 1, T0);
        let (_, ended) = lanes.set_replicas(["c"]);
        assert_eq!(ended.len(), 1, "the one with nothing open ends");
        let holder = lanes.lane_of(&c(1)).unwrap();
        assert!(!lanes.retire(holder));
        lanes.failed(holder);
        assert_ne!(lanes.lane_of(&c(1)), Some(holder));
        assert!(lanes.retire(holder));
        assert_eq!(lanes.open(), 1);
    }

    #[test]
    fn without_a_replica_events_wait_and_only_those_never_sent_expire() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.submit(c(0), 1, T0), None);
        let a = lanes.set_replicas(["a"]).0[0].1;
        assert_eq!(given(&mut lanes, a), [(1, 1, false)]);
        lanes.set_replicas([]);
        assert!(lanes.failed(a).is_empty());
        lanes.submit(c(0), 2, Duration::from_secs(1));
        assert_eq!(lanes.expire(Duration::from_mins(1)), [(c(0), 2)]);
        let b = lanes.set_replicas(["b"]).0[0].1;
        assert_eq!(given(&mut lanes, b), [(1, 1, true)]);
        assert_eq!(lanes.open(), 1);
    }

    #[test]
    fn with_an_event_all_that_came_after_it_in_its_conversation_expires() {
        let mut lanes = Lanes::default();
        lanes.submit(c(0), 1, T0);
        lanes.submit(c(1), 2, Duration::from_secs(5));
        lanes.submit(c(0), 3, Duration::from_secs(5));
        let since = Duration::from_secs(3);
        assert_eq!(lanes.expire(since), [(c(0), 1), (c(0), 3)], "no replica");
        let a = lanes.set_replicas(["a"]).0[0].1;
        lanes.submit(c(0), 4, T0);
        lanes.submit(c(0), 5, Duration::from_secs(5));
        assert_eq!(lanes.expire(since), [(c(0), 4), (c(0), 5)], "in a lane");
        assert_eq!(given(&mut lanes, a), [(1, 2, false)]);
        assert_eq!(lanes.open(), 1);
    }

    #[test]
    fn what_expires_in_a_lane_is_not_given_and_the_rest_is_answered_by_its_own_ref() {
        let mut lanes = Lanes::default();
        let a = lanes.set_replicas(["a"]).0[0].1;
        lanes.submit(c(0), 1, T0);
        lanes.submit(c(1), 2, Duration::from_secs(5));
        assert_eq!(lanes.expire(Duration::from_secs(3)), [(c(0), 1)]);
        let g = given(&mut lanes, a);
        assert_eq!(g.len(), 1);
        assert_eq!(lanes.answer(a, g[0].0), Some((c(1), 2)));
    }
}
