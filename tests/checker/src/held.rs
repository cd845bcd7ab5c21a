//! What each device held, and the place of each event that most agree on.

use std::collections::HashMap;

use crate::{
    device::Device,
    model::{Event, Model, NEVER, Said},
    record::How,
};

/// An event on a device, from when it was set up until it forgot everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) life: u32,
    pub(crate) event: u32,
    /// Lowest place of a copy.
    pub(crate) seq: u64,
    pub(crate) first: Said,
    /// How often it was shown as new.
    pub(crate) shown: u32,
    /// Line of the last time.
    pub(crate) shown_line: u32,
}

/// A live event that was shown after one with a higher place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overtaken {
    pub(crate) event: u32,
    pub(crate) line: u32,
    pub(crate) by_line: u32,
}

/// All that a device held.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// By life and event.
    pub(crate) held: Vec<Held>,
    pub(crate) overtaken: Vec<Overtaken>,
    /// Live events that were shown.
    pub(crate) live: u64,
    /// Copies that were dropped: at the place of the first, and at others.
    pub(crate) copies: u64,
    pub(crate) moved: u64,
}

impl Holding {
    fn of(number: u32, device: &Device, events: &[Event]) -> Self {
        let mut out = Self::default();
        let mut index: HashMap<u32, usize> = HashMap::new();
        let mut highest: HashMap<u32, (u64, u32)> = HashMap::new();
        let (mut life, mut session) = (0, 0);
        for copy in &device.copies {
            while device.emptied.get(life).is_some_and(|s| s.line < copy.line) {
                life += 1;
                index.clear();
            }
            while device.fresh.get(session).is_some_and(|l| *l < copy.line) {
                session += 1;
                highest.clear();
            }
            let held = &mut out.held;
            let mut known = true;
            let at = *index.entry(copy.event).or_insert_with(|| {
                known = false;
                held.push(Held {
                    life: life as u32,
                    event: copy.event,
                    seq: copy.seq,
                    first: Said {
                        at: copy.at,
                        line: copy.line,
                    },
                    shown: 0,
                    shown_line: 0,
                });
                held.len() - 1
            });
            let held = &mut held[at];
            let event = &events[copy.event as usize];
            let own = event.sent.is_some_and(|s| s.device == number);
            if known && copy.how.is_some() && !copy.shown && !own {
                out.copies += u64::from(copy.seq == held.seq);
                out.moved += u64::from(copy.seq != held.seq);
            }
            held.seq = held.seq.min(copy.seq);
            if !copy.shown {
                continue;
            }
            held.shown += 1;
            held.shown_line = copy.line;
            // what it sent itself it shows when it is told, whatever came before is not here yet
            if copy.how == Some(How::Live) && held.shown == 1 && !own {
                out.live += 1;
                let high = highest.entry(event.talk).or_insert((0, 0));
                if copy.seq < high.0 {
                    out.overtaken.push(Overtaken {
                        event: copy.event,
                        line: copy.line,
                        by_line: high.1,
                    });
                } else {
                    *high = (copy.seq, copy.line);
                }
            }
        }
        out.held.sort_unstable_by_key(|h| (h.life, h.event));
        out
    }

    /// An event in a life of the device.
    pub(crate) fn get(&self, life: usize, event: u32) -> Option<&Held> {
        let key = (life as u32, event);
        let at = self.held.binary_search_by_key(&key, |h| (h.life, h.event));
        at.ok().map(|at| &self.held[at])
    }
}

impl Model {
    /// What the devices held, in their order.
    pub(crate) fn find_holdings(&mut self) -> Vec<Holding> {
        let holdings: Vec<Holding> = self
            .devices
            .iter()
            .enumerate()
            .map(|(n, device)| Holding::of(n as u32, device, &self.events))
            .collect();
        for device in &mut self.devices {
            device.copies = Vec::new();
        }
        holdings
    }

    /// Gives each event the place at which most saw it, devices and readings of history alike; the lowest of
    /// those that as many saw.
    pub(crate) fn find_places(&mut self, holdings: &[Holding]) {
        let mut votes: Vec<(u64, u32)> = vec![(NEVER, 0); self.events.len()];
        let mut others: HashMap<(u32, u64), u32> = HashMap::new();
        let held = holdings.iter().flat_map(|h| &h.held);
        let read = self.readings.iter().flat_map(|r| &r.lines);
        for (event, seq) in held.map(|h| (h.event, h.seq)).chain(read.copied()) {
            let vote = &mut votes[event as usize];
            if vote.1 == 0 || vote.0 == seq {
                *vote = (seq, vote.1 + 1);
            } else {
                *others.entry((event, seq)).or_default() += 1;
            }
        }
        for ((event, seq), count) in others {
            let vote = &mut votes[event as usize];
            if count > vote.1 || (count == vote.1 && seq < vote.0) {
                *vote = (seq, count);
            }
        }
        for (event, (place, _)) in self.events.iter_mut().zip(votes) {
            event.place = place;
        }
    }
}
