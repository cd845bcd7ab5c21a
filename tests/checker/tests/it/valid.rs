//! Records of a correct system are clean.

use proptest::prelude::*;
use tandem_checker::{Checker, Guarantee, Record, Verdict};

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn whatever_happens_in_a_correct_system_is_clean(seed in any::<u64>()) {
        let verdict = check(&World::record(seed, Plan::default()));
        prop_assert!(verdict.is_clean(), "{verdict}");
    }
}
