//! G1: nothing accepted is lost, and it reaches every device in time.

use std::collections::{BTreeMap, HashSet};

use super::Evidence;
use crate::{
    audience::Sight,
    device::{Device, Span},
    held::Holding,
    model::{Class, NEVER, seconds},
    record::Guarantee,
    verdict::Findings,
};

/// A device from when it was set up, or had forgotten everything, until it forgot everything again.
struct Life<'a> {
    until: u64,
    last: bool,
    synced: &'a [Span],
}

fn lives(device: &Device) -> Vec<Life<'_>> {
    let mut from = 0;
    let ends = device.emptied.iter().map(|s| s.at).chain([NEVER]);
    ends.map(|until| {
        let synced = &device.synced;
        let first = synced.partition_point(|s| s.from < from);
        let end = synced.partition_point(|s| s.from < until);
        from = until;
        Life {
            until,
            last: until == NEVER,
            synced: &synced[first..end.max(first)],
        }
    })
    .collect()
}

pub(super) fn check(evidence: &Evidence<'_>, findings: &mut Findings) {
    let model = evidence.model;
    let mut talks_of: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (number, talk) in model.talk.iter().enumerate() {
        for user in talk.stays.iter().flat_map(BTreeMap::keys) {
            talks_of.entry(*user).or_default().push(number as u32);
        }
    }
    for (number, device) in model.devices.iter().enumerate() {
        if !device.listens || device.synced.is_empty() {
            continue;
        }
        let lives = lives(device);
        let talks = talks_of.get(&device.user).map_or(&[][..], Vec::as_slice);
        for talk in talks {
            let screen = model.screens.get(&(number as u32, *talk));
            let shows = Shows {
                device,
                holding: &evidence.holdings[number],
                screen: screen.map(|s| s.lines.iter().map(|(event, _)| *event).collect()),
                screen_line: screen.map_or(0, |s| s.line),
            };
            for event in &model.talk[*talk as usize].events {
                let e = &model.events[*event as usize];
                if e.is_accepted() && model.sight(*event, device.user) == Sight::Owed {
                    for (n, life) in lives.iter().enumerate() {
                        shows.check(evidence, n, life, *event, findings);
                    }
                }
            }
        }
    }
}

struct Shows<'a> {
    device: &'a Device,
    holding: &'a Holding,
    screen: Option<HashSet<u32>>,
    screen_line: u32,
}

impl Shows<'_> {
    fn check(
        &self,
        evidence: &Evidence<'_>,
        number: usize,
        life: &Life<'_>,
        event: u32,
        findings: &mut Findings,
    ) {
        let model = evidence.model;
        let e = &model.events[event as usize];
        let Some(accepted) = e.accepted.filter(|a| a.at < life.until) else {
            return;
        };
        let held = self.holding.get(number, event);
        let has_line = matches!(e.class, Class::Ring | Class::Change);
        let on_screen = self.screen.as_ref().filter(|_| life.last && has_line);
        let on_screen = on_screen.map(|s| s.contains(&event));
        if on_screen == Some(true) && held.is_none() {
            return findings.checked(1);
        }
        let name = &self.device.name;
        if let (Some(held), Some(false)) = (held, on_screen) {
            findings.checked(1);
            let lines = [accepted.line, held.first.line, self.screen_line];
            return findings.broken("lost", &lines, || {
                format!("{name} got {} and does not show it", model.tell(event))
            });
        }
        let due = due(evidence, life, accepted.at);
        if let Some(held) = held {
            findings.checked(1);
            if let Some((due, span)) = due.filter(|(due, _)| held.first.at > *due) {
                let lines = [accepted.line, span.line, held.first.line];
                findings.too_late("late", held.first.at - due, &lines, || {
                    format!(
                        "{name} got {} at {}, due at {}",
                        model.tell(event),
                        seconds(held.first.at),
                        seconds(due)
                    )
                });
            }
            return;
        }
        let reach = model.rules.reach_us;
        let synced = self.device.synced_at_end().filter(|_| life.last);
        let time_was = |span: &Span| span.from.max(accepted.at).saturating_add(reach) <= model.end;
        if let Some(span) = synced.filter(time_was) {
            findings.checked(1);
            let lines = [accepted.line, span.line];
            findings.broken("lost", &lines, || {
                let at = seconds(accepted.at);
                format!("{name} never got {}, accepted at {at}", model.tell(event))
            });
        } else if let Some((due, span)) = due {
            findings.checked(1);
            let lines = [accepted.line, span.line];
            findings.too_late("late", NEVER, &lines, || {
                format!(
                    "{name} did not get {} while it was synced, due at {}",
                    model.tell(event),
                    seconds(due)
                )
            });
        } else {
            findings.undecided();
        }
    }
}

/// When the device must have the event: in the first span of being synced that lasts long enough.
fn due(evidence: &Evidence<'_>, life: &Life<'_>, accepted: u64) -> Option<(u64, Span)> {
    let model = evidence.model;
    let first = life.synced.partition_point(|s| s.until <= accepted);
    life.synced[first..].iter().find_map(|span| {
        let start = span.from.max(accepted);
        let due = model.faults.due(Guarantee::G1, start, model.rules.reach_us);
        (due <= span.until.min(model.end)).then_some((due, *span))
    })
}
