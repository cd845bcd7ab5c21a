//! Which receipts are worth an event: what a user's devices confirmed of a conversation, merged for a
//! moment, without what was said before.

use std::{sync::Arc, time::Duration};

use ahash::AHashMap;
use tandem_kernel::Address;
use tandem_proto::client::Receipt;

use super::recent::Recent;

/// What a device confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Everything up to this seq is on the device.
    Delivered(u64),
    /// These events are on the device.
    Exact(Vec<u64>),
    /// The person has seen everything up to this seq.
    Read(u64),
}

/// Whose receipts of which conversation.
pub type Key = (Address, Arc<str>);

/// Pending and past receipts of all users of an edge.
#[derive(Debug)]
pub struct Receipts {
    delay: Duration,
    pending: AHashMap<Key, Receipt>,
    // all that is pending is said together, so that many receipts cost the log one write
    order: Vec<Key>,
    due: Option<Duration>,
    /// Delivered and read marks that were made events of already.
    sent: Recent<Key, (u64, u64)>,
}

/// How many users' conversations' last marks are remembered (at least).
const SENT: usize = 65_536;
/// Most single events in one receipt.
const EXACT: usize = 1024;

impl Receipts {
    /// None yet; marks are merged for at most `delay`.
    pub fn new(delay: Duration) -> Self {
        Self {
            delay,
            pending: AHashMap::new(),
            order: Vec::new(),
            due: None,
            sent: Recent::default(),
        }
    }

    /// Takes a mark in. Returns true if it is the first that is pending: all falls due after the delay.
    pub fn add(&mut self, key: Key, mark: Mark, now: Duration) -> bool {
        let (delivered, read) = self.sent.get_mut(&key).map_or((0, 0), |s| *s);
        let news = match &mark {
            Mark::Delivered(seq) => *seq > delivered,
            Mark::Read(seq) => *seq > read,
            Mark::Exact(seqs) => seqs.iter().any(|s| *s > delivered),
        };
        if !news {
            return false;
        }
        let first = self.due.is_none();
        if first {
            self.due = Some(now + self.delay);
        }
        if !self.pending.contains_key(&key) {
            self.order.push(key.clone());
        }
        let receipt = self.pending.entry(key).or_default();
        match mark {
            Mark::Delivered(seq) => receipt.delivered = receipt.delivered.max(seq),
            Mark::Read(seq) => receipt.read = receipt.read.max(seq),
            Mark::Exact(seqs) => {
                for seq in seqs.into_iter().filter(|s| *s > delivered).take(EXACT) {
                    if let Err(at) = receipt.delivered_exact.binary_search(&seq)
                        && receipt.delivered_exact.len() < EXACT
                    {
                        receipt.delivered_exact.insert(at, seq);
                    }
                }
            }
        }
        first
    }

    /// When what is pending falls due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due
    }

    /// Takes all that is pending, in the order in which it was begun, if it has fallen due.
    pub fn take_due(&mut self, now: Duration) -> Vec<(Key, Receipt)> {
        if self.due.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.due = None;
        let mut out = Vec::with_capacity(self.order.len());
        for key in std::mem::take(&mut self.order) {
            let Some(mut receipt) = self.pending.remove(&key) else {
                continue;
            };
            let upto = receipt.delivered.max(receipt.read);
            receipt.delivered_exact.retain(|s| *s > upto);
            let sent = self.sent.entry(&key, SENT);
            sent.0 = sent.0.max(upto);
            sent.1 = sent.1.max(receipt.read);
            out.push((key, receipt));
        }
        out
    }

    /// A receipt was refused for good: what it said may be said again.
    pub fn forget(&mut self, key: &Key) {
        if let Some(sent) = self.sent.get_mut(key) {
            *sent = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn key() -> Key {
        (Address::parse("a@x").unwrap(), Arc::from("c"))
    }

    #[test]
    fn marks_are_merged_for_the_delay_and_said_once() {
        let mut r = Receipts::new(200 * MS);
        assert!(r.add(key(), Mark::Exact(vec![9, 3]), MS));
        assert!(!r.add(key(), Mark::Delivered(4), 2 * MS));
        assert!(!r.add(key(), Mark::Read(2), 3 * MS));
        assert_eq!(r.take_due(200 * MS), []);
        assert_eq!(r.next_due(), Some(201 * MS));
        let receipt = Receipt {
            delivered: 4,
            delivered_exact: vec![9],
            read: 2,
        };
        assert_eq!(r.take_due(201 * MS), [(key(), receipt)]);
        assert!(!r.add(key(), Mark::Delivered(4), 300 * MS), "no news");
        assert!(!r.add(key(), Mark::Exact(vec![2]), 300 * MS), "no news");
        assert!(!r.add(key(), Mark::Read(2), 300 * MS), "no news");
        assert!(
            r.add(key(), Mark::Read(3), 300 * MS),
            "read moves on its own"
        );
    }

    #[test]
    fn all_that_is_pending_is_said_together() {
        let mut r = Receipts::new(200 * MS);
        let other = (Address::parse("b@x").unwrap(), Arc::from("c"));
        assert!(r.add(other.clone(), Mark::Delivered(1), MS));
        assert!(!r.add(key(), Mark::Delivered(2), 150 * MS));
        let said: Vec<_> = r.take_due(201 * MS).into_iter().map(|(k, _)| k).collect();
        assert_eq!(said, [other, key()]);
        assert_eq!(r.next_due(), None);
    }

    #[test]
    fn read_implies_delivered() {
        let mut r = Receipts::new(MS);
        r.add(key(), Mark::Read(7), MS);
        r.take_due(9 * MS);
        assert!(!r.add(key(), Mark::Delivered(7), 9 * MS));
        r.forget(&key());
        assert!(r.add(key(), Mark::Delivered(7), 9 * MS));
    }
}
