//! Who of a group's members reads which partition. Pure: no I/O, no clock.
//!
//! A partition has at most one owner. To move it, its owner is told that it is revoked; it is the
//! owner still until its following step, and only then is the partition assigned to another.

use std::collections::BTreeMap;

use tandem_log::Next;

/// A member, numbered in the order of joining.
pub type MemberId = u64;

#[derive(Debug, Clone, Default)]
struct Slot {
    owner: Option<MemberId>,
    /// The owner has been told that it loses the partition.
    told: bool,
    /// Who should own it.
    target: Option<MemberId>,
    committed: Option<u64>,
    start: Option<u64>,
}

/// A group's members and partitions.
#[derive(Debug)]
pub struct Group {
    slots: Vec<Slot>,
    members: Vec<MemberId>,
    joined: MemberId,
}

impl Group {
    /// A group without members that has committed these offsets.
    pub fn new(committed: Vec<Option<u64>>) -> Self {
        let slots = committed
            .into_iter()
            .map(|committed| Slot {
                committed,
                ..Slot::default()
            })
            .collect();
        Self {
            slots,
            members: Vec::new(),
            joined: 0,
        }
    }

    /// A member more. Where the group has neither committed nor begun, it begins at `starts`.
    pub fn join(&mut self, starts: &[u64]) -> MemberId {
        for (slot, start) in self.slots.iter_mut().zip(starts) {
            slot.start.get_or_insert(*start);
        }
        self.joined += 1;
        self.members.push(self.joined);
        self.balance();
        self.joined
    }

    /// The member is gone, and all that it owned is free.
    pub fn leave(&mut self, member: MemberId) {
        self.members.retain(|m| *m != member);
        for slot in &mut self.slots {
            if slot.owner == Some(member) {
                (slot.owner, slot.told) = (None, false);
            }
        }
        self.balance();
    }

    /// What the group has committed.
    pub fn committed(&self) -> Vec<Option<u64>> {
        self.slots.iter().map(|s| s.committed).collect()
    }

    #[cfg(test)]
    fn owns(&self, member: MemberId, partition: u32) -> bool {
        self.slots
            .get(partition as usize)
            .is_some_and(|s| s.owner == Some(member))
    }

    /// Commits. False, and no effect, if the partition is not the member's.
    pub fn commit(&mut self, member: MemberId, partition: u32, offset: u64) -> bool {
        match self.slots.get_mut(partition as usize) {
            Some(slot) if slot.owner == Some(member) => {
                slot.committed = Some(offset);
                true
            }
            _ => false,
        }
    }

    /// What the member is to be told next, if anything; and whether others may have something to
    /// be told because of this step.
    pub fn step(&mut self, member: MemberId) -> (Option<Next>, bool) {
        let mut released = false;
        for slot in &mut self.slots {
            if slot.owner == Some(member) && slot.told {
                (slot.owner, slot.told) = (None, false);
                released = true;
            }
        }
        let mut lost = Vec::new();
        for (slot, partition) in self.slots.iter_mut().zip(0..) {
            if slot.owner == Some(member) && slot.target != Some(member) {
                slot.told = true;
                lost.push(partition);
            }
        }
        if !lost.is_empty() {
            return (Some(Next::Revoked(lost)), released);
        }
        let mut won = Vec::new();
        for (slot, partition) in self.slots.iter_mut().zip(0..) {
            if slot.owner.is_none() && slot.target == Some(member) {
                slot.owner = Some(member);
                won.push((partition, slot.committed.or(slot.start).unwrap_or(0)));
            }
        }
        ((!won.is_empty()).then_some(Next::Assigned(won)), released)
    }

