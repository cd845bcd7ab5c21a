//! G6: the status that a watcher holds of a contact is theirs, in time; and for G9: it is "offline" for those
//! who may not see it.

use std::collections::{BTreeMap, BTreeSet};

use super::Evidence;
use crate::{
    device::{Device, Session, Span, Told},
    model::{Model, seconds},
    record::{Guarantee, Status},
    timeline::YesNo,
    truth::Truth,
    verdict::Findings,
};

const OFFLINE: Session = Session {
    status: Status::Offline,
    message: 0,
};

pub(super) fn check(evidence: &Evidence<'_>, findings: &mut Findings, hiding: &mut Findings) {
    let model = evidence.model;
    if model.devices.iter().all(|d| d.told.is_empty()) {
        // whoever recorded did not look at presence
        return;
    }
    let truths = Truth::all(model);
    let mut contacts: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (a, b) in model.contacts.keys() {
        contacts.entry(*a).or_default().insert(*b);
        contacts.entry(*b).or_default().insert(*a);
    }
    for device in model.devices.iter().filter(|d| d.listens) {
        let mut whom = contacts.get(&device.user).cloned().unwrap_or_default();
        whom.extend(device.told.keys());
        whom.remove(&device.user);
        for of in whom {
            let truth = &truths[of as usize];
            if truth.is_known() {
                let told = device.told.get(&of).map_or(&[][..], Vec::as_slice);
                let watch = Watch {
                    model,
                    device,
                    of,
                    truth,
                    told,
                    contacts: model
                        .contacts
                        .get(&(of.min(device.user), of.max(device.user))),
                    hides: model.blocks.get(&(of, device.user)),
                    blocks: model.blocks.get(&(device.user, of)),
                };
                watch.versions(findings);
                watch.check(findings, hiding);
            }
        }
    }
}

/// A device that watches a person.
struct Watch<'a> {
    model: &'a Model,
    device: &'a Device,
    of: u32,
    truth: &'a Truth,
    told: &'a [Told],
    contacts: Option<&'a YesNo>,
    /// The person blocks the watcher.
    hides: Option<&'a YesNo>,
    /// The watcher blocks the person.
    blocks: Option<&'a YesNo>,
}

/// What makes a moment worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// Something must have shown by now.
    Due,
    /// Something was told.
    Told,
}

impl Watch<'_> {
    /// Versions never fall.
    fn versions(&self, findings: &mut Findings) {
        let (mut highest, mut life): (Option<&Told>, usize) = (None, 0);
        for told in self.told.iter().filter(|t| t.version > 0) {
            let emptied = &self.device.emptied;
            while emptied.get(life).is_some_and(|s| s.line < told.said.line) {
                (highest, life) = (None, life + 1);
            }
            findings.checked(1);
            match highest {
                Some(high) if told.version < high.version => {
                    let lines = [high.said.line, told.said.line];
                    findings.broken("version", &lines, || {
                        let (name, of) = (&self.device.name, self.model.users.name(self.of));
                        let (high, low) = (high.version, told.version);
                        format!("{name} was told of {of} in version {low} after {high}")
                    });
                }
                _ => highest = Some(told),
            }
        }
    }

    fn check(&self, findings: &mut Findings, hiding: &mut Findings) {
        let presence = self.model.rules.presence_us;
        let due = |at| self.model.faults.due(Guarantee::G6, at, presence);
        let mut moments: BTreeSet<(u64, Moment)> = BTreeSet::new();
        for span in &self.device.watching {
            moments.insert((due(span.from), Moment::Due));
        }
        let relations = [self.contacts, self.hides, self.blocks];
        let relations = relations.into_iter().flatten();
        let deadlines = relations.flat_map(YesNo::deadlines);
        for deadline in deadlines.chain(self.truth.deadlines()) {
            moments.insert((deadline.saturating_add(1), Moment::Due));
        }
        for told in self.told {
            moments.insert((told.said.at, Moment::Told));
        }
        let mut reported = None;
        while let Some((at, moment)) = moments.pop_first() {
            if at > self.model.end {
                break;
            }
            let Some(span) = self.watching_at(at) else {
                continue;
            };
            if moment == Moment::Due && at < due(span.from) {
                continue;
            }
            let held = self.held_at(at);
            let seen = self.may_see(at);
            let found = if seen { &mut *findings } else { &mut *hiding };
            let mut right = self.is_right(at, seen, held.map_or(OFFLINE, |t| t.session));
            if moment == Moment::Due && held.is_some_and(|t| self.blocked_since(t.said.at, at)) {
                // whoever blocks a contact shows no status of them until told anew
                right |= self.is_right(at, seen, OFFLINE);
            }
            if !right && moment == Moment::Told && due(at) > at.saturating_add(presence) {
                // not everything is up; it has until then to be put right
                moments.insert((due(at), Moment::Due));
                continue;
            }
            found.checked(1);
            let which = (span.line, held.map(|t| t.said.line));
            if right || reported == Some(which) {
                continue;
            }
            reported = Some(which);
            let rule = match (seen, moment) {
                (true, Moment::Told) => "wrong status",
                (true, Moment::Due) => "old status",
                (false, _) => "status shown",
            };
            let lines = [span.line, held.map_or(0, |t| t.said.line)];
            found.broken(rule, &lines, || {
                let (name, of) = (&self.device.name, self.model.users.name(self.of));
                let status = held.map_or(Status::Offline, |t| t.session.status);
                format!("{name} holds {of} for {status:?} at {}", seconds(at))
            });
        }
    }

    fn watching_at(&self, at: u64) -> Option<Span> {
        let spans = &self.device.watching;
        let next = spans.partition_point(|s| s.from <= at);
        let span = spans.get(next.checked_sub(1)?)?;
        (at < span.until).then_some(*span)
    }

    fn held_at(&self, at: u64) -> Option<&Told> {
        let next = self.told.partition_point(|t| t.said.at <= at);
        let told = self.told.get(next.checked_sub(1)?)?;
        let forgot = |s: &&crate::model::Said| s.at <= at && s.line > told.said.line;
        let forgotten = self.device.emptied.iter().any(|s| forgot(&s));
        (!forgotten).then_some(told)
    }

    /// Whether the watcher may have blocked the person in between.
    fn blocked_since(&self, from: u64, until: u64) -> bool {
        let blocks = self.blocks;
        blocks.is_some_and(|blocks| blocks.may_be(true, from, until))
    }

    /// Whether the watcher may see the person at a time.
    fn may_see(&self, at: u64) -> bool {
        may(self.contacts, true, at) && may(self.hides, false, at)
    }

    fn is_right(&self, at: u64, seen: bool, shown: Session) -> bool {
        let hidden = may(self.contacts, false, at) || may(self.hides, true, at);
        let offline = shown.status == Status::Offline;
        // whom one blocks oneself is no secret, whatever is shown
        let blocks = seen && may(self.blocks, true, at);
        blocks || (hidden && offline) || (seen && self.truth.may_show(at, shown))
    }
}

/// Whether a relation may be so at a time; one that was never told of is not.
fn may(relation: Option<&YesNo>, is: bool, at: u64) -> bool {
    relation.map_or(!is, |yes_no| yes_no.may_be(is, at, at))
}
