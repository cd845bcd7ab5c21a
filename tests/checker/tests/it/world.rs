//! A small model of a correct system: people with devices talk, come and go, block and consent, while things
//! break; what they did and saw is recorded. The same seed gives the same record.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use tandem_checker::{Excuse, Guarantee, How, Kind, Record, Status, What};

use crate::rng::Rng;

pub const MS: u64 = 1_000;
pub const SECOND: u64 = 1_000 * MS;

/// What a world is like.
#[derive(Debug, Clone)]
pub struct Plan {
    pub people: usize,
    pub groups: usize,
    /// For how long they talk, in microseconds.
    pub talk: u64,
    /// Pause between two events, in microseconds, about.
    pub pause: u64,
    /// Connections break.
    pub breaks: bool,
    /// Everything stands still at times.
    pub faults: bool,
    /// Blocks, requests, joins and leaves.
    pub relations: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            people: 6,
            groups: 2,
            talk: 60 * SECOND,
            pause: 250 * MS,
            breaks: true,
            faults: true,
            relations: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    Send,
    Append(usize),
    Resubmit(usize),
    Answer(usize, usize, u32),
    Deliver(usize, u32, usize),
    Second(usize, u32, usize),
    Sync(usize, u32),
    Push(usize),
    Receipt(usize, u32, usize, usize, u64),
    Break,
    Return(usize),
    Damped(usize),
    SetStatus,
    Tell(usize, u32, usize, Status, u64, u64),
    Snapshot(usize, u32),
    Relate,
    Flip(usize, usize, bool),
    Flipped(usize, usize, bool, u64),
    Consent(usize, usize),
    Consented(usize, usize, u64),
    Members,
    Fault,
    FaultEnds(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    On,
    Detached,
    Off,
}

#[derive(Debug)]
pub struct Device {
    pub person: usize,
    pub id: String,
    pub token: bool,
    pub link: Link,
    pub lost_at: u64,
    pub epoch: u32,
    pub synced: bool,
    pub known: BTreeSet<usize>,
    pub missed: Vec<usize>,
    pub status: Status,
    pub message: u64,
    pub ordinal: u64,
    pub outbox: Vec<usize>,
    pub busy: u64,
    pub append: u64,
}

#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub author: usize,
    pub device: usize,
    pub talk: usize,
    pub kind: Kind,
    pub ordinal: u64,
    pub seq: u64,
    pub second: u64,
    pub hidden: Vec<usize>,
    pub done: bool,
    pub tries: u32,
    /// Refused for now.
    pub put_off: bool,
    /// Refused for good, which its device does not know.
    pub doomed: bool,
}

#[derive(Debug, Default)]
pub struct Talk {
    pub id: String,
    pub group: bool,
    pub members: Vec<usize>,
    /// (person, from, to).
    pub stays: Vec<(usize, u64, u64)>,
    pub log: Vec<usize>,
    pub next: u64,
}

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub now: u64,
    pub records: Vec<Record>,
    pub queue: BinaryHeap<Reverse<(u64, u64, Act)>>,
    pub turn: u64,
    pub names: Vec<String>,
    pub devices: Vec<Device>,
    pub talks: Vec<Talk>,
    pub events: Vec<Event>,
    pub blocks: BTreeSet<(usize, usize)>,
    pub contacts: BTreeSet<(usize, usize)>,
    pub busy_pairs: BTreeSet<(usize, usize)>,
    /// By person: settled status, message, version.
    pub statuses: Vec<(Status, u64, u64)>,
    /// By person and conversation.
    pub confirmed: BTreeMap<(usize, usize), (u64, BTreeSet<u64>)>,
    pub fault_until: u64,
    pub faults: u64,
}

pub fn text(message: u64) -> String {
    if message == 0 {
        String::new()
    } else {
        format!("mood {message}")
    }
}

impl World {
    /// The record of a world.
    pub fn record(seed: u64, plan: Plan) -> Vec<Record> {
        let mut world = Self::new(seed, plan);
        world.run();
        world.records
    }

    fn run(&mut self) {
        let end = self.plan.talk + 30 * SECOND;
        while let Some(Reverse((at, _, act))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now = at;
            self.act(act);
        }
        self.now = end;
        self.fact(What::Settled {});
        self.read_back();
    }

    pub fn talking(&self) -> bool {
        self.now < self.plan.talk
    }

    // ------------------------------------------------------------ small helpers

    pub fn fact(&mut self, what: What) {
        self.records.push(Record::fact(self.now, what));
    }

    pub fn on(&mut self, device: usize, what: What) {
        let d = &self.devices[device];
        let record = Record::of(self.now, &self.names[d.person], &d.id, what);
        self.records.push(record);
    }

    pub fn after(&mut self, at: u64, act: Act) {
        self.turn += 1;
        self.queue.push(Reverse((at, self.turn, act)));
    }

    /// The delay of a message between two machines.
    pub fn lag(&mut self) -> u64 {
        MS + self.rng.below(60 * MS)
    }

    /// When what goes to a device arrives there: after all that went before.
    pub fn arrival(&mut self, device: usize) -> u64 {
        // and behind what waits for a fault's end
        let at = self.now.max(self.fault_until) + self.lag();
        let device = &mut self.devices[device];
        device.busy = at.max(device.busy + 1);
        device.busy
    }

