//! The record that all devices write while they run: each message's slot, and counters.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tandem_kernel::EventId;

use super::check::{Fate, Sent};

const CHUNK: usize = 1 << 16;
const CHUNKS: usize = 1 << 10;

/// A message that was, or is being, sent.
#[derive(Debug, Default)]
pub struct Slot {
    /// When it was due, microseconds of the monotonic clock.
    pub due_us: AtomicU64,
    /// Device that sends it.
    pub device: AtomicU32,
    /// Conversation.
    pub talk: AtomicU32,
    /// Which words.
    pub text: AtomicU32,
    /// 0 unanswered, 1 accepted, 2 rejected.
    fate: AtomicU8,
}

/// All of them, by number.
pub struct Ledger {
    chunks: Vec<OnceLock<Box<[Slot]>>>,
    next: AtomicU32,
    tag: [u8; 2],
    /// Accepted so far.
    pub accepted: AtomicU64,
    /// Refused for good so far.
    pub refused: AtomicU64,
    /// First copies that reached a device other than the sending one.
    pub delivered: AtomicU64,
    /// Of the accepted: pairs with a device that is to have it.
    pub expected: AtomicU64,
    /// Events with other words than were sent.
    pub altered: AtomicU64,
    /// Events that are none of this run's.
    pub foreign: AtomicU64,
    /// Live events that came after one with a higher place, in one session and conversation.
    pub unordered: AtomicU64,
    /// Further copies of events, at the same place.
    pub copies: AtomicU64,
    /// Receipts seen by authors.
    pub receipts: AtomicU64,
    /// Sessions opened, resumed ones included.
    pub opened: AtomicU64,
    /// Events a second that the server allows a session.
    pub limit: AtomicU32,
    /// When the last acceptance came, microseconds of the monotonic clock.
    pub last_accepted_us: AtomicU64,
    /// Refusals by code.
    pub rejected: Mutex<BTreeMap<String, u64>>,
    /// Ends of connections by reason.
    pub closings: Mutex<BTreeMap<String, u64>>,
    delivery: Vec<Mutex<Histogram<u64>>>,
    acceptance: Mutex<Histogram<u64>>,
}

/// Microseconds, three digits; grows with what it is given.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are within the crate's bounds"))
}

