//! The checker: decides G1 to G6 and G9 from the record alone.

mod audience;
mod check;
mod device;
mod faults;
mod held;
mod model;
mod names;
pub mod record;
mod rules;
mod take;
mod timeline;
mod truth;
mod verdict;

pub use record::{Excuse, Guarantee, How, Kind, Line, Record, Status, VERSION, What, Who};
pub use rules::Rules;
pub use verdict::{Broken, Example, Finding, Verdict};

/// Takes a record in, one after the other, and decides.
#[derive(Debug, Default)]
pub struct Checker(model::Model);

impl Checker {
    /// With other bounds than the architecture's.
    pub fn with(rules: Rules) -> Self {
        let mut checker = Self::default();
        checker.0.rules = rules;
        checker
    }

    /// The next record.
    pub fn take(&mut self, record: Record) {
        self.0.take(record);
    }

    /// The next record, as a line of JSON.
    pub fn take_line(&mut self, line: &str) -> Result<(), serde_json::Error> {
        self.take(serde_json::from_str(line)?);
        Ok(())
    }

    /// The record is complete.
    pub fn verdict(self) -> Verdict {
        self.0.verdict()
    }
}
