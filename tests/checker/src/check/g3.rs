//! G3: one order for everybody, and in it each device's sending order.

use std::collections::{BTreeMap, HashMap};

use super::Evidence;
use crate::{
    model::{NEVER, Sent},
    verdict::Findings,
};

pub(super) fn check(evidence: &Evidence<'_>, findings: &mut Findings) {
    places(evidence, findings);
    screens(evidence, findings);
    live(evidence, findings);
    sending(evidence, findings);
}

/// Everybody has an event at the same place: each device at the end, and history.
fn places(evidence: &Evidence<'_>, findings: &mut Findings) {
    let model = evidence.model;
    // a screen says where a device has its lines; else the lowest copy does
    let mut on_screen: HashMap<(u32, u32), u64> = HashMap::new();
    for ((device, _), screen) in &model.screens {
        for (event, seq) in &screen.lines {
            on_screen.entry((*device, *event)).or_insert(*seq);
        }
    }
    let mut elsewhere: BTreeMap<u32, Vec<(String, u64, u32)>> = BTreeMap::new();
    for (number, holding) in evidence.holdings.iter().enumerate() {
        let device = &model.devices[number];
        let last = device.emptied.len() as u32;
        findings.checked(holding.held.len() as u64);
        for held in &holding.held {
            let shown = on_screen.get(&(number as u32, held.event));
            let seq = shown.filter(|_| held.life == last).unwrap_or(&held.seq);
            if *seq != model.events[held.event as usize].place {
                let at = (device.name.clone(), *seq, held.first.line);
                elsewhere.entry(held.event).or_default().push(at);
            }
        }
    }
    for reading in &model.readings {
        findings.checked(reading.lines.len() as u64);
        for (event, seq) in &reading.lines {
            if *seq != model.events[*event as usize].place {
                let device = &model.devices[reading.device as usize].name;
                let at = (format!("history for {device}"), *seq, reading.line);
                elsewhere.entry(*event).or_default().push(at);
            }
        }
    }
    for (event, who) in elsewhere {
        let accepted = model.events[event as usize].accepted;
        let mut lines = vec![accepted.map_or(0, |a| a.line)];
        lines.extend(who.iter().take(4).map(|(_, _, line)| *line));
        findings.broken("another place", &lines, || {
            let who: Vec<String> = who
                .iter()
                .take(4)
                .map(|(who, seq, _)| format!("{who} at {seq}"))
                .collect();
            format!("most have {}; {}", model.tell(event), who.join(", "))
        });
    }
}

/// A screen is in the order of places.
fn screens(evidence: &Evidence<'_>, findings: &mut Findings) {
    let model = evidence.model;
    for ((device, _), screen) in &model.screens {
        let mut highest = 0;
        for (event, seq) in &screen.lines {
            findings.checked(1);
            if *seq < highest {
                findings.broken("screen", &[screen.line], || {
                    let name = &model.devices[*device as usize].name;
                    let event = model.tell(*event);
                    format!("{name} has {event} at {seq} below what is at {highest}")
                });
            }
            highest = highest.max(*seq);
        }
    }
}

/// What comes live in a session comes in the order of places.
fn live(evidence: &Evidence<'_>, findings: &mut Findings) {
    let model = evidence.model;
    for (device, holding) in model.devices.iter().zip(evidence.holdings) {
        findings.checked(holding.live);
        for overtaken in &holding.overtaken {
            let lines = [overtaken.by_line, overtaken.line];
            findings.broken("live", &lines, || {
                let (name, event) = (&device.name, model.tell(overtaken.event));
                format!("{name} was shown {event} after one with a higher place")
            });
        }
    }
}

/// What a device sent to a conversation stands in the order in which it was sent. What was refused for now and
/// sent again may stand between its first ordinal and its last.
fn sending(evidence: &Evidence<'_>, findings: &mut Findings) {
    let model = evidence.model;
    let mut sent: BTreeMap<(u32, u32), Vec<(Sent, u32)>> = BTreeMap::new();
    for (number, event) in model.events.iter().enumerate() {
        let out = event.refused.is_some() && event.accepted.is_none();
        if let Some(s) = event.sent.filter(|_| event.place != NEVER && !out) {
            let of = sent.entry((s.device, event.talk)).or_default();
            of.push((s, number as u32));
        }
    }
    for ((device, _), mut events) in sent {
        let place = |event: u32| model.events[event as usize].place;
        let mut before = events.clone();
        before.sort_unstable_by_key(|(s, _)| s.again);
        events.sort_unstable_by_key(|(s, _)| s.ordinal);
        let mut before = before.into_iter().peekable();
        let mut highest: Option<(Sent, u32)> = None;
        for (s, event) in events {
            findings.checked(1);
            while let Some(earlier) = before.next_if(|(e, _)| e.again < s.ordinal) {
                if highest.is_none_or(|(_, high)| place(high) < place(earlier.1)) {
                    highest = Some(earlier);
                }
            }
            if let Some((earlier, high)) = highest.filter(|(_, high)| place(*high) > place(event)) {
                findings.broken("sending order", &[earlier.line, s.line], || {
                    let name = &model.devices[device as usize].name;
                    let (event, place) = (model.tell(event), place(high));
                    format!("{name} sent {event} after what is at {place}")
                });
            }
        }
    }
}
