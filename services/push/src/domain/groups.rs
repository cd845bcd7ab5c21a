//! Who is in which group, folded from the log; what is not known yet is loaded from the directory.

use std::collections::{BTreeSet, VecDeque};

use ahash::HashMap;
use tandem_kernel::{
    Address, ConversationId, Seq, UnixMillis,
    event::Kind,
    group::{Group, Refusal},
};

/// The groups of a partition that were used lately.
///
/// The directory may be behind what was read here, or ahead of it. Changes of the last minute are kept and
/// applied to what is loaded, so being behind by less loses nothing. When it is ahead, members who joined
/// later than an event are known by where they joined.
#[derive(Debug)]
pub struct Groups {
    young: HashMap<ConversationId, Group>,
    old: HashMap<ConversationId, Group>,
    recent: VecDeque<Recent>,
    keep_ms: i64,
    capacity: usize,
}

#[derive(Debug)]
struct Recent {
    at: UnixMillis,
    seq: Seq,
    conversation: ConversationId,
    sender: Address,
    kind: Kind,
}

impl Groups {
    /// No group is known. At least the `capacity` groups used last are kept (at most twice as many), and
    /// changes for `keep_ms` milliseconds.
    pub fn new(capacity: usize, keep_ms: i64) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            recent: VecDeque::new(),
            keep_ms,
            capacity: capacity.max(1),
        }
    }

    /// Which of these groups must be loaded before their events can be taken. What is known of the others
    /// is kept until the next call.
    pub fn missing<'a>(
        &mut self,
        wanted: impl Iterator<Item = &'a ConversationId>,
    ) -> BTreeSet<ConversationId> {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        let mut missing = BTreeSet::new();
        for id in wanted {
            if self.young.contains_key(id) {
                continue;
            }
            match self.old.remove(id) {
                Some(group) => {
                    self.young.insert(id.clone(), group);
                }
                None => {
                    missing.insert(id.clone());
                }
            }
        }
        missing
    }

    /// Takes a group as the directory has it.
    pub fn load(&mut self, id: ConversationId, mut group: Group) {
        for change in self.recent.iter().filter(|c| c.conversation == id) {
            // what does not count is void here as everywhere
            let _ = group.apply(change.seq, &change.sender, &change.kind);
        }
        self.young.insert(id, group);
    }

    /// A change read from the log. Refused ones change nothing.
    pub fn change(
        &mut self,
        at: UnixMillis,
        seq: Seq,
        conversation: &ConversationId,
        sender: &Address,
        kind: Kind,
    ) -> Result<(), Refusal> {
        while self
            .recent
            .front()
            .is_some_and(|c| at.0 - c.at.0 > self.keep_ms)
        {
            self.recent.pop_front();
        }
        let known = match self.young.get_mut(conversation) {
            Some(group) => Some(group),
            None => self.old.get_mut(conversation),
        };
        let applied = known.map_or(Ok(()), |group| group.apply(seq, sender, &kind).map(drop));
        self.recent.push_back(Recent {
            at,
            seq,
            conversation: conversation.clone(),
            sender: sender.clone(),
            kind,
        });
        applied
    }

    /// The members to whom an event of `sender` at `seq` is shown, without the sender, and the group's
    /// title; refused if the event does not count. The group must not be missing.
    pub fn audience(
        &self,
        conversation: &ConversationId,
        seq: Seq,
        sender: &Address,
        kind: &Kind,
    ) -> Result<(Vec<Address>, &str), Refusal> {
        let Some(group) = self.young.get(conversation) else {
            return Ok((Vec::new(), ""));
        };
        if seq > group.as_of {
            group.check(sender, kind)?;
        }
        let members = group
            .members
            .iter()
            .filter(|(address, member)| *address != sender && member.joined <= seq)
            .map(|(address, _)| address.clone())
            .collect();
        Ok((members, &group.title))
    }
}

