//! G5: what no device of a person confirmed is notified to those of their devices that can be.

use std::collections::{BTreeMap, HashMap};

use super::Evidence;
use crate::{
    audience::Sight,
    model::{Class, Confirmed, NEVER, Notified, seconds},
    record::Guarantee,
    verdict::Findings,
};

pub(super) fn check(
    evidence: &Evidence<'_>,
    findings: &mut Findings,
    information: &mut BTreeMap<&'static str, u64>,
) {
    let model = evidence.model;
    let mut phones: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (number, device) in model.devices.iter().enumerate() {
        if !device.tokens.is_empty() {
            phones.entry(device.user).or_default().push(number as u32);
        }
    }
    let notified: HashMap<(u32, u32), Got> = model
        .notified
        .iter()
        .map(|(key, all)| (*key, Got::new(all)))
        .collect();
    let sum = |count: fn(&Got) -> u64| notified.values().map(count).sum();
    information.insert("notifications", sum(|g| g.count));
    information.insert("notifications of one event more than once", sum(Got::again));
    for (number, talk) in model.talk.iter().enumerate() {
        let Some(stays) = &talk.stays else {
            continue;
        };
        for user in stays.keys() {
            let confirmed = model.confirmed.get(&(*user, number as u32));
            for phone in phones.get(user).into_iter().flatten() {
                let got = notified.get(&(*phone, number as u32));
                for event in &talk.events {
                    let e = &model.events[*event as usize];
                    if e.is_accepted()
                        && e.class == Class::Ring
                        && e.author != *user
                        && model.sight(*event, *user) == Sight::Owed
                    {
                        let phone = Phone {
                            number: *phone,
                            confirmed,
                            got,
                        };
                        phone.check(evidence, *event, findings);
                    }
                }
            }
        }
    }
}

/// What the gateway got for a device of a conversation.
struct Got {
    /// By place: when first.
    by_seq: HashMap<u64, (u64, u32)>,
    /// Of which event is not known.
    unknown: Vec<(u64, u32)>,
    count: u64,
}

impl Got {
    fn new(all: &[Notified]) -> Self {
        let mut got = Self {
            by_seq: HashMap::new(),
            unknown: Vec::new(),
            count: all.len() as u64,
        };
        for one in all {
            let when = (one.said.at, one.said.line);
            if one.seq == 0 {
                got.unknown.push(when);
            } else {
                got.by_seq.entry(one.seq).or_insert(when);
            }
        }
        got
    }

    fn again(&self) -> u64 {
        self.count - self.by_seq.len() as u64 - self.unknown.len() as u64
    }

    /// When the event was notified first: at its place, or some event of the conversation after `from`.
    fn when(&self, place: u64, from: u64) -> Option<(u64, u32)> {
        let later = self.unknown.partition_point(|(at, _)| *at < from);
        let unknown = self.unknown.get(later).copied();
        self.by_seq
            .get(&place)
            .copied()
            .into_iter()
            .chain(unknown)
            .min()
    }
}

struct Phone<'a> {
    number: u32,
    confirmed: Option<&'a Confirmed>,
    got: Option<&'a Got>,
}

impl Phone<'_> {
    fn check(&self, evidence: &Evidence<'_>, event: u32, findings: &mut Findings) {
        let model = evidence.model;
        let e = &model.events[event as usize];
        let device = &model.devices[self.number as usize];
        let Some(accepted) = e.accepted else {
            return;
        };
        let bound = model.rules.push_window_us + model.rules.push_us;
        let due = model.faults.due(Guarantee::G5, accepted.at, bound);
        let (from, _) = model.logged(event);
        if !device.has_token(from, due.min(model.end)) {
            return;
        }
        let confirmed = self.confirmed.map_or(NEVER, |c| c.when(e.place));
        let notified = self.got.and_then(|g| g.when(e.place, from));
        if confirmed <= due {
            // kept by the confirmation; it may have crossed with a notification
            return findings.checked(1);
        }
        let name = &device.name;
        match notified {
            Some((at, _)) if at <= due => findings.checked(1),
            Some((at, line)) => {
                findings.checked(1);
                findings.too_late("late", at - due, &[accepted.line, line], || {
                    let event = model.tell(event);
                    format!(
                        "{name} was notified of {event} at {}, due at {}",
                        seconds(at),
                        seconds(due)
                    )
                });
            }
            // a loss is excused by no fault
            None if accepted.at.saturating_add(bound) > model.end => findings.undecided(),
            None => {
                findings.checked(1);
                findings.broken("missing", &[accepted.line], || {
                    let event = model.tell(event);
                    format!(
                        "{name} was not notified of {event}, which nobody confirmed by {}",
                        seconds(due)
                    )
                });
            }
        }
    }
}
