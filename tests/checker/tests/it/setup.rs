//! How a model's world begins: people, devices, conversations.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use tandem_checker::{Status, VERSION, What};

use crate::{
    rng::Rng,
    world::{Act, Device, Link, MS, Plan, SECOND, Talk, World},
};

impl World {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let names = (0..plan.people).map(|n| format!("p{n}@x.test")).collect();
        let mut world = Self {
            rng: Rng(seed),
            now: SECOND,
            records: Vec::new(),
            queue: BinaryHeap::new(),
            turn: 0,
            names,
            devices: Vec::new(),
            talks: Vec::new(),
            events: Vec::new(),
            blocks: BTreeSet::new(),
            contacts: BTreeSet::new(),
            busy_pairs: BTreeSet::new(),
            statuses: vec![(Status::Offline, 0, 0); plan.people],
            confirmed: BTreeMap::new(),
            fault_until: 0,
            faults: 0,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let by = "a model".to_owned();
        self.fact(What::Begun {
            version: VERSION,
            by,
        });
        for person in 0..self.plan.people {
            for (n, id) in ["pc", "phone"].iter().enumerate() {
                if n > 0 && person % 3 == 2 {
                    continue;
                }
                self.devices.push(Device {
                    person,
                    id: (*id).to_owned(),
                    token: n > 0,
                    link: Link::Off,
                    lost_at: 0,
                    epoch: 0,
                    synced: false,
                    known: BTreeSet::new(),
                    missed: Vec::new(),
                    status: Status::Online,
                    message: 0,
                    ordinal: 0,
                    outbox: Vec::new(),
                    busy: 0,
                    append: 0,
                });
                let device = self.devices.len() - 1;
                self.on(device, What::Device { listens: true });
                if n > 0 {
                    self.on(device, What::PushToken { is: true });
                }
                self.after(self.now + device as u64 * 10 * MS, Act::Return(device));
            }
        }
        for a in 0..self.plan.people {
            for b in a + 1..self.plan.people {
                let strangers = self.plan.relations && a == 0 && b == 1;
                self.talks.push(Talk {
                    id: format!("o:{},{}", self.names[a], self.names[b]),
                    members: vec![a, b],
                    stays: vec![(a, 0, u64::MAX), (b, 0, u64::MAX)],
                    next: 1 << 48,
                    ..Talk::default()
                });
                if !strangers {
                    self.contacts.insert((a, b));
                    let (a, b) = (self.names[a].clone(), self.names[b].clone());
                    self.fact(What::Contacts {
                        a,
                        b,
                        are: true,
                        since: 0,
                    });
                }
            }
        }
        for n in 0..self.plan.groups {
            self.talks.push(Talk {
                id: format!("g:00000000-0000-4000-8000-{n:012}@x.test"),
                group: true,
                next: 1 << 48,
                ..Talk::default()
            });
        }
        self.after(2 * SECOND, Act::Send);
        self.after(7 * SECOND, Act::SetStatus);
        if self.plan.breaks {
            self.after(6 * SECOND, Act::Break);
        }
        if self.plan.faults {
            self.after(9 * SECOND, Act::Fault);
        }
        if self.plan.relations {
            self.after(8 * SECOND, Act::Relate);
            self.after(8 * SECOND, Act::Members);
        }
    }
}