    pub fn devices_of(&self, person: usize) -> Vec<usize> {
        let mine = |n: &usize| self.devices[*n].person == person;
        (0..self.devices.len()).filter(mine).collect()
    }

    pub fn are_contacts(&self, a: usize, b: usize) -> bool {
        self.contacts.contains(&(a.min(b), a.max(b)))
    }

    /// Whether `viewer` may see `of`.
    pub fn sees(&self, viewer: usize, of: usize) -> bool {
        self.are_contacts(viewer, of)
            && !self.blocks.contains(&(of, viewer))
            && !self.blocks.contains(&(viewer, of))
    }

    pub fn may_see(&self, person: usize, event: usize) -> bool {
        let e = &self.events[event];
        let here =
            |(who, from, to): &(usize, u64, u64)| *who == person && (*from..=*to).contains(&e.seq);
        self.talks[e.talk].stays.iter().any(here) && !e.hidden.contains(&person)
    }

    pub fn seen(&mut self, device: usize, event: usize, seq: u64, how: How, shown: bool) {
        let e = &self.events[event];
        let what = What::Seen {
            conversation: self.talks[e.talk].id.clone(),
            seq,
            id: e.id.clone(),
            author: self.names[e.author].clone(),
            how,
            shown,
        };
        self.on(device, what);
    }

    /// While something is broken, what goes through it waits.
    fn waits(&mut self, act: Act) -> bool {
        if self.now >= self.fault_until {
            return false;
        }
        if !matches!(act, Act::Sync(..) | Act::Snapshot(..) | Act::Push(_)) {
            return false;
        }
        let at = self.fault_until + 300 * MS;
        self.after(at, act);
        true
    }

    /// What is on its way arrives so much later, in its order.
    fn hold_up(&mut self, by: u64) {
        let on_its_way = |act: &Act| {
            matches!(
                act,
                Act::Append(_) | Act::Deliver(..) | Act::Second(..) | Act::Tell(..)
            )
        };
        let queue = std::mem::take(&mut self.queue);
        let later = queue.into_iter().map(|Reverse((at, turn, act))| {
            let at = if on_its_way(&act) { at + by } else { at };
            Reverse((at, turn, act))
        });
        self.queue = later.collect();
        for device in &mut self.devices {
            device.busy += by;
            device.append += by;
        }
    }

    fn act(&mut self, act: Act) {
        if self.waits(act) {
            return;
        }
        match act {
            Act::Send => self.send(),
            Act::Append(event) => self.append(event),
            Act::Resubmit(event) => self.resubmit(event),
            Act::Answer(device, event, epoch) => self.answer(device, event, epoch),
            Act::Deliver(device, epoch, event) => self.deliver(device, epoch, event),
            Act::Second(device, epoch, event) => {
                let d = &self.devices[device];
                if d.epoch == epoch && d.link == Link::On && d.known.contains(&event) {
                    let seq = self.events[event].second;
                    self.seen(device, event, seq, How::Live, false);
                }
            }
            Act::Sync(device, epoch) => self.sync(device, epoch),
            Act::Push(event) => self.push(event),
            Act::Receipt(device, epoch, talk, by, up_to) => {
                self.receipt(device, epoch, talk, by, up_to);
            }
            Act::Break => self.break_something(),
            Act::Return(device) => self.come_back(device),
            Act::Damped(person) => self.propagate(person),
            Act::SetStatus => self.set_status(),
            Act::Tell(device, epoch, of, status, message, version) => {
                self.tell(device, epoch, of, (status, message, version));
            }
            Act::Snapshot(device, epoch) => self.snapshot(device, epoch),
            Act::Relate => self.relate(),
            Act::Flip(by, of, is) => self.flip(by, of, is),
            Act::Flipped(by, of, is, since) => {
                self.busy_pairs.remove(&(by, of));
                let (by, blocked) = (self.names[by].clone(), self.names[of].clone());
                self.fact(What::Block {
                    by,
                    blocked,
                    is,
                    since,
                });
            }
            Act::Consent(a, b) => {
                self.contacts.insert((a, b));
                self.show_each_other(a, b);
            }
            Act::Consented(a, b, since) => {
                let (a, b) = (self.names[a].clone(), self.names[b].clone());
                self.fact(What::Contacts {
                    a,
                    b,
                    are: true,
                    since,
                });
            }
            Act::Members => self.members(),
            Act::Fault => self.fault(),
            Act::FaultEnds(fault) => self.fact(What::FaultEnded { fault }),
        }
    }

    fn fault(&mut self) {
        if !self.talking() {
            return;
        }
        self.faults += 1;
        let fault = self.faults;
        let lasts = SECOND + self.rng.below(8 * SECOND);
        let excuses = [
            Guarantee::G1,
            Guarantee::G4,
            Guarantee::G5,
            Guarantee::G6,
            Guarantee::G9,
        ];
        self.fault_until = self.now + lasts;
        self.hold_up(lasts);
        self.fact(What::FaultBegan {
            fault,
            kind: "everything stands still".into(),
            excuses: excuses
                .map(|guarantee| Excuse {
                    guarantee,
                    recovery_us: 2 * SECOND,
                    most_us: None,
                })
                .into(),
        });
        self.after(self.now + lasts, Act::FaultEnds(fault));
        let pause = lasts + 10 * SECOND + self.rng.below(20 * SECOND);
        self.after(self.now + pause, Act::Fault);
    }
}
