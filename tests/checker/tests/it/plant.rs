//! Violations, planted one at a time into the record of a correct system.

#![allow(clippy::ptr_arg, reason = "all changes have one shape")]

mod events;
mod people;

use std::collections::HashMap;

use tandem_checker::{Guarantee, How, Kind, Line, Record, What, Who};

use crate::{
    rng::Rng,
    world::{MS, Plan},
};

/// Changes a record. False: there is nothing in it that could be changed so.
pub type Change = fn(&mut Vec<Record>, &mut Rng) -> bool;

/// A violation.
pub struct Plant {
    pub name: &'static str,
    /// Whose; `None`: it is just none.
    pub breaks: Option<Guarantee>,
    pub world: fn() -> Plan,
    pub change: Change,
}

fn stormy() -> Plan {
    Plan {
        relations: false,
        ..Plan::default()
    }
}

fn unsteady() -> Plan {
    Plan {
        faults: false,
        ..stormy()
    }
}

fn calm() -> Plan {
    Plan {
        breaks: false,
        ..unsteady()
    }
}

fn related() -> Plan {
    Plan {
        faults: false,
        ..Plan::default()
    }
}

#[rustfmt::skip]
pub const PLANTS: &[Plant] = &[
    Plant { name: "an event never reaches a device", breaks: Some(Guarantee::G1), world: stormy, change: events::lose },
    Plant { name: "an event is not on a screen", breaks: Some(Guarantee::G1), world: stormy, change: events::unscreen },
    Plant { name: "an event is late by a microsecond", breaks: Some(Guarantee::G1), world: calm, change: |r, g| events::delay(r, g, 1) },
    Plant { name: "an event is just in time", breaks: None, world: calm, change: |r, g| events::delay(r, g, 0) },
    Plant { name: "an event is shown twice", breaks: Some(Guarantee::G2), world: stormy, change: events::show_twice },
    Plant { name: "an event is twice on a screen", breaks: Some(Guarantee::G2), world: stormy, change: events::screen_twice },
    Plant { name: "a refused event is shown", breaks: Some(Guarantee::G2), world: stormy, change: events::refuse },
    Plant { name: "a device has two events in another order", breaks: Some(Guarantee::G3), world: stormy, change: events::swap },
    Plant { name: "two live events overtake", breaks: Some(Guarantee::G3), world: stormy, change: events::overtake },
    Plant { name: "a device's sends are in another order", breaks: Some(Guarantee::G3), world: calm, change: events::reorder },
    Plant { name: "history has an event elsewhere", breaks: Some(Guarantee::G3), world: stormy, change: events::misplace },
    Plant { name: "history lacks an event", breaks: Some(Guarantee::G4), world: stormy, change: events::forget },
    Plant { name: "history has an event twice", breaks: Some(Guarantee::G4), world: stormy, change: events::store_twice },
    Plant { name: "history lacked an event for too long", breaks: Some(Guarantee::G4), world: calm, change: |r, g| events::catch_up(r, g, 0) },
    Plant { name: "history lacked an event for a moment", breaks: None, world: calm, change: |r, g| events::catch_up(r, g, 1) },
    Plant { name: "nobody was notified", breaks: Some(Guarantee::G5), world: unsteady, change: people::unnotify },
    Plant { name: "a notification is late by a microsecond", breaks: Some(Guarantee::G5), world: unsteady, change: |r, g| people::notify_late(r, g, 1) },
    Plant { name: "a notification is just in time", breaks: None, world: unsteady, change: |r, g| people::notify_late(r, g, 0) },
    Plant { name: "a wrong status is told", breaks: Some(Guarantee::G6), world: unsteady, change: people::wrong_status },
    Plant { name: "a status is never told", breaks: Some(Guarantee::G6), world: calm, change: |r, g| people::tell_late(r, g, None) },
    Plant { name: "a status is told late", breaks: Some(Guarantee::G6), world: calm, change: |r, g| people::tell_late(r, g, Some(5_001 * MS)) },
    Plant { name: "a status is told in time", breaks: None, world: calm, change: |r, g| people::tell_late(r, g, Some(4_900 * MS)) },
    Plant { name: "a version falls", breaks: Some(Guarantee::G6), world: unsteady, change: people::regress },
    Plant { name: "a blocked author gets a receipt", breaks: Some(Guarantee::G9), world: related, change: people::receipt_to_blocked },
    Plant { name: "a stranger gets a receipt", breaks: Some(Guarantee::G9), world: related, change: people::receipt_to_stranger },
    Plant { name: "a blocked person is told a status", breaks: Some(Guarantee::G9), world: related, change: people::status_to_blocked },
    Plant { name: "a stranger is told a status", breaks: Some(Guarantee::G9), world: related, change: people::status_to_stranger },
    Plant { name: "a withheld event is shown", breaks: Some(Guarantee::G9), world: related, change: people::show_withheld },
    Plant { name: "an event reaches an outsider", breaks: Some(Guarantee::G9), world: stormy, change: people::stray },
];

