//! The checker is able to fail: each violation is found, as one of its guarantee alone.

use proptest::prelude::*;
use tandem_checker::Verdict;

use crate::{
    plant::{PLANTS, Plant},
    rng::Rng,
    valid::check,
    world::World,
};

/// The verdict on a world with this violation; from the seed on the first in which it can be planted.
fn planted(plant: &Plant, seed: u64) -> (Verdict, u64) {
    for seed in seed..seed + 200 {
        let mut records = World::record(seed, (plant.world)());
        let mut rng = Rng(seed ^ 0xa5a5);
        if (plant.change)(&mut records, &mut rng) {
            return (check(&records), seed);
        }
    }
    panic!("{}: nowhere to plant it", plant.name);
}

/// Why the verdict is not what it should be.
fn wrong(plant: &Plant, verdict: &Verdict) -> Option<String> {
    let broken = verdict.guarantees.iter().filter(|(_, f)| f.violations > 0);
    let broken: Vec<_> = broken.map(|(g, _)| *g).collect();
    let wanted: Vec<_> = plant.breaks.into_iter().collect();
    let right = broken == wanted && verdict.flaws.is_empty();
    (!right).then(|| format!("{}: {wanted:?}, and not\n{verdict}", plant.name))
}

#[test]
fn each_violation_is_found_as_that_and_nothing_else() {
    let mut failed = Vec::new();
    for plant in PLANTS {
        let (verdict, seed) = planted(plant, 1);
        let wrong = wrong(plant, &verdict);
        failed.extend(wrong.map(|w| format!("seed {seed}: {w}")));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_is_planted_is_found(which in 0..PLANTS.len(), seed in 0..u64::MAX / 2) {
        let plant = &PLANTS[which];
        let (verdict, seed) = planted(plant, seed);
        let wrong = wrong(plant, &verdict);
        prop_assert!(wrong.is_none(), "seed {seed}: {}", wrong.unwrap_or_default());
    }
}
