//! Records of a correct system are clean.

use proptest::prelude::*;
use tandem_checker::{Checker, Excuse, Guarantee, Record, VERSION, Verdict, What};

use crate::world::{Plan, World};

pub const ALL: [Guarantee; 7] = [
    Guarantee::G1,
    Guarantee::G2,
    Guarantee::G3,
    Guarantee::G4,
    Guarantee::G5,
    Guarantee::G6,
    Guarantee::G9,
];

pub fn check(records: &[Record]) -> Verdict {
    let mut checker = Checker::default();
    for record in records {
        checker.take(record.clone());
    }
    checker.verdict()
}

#[test]
fn a_world_is_clean() {
    let records = World::record(1, Plan::default());
    let verdict = check(&records);
    assert!(verdict.is_clean() && verdict.covers(&ALL), "{verdict}");
}

#[test]
fn a_guarantee_of_which_nothing_was_checked_says_so() {
    let begun = What::Begun {
        version: VERSION,
        by: String::new(),
    };
    let verdict = check(&[Record::fact(0, begun), Record::fact(1, What::Settled {})]);
    assert!(verdict.is_clean() && !verdict.covers(&[Guarantee::G1]));
    let lines = verdict.to_string();
    assert_eq!(
        lines.matches("nothing checked, so not known").count(),
        ALL.len()
    );
}

#[test]
fn a_loss_is_excused_by_no_fault() {
    let mut records = World::record(2, Plan::default());
    let sent = records.iter().find_map(|r| match &r.what {
        What::Seen {
            id, shown: true, ..
        } => Some((r.who.clone(), id.clone())),
        _ => None,
    });
    let (who, lost) = sent.unwrap();
    let copy = |r: &Record| matches!(&r.what, What::Seen { id, .. } if *id == lost);
    records.retain(|r| r.who != who || !copy(r));
    for record in records.iter_mut().filter(|r| r.who == who) {
        if let What::Screen { lines, .. } = &mut record.what {
            lines.retain(|l| l.id != lost);
        }
    }
    let excuse = |guarantee| Excuse {
        guarantee,
        recovery_us: u64::MAX,
        most_us: None,
    };
    let fault = What::FaultBegan {
        fault: 1_000,
        kind: "all of it, for ever".into(),
        excuses: ALL.map(excuse).into(),
    };
    records.insert(1, Record::fact(1, fault));
    let verdict = check(&records);
    assert_eq!(
        verdict.guarantees[&Guarantee::G1].rules["lost"].count,
        1,
        "{verdict}"
    );
}

#[test]
fn a_record_that_cannot_be_right_is_not_clean() {
    let mut records = World::record(1, Plan::default());
    records.retain(|r| !matches!(r.what, What::Settled {} | What::Device { .. }));
    let verdict = check(&records);
    assert!(!verdict.flaws.is_empty() && !verdict.is_clean());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_in_a_correct_system_is_clean(seed in any::<u64>()) {
        let verdict = check(&World::record(seed, Plan::default()));
        prop_assert!(verdict.is_clean(), "{verdict}");
    }
}
