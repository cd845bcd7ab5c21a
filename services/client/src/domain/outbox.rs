//! What the person has sent and the log has not confirmed yet. Kept in order while offline; after a
//! break everything unanswered is sent again, in order and marked `retry`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tandem_kernel::event::Body;
use tandem_proto::client::{Limits, Submit};

/// An event on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Its id.
    pub event_id: String,
    /// Its conversation.
    pub conversation: String,
    /// What it says.
    pub body: Body,
    /// When it was made, milliseconds since 1970.
    pub made_ms: i64,
    ever_sent: bool,
    not_before: Duration,
}

/// Events in a conversation that may be unanswered at once.
const WINDOW: usize = 64;

/// What may be sent at once. Less than the edge allows: what a slow network brings in one go must not be
/// refused, as something sent later could overtake it then.
fn allowance(limits: &Limits) -> f64 {
    (f64::from(limits.events_burst) * 0.8).max(1.0)
}

/// The events on their way, in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    entries: BTreeMap<u64, Pending>,
    orders: HashMap<String, u64>,
    unsent: BTreeSet<u64>,
    /// Unanswered in this connection, by conversation.
    in_flight: BTreeMap<String, usize>,
    next: u64,
    tokens: f64,
    refilled: Duration,
}

impl Outbox {
    /// Adds an event at the end. An id that is on its way already is not added again.
    pub fn push(&mut self, event_id: String, conversation: String, body: Body, made_ms: i64) {
        if self.orders.contains_key(&event_id) {
            return;
        }
        let order = self.next;
        self.next += 1;
        self.orders.insert(event_id.clone(), order);
        self.unsent.insert(order);
        let not_before = Duration::ZERO;
        let entry = Pending {
            event_id,
            conversation,
            body,
            made_ms,
            ever_sent: false,
            not_before,
        };
        self.entries.insert(order, entry);
    }

    /// A connection was opened: full allowance, everything is to be sent (again).
    pub fn connected(&mut self, limits: &Limits, now: Duration) {
        self.in_flight.clear();
        self.unsent = self.entries.keys().copied().collect();
        self.tokens = allowance(limits);
        self.refilled = now;
    }

    /// The events that may be sent now, within the limits; and, when the limits hold some back, how
    /// long to wait. In one conversation nothing overtakes.
    pub fn due(&mut self, limits: &Limits, now: Duration) -> (Vec<Submit>, Option<Duration>) {
        let rate = f64::from(limits.events_per_s.max(1));
        let passed = now.saturating_sub(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + passed * rate).min(allowance(limits));
        let most = usize::try_from(limits.conversations.max(1)).unwrap_or(usize::MAX);
        let (mut out, mut wait, mut blocked) = (Vec::new(), None, BTreeSet::new());
        for order in self.unsent.clone() {
            let Some(entry) = self.entries.get_mut(&order) else {
                continue;
            };
            if blocked.contains(&entry.conversation) {
                continue;
            }
            if self.tokens < 1.0 {
                let until = Duration::from_secs_f64((1.0 - self.tokens) / rate);
                wait = Some(wait.map_or(until, |w: Duration| w.min(until)));
                break;
            }
            let flying = self
                .in_flight
                .get(&entry.conversation)
                .copied()
                .unwrap_or(0);
            let early = entry.not_before.saturating_sub(now);
            if !early.is_zero() {
                wait = Some(wait.map_or(early, |w: Duration| w.min(early)));
            }
            if !early.is_zero() || flying >= WINDOW || flying == 0 && self.in_flight.len() >= most {
                blocked.insert(entry.conversation.clone());
                continue;
            }
            self.tokens -= 1.0;
            self.unsent.remove(&order);
            *self
                .in_flight
                .entry(entry.conversation.clone())
                .or_default() += 1;
            out.push(Submit {
                event_id: entry.event_id.clone(),
                conversation: entry.conversation.clone(),
                to: String::new(),
                body: Some(entry.body.clone()),
                retry: entry.ever_sent,
            });
            entry.ever_sent = true;
        }
        (out, wait)
    }

    /// The event has its final answer and leaves; `None` if it is not here.
    pub fn answered(&mut self, event_id: &str) -> Option<Pending> {
        let order = self.orders.remove(event_id)?;
        let entry = self.entries.remove(&order)?;
        if !self.unsent.remove(&order) {
            self.landed(&entry.conversation);
        }
        Some(entry)
    }

