//! G9: a blocked or unconsented sender learns nothing by receipts; and nobody gets an event that is not for
//! them.

use std::collections::HashMap;

use super::Evidence;
use crate::{
    audience::Sight,
    model::{Class, Model, NEVER, Receipt},
    verdict::Findings,
};

pub(super) fn check(evidence: &Evidence<'_>, findings: &mut Findings) {
    secrets(evidence.model, findings);
    receipts(evidence.model, findings);
    astray(evidence, findings);
}

/// Whether `from` was surely to learn nothing of `of` from one time to another.
fn hidden(model: &Model, of: u32, from: u32, talk: u32, (since, until): (u64, u64)) -> bool {
    let blocks = model.blocks.get(&(of, from));
    if blocks.is_some_and(|b| !b.may_be(false, since, until)) {
        return true;
    }
    // a group's members need not be contacts
    let pair = model.talks.name(talk).starts_with("o:");
    let contacts = model.contacts.get(&(of.min(from), of.max(from)));
    pair && contacts.is_none_or(|c| !c.may_be(true, since, until))
}

/// What there is to keep: for each event, the members of whom its author must learn nothing.
fn secrets(model: &Model, findings: &mut Findings) {
    let mut blockers: HashMap<u32, Vec<u32>> = HashMap::new();
    for (by, blocked) in model.blocks.keys() {
        blockers.entry(*blocked).or_default().push(*by);
    }
    for (number, talk) in model.talk.iter().enumerate() {
        let number = number as u32;
        let Some(stays) = &talk.stays else {
            continue;
        };
        let pair = model.talks.name(number).starts_with("o:");
        for event in &talk.events {
            let e = &model.events[*event as usize];
            if e.void || e.class == Class::Foreign {
                continue;
            }
            let logged = model.logged(*event);
            let keeps = |user: &&u32| hidden(model, **user, e.author, number, logged);
            let count = if pair {
                let others = stays.keys().filter(|user| **user != e.author);
                others.filter(keeps).count()
            } else {
                let blockers = blockers.get(&e.author).into_iter().flatten();
                let here = blockers.filter(|user| stays.contains_key(*user));
                here.filter(keeps).count()
            };
            findings.checked(count as u64);
        }
    }
}

/// Receipts shown to authors.
fn receipts(model: &Model, findings: &mut Findings) {
    let mut own: HashMap<(u32, u32), Vec<(u64, u32)>> = HashMap::new();
    for talk in &model.talk {
        for event in &talk.events {
            let e = &model.events[*event as usize];
            let of = own.entry((e.talk, e.author)).or_default();
            of.push((e.place, *event));
        }
    }
    let mut known: HashMap<(u32, u32, u32), u64> = HashMap::new();
    for receipt in &model.receipts {
        let author = model.devices[receipt.device as usize].user;
        if receipt.by == author {
            continue;
        }
        let of = own
            .get(&(receipt.talk, author))
            .map_or(&[][..], Vec::as_slice);
        let key = (receipt.device, receipt.talk, receipt.by);
        let before = known.insert(key, 0).unwrap_or(0);
        known.insert(key, before.max(receipt.up_to));
        // the newest that it newly covers says all that the mark says
        let end = of.partition_point(|(place, _)| *place <= receipt.up_to);
        let newest = of[..end].last().filter(|(place, _)| *place > before);
        let exact = receipt.exact.iter().filter_map(|seq| {
            let at = of.binary_search_by_key(seq, |(place, _)| *place).ok()?;
            Some(&of[at])
        });
        for (_, event) in newest.into_iter().chain(exact) {
            if leaks(model, receipt, author, *event) {
                findings.checked(1);
                findings.broken("receipt", &[receipt.said.line], || {
                    let name = &model.devices[receipt.device as usize].name;
                    let (by, event) = (model.users.name(receipt.by), model.tell(*event));
                    format!("{name} was told that {by} has {event}")
                });
                break;
            }
        }
    }
}

/// Whether a receipt of an event tells its author what they must not learn: it was withheld, or the reader has
/// been hiding from before they confirmed it until the receipt came.
fn leaks(model: &Model, receipt: &Receipt, author: u32, event: u32) -> bool {
    let by = receipt.by;
    if model.sight(event, by) == Sight::Hidden && model.blocks.contains_key(&(by, author)) {
        return true;
    }
    let place = model.events[event as usize].place;
    let confirmed = model.confirmed.get(&(by, receipt.talk));
    let since = match confirmed.map_or(NEVER, |c| c.when(place)) {
        NEVER => model.logged(event).1,
        at => at,
    };
    let span = (since.min(receipt.said.at), receipt.said.at);
    hidden(model, by, author, receipt.talk, span)
}

/// Events that reached somebody who is not to see them.
fn astray(evidence: &Evidence<'_>, findings: &mut Findings) {
    let model = evidence.model;
    let mut found = |user: u32, event: u32, line: u32, where_: &str| {
        if model.sight(event, user) != Sight::Hidden {
            return;
        }
        findings.checked(1);
        findings.broken("astray", &[line], || {
            let event = model.tell(event);
            format!("{event} is not for {where_}")
        });
    };
    for (device, holding) in model.devices.iter().zip(evidence.holdings) {
        for held in &holding.held {
            found(device.user, held.event, held.first.line, &device.name);
        }
    }
    for reading in &model.readings {
        let device = &model.devices[reading.device as usize];
        let name = format!("what history gives {}", device.name);
        for (event, _) in &reading.lines {
            found(device.user, *event, reading.line, &name);
        }
    }
    for ((device, talk), all) in &model.notified {
        let device = &model.devices[*device as usize];
        let name = format!("notifications of {}", device.name);
        let events = &model.talk[*talk as usize].events;
        let place = |event: &u32| model.events[*event as usize].place;
        for one in all {
            if let Ok(at) = events.binary_search_by_key(&one.seq, place) {
                found(device.user, events[at], one.said.line, &name);
            }
        }
    }
}
