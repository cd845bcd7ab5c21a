//! A group as the partition's reader has folded it, with what its newest changes did, so that reading the
//! log again after a crash finds the same recipients as the first time.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};
use tandem_kernel::{
    Address, Seq,
    event::{Kind, Role},
    group::{Group, Member, Refusal, changes_group},
};

/// How many changes are remembered: more than a reader has uncommitted.
const CHANGES: usize = 64;

/// A change of who is a member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    seq: Seq,
    joined: Vec<Address>,
    left: Vec<Address>,
}

/// Who is to see an event that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// The members after it.
    pub members: Arc<[Address]>,
    /// Those whom it made leave.
    pub left: Vec<Address>,
    /// The directory has changed by it.
    pub changed: bool,
}

/// A group and its newest changes.
#[derive(Debug, Clone)]
pub struct Folder {
    group: Arc<Group>,
    changes: VecDeque<Change>,
    members: Arc<[Address]>,
}

impl Default for Folder {
    fn default() -> Self {
        Self::new(Group::default(), VecDeque::new())
    }
}

impl Folder {
    fn new(group: Group, changes: VecDeque<Change>) -> Self {
        let members = group.members.keys().cloned().collect();
        Self {
            group: Arc::new(group),
            changes,
            members,
        }
    }

    /// The group after everything folded.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Folds the event at `seq`: who sees it, or why it is void. The same again gives the same.
    pub fn fold(&mut self, seq: Seq, sender: &Address, kind: &Kind) -> Result<Audience, Refusal> {
        if seq <= self.group.as_of {
            return self.again(seq, sender, kind);
        }
        if !changes_group(kind) {
            // nothing but the place moves, and that need not be written
            self.group.check(sender, kind)?;
            return Ok(Audience {
                members: Arc::clone(&self.members),
                left: Vec::new(),
                changed: false,
            });
        }
        let change = Arc::make_mut(&mut self.group).apply(seq, sender, kind)?;
        self.members = self.group.members.keys().cloned().collect();
        let left = change.left.clone();
        self.changes.push_back(Change {
            seq,
            joined: change.joined,
            left: change.left,
        });
        if self.changes.len() > CHANGES {
            self.changes.pop_front();
        }
        Ok(Audience {
            members: Arc::clone(&self.members),
            left,
            changed: true,
        })
    }

    /// What folding an event again gives that was folded before the row was written.
    fn again(&self, seq: Seq, sender: &Address, kind: &Kind) -> Result<Audience, Refusal> {
        let void = Refusal {
            code: tandem_kernel::Code::NotAMember,
            reason: "the event did not count at its place",
        };
        // members as they were after `seq`: the present ones, with the later changes undone
        let mut members = self.members.to_vec();
        for change in self.changes.iter().rev().take_while(|c| c.seq > seq) {
            members.retain(|m| !change.joined.contains(m));
            members.extend(change.left.iter().cloned());
        }
        members.sort_unstable();
        let at = self.changes.iter().find(|c| c.seq == seq);
        let counted = if changes_group(kind) {
            at.is_some()
        } else {
            members.contains(sender)
        };
        if !counted {
            return Err(void);
        }
        let left = at.map(|c| c.left.clone()).unwrap_or_default();
        Ok(Audience {
            members: members.into(),
            left,
            changed: false,
        })
    }

    /// The directory's row.
    pub fn to_row(&self) -> Result<Vec<u8>, serde_json::Error> {
        let text = |a: &Address| a.as_str().to_owned();
        let members = self.group.members.iter();
        serde_json::to_vec(&Row {
            title: self.group.title.clone(),
            members: members
                .map(|(a, m)| MemberRow {
                    user: text(a),
                    role: m.role.into(),
                    joined: m.joined.0,
                })
                .collect(),
            as_of: self.group.as_of.0,
            changes: self
                .changes
                .iter()
                .map(|c| ChangeRow {
                    seq: c.seq.0,
                    joined: c.joined.iter().map(text).collect(),
                    left: c.left.iter().map(text).collect(),
                })
                .collect(),
        })
    }