    /// Divides the partitions evenly, and moves no more than that needs.
    fn balance(&mut self) {
        if self.members.is_empty() {
            self.slots.iter_mut().for_each(|s| s.target = None);
            return;
        }
        let (each, extra) = (
            self.slots.len() / self.members.len(),
            self.slots.len() % self.members.len(),
        );
        let mut has: BTreeMap<MemberId, usize> = self.members.iter().map(|m| (*m, 0)).collect();
        for slot in &mut self.slots {
            // what was promised but not yet handed over counts as had
            slot.target = slot.target.filter(|t| has.contains_key(t)).or(slot.owner);
            if let Some(count) = slot.target.and_then(|t| has.get_mut(&t)) {
                *count += 1;
            } else {
                slot.target = None;
            }
        }
        let mut order = self.members.clone();
        order.sort_by_key(|m| (std::cmp::Reverse(has.get(m).copied()), *m));
        let quota: BTreeMap<MemberId, usize> = order
            .into_iter()
            .enumerate()
            .map(|(i, m)| (m, each + usize::from(i < extra)))
            .collect();
        let mut kept: BTreeMap<MemberId, usize> = BTreeMap::new();
        for slot in &mut self.slots {
            let Some(target) = slot.target else { continue };
            let kept = kept.entry(target).or_default();
            if *kept < quota.get(&target).copied().unwrap_or(0) {
                *kept += 1;
            } else {
                slot.target = None;
            }
        }
        let mut free = self.slots.iter_mut().filter(|s| s.target.is_none());
        loop {
            let mut any = false;
            for member in &self.members {
                let kept = kept.entry(*member).or_default();
                if *kept < quota.get(member).copied().unwrap_or(0) {
                    let Some(slot) = free.next() else { return };
                    slot.target = Some(*member);
                    *kept += 1;
                    any = true;
                }
            }
            if !any {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(next: Option<Next>) -> Vec<u32> {
        match next {
            Some(Next::Assigned(places)) => places.into_iter().map(|(p, _)| p).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_member_has_all_and_a_second_gets_half_after_the_first_let_go() {
        let mut g = Group::new(vec![None; 4]);
        let a = g.join(&[0; 4]);
        assert_eq!(assigned(g.step(a).0), [0, 1, 2, 3]);
        let b = g.join(&[0; 4]);
        assert_eq!(g.step(b), (None, false));
        assert_eq!(g.step(a), (Some(Next::Revoked(vec![2, 3])), false));
        assert!(g.commit(a, 2, 9), "it may commit until its next step");
        assert_eq!(g.step(b), (None, false), "not before the other has let go");
        assert_eq!(g.step(a), (None, true));
        assert!(!g.commit(a, 2, 10));
        assert_eq!(g.step(b).0, Some(Next::Assigned(vec![(2, 9), (3, 0)])));
    }

    #[test]
    fn what_a_member_leaves_goes_to_the_others() {
        let mut g = Group::new(vec![None, Some(5), None]);
        let (a, b) = (g.join(&[7; 3]), g.join(&[8; 3]));
        assert_eq!(g.step(a).0, Some(Next::Assigned(vec![(0, 7), (1, 5)])));
        assert_eq!(g.step(b).0, Some(Next::Assigned(vec![(2, 7)])));
        g.leave(a);
        assert_eq!(assigned(g.step(b).0), [0, 1]);
        g.leave(b);
        assert_eq!(g.committed(), [None, Some(5), None]);
    }

    #[test]
    fn whoever_comes_and_goes_each_partition_has_one_owner_and_the_shares_are_even() {
        // every order of joins and leaves of up to 4 members, each step of the others in between
        for seed in 0..2000u32 {
            let mut g = Group::new(vec![None; 7]);
            let (mut members, mut x) = (Vec::new(), seed);
            for _ in 0..6 {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if members.is_empty() || (x >> 16) % 3 > 0 {
                    members.push(g.join(&[0; 7]));
                } else {
                    let gone = members.remove((x >> 20) as usize % members.len());
                    g.leave(gone);
                }
                if (x >> 24) % 2 == 0 {
                    for m in &members {
                        g.step(*m);
                    }
                }
            }
            for _ in 0..4 {
                for m in &members {
                    g.step(*m);
                }
            }
            let owned = |m: &MemberId| (0..7).filter(|p| g.owns(*m, *p)).count();
            let shares: Vec<usize> = members.iter().map(owned).collect();
            if members.is_empty() {
                continue;
            }
            assert_eq!(shares.iter().sum::<usize>(), 7, "seed {seed}");
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "seed {seed}: {shares:?}");
        }
    }

    #[test]
    fn a_third_member_takes_from_each_and_moves_no_more_than_its_share() {
        let mut g = Group::new(vec![None; 6]);
        let (one, two) = (g.join(&[0; 6]), g.join(&[0; 6]));
        g.step(one);
        g.step(two);
        let three = g.join(&[0; 6]);
        assert!(matches!(g.step(one).0, Some(Next::Revoked(p)) if p.len() == 1));
        assert!(matches!(g.step(two).0, Some(Next::Revoked(p)) if p.len() == 1));
        g.step(one);
        g.step(two);
        assert_eq!(assigned(g.step(three).0).len(), 2);
    }
}