// ---------------------------------------------------------------- what is in a record

/// An event as it was sent and accepted.
#[derive(Clone)]
struct Sent {
    id: String,
    talk: String,
    who: Who,
    at: u64,
    /// How often.
    times: u32,
    kind: Kind,
    accepted: u64,
    seq: u64,
}

fn accepted(records: &[Record]) -> HashMap<String, Sent> {
    let mut all: HashMap<String, Sent> = HashMap::new();
    for record in records {
        match &record.what {
            What::Submitted {
                id,
                conversation,
                kind,
                ..
            } => {
                let sent = all.entry(id.clone()).or_insert_with(|| Sent {
                    id: id.clone(),
                    talk: conversation.clone(),
                    who: record.who.clone().unwrap(),
                    at: record.at,
                    times: 0,
                    kind: kind.clone(),
                    accepted: 0,
                    seq: u64::MAX,
                });
                sent.times += 1;
            }
            What::Accepted { id, seq } => {
                let sent = all.get_mut(id).unwrap();
                sent.accepted = record.at;
                sent.seq = sent.seq.min(*seq);
            }
            // a resend may be told the place of a second copy
            What::Seen { id, seq, .. } => {
                let sent = all.get_mut(id).unwrap();
                sent.seq = sent.seq.min(*seq);
            }
            _ => {}
        }
    }
    all.retain(|_, sent| sent.accepted > 0);
    all
}

/// Places of the records of which `f` holds.
fn places(records: &[Record], f: impl Fn(&Record) -> bool) -> Vec<usize> {
    (0..records.len()).filter(|n| f(&records[*n])).collect()
}

/// A shown copy of an accepted event on a device that did not send it.
fn a_copy(records: &[Record], rng: &mut Rng, live: bool) -> Option<(usize, Sent)> {
    let sent = accepted(records);
    let all = places(records, |r| match &r.what {
        What::Seen {
            id,
            shown: true,
            how,
            ..
        } => {
            let others = sent.get(id).is_some_and(|s| Some(&s.who) != r.who.as_ref());
            others && (!live || *how == How::Live)
        }
        _ => false,
    });
    let at = *rng.pick(&all)?;
    let What::Seen { id, .. } = &records[at].what else {
        return None;
    };
    Some((at, sent[id].clone()))
}

fn is_seen(record: &Record, who: &Who, event: &str) -> bool {
    let seen = matches!(&record.what, What::Seen { id, .. } if id == event);
    seen && record.who.as_ref() == Some(who)
}

fn screen_of<'a>(record: &'a mut Record, who: &Who) -> Option<&'a mut Vec<Line>> {
    match &mut record.what {
        What::Screen { lines, .. } if record.who.as_ref() == Some(who) => Some(lines),
        _ => None,
    }
}

fn sort(records: &mut [Record]) {
    records.sort_by_key(|r| r.at);
}

fn move_to(records: &mut Vec<Record>, from: usize, at: u64) {
    let mut record = records.remove(from);
    record.at = at;
    let to = records.partition_point(|r| r.at <= at);
    records.insert(to, record);
}
