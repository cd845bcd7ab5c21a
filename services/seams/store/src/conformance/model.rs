//! The store against a sorted map.

use super::*;

/// Random numbers that are the same each time (splitmix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// A short key of few octets, so that keys meet and begin alike.
    pub(super) fn key(&mut self, least: u64) -> Bytes {
        let len = least + self.below(3);
        (0..len)
            .map(|_| [0, 1, b'a', 0xff][self.below(4) as usize])
            .collect()
    }

    fn bound(&mut self) -> Bound<Bytes> {
        match self.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.key(0)),
            _ => Bound::Excluded(self.key(0)),
        }
    }
}

pub async fn any_history_reads_like_a_sorted_map(h: &dyn Harness) {
    type Model = BTreeMap<(Bytes, Bytes), Bytes>;
    let mut model = Model::new();
    let mut dice = Dice(4);
    let put = |model: &mut Model, p: &Bytes, op: &Op| match op {
        Op::Put { sort, value, .. } => {
            model.insert((p.clone(), sort.clone()), value.clone());
        }
        Op::Delete { sort } => {
            model.remove(&(p.clone(), sort.clone()));
        }
        Op::DeletePartition => model.retain(|(of, _), _| of != p),
    };
    for step in 0..600_u32 {
        let p = dice.key(1);
        match dice.below(10) {
            0..5 => {
                let mut ops = Vec::new();
                for n in 0..=dice.below(4) {
                    ops.push(match dice.below(12) {
                        0 => Op::DeletePartition,
                        1..4 => Op::Delete { sort: dice.key(0) },
                        _ => {
                            let value = bytes(&[&step.to_be_bytes()[..], &[n as u8]].concat());
                            Op::Put {
                                sort: dice.key(0),
                                value,
                                ttl: None,
                            }
                        }
                    });
                }
                for op in &ops {
                    put(&mut model, &p, op);
                }
                write(h, &p, ops).await;
            }
            5 => {
                let at = (p.clone(), dice.key(0));
                let expected = if dice.below(2) == 0 {
                    model.get(&at).cloned()
                } else {
                    None
                };
                let value = bytes(&step.to_be_bytes());
                let asked = Key {
                    table: ONE,
                    partition: p,
                    sort: at.1.clone(),
                };
                let told = h
                    .store()
                    .put_if(&asked, expected.clone(), value.clone(), None)
                    .await
                    .unwrap();
                let found = model.get(&at).cloned();
                if found == expected {
                    assert_eq!(told, PutIf::Done, "step {step}");
                    model.insert(at, value);
                } else {
                    assert_eq!(told, PutIf::Otherwise(found), "step {step}");
                }
            }
            6 if step % 20 == 0 => h.reopen().await,
            6 | 7 => {
                let sort = dice.key(0);
                let found = get(h, &p, &sort).await;
                assert_eq!(found.as_ref(), model.get(&(p, sort)), "step {step}");
            }
            _ => {
                let range = Range {
                    from: dice.bound(),
                    to: dice.bound(),
                    reverse: dice.below(2) == 0,
                    limit: 1 + dice.below(6) as usize,
                };
                let within = (range.from.clone(), range.to.clone());
                let mut expected: Vec<Row> = model
                    .iter()
                    .filter(|((of, sort), _)| *of == p && within.contains(sort))
                    .map(|((_, sort), value)| Row {
                        sort: sort.clone(),
                        value: value.clone(),
                    })
                    .collect();
                if range.reverse {
                    expected.reverse();
                }
                expected.truncate(range.limit);
                let rows = h.store().range(ONE, &p, range).await.unwrap();
                assert_eq!(rows, expected, "step {step}");
            }
        }
    }
}
