//! The window of a partition: what waits for a receipt, what is being notified, and how far the group may
//! commit.
//!
//! Time here is record time as far as records were read, and the clock only once everything that was in the
//! log at that moment has been read: so a receipt that is in the log in time always counts, however
//! far behind the reader is.

use std::{collections::VecDeque, sync::Arc};

use ahash::HashMap;
use tandem_kernel::{Address, ConversationId, Seq, UnixMillis, event::Receipt};

use super::notification::Content;

/// A notification to one user, while it is under way. Unique within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Job {
    entry: u64,
    slot: u16,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Notify the user, and say [`Window::done`] once that is done or durably given up.
    Notify {
        /// Names it.
        job: Job,
        /// Whom.
        user: Address,
        /// Of what.
        content: Arc<Content>,
    },
    /// The user has confirmed what this job notifies of: it need not be tried again.
    Cancel(Job),
    /// The user has read everything up to here: take back what was notified.
    Withdraw {
        /// Whose.
        user: Address,
        /// Conversation.
        conversation: ConversationId,
        /// Read up to.
        up_to: Seq,
    },
}

#[derive(Debug)]
enum Slot {
    Waiting(Address),
    Notifying(Address),
    Closed,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    content: Arc<Content>,
    slots: Vec<Slot>,
    open: u16,
}

/// The window. Offsets and times handed in never fall.
#[derive(Debug)]
pub struct Window {
    hold_ms: i64,
    ring: VecDeque<Entry>,
    /// Id of the entry at the front of the ring.
    front: u64,
    /// Id of the first entry that has not fallen due.
    undue: u64,
    open: HashMap<(ConversationId, Address), VecDeque<(Seq, Job)>>,
    waiting: usize,
    notifying: usize,
    position: u64,
    horizon: UnixMillis,
    barrier: Option<(u64, UnixMillis)>,
}

impl Window {
    /// An empty window of `hold_ms` milliseconds; reading goes on at `position`.
    pub fn new(hold_ms: i64, position: u64) -> Self {
        Self {
            hold_ms,
            ring: VecDeque::new(),
            front: 0,
            undue: 0,
            open: HashMap::default(),
            waiting: 0,
            notifying: 0,
            position,
            horizon: UnixMillis(i64::MIN),
            barrier: None,
        }
    }

    /// The record at `offset`, taken at `at`, has been read.
    pub fn read(&mut self, offset: u64, at: UnixMillis) {
        self.position = self.position.max(offset + 1);
        self.horizon = self.horizon.max(at);
        self.pass_barrier();
    }

    /// The partition ended at `end` when the clock showed `asked`.
    pub fn ended(&mut self, end: u64, asked: UnixMillis) {
        // an older barrier is passed sooner
        self.barrier.get_or_insert((end, asked));
        self.pass_barrier();
    }

    fn pass_barrier(&mut self) {
        if let Some((end, asked)) = self.barrier
            && self.position >= end
        {
            self.horizon = self.horizon.max(asked);
            self.barrier = None;
        }
    }

    /// Lets the recipients of an event wait for their receipts.
    pub fn wait(&mut self, offset: u64, content: Content, recipients: Vec<Address>) {
        if recipients.is_empty() {
            return;
        }
        let entry = self.front + self.ring.len() as u64;
        for (slot, user) in recipients.iter().enumerate() {
            let job = Job {
                entry,
                slot: u16::try_from(slot).unwrap_or(u16::MAX),
            };
            let key = (content.conversation.clone(), user.clone());
            self.open
                .entry(key)
                .or_default()
                .push_back((content.seq, job));
        }
        self.waiting += recipients.len();
        self.ring.push_back(Entry {
            offset,
            content: Arc::new(content),
            open: u16::try_from(recipients.len()).unwrap_or(u16::MAX),
            slots: recipients.into_iter().map(Slot::Waiting).collect(),
        });
    }

    /// A receipt of `user`. What it covers waits no longer.
    pub fn receipt(
        &mut self,
        conversation: ConversationId,
        user: Address,
        receipt: &Receipt,
        effects: &mut Vec<Effect>,
    ) {
        let key = (conversation, user);
        if let Some(mut queue) = self.open.remove(&key) {
            let up_to = Seq(receipt.delivered.max(receipt.read));
            while let Some((seq, job)) = queue.front().copied()
                && seq <= up_to
            {
                queue.pop_front();
                self.confirm(job, effects);
            }
            for exact in &receipt.delivered_exact {
                if let Ok(i) = queue.binary_search_by_key(exact, |(seq, _)| seq.0)
                    && let Some((_, job)) = queue.remove(i)
                {
                    self.confirm(job, effects);
                }
            }
            if !queue.is_empty() {
                self.open.insert(key.clone(), queue);
            }
        }
        if receipt.read > 0 {
            let (conversation, user) = key;
            effects.push(Effect::Withdraw {
                user,
                conversation,
                up_to: Seq(receipt.read),
            });
        }
    }

