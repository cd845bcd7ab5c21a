//! Events that are lost, late, doubled, out of order, or not in history.

use tandem_checker::{How, Kind, Line, Record, What};

use super::{Sent, a_copy, accepted, is_seen, move_to, places, screen_of, sort};
use crate::{
    rng::Rng,
    world::{MS, SECOND},
};

// ---------------------------------------------------------------- G1

pub fn lose(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let Some((at, sent)) = a_copy(records, rng, false) else {
        return false;
    };
    let who = records[at].who.clone().unwrap();
    records.retain(|r| !is_seen(r, &who, &sent.id));
    for record in records {
        if let Some(lines) = screen_of(record, &who) {
            lines.retain(|l| l.id != sent.id);
        }
    }
    true
}

pub fn unscreen(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let full = places(
        records,
        |r| matches!(&r.what, What::Screen { lines, .. } if !lines.is_empty()),
    );
    let sent = accepted(records);
    let Some(at) = rng.pick(&full) else {
        return false;
    };
    let What::Screen { lines, .. } = &mut records[*at].what else {
        return false;
    };
    let n = rng.below(lines.len() as u64) as usize;
    sent.contains_key(&lines.remove(n).id)
}

pub fn delay(records: &mut Vec<Record>, rng: &mut Rng, by: u64) -> bool {
    let Some((at, sent)) = a_copy(records, rng, true) else {
        return false;
    };
    let who = records[at].who.clone().unwrap();
    let (mut first, mut n) = (true, 0);
    records.retain(|r| {
        n += 1;
        let copy = is_seen(r, &who, &sent.id) && n - 1 != at;
        first &= !copy;
        !copy
    });
    let at = records
        .iter()
        .position(|r| is_seen(r, &who, &sent.id))
        .unwrap();
    if let What::Seen { how, .. } = &mut records[at].what {
        *how = How::Sync;
    }
    move_to(records, at, sent.accepted + 5 * SECOND + by);
    true
}

// ---------------------------------------------------------------- G2

pub fn show_twice(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let Some((at, _)) = a_copy(records, rng, false) else {
        return false;
    };
    records.insert(at + 1, records[at].clone());
    true
}

pub fn screen_twice(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let full = places(
        records,
        |r| matches!(&r.what, What::Screen { lines, .. } if !lines.is_empty()),
    );
    let Some(at) = rng.pick(&full) else {
        return false;
    };
    if let What::Screen { lines, .. } = &mut records[*at].what {
        let n = rng.below(lines.len() as u64) as usize;
        lines.insert(n, lines[n].clone());
    }
    true
}

pub fn refuse(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let Some((_, sent)) = a_copy(records, rng, false) else {
        return false;
    };
    for record in records {
        if matches!(&record.what, What::Accepted { id, .. } if *id == sent.id) {
            record.what = What::Rejected {
                id: sent.id.clone(),
                code: "unavailable".into(),
                again: false,
            };
        }
    }
    matches!(sent.kind, Kind::Text)
}

// ---------------------------------------------------------------- G3

pub fn swap(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let sent = accepted(records);
    let full = places(
        records,
        |r| matches!(&r.what, What::Screen { lines, .. } if lines.len() > 1),
    );
    let Some(at) = rng.pick(&full).copied() else {
        return false;
    };
    let who = records[at].who.clone().unwrap();
    let What::Screen { lines, .. } = &mut records[at].what else {
        return false;
    };
    let n = rng.below(lines.len() as u64 - 1) as usize;
    let (one, other) = (lines[n].clone(), lines[n + 1].clone());
    let own = |id: &String| sent.get(id).is_none_or(|s| s.who == who);
    if own(&one.id) || own(&other.id) {
        return false;
    }
    (lines[n].id, lines[n].author) = (other.id.clone(), other.author.clone());
    (lines[n + 1].id, lines[n + 1].author) = (one.id.clone(), one.author.clone());
    for record in records.iter_mut().filter(|r| r.who.as_ref() == Some(&who)) {
        if let What::Seen { id, seq, .. } = &mut record.what {
            if *id == one.id {
                *seq = other.seq;
            } else if *id == other.id {
                *seq = one.seq;
            }
        }
    }
    true
}

