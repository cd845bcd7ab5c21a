//! What the model's devices read: what they lack, when they sync, and everything at the end.

use tandem_checker::{How, Kind, Line, What};

use crate::world::{Link, MS, World};

impl World {
    pub fn sync(&mut self, device: usize, epoch: u32) {
        let d = &self.devices[device];
        if d.epoch != epoch || d.link != Link::On {
            return;
        }
        let person = d.person;
        for talk in 0..self.talks.len() {
            let mut last = None;
            for event in self.talks[talk].log.clone() {
                if !self.may_see(person, event) {
                    continue;
                }
                let seq = self.events[event].seq;
                if self.devices[device].known.insert(event) {
                    self.seen(device, event, seq, How::Sync, true);
                    last = Some(seq);
                } else if self.events[event].second > 0 {
                    self.seen(device, event, seq, How::Sync, false);
                }
            }
            if let Some(seq) = last {
                self.confirm(device, talk, seq, false);
            }
        }
        self.on(device, What::Synced {});
        self.devices[device].synced = true;
    }

    /// The screens, and everybody's history.
    pub fn read_back(&mut self) {
        let line = |world: &Self, event: usize| Line {
            seq: world.events[event].seq,
            id: world.events[event].id.clone(),
            author: world.names[world.events[event].author].clone(),
        };
        for device in 0..self.devices.len() {
            let (person, is_pc) = (self.devices[device].person, self.devices[device].id == "pc");
            for talk in 0..self.talks.len() {
                let conversation = self.talks[talk].id.clone();
                let log = self.talks[talk].log.clone();
                let all: Vec<usize> = log
                    .into_iter()
                    .filter(|e| self.may_see(person, *e))
                    .collect();
                let lines = all
                    .iter()
                    .filter(|e| {
                        let kind = &self.events[**e].kind;
                        !matches!(kind, Kind::Edit | Kind::Delete | Kind::Reaction)
                    })
                    .map(|e| line(self, *e))
                    .collect();
                let what = What::Screen {
                    conversation: conversation.clone(),
                    lines,
                };
                self.on(device, what);
                if !is_pc || all.is_empty() {
                    continue;
                }
                let since = self.now;
                let pages = all.len().div_ceil(20);
                for (n, page) in all.rchunks(20).enumerate() {
                    self.now += 10 * MS;
                    let what = What::History {
                        conversation: conversation.clone(),
                        since,
                        lines: page.iter().map(|e| line(self, *e)).collect(),
                        complete: n + 1 == pages,
                    };
                    self.on(device, what);
                }
            }
        }
    }
}
