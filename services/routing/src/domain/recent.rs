//! What a partition's reader remembers of the newest events: ids, so that a copy is found, and for each
//! conversation the authors and marks, so that a receipt finds whom it concerns.

use std::{collections::VecDeque, mem, time::Duration};

use ahash::AHashMap;
use tandem_kernel::{
    Address, ConversationId, EventId, Seq, UnixMillis, event::Receipt, group::MAX_MEMBERS,
};

use super::generations::Generations;

/// An id counts for its sender alone; the sender's part is keyed, so that nobody can aim at another's.
type Key = (u64, u64, u64);

/// Ids of the events of at least the last `window` of the partition's own time.
#[derive(Debug)]
pub struct Dedupe {
    young: AHashMap<Key, (Seq, UnixMillis)>,
    old: AHashMap<Key, (Seq, UnixMillis)>,
    young_since: Option<UnixMillis>,
    window: Duration,
    hasher: ahash::RandomState,
}

impl Dedupe {
    /// An empty memory. `seed` should not be guessable.
    pub fn new(window: Duration, seed: u64) -> Self {
        Self {
            young: AHashMap::new(),
            old: AHashMap::new(),
            young_since: None,
            window,
            hasher: ahash::RandomState::with_seeds(seed, seed.rotate_left(17), !seed, 0x7461_6e64),
        }
    }

    /// Remembers the event taken at `at`, and returns the lower place at which it was seen before.
    pub fn first(&mut self, sender: &str, id: EventId, seq: Seq, at: UnixMillis) -> Option<Seq> {
        let since = *self.young_since.get_or_insert(at);
        if at.since(since) > self.window {
            self.old = mem::take(&mut self.young);
            if at.since(since) > 2 * self.window {
                self.old.clear();
            }
            self.young_since = Some(at);
        }
        let key = self.key(sender, id);
        // one that is sent again and again is remembered for as long
        let first = self.old.remove(&key).unwrap_or((seq, at));
        let (earlier, _) = *self.young.entry(key).or_insert(first);
        (earlier < seq).then_some(earlier)
    }

    /// Where and when the log has the event first, if it is remembered.
    pub fn seen(&self, sender: &str, id: EventId) -> Option<(Seq, UnixMillis)> {
        let key = self.key(sender, id);
        self.old.get(&key).or_else(|| self.young.get(&key)).copied()
    }

    fn key(&self, sender: &str, id: EventId) -> Key {
        let (high, low) = id.0.as_u64_pair();
        (high, low, self.hasher.hash_one(sender))
    }
}

/// Newest events kept of a conversation.
const EVENTS: usize = 32;

#[derive(Debug)]
struct Window {
    /// Events that are not receipts, and their authors, in order.
    events: VecDeque<(Seq, Address)>,
    /// Every such event above this place is in `events`.
    complete_after: Seq,
    /// How far members have it: delivered and read.
    marks: Vec<(Address, Seq, Seq)>,
}

/// Authors whom a receipt newly concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concerned {
    /// Those found in memory.
    pub authors: Vec<Address>,
    /// There may be others, of events up to this place; `None`: these are all.
    pub unknown_up_to: Option<Seq>,
    /// Where the unknown begins; `None`: that is unknown, too.
    pub unknown_after: Option<Seq>,
    /// The read mark moved.
    pub read: bool,
}

impl Concerned {
    fn unknown(&mut self, after: Option<Seq>, up_to: Seq) {
        // `None` is the least: it stays unknown where the unknown begins
        self.unknown_after = if self.unknown_up_to.is_some() {
            self.unknown_after.min(after)
        } else {
            after
        };
        self.unknown_up_to = self.unknown_up_to.max(Some(up_to));
    }
}

/// The newest events and marks of the conversations used last.
#[derive(Debug)]
pub struct Windows(Generations<ConversationId, Window>);

impl Windows {
    /// Remembers at least `conversations` of them.
    pub fn new(conversations: usize) -> Self {
        Self(Generations::new(conversations))
    }

    fn window(&mut self, conversation: &ConversationId, seq: Seq) -> &mut Window {
        self.0.entry(conversation, || Window {
            events: VecDeque::new(),
            complete_after: Seq(seq.0.saturating_sub(1)),
            marks: Vec::new(),
        })
    }

