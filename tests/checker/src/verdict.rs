//! What the checker found.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    model::{NEVER, seconds},
    record::Guarantee,
};

/// The verdict on a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Accepted events.
    pub accepted: u64,
    /// Devices.
    pub devices: u64,
    /// Faults.
    pub faults: u64,
    /// Records.
    pub records: u64,
    /// By guarantee.
    pub guarantees: BTreeMap<Guarantee, Finding>,
    /// What is no violation, and good to know.
    pub information: BTreeMap<String, u64>,
    /// What makes the record itself doubtful, and so the verdict.
    pub flaws: Vec<String>,
}

/// What was found of a guarantee.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Obligations that were decided. 0: nothing is known of this guarantee.
    pub checked: u64,
    /// Of these, how many were not kept.
    pub violations: u64,
    /// Obligations that the record ends too soon to decide.
    pub undecided: u64,
    /// The violations by rule.
    pub rules: BTreeMap<String, Broken>,
}

/// Violations of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// How many.
    pub count: u64,
    /// The longest that one came too late, in microseconds; 0: it is no matter of time.
    pub worst_us: u64,
    /// The first few.
    pub examples: Vec<Example>,
}

/// A violation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// What is wrong, for people.
    pub text: String,
    /// The evidence: numbers of records, from 1.
    pub records: Vec<u32>,
}

impl Verdict {
    /// Violations of all guarantees.
    pub fn violations(&self) -> u64 {
        self.guarantees.values().map(|f| f.violations).sum()
    }

    /// Whether no guarantee was broken, and the record is sound. Says nothing of guarantees of which nothing was
    /// checked.
    pub fn is_clean(&self) -> bool {
        self.violations() == 0 && self.flaws.is_empty()
    }

    /// Whether something of every one of these guarantees was checked.
    pub fn covers(&self, guarantees: &[Guarantee]) -> bool {
        let checked = |g: &Guarantee| self.guarantees.get(g).is_some_and(|f| f.checked > 0);
        guarantees.iter().all(checked)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} events accepted, {} devices, {} faults, {} records",
            self.accepted, self.devices, self.faults, self.records
        )?;
        writeln!(
            f,
            "\n    {:>12} {:>12} {:>12}",
            "checked", "violations", "undecided"
        )?;
        for (guarantee, finding) in &self.guarantees {
            if finding.checked == 0 {
                let undecided = finding.undecided;
                writeln!(
                    f,
                    "{guarantee:?}  nothing checked, so not known {undecided:>13}"
                )?;
                continue;
            }
            writeln!(
                f,
                "{guarantee:?}  {:>12} {:>12} {:>12}",
                finding.checked, finding.violations, finding.undecided
            )?;
        }
        for (guarantee, finding) in &self.guarantees {
            for (rule, broken) in &finding.rules {
                write!(f, "\n{guarantee:?} {rule}: {}", broken.count)?;
                if broken.worst_us > 0 {
                    write!(f, ", the worst {} too late", seconds(broken.worst_us))?;
                }
                writeln!(f)?;
                for example in &broken.examples {
                    writeln!(f, "    {} (records {:?})", example.text, example.records)?;
                }
            }
        }
        if !self.information.is_empty() {
            writeln!(f)?;
        }
        for (what, count) in &self.information {
            writeln!(f, "{what}: {count}")?;
        }
        for flaw in &self.flaws {
            writeln!(f, "the record is not sound: {flaw}")?;
        }
        Ok(())
    }
}

/// Collects what is found of one guarantee.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) guarantee: Guarantee,
    pub(crate) finding: Finding,
    examples: usize,
}

impl Findings {
    pub(crate) fn new(guarantee: Guarantee, examples: usize) -> Self {
        Self {
            guarantee,
            finding: Finding::default(),
            examples,
        }
    }

    /// Obligations that were decided.
    pub(crate) fn checked(&mut self, count: u64) {
        self.finding.checked += count;
    }

    pub(crate) fn undecided(&mut self) {
        self.finding.undecided += 1;
    }

    /// One of the checked was not kept.
    pub(crate) fn broken(&mut self, rule: &str, records: &[u32], text: impl FnOnce() -> String) {
        self.too_late(rule, 0, records, text);
    }

    /// One of the checked was kept too late by `by` microseconds, or never.
    pub(crate) fn too_late(
        &mut self,
        rule: &str,
        by: u64,
        records: &[u32],
        text: impl FnOnce() -> String,
    ) {
        self.finding.violations += 1;
        if !self.finding.rules.contains_key(rule) {
            self.finding
                .rules
                .insert(rule.to_owned(), Broken::default());
        }
        let Some(broken) = self.finding.rules.get_mut(rule) else {
            return;
        };
        broken.count += 1;
        if by != NEVER {
            broken.worst_us = broken.worst_us.max(by);
        }
        if broken.examples.len() < self.examples {
            broken.examples.push(Example {
                text: text(),
                records: records.iter().copied().filter(|r| *r > 0).collect(),
            });
        }
    }
}
