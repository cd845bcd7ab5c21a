//! How the model's people talk: events are sent, appended, delivered, confirmed, notified and read back.

use tandem_checker::{How, Kind, What};
use tandem_kernel::EventId;

use crate::world::{Act, Event, Link, MS, SECOND, World};

impl World {
    pub fn send(&mut self) {
        if !self.talking() {
            return;
        }
        let pause = self.plan.pause / 2 + self.rng.below(self.plan.pause);
        self.after(self.now + pause, Act::Send);
        // a group begins with its first event
        let begins = (0..self.talks.len())
            .find(|t| self.talks[*t].group && self.events.iter().all(|e| e.talk != *t));
        let on: Vec<usize> = (0..self.devices.len())
            .filter(|d| self.devices[*d].link != Link::Off)
            .collect();
        let Some(device) = self.rng.pick(&on).copied() else {
            return;
        };
        let person = self.devices[device].person;
        if let Some(talk) = begins {
            let half = self.plan.people.div_ceil(2);
            let members = self.names[..half].to_vec();
            if person < half {
                self.submit(device, talk, Kind::Create { members });
            }
            return;
        }
        let mine: Vec<usize> = (0..self.talks.len())
            .filter(|t| self.talks[*t].members.contains(&person))
            .collect();
        let Some(talk) = self.rng.pick(&mine).copied() else {
            return;
        };
        let kind = match self.rng.below(10) {
            0 => Kind::Nudge,
            1 => Kind::Reaction,
            2 => Kind::Edit,
            _ => Kind::Text,
        };
        self.submit(device, talk, kind);
    }

