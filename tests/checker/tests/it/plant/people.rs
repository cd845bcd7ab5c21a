//! Notifications and statuses that are missing, late or wrong, and what somebody must not learn.

use std::collections::HashMap;

use tandem_checker::{How, Record, Status, What};

use super::{Sent, a_copy, accepted, move_to, places};
use crate::{
    rng::Rng,
    world::{MS, SECOND},
};

// ---------------------------------------------------------------- G5

/// A notification of an event that the person confirmed long after, if ever.
fn needed(records: &[Record], rng: &mut Rng) -> Option<(usize, Sent)> {
    let sent = accepted(records);
    let by_place: HashMap<(&str, u64), &Sent> = sent
        .values()
        .map(|s| ((s.talk.as_str(), s.seq), s))
        .collect();
    let all = places(records, |r| {
        let What::Notified { conversation, seq } = &r.what else {
            return false;
        };
        let Some(sent) = by_place.get(&(conversation.as_str(), *seq)) else {
            return false;
        };
        let user = &r.who.as_ref().unwrap().user;
        let covers = |c: &Record| match &c.what {
            What::Confirmed {
                conversation: talk,
                delivered,
                exact,
                read,
            } => {
                c.who.as_ref().is_some_and(|w| w.user == *user)
                    && talk == conversation
                    && c.at <= sent.accepted + 10 * SECOND + 1
                    && (delivered.max(read) >= seq || exact.contains(seq))
            }
            _ => false,
        };
        !records.iter().any(covers)
    });
    let at = *rng.pick(&all)?;
    let What::Notified { conversation, seq } = &records[at].what else {
        return None;
    };
    let sent = by_place[&(conversation.as_str(), *seq)].clone();
    Some((at, sent))
}

pub fn unnotify(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let found = needed(records, rng);
    found.is_some_and(|(at, _)| {
        records.remove(at);
        true
    })
}

pub fn notify_late(records: &mut Vec<Record>, rng: &mut Rng, by: u64) -> bool {
    let found = needed(records, rng);
    found.is_some_and(|(at, sent)| {
        move_to(records, at, sent.accepted + 10 * SECOND + by);
        true
    })
}

// ---------------------------------------------------------------- G6

fn a_status(records: &[Record], rng: &mut Rng) -> Option<usize> {
    let all = places(records, |r| {
        matches!(r.what, What::Presence { version: 2.., .. })
    });
    rng.pick(&all).copied()
}

pub fn wrong_status(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let at = a_status(records, rng);
    at.is_some_and(|at| {
        if let What::Presence { status, .. } = &mut records[at].what {
            *status = Status::OutToLunch;
        }
        true
    })
}

pub fn regress(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let at = a_status(records, rng);
    at.is_some_and(|at| {
        let mut again = records[at].clone();
        if let What::Presence { version, .. } = &mut again.what {
            *version -= 1;
        }
        records.insert(at + 1, again);
        true
    })
}

/// A change that a watcher is told late, or not at all.
pub fn tell_late(records: &mut Vec<Record>, rng: &mut Rng, after: Option<u64>) -> bool {
    let Some(at) = a_status(records, rng) else {
        return false;
    };
    let (who, when) = (records[at].who.clone(), records[at].at);
    let What::Presence { of, status, .. } = records[at].what.clone() else {
        return false;
    };
    let told =
        |r: &Record| r.who == who && matches!(&r.what, What::Presence { of: o, .. } if *o == of);
    let before = records[..at].iter().rfind(|r| told(r)).map(|r| &r.what);
    let other = matches!(before, Some(What::Presence { status: s, .. }) if *s != status);
    let mut later = records[at + 1..].iter().filter(|r| told(r));
    let alone = later.all(|r| r.at > when + 6 * SECOND);
    // the change that it tells of, and no other near it
    let changes = records.iter().filter(|r| {
        let by = r.who.as_ref().is_some_and(|w| w.user == of);
        by && r.at + 12 * SECOND > when
            && r.at < when + 6 * SECOND
            && matches!(r.what, What::PresenceSet { .. } | What::Welcome { .. })
    });
    let changes: Vec<u64> = changes.map(|r| r.at).collect();
    if !other || !alone || changes.len() != 1 {
        return false;
    }
    match after {
        Some(after) => move_to(records, at, changes[0] + after),
        None => drop(records.remove(at)),
    }
    true
}

// ---------------------------------------------------------------- G9