pub fn overtake(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let Some((at, sent)) = a_copy(records, rng, true) else {
        return false;
    };
    let all = accepted(records);
    let who = records[at].who.clone();
    // the next of the same conversation, in the same connection
    for next in at + 1..records.len() {
        if records[next].who != who {
            continue;
        }
        match &records[next].what {
            What::Welcome { .. } => return false,
            What::Seen {
                conversation,
                id,
                how,
                shown: true,
                ..
            } if *conversation == sent.talk => {
                let own = all.get(id).is_none_or(|s| Some(&s.who) == who.as_ref());
                if own || *how != How::Live {
                    return false;
                }
                // a copy in between would be the first then
                let copies = |r: &Record| {
                    let who = who.as_ref().unwrap();
                    is_seen(r, who, id) || is_seen(r, who, &sent.id)
                };
                let between = records[at + 1..next].iter().any(copies);
                let what = records[at].what.clone();
                records[at].what = std::mem::replace(&mut records[next].what, what);
                // the one that waits is not late yet
                let in_time = records[next].at < sent.accepted + 5 * SECOND;
                return in_time && !between;
            }
            _ => {}
        }
    }
    false
}

pub fn reorder(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let mut sent: Vec<Sent> = accepted(records).into_values().collect();
    sent.sort_by(|a, b| a.id.cmp(&b.id));
    let once: Vec<Sent> = sent.into_iter().filter(|s| s.times == 1).collect();
    let Some(one) = rng.pick(&once) else {
        return false;
    };
    let same = |s: &&Sent| s.who == one.who && s.talk == one.talk && s.id != one.id;
    let others: Vec<&Sent> = once.iter().filter(same).collect();
    let Some(other) = rng.pick(&others) else {
        return false;
    };
    let ordinals: Vec<(usize, u64)> = records
        .iter()
        .enumerate()
        .filter_map(|(n, r)| match &r.what {
            What::Submitted { id, ordinal, .. } if *id == one.id || *id == other.id => {
                Some((n, *ordinal))
            }
            _ => None,
        })
        .collect();
    for (n, with) in [(0, 1), (1, 0)] {
        if let What::Submitted { ordinal, .. } = &mut records[ordinals[n].0].what {
            *ordinal = ordinals[with].1;
        }
    }
    true
}

fn a_page<'a>(records: &'a mut [Record], rng: &mut Rng) -> Option<(&'a mut Vec<Line>, usize)> {
    let full = places(
        records,
        |r| matches!(&r.what, What::History { lines, .. } if !lines.is_empty()),
    );
    let at = *rng.pick(&full)?;
    match &mut records[at].what {
        What::History { lines, .. } => {
            let n = rng.below(lines.len() as u64) as usize;
            Some((lines, n))
        }
        _ => None,
    }
}

pub fn misplace(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let known = accepted(records);
    let page = a_page(records, rng);
    page.is_some_and(|(lines, n)| {
        lines[n].seq += 1;
        known.contains_key(&lines[n].id)
    })
}

// ---------------------------------------------------------------- G4

pub fn forget(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let known = accepted(records);
    let page = a_page(records, rng);
    page.is_some_and(|(lines, n)| known.contains_key(&lines.remove(n).id))
}

pub fn store_twice(records: &mut Vec<Record>, rng: &mut Rng) -> bool {
    let page = a_page(records, rng);
    page.is_some_and(|(lines, n)| {
        lines.insert(n, lines[n].clone());
        true
    })
}

/// A reading while they talk, which lacks an event that was known 5 s before, but for `within` microseconds.
pub fn catch_up(records: &mut Vec<Record>, rng: &mut Rng, within: u64) -> bool {
    let known = accepted(records);
    let readings = places(records, |r| matches!(r.what, What::History { .. }));
    let mut texts: Vec<Sent> = known.into_values().collect();
    texts.sort_by(|a, b| a.id.cmp(&b.id));
    let Some(sent) = rng.pick(&texts).cloned() else {
        return false;
    };
    let first = records.iter().find(
        |r| matches!(&r.what, What::Seen { id, .. } | What::Accepted { id, .. } if *id == sent.id),
    );
    let first = first.unwrap().at;
    let reader = readings.iter().find(|n| {
        matches!(&records[**n].what, What::History { conversation, .. } if *conversation == sent.talk)
    });
    let who = records[*reader.unwrap()].who.clone();
    let (mut lines, since) = (Vec::new(), first + 5 * SECOND - within);
    for n in readings {
        if let What::History {
            conversation,
            lines: page,
            ..
        } = &records[n].what
            && records[n].who == who
            && *conversation == sent.talk
        {
            lines.extend(page.iter().filter(|l| l.seq < sent.seq).cloned());
        }
    }
    let later = |s: &Sent| s.talk == sent.talk && s.seq > sent.seq && s.accepted < since;
    let reading = Record {
        at: since + MS,
        who,
        what: What::History {
            conversation: sent.talk.clone(),
            since,
            lines,
            complete: true,
        },
    };
    records.push(reading);
    sort(records);
    // what came after it would be lacking, too, but not for as long
    !texts.iter().any(later)
}
