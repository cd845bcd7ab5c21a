//! The record, taken in: names as numbers, events with what became of them, devices with what reached them.

use std::collections::{BTreeMap, HashMap};

use tandem_kernel::EventId;

use crate::{
    audience::Talk,
    device::Device,
    faults::Faults,
    names::Names,
    record::{Kind, Line, Record},
    rules::Rules,
    timeline::YesNo,
};

/// Not known, or never.
pub(crate) const NEVER: u64 = u64::MAX;

/// How an event was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) device: u32,
    /// Among what its device sent.
    pub(crate) ordinal: u64,
    /// The same; another, if it was refused for now and submitted again.
    pub(crate) again: u64,
    pub(crate) at: u64,
    pub(crate) line: u32,
}

/// Something that the record said at a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) at: u64,
    pub(crate) line: u32,
}

/// What an event is, as far as the checker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Never submitted in this record.
    Foreign,
    /// A message or a nudge: it is notified, and has a line on the screen.
    Ring,
    /// An edit, a delete, a reaction: it changes another's line.
    Note,
    /// A change of a group: a line on the screen.
    Change,
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) author: u32,
    pub(crate) id: EventId,
    pub(crate) talk: u32,
    pub(crate) class: Class,
    /// What a change of a group says.
    pub(crate) change: Option<Box<Kind>>,
    pub(crate) sent: Option<Sent>,
    pub(crate) accepted: Option<Said>,
    /// Place that its device was told.
    pub(crate) told: u64,
    /// Refused for good.
    pub(crate) refused: Option<Said>,
    /// It was refused, and the device is to submit it again.
    pub(crate) put_off: bool,
    /// First copy that reached any device.
    pub(crate) delivered: Option<Said>,
    /// Its place, as most see it; [`NEVER`]: nobody has seen it.
    pub(crate) place: u64,
    /// It does not count at its place: its author was no member there, or had no right to it.
    pub(crate) void: bool,
}

impl Event {
    /// Whether its device was told that it is in the log, and not that it never will be.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted.is_some() && !self.void
    }
}

/// A complete reading of a conversation's history by a device.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) device: u32,
    pub(crate) talk: u32,
    pub(crate) since: u64,
    pub(crate) line: u32,
    /// (event, seq).
    pub(crate) lines: Vec<(u32, u64)>,
}

/// What a device shows of a conversation.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) line: u32,
    pub(crate) lines: Vec<(u32, u64)>,
}

/// A receipt that an author was told of.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) device: u32,
    pub(crate) talk: u32,
    pub(crate) by: u32,
    pub(crate) up_to: u64,
    pub(crate) exact: Box<[u64]>,
    pub(crate) said: Said,
}

/// What a person's devices confirmed of a conversation.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    /// (up to, when), both rising.
    up_to: Vec<(u64, u64)>,
    exact: HashMap<u64, u64>,
}

impl Confirmed {
    pub(crate) fn say(&mut self, at: u64, up_to: u64, exact: Vec<u64>) {
        if self.up_to.last().is_none_or(|(known, _)| *known < up_to) {
            self.up_to.push((up_to, at));
        }
        for seq in exact {
            self.exact.entry(seq).or_insert(at);
        }
    }

    /// When the event at `seq` was confirmed first; [`NEVER`]: it was not.
    pub(crate) fn when(&self, seq: u64) -> u64 {
        let first = self.up_to.partition_point(|(up_to, _)| *up_to < seq);
        let by_mark = self.up_to.get(first).map_or(NEVER, |(_, at)| *at);
        by_mark.min(self.exact.get(&seq).copied().unwrap_or(NEVER))
    }
}