#[cfg(test)]
mod tests {
    use tandem_kernel::{
        event::{GroupCreate, MemberRemove, MembersAdd, Nudge, Role},
        group::Member,
    };

    use super::*;

    fn a(s: &str) -> Address {
        Address::parse(&format!("{s}@x.test")).unwrap()
    }

    fn g() -> ConversationId {
        ConversationId::parse("g:018f4d2e-0000-7000-8000-000000000001@x.test").unwrap()
    }

    fn snapshot(as_of: u64, members: &[(&str, u64)]) -> Group {
        let members = members
            .iter()
            .enumerate()
            .map(|(i, (n, joined))| {
                let role = if i == 0 { Role::Owner } else { Role::Member };
                (
                    a(n),
                    Member {
                        role,
                        joined: Seq(*joined),
                    },
                )
            })
            .collect();
        Group {
            title: "friends".into(),
            members,
            as_of: Seq(as_of),
        }
    }

    fn audience(groups: &Groups, seq: u64, sender: &str) -> Result<Vec<String>, Refusal> {
        let (members, _) = groups.audience(&g(), Seq(seq), &a(sender), &Kind::Nudge(Nudge {}))?;
        Ok(members.iter().map(|m| m.local().to_owned()).collect())
    }

    fn add(who: &str) -> Kind {
        Kind::MembersAdd(MembersAdd {
            members: vec![a(who).to_string()],
        })
    }

    #[test]
    fn a_directory_that_is_behind_is_completed_from_the_log() {
        let mut groups = Groups::new(10, 60_000);
        groups
            .change(UnixMillis(0), Seq(7), &g(), &a("alice"), add("dan"))
            .unwrap();
        let remove = Kind::MemberRemove(MemberRemove {
            member: a("bob").to_string(),
        });
        groups
            .change(UnixMillis(1), Seq(8), &g(), &a("alice"), remove)
            .unwrap();
        assert_eq!(groups.missing([g()].iter()).len(), 1);
        groups.load(g(), snapshot(5, &[("alice", 1), ("bob", 1)]));
        assert_eq!(audience(&groups, 9, "alice").unwrap(), ["dan"]);
        assert!(audience(&groups, 9, "bob").is_err());
    }

    #[test]
    fn a_directory_that_is_ahead_shows_nobody_what_came_before_them() {
        let mut groups = Groups::new(10, 60_000);
        groups.load(g(), snapshot(20, &[("alice", 1), ("bob", 1), ("dan", 15)]));
        assert_eq!(audience(&groups, 10, "alice").unwrap(), ["bob"]);
        assert_eq!(audience(&groups, 16, "alice").unwrap(), ["bob", "dan"]);
        // who has left since was a member then
        assert_eq!(audience(&groups, 10, "chloe").unwrap(), ["alice", "bob"]);
    }

    #[test]
    fn a_group_is_known_from_its_creation_on_before_the_directory_has_it() {
        let mut groups = Groups::new(10, 60_000);
        let create = GroupCreate {
            title: "friends".into(),
            members: vec![a("bob").to_string()],
        };
        let kind = Kind::GroupCreate(create);
        groups
            .change(UnixMillis(0), Seq(1), &g(), &a("alice"), kind)
            .unwrap();
        groups.load(g(), Group::default());
        assert_eq!(audience(&groups, 2, "alice").unwrap(), ["bob"]);
    }

    #[test]
    fn groups_that_are_not_used_are_forgotten_and_loaded_again() {
        let mut groups = Groups::new(1, 60_000);
        let other = ConversationId::parse("g:018f4d2e-0000-7000-8000-000000000002@x.test").unwrap();
        groups.load(g(), snapshot(5, &[("alice", 1)]));
        assert!(groups.missing([g()].iter()).is_empty());
        groups.load(other.clone(), snapshot(5, &[("alice", 1)]));
        assert!(groups.missing([other.clone()].iter()).is_empty());
        assert!(groups.missing([other].iter()).is_empty());
        assert_eq!(groups.missing([g()].iter()).len(), 1);
    }
}
