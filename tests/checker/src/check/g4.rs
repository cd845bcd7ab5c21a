//! G4: what was delivered, or accepted, is in history: once, and in time.

use std::collections::{BTreeMap, HashMap};

use super::Evidence;
use crate::{
    audience::Sight,
    model::{Reading, seconds},
    record::Guarantee,
    verdict::Findings,
};

pub(super) fn check(evidence: &Evidence<'_>, findings: &mut Findings) {
    let model = evidence.model;
    let mut by_user: BTreeMap<(u32, u32), Vec<&Reading>> = BTreeMap::new();
    for reading in &model.readings {
        let user = model.devices[reading.device as usize].user;
        let all = by_user.entry((user, reading.talk)).or_default();
        all.push(reading);
    }
    for ((user, talk), mut readings) in by_user {
        readings.sort_by_key(|r| (r.since, r.line));
        let found: Vec<HashMap<u32, u64>> = readings
            .iter()
            .map(|reading| lines(evidence, reading, findings))
            .collect();
        for event in &model.talk[talk as usize].events {
            if model.sight(*event, user) == Sight::Owed {
                stored(evidence, *event, &readings, &found, findings);
            }
        }
    }
}

/// The events of a reading; none is there twice.
fn lines(evidence: &Evidence<'_>, reading: &Reading, findings: &mut Findings) -> HashMap<u32, u64> {
    let model = evidence.model;
    let mut found: HashMap<u32, u64> = HashMap::with_capacity(reading.lines.len());
    for (event, seq) in &reading.lines {
        let Some(other) = found.insert(*event, *seq) else {
            continue;
        };
        findings.checked(1);
        findings.broken("twice", &[reading.line], || {
            let user = model
                .users
                .name(model.devices[reading.device as usize].user);
            let event = model.tell(*event);
            format!("history gives {user} {event} at {other} and at {seq}")
        });
    }
    found
}

fn stored(
    evidence: &Evidence<'_>,
    event: u32,
    readings: &[&Reading],
    found: &[HashMap<u32, u64>],
    findings: &mut Findings,
) {
    let model = evidence.model;
    let e = &model.events[event as usize];
    let known = [e.accepted.filter(|_| e.is_accepted()), e.delivered];
    let Some(first) = known.into_iter().flatten().min_by_key(|said| said.at) else {
        return;
    };
    let bound = model.rules.history_us;
    let due = model.faults.due(Guarantee::G4, first.at, bound);
    let lacks = |n: &usize| !found[*n].contains_key(&event);
    let last = readings.len() - 1;
    let user = || {
        model
            .users
            .name(model.devices[readings[0].device as usize].user)
    };
    if lacks(&last) {
        // a loss is excused by no fault
        if readings[last].since < first.at.saturating_add(bound) {
            return findings.undecided();
        }
        findings.checked(1);
        return findings.broken("missing", &[first.line, readings[last].line], || {
            let (event, at) = (model.tell(event), seconds(first.at));
            format!("history for {} lacks {event}, known since {at}", user())
        });
    }
    findings.checked(1);
    let late = |n: &usize| readings[*n].since >= due && lacks(n);
    if let Some(n) = (0..last).rev().find(late) {
        let by = readings[n].since.saturating_sub(due);
        let lines = [first.line, readings[n].line, readings[last].line];
        findings.too_late("late", by.max(1), &lines, || {
            let (event, since) = (model.tell(event), seconds(readings[n].since));
            format!(
                "history for {} lacked {event} at {since}, due at {}",
                user(),
                seconds(due)
            )
        });
    }
}