impl Ledger {
    /// An empty one; `tag` marks this run's event ids.
    pub fn new(tag: [u8; 2]) -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            next: AtomicU32::new(0),
            tag,
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            altered: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            unordered: AtomicU64::new(0),
            copies: AtomicU64::new(0),
            receipts: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            limit: AtomicU32::new(0),
            last_accepted_us: AtomicU64::new(0),
            rejected: Mutex::default(),
            closings: Mutex::default(),
            delivery: (0..16).map(|_| Mutex::new(histogram())).collect(),
            acceptance: Mutex::new(histogram()),
        }
    }

    /// Takes the next number for a message; `None` when there are as many as a run can hold.
    pub fn write(&self, device: u32, talk: u32, text: u32, due_us: u64) -> Option<u32> {
        let number = self.next.fetch_add(1, Relaxed);
        let chunk = self.chunks.get(number as usize / CHUNK)?;
        let slots = chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect());
        let slot = &slots[number as usize % CHUNK];
        slot.due_us.store(due_us, Relaxed);
        slot.device.store(device, Relaxed);
        slot.talk.store(talk, Relaxed);
        slot.text.store(text, Relaxed);
        Some(number)
    }

    /// The message with a number.
    pub fn slot(&self, number: u32) -> Option<&Slot> {
        self.chunks
            .get(number as usize / CHUNK)?
            .get()?
            .get(number as usize % CHUNK)
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.next.load(Relaxed).min((CHUNK * CHUNKS) as u32)
    }

    /// How many have no answer yet.
    pub fn unanswered(&self) -> u64 {
        let answered = self.accepted.load(Relaxed) + self.refused.load(Relaxed);
        u64::from(self.len()).saturating_sub(answered)
    }

    /// The event id of a message, which says its number.
    pub fn event_id(&self, number: u32, unix_ms: u64, random: u64) -> EventId {
        let r = random.to_be_bytes();
        let n = number.to_be_bytes();
        EventId::new(
            unix_ms,
            &[
                r[0],
                self.tag[0],
                r[1],
                self.tag[1],
                r[2],
                r[3],
                n[0],
                n[1],
                n[2],
                n[3],
            ],
        )
    }

    /// The number in an event id; `None` if it is not of this run.
    pub fn number_of(&self, event_id: &str) -> Option<u32> {
        let id = EventId::parse(event_id).ok()?;
        let b = id.0.as_bytes();
        if b[7] != self.tag[0] || b[9] != self.tag[1] {
            return None;
        }
        let number = u32::from_be_bytes([b[12], b[13], b[14], b[15]]);
        (number < self.len()).then_some(number)
    }

    /// A message was accepted, and `audience` further devices are to have it. False if that was known.
    pub fn accept(&self, number: u32, audience: u64, now_us: u64) -> bool {
        let Some(slot) = self.slot(number) else {
            return false;
        };
        if slot.fate.swap(1, Relaxed) == 1 {
            return false;
        }
        self.expected.fetch_add(audience, Relaxed);
        self.accepted.fetch_add(1, Relaxed);
        self.last_accepted_us.fetch_max(now_us, Relaxed);
        let took = now_us.saturating_sub(slot.due_us.load(Relaxed)).max(1);
        // grows with what it is given, so that it takes any number
        let _ = self.acceptance.lock().record(took);
        true
    }

    /// A message was refused for good.
    pub fn refuse(&self, number: u32, code: &str) {
        let Some(slot) = self.slot(number) else {
            return;
        };
        if slot.fate.swap(2, Relaxed) != 2 {
            self.refused.fetch_add(1, Relaxed);
            *self.rejected.lock().entry(code.to_owned()).or_default() += 1;
        }
    }

    /// Notes the latencies, in microseconds, of messages that reached `device`.
    pub fn latencies(&self, device: u32, took_us: &mut Vec<u64>) {
        let mut shard = self.delivery[device as usize % self.delivery.len()].lock();
        for us in took_us.drain(..) {
            let _ = shard.record(us.max(1));
        }
    }

    /// From submit (or from when it was due) to each recipient's device, and to the acceptance, in
    /// microseconds.
    pub fn histograms(&self) -> (Histogram<u64>, Histogram<u64>) {
        let mut all = histogram();
        for shard in &self.delivery {
            // of equal bounds, and `all` grows
            let _ = all.add(&*shard.lock());
        }
        (all, self.acceptance.lock().clone())
    }

    /// Forgets latencies so far (of the groups' beginnings).
    pub fn reset_histograms(&self) {
        for shard in &self.delivery {
            shard.lock().reset();
        }
        self.acceptance.lock().reset();
    }

    /// The messages, for the checker.
    pub fn sent(&self) -> Vec<Sent> {
        let sent = |slot: &Slot| Sent {
            device: slot.device.load(Relaxed),
            conversation: slot.talk.load(Relaxed),
            fate: match slot.fate.load(Relaxed) {
                1 => Fate::Accepted,
                2 => Fate::Rejected,
                _ => Fate::Unanswered,
            },
        };
        (0..self.len())
            .filter_map(|n| self.slot(n))
            .map(sent)
            .collect()
    }
}

/// Adds to a relaxed counter.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_says_its_message_and_its_run() {
        let ledger = Ledger::new([7, 9]);
        for n in 0..70_000 {
            assert_eq!(ledger.write(1, 2, 3, 4), Some(n));
        }
        let id = ledger
            .event_id(69_999, 1_767_225_600_000, u64::MAX)
            .to_string();
        assert_eq!(ledger.number_of(&id), Some(69_999));
        assert_eq!(Ledger::new([7, 8]).number_of(&id), None);
        assert_eq!(
            Ledger::new([7, 9]).number_of(&id),
            None,
            "no such number yet"
        );
    }

    #[test]
    fn an_answer_counts_once() {
        let ledger = Ledger::new([0, 0]);
        ledger.write(0, 0, 0, 100);
        assert_eq!(ledger.unanswered(), 1);
        assert!(ledger.accept(0, 3, 600));
        assert!(!ledger.accept(0, 3, 900));
        assert_eq!((ledger.unanswered(), ledger.expected.load(Relaxed)), (0, 3));
        assert_eq!(ledger.histograms().1.value_at_quantile(0.5), 500);
        ledger.latencies(3, &mut vec![5, 3_000_000, 90_000_000]);
        let delivery = ledger.histograms().0;
        assert!(delivery.max() >= 90_000_000 && delivery.value_at_quantile(0.5) >= 3_000_000);
    }
}
