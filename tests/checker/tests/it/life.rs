//! How the model's people come and go, set their status, and change what they are to each other.

use tandem_checker::{Kind, Status, What};

use crate::world::{Act, Link, MS, SECOND, World, text};

impl World {
    // ------------------------------------------------------------ connections

    pub fn break_something(&mut self) {
        if !self.talking() {
            return;
        }
        let pause = SECOND + self.rng.below(3 * SECOND);
        self.after(self.now + pause, Act::Break);
        let on: Vec<usize> = (0..self.devices.len())
            .filter(|d| self.devices[*d].link == Link::On)
            .collect();
        let Some(device) = self.rng.pick(&on).copied() else {
            return;
        };
        let person = self.devices[device].person;
        if self.rng.chance(15) {
            return self.leave(person);
        }
        let away = if self.rng.chance(30) {
            15 * SECOND
        } else {
            4 * SECOND
        };
        let away = 100 * MS + self.rng.below(away);
        if self.rng.chance(25) {
            self.on(device, What::Closed {});
            self.devices[device].link = Link::Off;
            self.propagate(person);
        } else {
            let what = What::Lost {
                heard: None,
                reason: String::new(),
            };
            self.on(device, what);
            let d = &mut self.devices[device];
            d.link = Link::Detached;
            d.lost_at = self.now;
            self.after(self.now + 5 * SECOND, Act::Damped(person));
        }
        self.after(self.now + away, Act::Return(device));
    }

    /// The person goes away with all devices, for a while.
    fn leave(&mut self, person: usize) {
        let away = 12 * SECOND + self.rng.below(10 * SECOND);
        for device in self.devices_of(person) {
            if self.devices[device].link == Link::On {
                self.on(device, What::Closed {});
                self.devices[device].link = Link::Off;
                self.after(self.now + away, Act::Return(device));
            }
        }
        self.propagate(person);
    }

    pub fn come_back(&mut self, device: usize) {
        let (link, lost_at) = (self.devices[device].link, self.devices[device].lost_at);
        if link == Link::On {
            return;
        }
        let resumed =
            link == Link::Detached && self.now - lost_at < 3 * SECOND && self.rng.chance(60);
        if !resumed && self.rng.chance(8) && self.devices[device].epoch > 0 {
            self.on(device, What::Emptied {});
            let d = &mut self.devices[device];
            d.known.clear();
            d.synced = false;
            // what it had not sent is lost with it
            for event in std::mem::take(&mut d.outbox) {
                self.events[event].done = true;
            }
        }
        let (person, status) = (self.devices[device].person, self.devices[device].status);
        self.on(device, What::Connecting { status });
        self.now += 5 * MS;
        let d = &mut self.devices[device];
        d.link = Link::On;
        if !resumed {
            d.epoch += 1;
            d.synced = false;
            d.missed.clear();
        }
        let (epoch, synced, message) = (d.epoch, d.synced, d.message);
        let session = format!("{}-{epoch}", d.id);
        self.on(device, What::Welcome { session, resumed });
        if message > 0 {
            let message = text(message);
            self.on(device, What::PresenceSet { status, message });
        }
        for event in std::mem::take(&mut self.devices[device].missed) {
            self.deliver(device, epoch, event);
        }
        if !synced {
            self.after(self.now + 50 * MS, Act::Sync(device, epoch));
        }
        self.after(self.now + 20 * MS, Act::Snapshot(device, epoch));
        self.propagate(person);
        for event in self.devices[device].outbox.clone() {
            self.resubmit(event);
        }
    }

    // ------------------------------------------------------------ presence

    pub fn set_status(&mut self) {
        if !self.talking() {
            return;
        }
        let pause = SECOND + self.rng.below(9 * SECOND);
        self.after(self.now + pause, Act::SetStatus);
        let device = self.rng.below(self.devices.len() as u64) as usize;
        if self.devices[device].link != Link::On {
            return;
        }
        let all = [
            Status::Online,
            Status::Busy,
            Status::Away,
            Status::AppearOffline,
        ];
        let status = *self.rng.pick(&all).unwrap();
        let message = self.rng.below(3);
        let d = &mut self.devices[device];
        (d.status, d.message) = (status, message);
        let person = d.person;
        let message = text(message);
        self.on(device, What::PresenceSet { status, message });
        self.propagate(person);
    }

    /// Derives the person's status, and tells it if it changed.
    pub fn propagate(&mut self, person: usize) {
        let counts = |d: &&crate::world::Device| {
            d.person == person
                && (d.link == Link::On
                    || d.link == Link::Detached && self.now < d.lost_at + 5 * SECOND)
        };
        let best = self.devices.iter().filter(counts).min_by_key(|d| {
            let hides = d.status == Status::AppearOffline;
            (!hides, d.status)
        });
        let (status, message) = match best {
            None => (Status::Offline, 0),
            Some(d) if d.status == Status::AppearOffline => (Status::Offline, 0),
            Some(d) => (d.status, d.message),
        };
        let settled = &mut self.statuses[person];
        if (settled.0, settled.1) == (status, message) {
            return;
        }
        *settled = (status, message, settled.2 + 1);
        for viewer in 0..self.plan.people {
            if self.sees(viewer, person) {
                self.tell_person(viewer, person);
            }
        }
    }

