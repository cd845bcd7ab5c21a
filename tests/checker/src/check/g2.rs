//! G2: nobody sees an event twice, nor one that they were told was refused.

use std::collections::{BTreeMap, HashMap};

use super::Evidence;
use crate::verdict::Findings;

pub(super) fn check(
    evidence: &Evidence<'_>,
    findings: &mut Findings,
    information: &mut BTreeMap<&'static str, u64>,
) {
    let model = evidence.model;
    let mut count = |what, by| *information.entry(what).or_insert(0) += by;
    for (device, holding) in model.devices.iter().zip(evidence.holdings) {
        count("copies dropped by devices", holding.copies);
        count("copies dropped by devices, at another place", holding.moved);
        for held in holding.held.iter().filter(|h| h.shown > 0) {
            let event = &model.events[held.event as usize];
            findings.checked(1);
            let name = &device.name;
            if held.shown > 1 {
                let lines = [held.first.line, held.shown_line];
                findings.broken("shown twice", &lines, || {
                    let (event, times) = (model.tell(held.event), held.shown);
                    format!("{name} showed {event} {times} times")
                });
            } else if let Some(refused) = event.refused
                && event.accepted.is_none()
            {
                let lines = [refused.line, held.shown_line];
                findings.broken("refused and shown", &lines, || {
                    let event = model.tell(held.event);
                    format!("{name} showed {event}, which its author was told is refused")
                });
            }
        }
    }
    for ((device, _), screen) in &model.screens {
        let mut places: HashMap<u32, u64> = HashMap::with_capacity(screen.lines.len());
        for (event, seq) in &screen.lines {
            findings.checked(1);
            if let Some(other) = places.insert(*event, *seq) {
                findings.broken("twice on the screen", &[screen.line], || {
                    let name = &model.devices[*device as usize].name;
                    let event = model.tell(*event);
                    format!("{name} has {event} on its screen at {other} and at {seq}")
                });
            }
        }
    }
}