/// A notification at the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notified {
    pub(crate) seq: u64,
    pub(crate) said: Said,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) rules: Rules,
    pub(crate) records: u32,
    /// When the last record was written.
    pub(crate) last: u64,
    /// The end of the talk; until that was said, the same.
    pub(crate) end: u64,
    pub(crate) settled: bool,
    pub(crate) users: Names,
    pub(crate) talks: Names,
    pub(crate) texts: Names,
    pub(crate) devices: Vec<Device>,
    device_ids: Names,
    device_numbers: HashMap<(u32, u32), u32>,
    pub(crate) events: Vec<Event>,
    event_numbers: HashMap<(u32, EventId), u32>,
    /// By conversation; made when the record is complete.
    pub(crate) talk: Vec<Talk>,
    /// Groups that were there before: owner, members.
    pub(crate) groups: HashMap<u32, (String, Vec<String>)>,
    /// By the two people, the lower number first.
    pub(crate) contacts: BTreeMap<(u32, u32), YesNo>,
    /// By who blocks whom.
    pub(crate) blocks: BTreeMap<(u32, u32), YesNo>,
    pub(crate) faults: Faults,
    pub(crate) receipts: Vec<Receipt>,
    /// By person and conversation.
    pub(crate) confirmed: HashMap<(u32, u32), Confirmed>,
    /// By device and conversation.
    pub(crate) notified: BTreeMap<(u32, u32), Vec<Notified>>,
    pub(crate) readings: Vec<Reading>,
    pub(crate) open_readings: BTreeMap<(u32, u32), Reading>,
    pub(crate) screens: BTreeMap<(u32, u32), Screen>,
    pub(crate) information: BTreeMap<&'static str, u64>,
    pub(crate) flaws: Vec<String>,
}

/// Flaws of a record that are told one by one.
const FLAWS: usize = 20;

impl Model {
    pub(crate) fn flaw(&mut self, text: &str) {
        if self.flaws.len() < FLAWS {
            let line = self.records;
            self.flaws.push(format!("record {line}: {text}"));
        }
    }

    pub(crate) fn count(&mut self, what: &'static str, by: u64) {
        *self.information.entry(what).or_default() += by;
    }

    /// The number of an event; a new one if the record does not know it. `None`: its id is none.
    pub(crate) fn event(&mut self, author: u32, id: &str, talk: u32) -> Option<u32> {
        let Ok(id) = EventId::parse(id) else {
            self.flaw("an event id that is none");
            return None;
        };
        if let Some(known) = self.event_numbers.get(&(author, id)) {
            let known = *known;
            if self.events[known as usize].talk != talk {
                self.flaw("an event in another conversation than before");
            }
            return Some(known);
        }
        let number = self.events.len() as u32;
        self.events.push(Event {
            author,
            id,
            talk,
            class: Class::Foreign,
            change: None,
            sent: None,
            accepted: None,
            told: NEVER,
            refused: None,
            put_off: false,
            delivered: None,
            place: NEVER,
            void: false,
        });
        self.event_numbers.insert((author, id), number);
        Some(number)
    }

    /// The number of an event that the record knows.
    pub(crate) fn known_event(&self, author: u32, id: &str) -> Option<u32> {
        let id = EventId::parse(id).ok()?;
        self.event_numbers.get(&(author, id)).copied()
    }

    pub(crate) fn lines(&mut self, talk: u32, lines: &[Line]) -> Vec<(u32, u64)> {
        let mut out = Vec::with_capacity(lines.len());
        for line in lines {
            let author = self.users.number(&line.author);
            if let Some(event) = self.event(author, &line.id, talk) {
                out.push((event, line.seq));
            }
        }
        out
    }

    /// The device of a record, which should have one.
    pub(crate) fn device_of(&mut self, record: &Record) -> Option<u32> {
        let Some(who) = &record.who else {
            self.flaw("it is a device's, and `who` is not set");
            return None;
        };
        let user = self.users.number(&who.user);
        let key = (user, self.device_ids.number(&who.device));
        let next = self.devices.len() as u32;
        let number = *self.device_numbers.entry(key).or_insert(next);
        if number == next {
            let name = format!("{}/{}", who.user, who.device);
            self.devices.push(Device::new(user, name));
        }
        Some(number)
    }

    /// An event, for people.
    pub(crate) fn tell(&self, event: u32) -> String {
        let event = &self.events[event as usize];
        let (author, talk) = (self.users.name(event.author), self.talks.name(event.talk));
        if event.place == NEVER {
            return format!("{} of {author} in {talk}", event.id);
        }
        format!("{} of {author} in {talk} at {}", event.id, event.place)
    }
}

/// Microseconds as seconds, for people.
pub(crate) fn seconds(us: u64) -> String {
    if us == NEVER {
        return "never".to_owned();
    }
    format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000)
}