    fn confirm(&mut self, job: Job, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entry(job.entry) else {
            return;
        };
        match entry.slots.get_mut(usize::from(job.slot)) {
            Some(slot @ Slot::Waiting(_)) => {
                *slot = Slot::Closed;
                entry.open -= 1;
                self.waiting -= 1;
                self.trim();
            }
            Some(Slot::Notifying(_)) => effects.push(Effect::Cancel(job)),
            Some(Slot::Closed) | None => {}
        }
    }

    /// Who waits since entry `from` (what [`Window::next_entry`] gave), for [`Window::notify_now`].
    pub fn waiting_since(&self, from: u64) -> Vec<(Job, Address, UnixMillis)> {
        let skip = usize::try_from(from.saturating_sub(self.front)).unwrap_or(usize::MAX);
        let mut all = Vec::new();
        for (i, entry) in self.ring.iter().enumerate().skip(skip) {
            for (slot, state) in entry.slots.iter().enumerate() {
                if let Slot::Waiting(user) = state {
                    let job = Job {
                        entry: self.front + i as u64,
                        slot: slot as u16,
                    };
                    all.push((job, user.clone(), entry.content.at));
                }
            }
        }
        all
    }

    /// Id that the next entry will have.
    pub fn next_entry(&self) -> u64 {
        self.front + self.ring.len() as u64
    }

    /// The user of this job has no session: no receipt is to be expected.
    pub fn notify_now(&mut self, job: Job, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entry(job.entry) else {
            return;
        };
        let content = Arc::clone(&entry.content);
        let Some(slot) = entry.slots.get_mut(usize::from(job.slot)) else {
            return;
        };
        if let Slot::Waiting(user) = slot {
            let user = user.clone();
            *slot = Slot::Notifying(user.clone());
            self.waiting -= 1;
            self.notifying += 1;
            effects.push(Effect::Notify { job, user, content });
        }
    }

    /// Decides what has waited long enough.
    pub fn decide(&mut self, effects: &mut Vec<Effect>) {
        self.undue = self.undue.max(self.front);
        while let Some(entry) = self.entry(self.undue) {
            let (at, slots) = (entry.content.at, entry.slots.len());
            if at.0.saturating_add(self.hold_ms) > self.horizon.0 {
                break;
            }
            for slot in 0..slots {
                self.notify_now(
                    Job {
                        entry: self.undue,
                        slot: slot as u16,
                    },
                    effects,
                );
            }
            self.undue += 1;
        }
    }

    /// Whether something would fall due if everything in the log up to `now` had been read.
    pub fn overdue(&self, now: UnixMillis) -> bool {
        let next = usize::try_from(self.undue.saturating_sub(self.front)).unwrap_or(usize::MAX);
        self.ring
            .get(next)
            .is_some_and(|e| e.content.at.0.saturating_add(self.hold_ms) <= now.0)
    }

    /// The job's notification was delivered or durably given up.
    pub fn done(&mut self, job: Job) {
        let Some(entry) = self.entry(job.entry) else {
            return;
        };
        let content = Arc::clone(&entry.content);
        let Some(slot) = entry.slots.get_mut(usize::from(job.slot)) else {
            return;
        };
        if let Slot::Notifying(user) = std::mem::replace(slot, Slot::Closed) {
            entry.open -= 1;
            self.notifying -= 1;
            let key = (content.conversation.clone(), user);
            if let Some(queue) = self.open.get_mut(&key) {
                queue.retain(|(_, other)| *other != job);
                if queue.is_empty() {
                    self.open.remove(&key);
                }
            }
            self.trim();
        }
    }

    /// Everything below this offset is decided and done.
    pub fn commit_place(&self) -> u64 {
        self.ring
            .front()
            .map_or(self.position, |entry| entry.offset)
    }

    /// How many recipients wait for a receipt, and for how many a notification is under way.
    pub fn size(&self) -> (usize, usize) {
        (self.waiting, self.notifying)
    }

    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        let i = usize::try_from(id.checked_sub(self.front)?).ok()?;
        self.ring.get_mut(i)
    }

    fn trim(&mut self) {
        while self.ring.front().is_some_and(|entry| entry.open == 0) {
            self.ring.pop_front();
            self.front += 1;
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