    /// `viewer`'s devices are told of `person` in a new version: the status, or offline.
    fn tell_person(&mut self, viewer: usize, person: usize) {
        let (mut status, mut message, version) = self.statuses[person];
        if !self.sees(viewer, person) {
            (status, message) = (Status::Offline, 0);
        }
        for device in self.devices_of(viewer) {
            let (epoch, link) = (self.devices[device].epoch, self.devices[device].link);
            if link == Link::On {
                let at = self.arrival(device);
                let tell = Act::Tell(device, epoch, person, status, message, version);
                self.after(at, tell);
            }
        }
    }

    pub fn tell(&mut self, device: usize, epoch: u32, of: usize, status: (Status, u64, u64)) {
        let d = &self.devices[device];
        if d.epoch != epoch || d.link != Link::On {
            return;
        }
        let (status, message, version) = status;
        let what = What::Presence {
            of: self.names[of].clone(),
            status,
            message: text(message),
            version,
            shown: true,
        };
        self.on(device, what);
    }

    pub fn snapshot(&mut self, device: usize, epoch: u32) {
        let person = self.devices[device].person;
        for of in 0..self.plan.people {
            if of != person && self.are_contacts(of, person) {
                let (mut status, mut message, mut version) = self.statuses[of];
                if status == Status::Offline || !self.sees(person, of) {
                    (status, message, version) = (Status::Offline, 0, 0);
                }
                let at = self.arrival(device);
                self.after(at, Act::Tell(device, epoch, of, status, message, version));
            }
        }
    }

    // ------------------------------------------------------------ relations

    pub fn relate(&mut self) {
        if !self.talking() {
            return;
        }
        let pause = 4 * SECOND + self.rng.below(8 * SECOND);
        self.after(self.now + pause, Act::Relate);
        if self.contacts.insert((0, 1)) {
            // asked for now, and done in a moment
            self.contacts.remove(&(0, 1));
            if self.rng.chance(40) {
                self.after(self.now + 50 * MS, Act::Consent(0, 1));
                self.after(self.now + 100 * MS, Act::Consented(0, 1, self.now));
                return;
            }
        }
        let people = self.plan.people as u64;
        let (by, of) = (
            self.rng.below(people) as usize,
            self.rng.below(people) as usize,
        );
        if by == of || !self.are_contacts(by, of) || !self.busy_pairs.insert((by, of)) {
            return;
        }
        let is = !self.blocks.contains(&(by, of));
        self.after(self.now + 50 * MS, Act::Flip(by, of, is));
        self.after(self.now + 100 * MS, Act::Flipped(by, of, is, self.now));
    }

    pub fn flip(&mut self, by: usize, of: usize, is: bool) {
        let both = |w: &Self| (w.sees(of, by), w.statuses[by].0 != Status::Offline);
        let (saw, online) = both(self);
        if is {
            self.blocks.insert((by, of));
            if saw && online {
                self.statuses[by].2 += 1;
                self.tell_person(of, by);
            }
        } else {
            self.blocks.remove(&(by, of));
            self.show_each_other(by, of);
        }
    }

    pub fn show_each_other(&mut self, a: usize, b: usize) {
        for (viewer, person) in [(a, b), (b, a)] {
            if self.sees(viewer, person) {
                self.statuses[person].2 += 1;
                self.tell_person(viewer, person);
            }
        }
    }

    /// A group's owner adds or removes somebody, or somebody leaves.
    pub fn members(&mut self) {
        if !self.talking() {
            return;
        }
        let pause = 2 * SECOND + self.rng.below(5 * SECOND);
        self.after(self.now + pause, Act::Members);
        let groups: Vec<usize> = (0..self.talks.len())
            .filter(|t| self.talks[*t].group && !self.talks[*t].members.is_empty())
            .collect();
        let Some(talk) = self.rng.pick(&groups).copied() else {
            return;
        };
        let owner = self.events[self.talks[talk].log[0]].author;
        let on: Vec<usize> = self
            .devices_of(owner)
            .into_iter()
            .filter(|d| self.devices[*d].link == Link::On)
            .collect();
        let Some(device) = self.rng.pick(&on).copied() else {
            return;
        };
        let who = self.rng.below(self.plan.people as u64) as usize;
        if who == owner || self.blocks.contains(&(who, owner)) {
            return;
        }
        let name = self.names[who].clone();
        let kind = if self.talks[talk].members.contains(&who) {
            Kind::Remove { member: name }
        } else {
            Kind::Add {
                members: vec![name],
            }
        };
        self.submit(device, talk, kind);
    }
}
