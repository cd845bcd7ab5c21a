//! The checker's verdict on the record so far.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
};

use tandem_checker::{Checker, Guarantee, Record, Rules, Verdict, What};

use crate::{Result, record::Recorder};

/// Violations by guarantee.
pub type Violations = BTreeMap<Guarantee, u64>;

/// Judges what was recorded until now, at a time when everything has been waited for: what is due must
/// have happened. The guarantees' times count `slack` times as long.
pub async fn judge(recorder: &Recorder, ended: bool, slack: u64) -> Result<Verdict> {
    let (path, length) = recorder.flush()?;
    let (path, now) = (path.to_owned(), recorder.now());
    let judged = tokio::task::spawn_blocking(move || {
        let mut checker = Checker::with(rules(slack));
        let file = BufReader::with_capacity(1 << 20, File::open(&path)?.take(length));
        for line in file.lines() {
            checker.take_line(&line?)?;
        }
        if !ended {
            checker.take(Record::fact(now, What::Settled {}));
        }
        Ok::<_, crate::Failure>(checker.verdict())
    });
    judged.await?
}

/// The architecture's bounds, longer where a machine cannot be held to them.
fn rules(slack: u64) -> Rules {
    let rules = Rules::default();
    Rules {
        reach_us: rules.reach_us * slack,
        history_us: rules.history_us * slack,
        push_us: rules.push_us * slack,
        presence_us: rules.presence_us * slack,
        relation_us: rules.relation_us * slack,
        ..rules
    }
}

/// What a verdict finds, guarantee by guarantee.
pub fn violations(verdict: &Verdict) -> Violations {
    let found = verdict.guarantees.iter();
    found.map(|(g, finding)| (*g, finding.violations)).collect()
}

/// What is more in the one than in the other.
pub fn news(after: &Violations, before: &Violations) -> Violations {
    let more = after.iter().map(|(g, n)| {
        let known = before.get(g).copied().unwrap_or_default();
        (*g, n.saturating_sub(known))
    });
    more.filter(|(_, n)| *n > 0).collect()
}
