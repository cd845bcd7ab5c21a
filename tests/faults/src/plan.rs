//! Which faults come when: each kind once, then random pairs, as the seed has it.

use tandem_chassis::rng::Rng;

use crate::{
    fault::{Fault, Link},
    suite::Role,
};

/// Faults that are done at once.
pub type Together = Vec<Fault>;

/// The form for CI: every service and every engine, in about three minutes.
pub fn short() -> Vec<Together> {
    vec![
        vec![Fault::Kill(Role::Edge), Fault::Kill(Role::Push)],
        vec![Fault::Kill(Role::Routing)],
        vec![Fault::Kill(Role::History), Fault::Kill(Role::Presence)],
        vec![Fault::KafkaKillController, Fault::Kill(Role::Accounts)],
        vec![Fault::RedisFlush, Fault::CassandraKill],
        vec![Fault::Cut(Link::RoutingKafka)],
    ]
}

/// Endless: each of `kinds` once in random order, then pairs of them (or single ones, if none go together).
pub fn long(kinds: Vec<Fault>, rng: Rng) -> impl Iterator<Item = Together> + Send {
    let mut singles = kinds.clone();
    for i in (1..singles.len()).rev() {
        singles.swap(i, rng.below(i as u64 + 1) as usize);
    }
    let pairs = std::iter::repeat_with(move || {
        let one = kinds[rng.below(kinds.len() as u64) as usize];
        let others: Vec<Fault> = kinds
            .iter()
            .copied()
            .filter(|k| one.goes_with(*k))
            .collect();
        match others.get(rng.below(others.len() as u64) as usize) {
            Some(other) => vec![one, *other],
            None => vec![one],
        }
    });
    singles.into_iter().map(|f| vec![f]).chain(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_comes_once_before_the_pairs_and_the_seed_says_which() {
        let plan = |seed| {
            long(Fault::all(), Rng::from_seed(seed))
                .take(60)
                .collect::<Vec<_>>()
        };
        let (first, rest) = (plan(3), Fault::all().len());
        assert_eq!(first, plan(3));
        assert_ne!(first, plan(4));
        let mut singles: Vec<Fault> = first[..rest].iter().map(|t| t[0]).collect();
        singles.sort();
        let mut all = Fault::all();
        all.sort();
        assert_eq!(singles, all);
        assert!(first[rest..].iter().all(|t| t.len() == 2));
    }
}
