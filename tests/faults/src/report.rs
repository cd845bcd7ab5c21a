//! What a run came to.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::Serialize;

use crate::{judge::Violations, stopped::CaughtUp};

/// One step of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What was done to what.
    pub what: Vec<String>,
    /// Seconds from the beginning of the run.
    pub at_s: f64,
    /// Seconds until everybody had everything after the faults had ended.
    pub settled_s: f64,
    /// What was lacking when it was waited for no more.
    pub unsettled: Vec<String>,
    /// Violations that the verdict after it found beyond those before.
    pub violations: Violations,
    /// What could not be done as planned.
    pub failed: Vec<String>,
}

/// The whole run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How long it took, in minutes.
    pub minutes: f64,
    /// Accepted events.
    pub accepted: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Violations by guarantee; each that was checked is there.
    pub violations: Violations,
    /// Obligations that were decided, by guarantee.
    pub checked: Violations,
    /// What makes the record doubtful.
    pub flaws: Vec<String>,
    /// Processes that ended by themselves, and how.
    pub crashes: Vec<String>,
    /// How history caught up after Cassandra was stopped, where that was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caught_up: Option<CaughtUp>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Record, configs and logs.
    pub dir: PathBuf,
}

impl Report {
    /// Whether nothing was broken that must not be.
    pub fn is_clean(&self) -> bool {
        let failed = |s: &Step| !s.failed.is_empty() || !s.unsettled.is_empty();
        self.violations.values().all(|n| *n == 0)
            && self.flaws.is_empty()
            && !self.steps.iter().any(failed)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.join(" and ");
        write!(
            f,
            "{:7.1} s  {what}: settled in {:.1} s",
            self.at_s, self.settled_s
        )?;
        if self.violations.is_empty() {
            write!(f, ", no violation")?;
        }
        for (guarantee, n) in &self.violations {
            write!(f, ", {guarantee:?} VIOLATED {n} times")?;
        }
        for lacking in &self.unsettled {
            write!(f, "\n            {lacking}")?;
        }
        for failed in &self.failed {
            write!(f, "\n            failed: {failed}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        let (seed, minutes) = (self.seed, self.minutes);
        writeln!(
            f,
            "\nseed {seed}, {minutes:.1} minutes, {} events accepted, {faults} faults",
            self.accepted
        )?;
        for (kind, n) in &self.faults {
            writeln!(f, "  {kind:<24}{n:>4}")?;
        }
        writeln!(f, "\n          checked   violations")?;
        for (guarantee, n) in &self.violations {
            let checked = self.checked.get(guarantee).copied().unwrap_or_default();
            writeln!(f, "  {guarantee:?}  {checked:>11}  {n:>11}")?;
        }
        if let Some(caught_up) = &self.caught_up {
            writeln!(f, "{caught_up}")?;
        }
        for crash in &self.crashes {
            writeln!(f, "ended by itself: {crash}")?;
        }
        for flaw in &self.flaws {
            writeln!(f, "the record is not sound: {flaw}")?;
        }
        if !self.is_clean() {
            writeln!(f, "record, configs and logs: {}", self.dir.display())?;
        }
        Ok(())
    }
}