    pub fn submit(&mut self, device: usize, talk: usize, kind: Kind) {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.rng.next().to_be_bytes());
        let id = EventId::new(self.now / MS, &random).to_string();
        let d = &mut self.devices[device];
        d.ordinal += 1;
        let event = self.events.len();
        d.outbox.push(event);
        self.events.push(Event {
            id,
            author: d.person,
            device,
            talk,
            kind,
            ordinal: d.ordinal,
            seq: 0,
            second: 0,
            hidden: Vec::new(),
            done: false,
            tries: 0,
            put_off: false,
            doomed: false,
        });
        self.say(event);
    }

    /// The device sends it, if it can; else when it is back.
    fn say(&mut self, event: usize) {
        let e = &self.events[event];
        let device = e.device;
        if e.tries > 0 && self.devices[device].link != Link::On {
            return;
        }
        if std::mem::take(&mut self.events[event].put_off) {
            let d = &mut self.devices[device];
            d.ordinal += 1;
            self.events[event].ordinal = d.ordinal;
        }
        let e = &self.events[event];
        let what = What::Submitted {
            id: e.id.clone(),
            conversation: self.talks[e.talk].id.clone(),
            ordinal: e.ordinal,
            kind: e.kind.clone(),
        };
        self.on(device, what);
        self.events[event].tries += 1;
        if self.devices[device].link == Link::On {
            // behind what waits for a fault's end
            let at = self.now.max(self.fault_until) + self.lag();
            let d = &mut self.devices[device];
            d.append = at.max(d.append + 1);
            let at = d.append;
            self.after(at, Act::Append(event));
        }
    }

    pub fn resubmit(&mut self, event: usize) {
        if !self.events[event].done {
            self.say(event);
        }
    }

    pub fn append(&mut self, event: usize) {
        let e = &self.events[event];
        let (talk, author, device) = (e.talk, e.author, e.device);
        let epoch = self.devices[device].epoch;
        if e.done {
            return;
        }
        if e.seq != 0 {
            // a resend of what is in the log
            let at = self.arrival(device);
            return self.after(at, Act::Answer(device, event, epoch));
        }
        let begins = matches!(e.kind, Kind::Create { .. });
        let members = &self.talks[talk].members;
        let mut counts = !e.doomed && (begins || members.contains(&author));
        if let Kind::Remove { member } = &e.kind {
            counts &= members.iter().any(|m| self.names[*m] == *member);
        }
        // an answer that is lost would let what came after it overtake it
        let answered = self.devices[device].link == Link::On && e.tries == 1;
        if !counts || (!begins && answered && self.rng.chance(2)) {
            return self.refuse(event, counts);
        }
        let t = &mut self.talks[talk];
        t.next += 1 + self.rng.below(3);
        let (seq, second) = (t.next, t.next + 1);
        t.next += 1;
        t.log.push(event);
        let before = t.members.clone();
        let hidden = |m: &usize| self.blocks.contains(&(*m, author));
        let hidden = before.iter().copied().filter(hidden).collect();
        let twice = self.rng.chance(4);
        let e = &mut self.events[event];
        (e.seq, e.hidden) = (seq, hidden);
        e.second = if twice { second } else { 0 };
        self.change_members(event);
        let mut people = before;
        people.extend(self.talks[talk].members.clone());
        people.sort_unstable();
        people.dedup();
        for device in 0..self.devices.len() {
            let d = &self.devices[device];
            let (epoch, off) = (d.epoch, d.link == Link::Off);
            if off || !people.contains(&d.person) || !self.may_see(d.person, event) {
                continue;
            }
            let at = self.arrival(device);
            self.after(at, Act::Deliver(device, epoch, event));
            if self.events[event].second > 0 {
                self.after(at + 50 * MS, Act::Second(device, epoch, event));
            }
        }
        let at = self.now + self.lag();
        self.after(at, Act::Answer(device, event, epoch));
        if matches!(self.events[event].kind, Kind::Text | Kind::Nudge) {
            let at = self.now + 5 * SECOND + self.lag();
            self.after(at, Act::Push(event));
        }
    }

    fn refuse(&mut self, event: usize, for_now: bool) {
        let device = self.events[event].device;
        if self.devices[device].link != Link::On {
            // its device hears of it when it asks again
            self.events[event].doomed = true;
            return;
        }
        let again = for_now && self.rng.chance(50) && self.talking();
        let what = What::Rejected {
            id: self.events[event].id.clone(),
            code: if for_now {
                "rate_limited"
            } else {
                "not_a_member"
            }
            .into(),
            again,
        };
        self.on(device, what);
        if again {
            self.events[event].put_off = true;
            self.after(self.now + SECOND, Act::Resubmit(event));
        } else {
            self.finish(event);
        }
    }

    fn finish(&mut self, event: usize) {
        self.events[event].done = true;
        let device = self.events[event].device;
        self.devices[device].outbox.retain(|e| *e != event);
    }

    fn change_members(&mut self, event: usize) {
        let e = &self.events[event];
        let seq = e.seq;
        let person = |name: &String| self.names.iter().position(|n| n == name);
        let (join, leave): (Vec<usize>, Option<usize>) = match &e.kind {
            Kind::Create { members } => {
                let mut all: Vec<_> = members.iter().filter_map(person).collect();
                all.push(e.author);
                (all, None)
            }
            Kind::Add { members } => (members.iter().filter_map(person).collect(), None),
            Kind::Remove { member } => (Vec::new(), person(member)),
            Kind::Leave => (Vec::new(), Some(e.author)),
            _ => return,
        };
        let talk = &mut self.talks[e.talk];
        for who in join {
            if !talk.members.contains(&who) {
                talk.members.push(who);
                talk.stays.push((who, seq, u64::MAX));
            }
        }
        if let Some(who) = leave {
            talk.members.retain(|m| *m != who);
            let open = |s: &&mut (usize, u64, u64)| s.0 == who && s.2 == u64::MAX;
            if let Some(stay) = talk.stays.iter_mut().find(open) {
                stay.2 = seq;
            }
        }
    }

    pub fn answer(&mut self, device: usize, event: usize, epoch: u32) {
        let d = &self.devices[device];
        if self.events[event].done || d.link != Link::On || d.epoch != epoch {
            return;
        }
        let e = &self.events[event];
        // the answer to a resend may name the copy that it made
        let told = if e.second > 0 && self.devices[device].known.contains(&event) {
            e.second
        } else {
            e.seq
        };
        let id = e.id.clone();
        self.on(device, What::Accepted { id, seq: told });
        self.devices[device].known.insert(event);
        self.finish(event);
    }

    pub fn deliver(&mut self, device: usize, epoch: u32, event: usize) {
        let d = &self.devices[device];
        if d.epoch != epoch || d.link == Link::Off {
            return;
        }
        if d.link == Link::Detached {
            return self.devices[device].missed.push(event);
        }
        let synced = d.synced;
        let new = self.devices[device].known.insert(event);
        let seq = self.events[event].seq;
        self.seen(device, event, seq, How::Live, new);
        if self.rng.chance(3) {
            self.seen(device, event, seq, How::Live, false);
        }
        let e = &self.events[event];
        if e.author != self.devices[device].person {
            let talk = e.talk;
            self.confirm(device, talk, seq, !synced);
        }
    }

    pub fn confirm(&mut self, device: usize, talk: usize, seq: u64, exact: bool) {
        let person = self.devices[device].person;
        let read = !exact && self.rng.chance(30);
        let what = What::Confirmed {
            conversation: self.talks[talk].id.clone(),
            delivered: if exact || read { 0 } else { seq },
            exact: if exact { vec![seq] } else { Vec::new() },
            read: if read { seq } else { 0 },
        };
        self.on(device, what);
        let known = self.confirmed.entry((person, talk)).or_default();
        if exact {
            known.1.insert(seq);
        } else {
            known.0 = known.0.max(seq);
        }
        let newest = self.talks[talk].log.iter().rev().copied().find(|e| {
            let e = &self.events[*e];
            e.seq <= seq && e.author != person
        });
        let Some(author) = newest.map(|e| self.events[e].author) else {
            return;
        };
        if newest.is_some_and(|e| !self.may_see(person, e)) {
            return;
        }
        let hidden = self.blocks.contains(&(person, author))
            || !self.talks[talk].group && !self.are_contacts(person, author);
        if hidden {
            return;
        }
        for device in self.devices_of(author) {
            let epoch = self.devices[device].epoch;
            let at = self.now + 200 * MS + self.rng.below(100 * MS);
            self.after(at, Act::Receipt(device, epoch, talk, person, seq));
        }
    }

    pub fn receipt(&mut self, device: usize, epoch: u32, talk: usize, by: usize, up_to: u64) {
        let d = &self.devices[device];
        if d.epoch == epoch && d.link == Link::On {
            let what = What::Receipt {
                conversation: self.talks[talk].id.clone(),
                by: self.names[by].clone(),
                delivered: up_to,
                exact: Vec::new(),
                read: 0,
                how: How::Live,
            };
            self.on(device, what);
        }
    }

    pub fn push(&mut self, event: usize) {
        let e = &self.events[event];
        let (talk, seq, author) = (e.talk, e.seq, e.author);
        for device in 0..self.devices.len() {
            let d = &self.devices[device];
            let person = d.person;
            if !d.token || person == author || !self.may_see(person, event) {
                continue;
            }
            let confirmed = self.confirmed.get(&(person, talk));
            if confirmed.is_none_or(|(up_to, exact)| *up_to < seq && !exact.contains(&seq)) {
                let conversation = self.talks[talk].id.clone();
                self.on(device, What::Notified { conversation, seq });
            }
        }
    }
}