    /// An event that is not a receipt.
    pub fn event(&mut self, conversation: &ConversationId, seq: Seq, author: &Address) {
        let window = self.window(conversation, seq);
        if window.events.back().is_some_and(|(last, _)| *last >= seq) {
            return;
        }
        if window.events.len() == EVENTS
            && let Some((gone, _)) = window.events.pop_front()
        {
            window.complete_after = gone;
        }
        window.events.push_back((seq, author.clone()));
    }

    /// A receipt of `user` at `seq`: moves the user's marks and says whom it concerns.
    pub fn receipt(
        &mut self,
        conversation: &ConversationId,
        seq: Seq,
        user: &Address,
        receipt: &Receipt,
    ) -> Concerned {
        let window = self.window(conversation, seq);
        let mark = window.marks.iter().position(|(who, ..)| who == user);
        let before = mark.map(|i| (window.marks[i].1, window.marks[i].2));
        let read = Seq(receipt.read);
        let delivered = Seq(receipt.delivered.max(receipt.read));
        let mut out = Concerned {
            authors: Vec::new(),
            unknown_up_to: None,
            unknown_after: None,
            read: before.map_or(read > Seq(0), |(_, r)| read > r),
        };
        let mut spans = Vec::with_capacity(2);
        if delivered > Seq(0) {
            spans.push((before.map(|b| b.0), delivered));
        }
        if read > Seq(0) {
            spans.push((before.map(|b| b.1), read));
        }
        for (after, up_to) in spans {
            if after.is_some_and(|a| a >= up_to) {
                continue;
            }
            let from = after.unwrap_or(Seq(0)).max(window.complete_after);
            for (seq, author) in &window.events {
                if *seq > from && *seq <= up_to && author != user && !out.authors.contains(author) {
                    out.authors.push(author.clone());
                }
            }
            if after.is_none_or(|a| a < window.complete_after) {
                out.unknown(after, up_to.min(window.complete_after));
            }
        }
        for exact in receipt.delivered_exact.iter().map(|s| Seq(*s)) {
            let known = before.is_some_and(|(d, _)| exact <= d);
            if exact == Seq(0) || known {
                continue;
            }
            if exact <= window.complete_after {
                out.unknown(Some(Seq(exact.0 - 1)), exact);
            }
            let at = window.events.binary_search_by_key(&exact, |(seq, _)| *seq);
            if let Ok(at) = at
                && window.events[at].1 != *user
                && !out.authors.contains(&window.events[at].1)
            {
                out.authors.push(window.events[at].1.clone());
            }
        }
        if delivered > Seq(0) {
            match mark {
                Some(i) => {
                    let (_, d, r) = &mut window.marks[i];
                    (*d, *r) = ((*d).max(delivered), (*r).max(read));
                }
                // an unknown read mark may be higher than 0; then the next read one is shown once more
                None if window.marks.len() < MAX_MEMBERS => {
                    window.marks.push((user.clone(), delivered, read));
                }
                None => {}
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(s: &str) -> Address {
        Address::parse(&format!("{s}@x.test")).unwrap()
    }

    fn conversation() -> ConversationId {
        ConversationId::one_to_one(&a("a"), &a("b")).unwrap()
    }

    fn delivered(seq: u64) -> Receipt {
        Receipt {
            delivered: seq,
            ..Receipt::default()
        }
    }

    fn id(n: u8) -> EventId {
        EventId::new(1, &[n; 10])
    }

    #[test]
    fn a_copy_is_found_for_the_whole_window_and_only_of_the_same_sender() {
        let mut dedupe = Dedupe::new(Duration::from_mins(1), 7);
        assert_eq!(dedupe.first("a@x.test", id(1), Seq(1), UnixMillis(0)), None);
        assert_eq!(dedupe.first("b@x.test", id(1), Seq(2), UnixMillis(0)), None);
        assert_eq!(
            dedupe.first("a@x.test", id(2), Seq(3), UnixMillis(59_000)),
            None
        );
        assert_eq!(
            dedupe.first("a@x.test", id(1), Seq(4), UnixMillis(60_000)),
            Some(Seq(1))
        );
        assert_eq!(
            dedupe.first("a@x.test", id(2), Seq(5), UnixMillis(119_000)),
            Some(Seq(3))
        );
        assert_eq!(
            dedupe.seen("a@x.test", id(2)),
            Some((Seq(3), UnixMillis(59_000)))
        );
        // the same record read again is no copy of itself
        assert_eq!(
            dedupe.first("a@x.test", id(2), Seq(3), UnixMillis(119_000)),
            None
        );
    }

    #[test]
    fn what_is_older_than_two_windows_is_forgotten() {
        let mut dedupe = Dedupe::new(Duration::from_mins(1), 7);
        dedupe.first("a@x.test", id(1), Seq(1), UnixMillis(0));
        dedupe.first("a@x.test", id(2), Seq(2), UnixMillis(61_000));
        dedupe.first("a@x.test", id(3), Seq(3), UnixMillis(122_000));
        assert_eq!(dedupe.seen("a@x.test", id(1)), None);
        assert_eq!(
            dedupe.seen("a@x.test", id(2)),
            Some((Seq(2), UnixMillis(61_000)))
        );
    }

    #[test]
    fn of_an_event_that_is_sent_again_and_again_every_copy_is_known() {
        let mut dedupe = Dedupe::new(Duration::from_mins(1), 7);
        for n in 1..20 {
            let at = UnixMillis(n as i64 * 55_000);
            let first = dedupe.first("a@x.test", id(1), Seq(n), at);
            assert_eq!(first, (n > 1).then_some(Seq(1)));
        }
    }

    #[test]
    fn a_receipt_concerns_the_authors_of_what_it_newly_covers() {
        let (mut windows, c) = (Windows::new(10), conversation());
        windows.event(&c, Seq(10), &a("a"));
        windows.event(&c, Seq(11), &a("b"));
        windows.event(&c, Seq(12), &a("a"));
        let first = windows.receipt(&c, Seq(13), &a("b"), &delivered(10));
        assert_eq!(first.authors, [a("a")]);
        assert_eq!(
            (first.unknown_up_to, first.unknown_after),
            (Some(Seq(9)), None)
        );
        let own = windows.receipt(&c, Seq(14), &a("b"), &delivered(11));
        assert_eq!(
            (own.authors.len(), own.unknown_up_to, own.read),
            (0, None, false)
        );
        let next = windows.receipt(
            &c,
            Seq(15),
            &a("b"),
            &Receipt {
                read: 12,
                ..Receipt::default()
            },
        );
        assert_eq!((next.authors, next.read), (vec![a("a")], true));
        let again = windows.receipt(
            &c,
            Seq(16),
            &a("b"),
            &Receipt {
                read: 12,
                ..Receipt::default()
            },
        );
        assert_eq!(
            (again.authors.len(), again.unknown_up_to, again.read),
            (0, None, false)
        );
    }

    #[test]
    fn an_exact_receipt_concerns_the_authors_of_its_events_alone() {
        let (mut windows, c) = (Windows::new(10), conversation());
        for (seq, who) in [(10, "a"), (11, "c"), (12, "d")] {
            windows.event(&c, Seq(seq), &a(who));
        }
        let receipt = Receipt {
            delivered_exact: vec![10, 12],
            ..Receipt::default()
        };
        let concerned = windows.receipt(&c, Seq(13), &a("b"), &receipt);
        assert_eq!(concerned.authors, [a("a"), a("d")]);
        assert_eq!(concerned.unknown_up_to, None);
    }

    #[test]
    fn what_fell_out_of_memory_is_said_to_be_unknown() {
        let (mut windows, c) = (Windows::new(10), conversation());
        windows.event(&c, Seq(1), &a("a"));
        windows.receipt(&c, Seq(2), &a("b"), &delivered(1));
        for seq in 3..100 {
            windows.event(&c, Seq(seq), &a("a"));
        }
        let concerned = windows.receipt(&c, Seq(100), &a("b"), &delivered(99));
        assert_eq!(concerned.unknown_after, Some(Seq(1)));
        assert_eq!(concerned.unknown_up_to, Some(Seq(99 - 32)));
    }
}