/// An event that was withheld from somebody who blocks its author: (it, who blocks).
fn withheld(records: &[Record], rng: &mut Rng) -> Option<(Sent, String)> {
    let mut blocks: Vec<(String, String, u64, u64)> = Vec::new();
    for record in records {
        if let What::Block {
            by,
            blocked,
            is,
            since,
        } = &record.what
        {
            if *is {
                blocks.push((
                    by.clone(),
                    blocked.clone(),
                    record.at + 5 * SECOND,
                    u64::MAX,
                ));
            } else if let Some(open) = blocks.iter_mut().rfind(|b| b.0 == *by && b.1 == *blocked) {
                open.3 = *since;
            }
        }
    }
    let mut sent: Vec<Sent> = accepted(records).into_values().collect();
    sent.sort_by(|a, b| a.id.cmp(&b.id));
    let mut all = Vec::new();
    for s in sent {
        for (by, blocked, from, until) in &blocks {
            let pair = s.talk.starts_with("o:") && s.talk.contains(by.as_str());
            if pair && s.who.user == *blocked && s.at > *from && s.accepted < *until {
                all.push((s.clone(), by.clone()));
            }
        }
    }
    rng.pick(&all).cloned()
}

/// Adds something that a device is told when an event of its own is accepted.
fn tell_author(records: &mut Vec<Record>, sent: &Sent, what: What) -> bool {
    let record = Record {
        at: sent.accepted,
        who: Some(sent.who.clone()),
        what,
    };
    let to = records.partition_point(|r| r.at <= sent.accepted);
    records.insert(to, record);
    true
}

fn receipt(sent: &Sent, by: String) -> What {
    What::Receipt {
        conversation: sent.talk.clone(),
        by,
        delivered: 0,
        exact: Vec::new(),
        read: sent.seq,
        how: How::Live,
    }
}

pub fn receipt_to_blocked(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let found = withheld(records, rng);
    found.is_some_and(|(sent, by)| tell_author(records, &sent, receipt(&sent, by)))
}

/// A request: an event between the two who are no contacts yet.
fn request(records: &[Record], rng: &mut Rng) -> Option<(Sent, String)> {
    let consent = records.iter().find_map(|r| match &r.what {
        What::Contacts {
            a, b, since: 1.., ..
        } if a.starts_with("p0") && b.starts_with("p1") => Some(r.at - 100 * MS),
        _ => None,
    });
    let mut all: Vec<Sent> = accepted(records).into_values().collect();
    all.retain(|s| s.talk == "o:p0@x.test,p1@x.test" && consent.is_none_or(|c| s.accepted < c));
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let sent = rng.pick(&all)?.clone();
    let other = if sent.who.user.starts_with("p0") {
        "p1@x.test"
    } else {
        "p0@x.test"
    };
    Some((sent, other.to_owned()))
}

pub fn receipt_to_stranger(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let found = request(records, rng);
    found.is_some_and(|(sent, by)| tell_author(records, &sent, receipt(&sent, by)))
}

fn online(records: &[Record], sent: &Sent, of: String) -> What {
    let told = records.iter().filter(|r| r.at <= sent.accepted);
    let version = told
        .filter(|r| r.who.as_ref() == Some(&sent.who))
        .fold(0, |high, r| match &r.what {
            What::Presence { of: o, version, .. } if *o == of => high.max(*version),
            _ => high,
        });
    What::Presence {
        of,
        status: Status::Online,
        message: String::new(),
        version,
        shown: true,
    }
}

pub fn status_to_blocked(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let found = withheld(records, rng);
    found.is_some_and(|(sent, by)| {
        let what = online(records, &sent, by);
        tell_author(records, &sent, what)
    })
}

pub fn status_to_stranger(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let found = request(records, rng);
    found.is_some_and(|(sent, by)| {
        let what = online(records, &sent, by);
        tell_author(records, &sent, what)
    })
}

fn show_to(records: &mut Vec<Record>, sent: &Sent, user: &str) -> bool {
    let what = What::Seen {
        conversation: sent.talk.clone(),
        seq: sent.seq,
        id: sent.id.clone(),
        author: sent.who.user.clone(),
        how: How::Sync,
        shown: true,
    };
    let record = Record::of(sent.accepted, user, "pc", what);
    let to = records.partition_point(|r| r.at <= sent.accepted);
    records.insert(to, record);
    true
}

pub fn show_withheld(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let found = withheld(records, rng);
    found.is_some_and(|(sent, by)| show_to(records, &sent, &by))
}

pub fn stray(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let found = a_copy(records, rng, false);
    found.is_some_and(|(_, sent)| {
        let outsider = format!("p{}@x.test", rng.below(6));
        let inside = sent.talk.contains(&outsider) || sent.talk.starts_with("g:");
        !inside && show_to(records, &sent, &outsider)
    })
}