    /// Reads the directory's row; says why it cannot be read.
    pub fn from_row(row: &[u8]) -> Result<Self, String> {
        let row: Row = serde_json::from_slice(row).map_err(|e| e.to_string())?;
        let mut group = Group {
            title: row.title,
            as_of: Seq(row.as_of),
            ..Group::default()
        };
        for member in row.members {
            let role = Role::try_from(member.role).map_err(|e| e.to_string())?;
            group.members.insert(
                read(&member.user)?,
                Member {
                    role,
                    joined: Seq(member.joined),
                },
            );
        }
        let mut changes = VecDeque::with_capacity(row.changes.len());
        for change in row.changes {
            let joined = change
                .joined
                .iter()
                .map(|a| read(a))
                .collect::<Result<_, _>>()?;
            let left = change
                .left
                .iter()
                .map(|a| read(a))
                .collect::<Result<_, _>>()?;
            changes.push_back(Change {
                seq: Seq(change.seq),
                joined,
                left,
            });
        }
        Ok(Self::new(group, changes))
    }
}

fn read(address: &str) -> Result<Address, String> {
    Address::parse(address).map_err(|e| e.to_string())
}

#[derive(Serialize, Deserialize)]
struct Row {
    title: String,
    members: Vec<MemberRow>,
    as_of: u64,
    #[serde(default)]
    changes: Vec<ChangeRow>,
}

#[derive(Serialize, Deserialize)]
struct MemberRow {
    user: String,
    role: i32,
    joined: u64,
}

#[derive(Serialize, Deserialize)]
struct ChangeRow {
    seq: u64,
    joined: Vec<String>,
    left: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_kernel::event::{GroupCreate, MemberRemove, MembersAdd, Text};

    fn a(s: &str) -> Address {
        Address::parse(&format!("{s}@x.test")).unwrap()
    }

    fn text() -> Kind {
        Kind::Text(Text {
            text: "x".into(),
            ..Text::default()
        })
    }

    fn story() -> Vec<(Address, Kind)> {
        let create = GroupCreate {
            title: "t".into(),
            members: vec!["b@x.test".into()],
        };
        let add = MembersAdd {
            members: vec!["c@x.test".into()],
        };
        let remove = MemberRemove {
            member: "b@x.test".into(),
        };
        vec![
            (a("b"), text()),
            (a("a"), Kind::GroupCreate(create)),
            (a("b"), text()),
            (a("b"), Kind::MembersAdd(add.clone())),
            (a("a"), Kind::MembersAdd(add)),
            (a("c"), text()),
            (a("a"), Kind::MemberRemove(remove)),
            (a("b"), text()),
            (a("c"), text()),
        ]
    }

    fn tell(folder: &mut Folder) -> Vec<Option<(Vec<Address>, Vec<Address>)>> {
        let story = story().into_iter().zip(1..);
        let fold = story.map(|((sender, kind), seq)| folder.fold(Seq(seq), &sender, &kind));
        fold.map(|r| r.ok().map(|s| (s.members.to_vec(), s.left)))
            .collect()
    }

    #[test]
    fn the_removed_see_their_removal_and_nothing_after_it() {
        let seen = tell(&mut Folder::default());
        let (ab, abc, ac) = (
            vec![a("a"), a("b")],
            vec![a("a"), a("b"), a("c")],
            vec![a("a"), a("c")],
        );
        assert_eq!(seen[0], None);
        assert_eq!(seen[1], Some((ab.clone(), vec![])));
        assert_eq!(seen[2], Some((ab, vec![])));
        assert_eq!(seen[3], None);
        assert_eq!(seen[4], Some((abc.clone(), vec![])));
        assert_eq!(seen[5], Some((abc, vec![])));
        assert_eq!(seen[6], Some((ac.clone(), vec![a("b")])));
        assert_eq!(seen[7], None);
        assert_eq!(seen[8], Some((ac, vec![])));
    }

    #[test]
    fn read_again_from_the_row_every_event_has_the_same_audience() {
        let mut folder = Folder::default();
        let first = tell(&mut folder);
        let mut again = Folder::from_row(&folder.to_row().unwrap()).unwrap();
        assert_eq!(tell(&mut again), first);
        assert_eq!(again.group(), folder.group());
    }
}
