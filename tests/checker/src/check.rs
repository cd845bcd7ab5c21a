//! The guarantees, each decided by itself.

mod g1;
mod g2;
mod g3;
mod g4;
mod g5;
mod g6;
mod g9;

use std::collections::BTreeMap;

use crate::{
    held::Holding,
    model::{Class, Model},
    record::Guarantee,
    verdict::{Findings, Verdict},
};

/// What all checks look at.
pub(crate) struct Evidence<'a> {
    pub(crate) model: &'a Model,
    /// By device.
    pub(crate) holdings: &'a [Holding],
}

impl Model {
    /// The record is complete.
    pub(crate) fn verdict(mut self) -> Verdict {
        self.complete();
        let holdings = self.find_holdings();
        self.find_places(&holdings);
        self.find_audiences();
        let evidence = Evidence {
            model: &self,
            holdings: &holdings,
        };
        let mut information = BTreeMap::new();
        let findings = |guarantee| Findings::new(guarantee, self.rules.examples);
        let mut g1 = findings(Guarantee::G1);
        let mut g2 = findings(Guarantee::G2);
        let mut g3 = findings(Guarantee::G3);
        let mut g4 = findings(Guarantee::G4);
        let mut g5 = findings(Guarantee::G5);
        let mut g6 = findings(Guarantee::G6);
        let mut g9 = findings(Guarantee::G9);
        g1::check(&evidence, &mut g1);
        g2::check(&evidence, &mut g2, &mut information);
        g3::check(&evidence, &mut g3);
        g4::check(&evidence, &mut g4);
        g5::check(&evidence, &mut g5, &mut information);
        g6::check(&evidence, &mut g6, &mut g9);
        g9::check(&evidence, &mut g9);
        let all = [g1, g2, g3, g4, g5, g6, g9];
        self.inform(&mut information);
        Verdict {
            accepted: self.events.iter().filter(|e| e.accepted.is_some()).count() as u64,
            devices: self.devices.len() as u64,
            faults: self.faults.count,
            records: u64::from(self.records),
            guarantees: all.map(|f| (f.guarantee, f.finding)).into(),
            information: information
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(what, count)| (what.to_owned(), count))
                .collect(),
            flaws: self.flaws,
        }
    }

    fn complete(&mut self) {
        if !self.settled {
            self.flaw("the record does not say when everything had been said (`settled`)");
        }
        let open = self.faults.close();
        self.count("faults that had not ended", open as u64);
        let (faults, bound) = (&self.faults, self.rules.relation_us);
        let due = |at| faults.due(Guarantee::G9, at, bound);
        for relation in self.contacts.values_mut().chain(self.blocks.values_mut()) {
            relation.close(due);
        }
    }

    fn inform(&self, information: &mut BTreeMap<&'static str, u64>) {
        for (what, count) in &self.information {
            *information.entry(what).or_default() += count;
        }
        let mut count = |what, count: usize| {
            information.insert(what, count as u64);
        };
        let events = || self.events.iter();
        let unanswered = |e: &&crate::model::Event| {
            e.sent.is_some() && e.accepted.is_none() && e.refused.is_none()
        };
        count(
            "events without an answer",
            events().filter(unanswered).count(),
        );
        count(
            "events rejected",
            events().filter(|e| e.refused.is_some()).count(),
        );
        count(
            "events void at their place",
            events().filter(|e| e.void).count(),
        );
        count(
            "events that nobody in the record sent",
            events().filter(|e| e.class == Class::Foreign).count(),
        );
        count(
            "conversations whose members are not known",
            self.talk.iter().filter(|t| t.stays.is_none()).count(),
        );
        count(
            "readings of history left incomplete",
            self.open_readings.len(),
        );
    }
}