    /// The event was refused for now: it is sent again from `not_before` on, and what was made after it
    /// in its conversation and is not sent yet waits behind it. False if it is not here.
    pub fn postpone(&mut self, event_id: &str, not_before: Duration) -> bool {
        let Some(order) = self.orders.get(event_id).copied() else {
            return false;
        };
        let Some(entry) = self.entries.get_mut(&order) else {
            return false;
        };
        entry.not_before = not_before;
        let conversation = entry.conversation.clone();
        if self.unsent.insert(order) {
            self.landed(&conversation);
        }
        true
    }

    fn landed(&mut self, conversation: &str) {
        if let Some(n) = self.in_flight.get_mut(conversation) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.in_flight.remove(conversation);
            }
        }
    }

    /// What is on its way in a conversation, in order.
    pub fn of<'a>(&'a self, conversation: &'a str) -> impl Iterator<Item = &'a Pending> {
        self.entries
            .values()
            .filter(move |e| e.conversation == conversation)
    }

    /// Whether everything has its answer.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many have no answer yet.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        frame_bytes: 65536,
        events_per_s: 10,
        events_burst: 5,
        conversations: 2,
        page: 200,
        text_bytes: 16384,
    };

    fn ids(submits: &[Submit]) -> Vec<(&str, bool)> {
        submits
            .iter()
            .map(|s| (s.event_id.as_str(), s.retry))
            .collect()
    }

    fn with(events: &[(&str, &str)]) -> Outbox {
        let mut o = Outbox::default();
        for (id, conversation) in events {
            o.push((*id).into(), (*conversation).into(), Body::default(), 0);
        }
        o.connected(&LIMITS, Duration::ZERO);
        o
    }

    #[test]
    fn after_a_break_the_unanswered_go_again_in_order_and_marked() {
        let mut o = with(&[("1", "a"), ("2", "a"), ("3", "b")]);
        let (first, _) = o.due(&LIMITS, Duration::ZERO);
        assert_eq!(ids(&first), [("1", false), ("2", false), ("3", false)]);
        assert!(o.answered("2").is_some());
        o.push("4".into(), "a".into(), Body::default(), 0);
        o.connected(&LIMITS, Duration::ZERO);
        let (again, _) = o.due(&LIMITS, Duration::ZERO);
        assert_eq!(ids(&again), [("1", true), ("3", true), ("4", false)]);
    }

    #[test]
    fn the_rate_that_the_edge_states_is_kept() {
        let mut o = with(&[("1", "a"), ("2", "a"), ("3", "a"), ("4", "a"), ("5", "a")]);
        let (now, wait) = o.due(&LIMITS, Duration::ZERO);
        assert_eq!((now.len(), wait), (4, Some(Duration::from_millis(100))));
        let (later, wait) = o.due(&LIMITS, Duration::from_millis(100));
        assert_eq!((ids(&later), wait), (vec![("5", false)], None));
    }

    #[test]
    fn what_was_refused_for_now_is_not_overtaken_by_what_was_not_sent_yet() {
        let mut o = with(&[("1", "a")]);
        o.due(&LIMITS, Duration::ZERO);
        assert!(o.postpone("1", Duration::from_secs(2)));
        o.push("2".into(), "a".into(), Body::default(), 0);
        o.push("3".into(), "b".into(), Body::default(), 0);
        let (now, wait) = o.due(&LIMITS, Duration::from_secs(1));
        assert_eq!(
            (ids(&now), wait),
            (vec![("3", false)], Some(Duration::from_secs(1)))
        );
        let (then, _) = o.due(&LIMITS, Duration::from_secs(2));
        assert_eq!(ids(&then), [("1", true), ("2", false)]);
    }

    #[test]
    fn no_more_conversations_are_open_at_once_than_the_edge_allows() {
        let mut o = with(&[("1", "a"), ("2", "b"), ("3", "c"), ("4", "a")]);
        let (now, _) = o.due(&LIMITS, Duration::ZERO);
        assert_eq!(ids(&now), [("1", false), ("2", false), ("4", false)]);
        o.answered("2");
        assert_eq!(ids(&o.due(&LIMITS, Duration::ZERO).0), [("3", false)]);
    }
}
