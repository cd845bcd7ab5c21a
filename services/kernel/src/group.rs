//! A group as its events make it. Routing, history and push fold the same events in the same order
//! through [`Group::apply`], so they agree on who was a member where, and on which events count.

use std::collections::BTreeMap;

use tandem_proto::client::{Role, body::Kind};

use crate::{Address, Code, Seq};

/// Most members a group may have.
pub const MAX_MEMBERS: usize = 256;
/// Longest title, in characters.
pub const MAX_TITLE: usize = 128;

/// A member's stay: events with `joined <= seq` (and `seq <= left`, once left) are theirs to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What the member may do.
    pub role: Role,
    /// Seq of the event that made them a member.
    pub joined: Seq,
}

/// A group's state after the events up to `as_of`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its title; empty while it has not been created.
    pub title: String,
    /// Its members.
    pub members: BTreeMap<Address, Member>,
    /// Seq of the last event applied.
    pub as_of: Seq,
}

/// Why an event does not count. The same at admission and in every reader of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Code for the sender.
    pub code: Code,
    /// For people.
    pub reason: &'static str,
}

const fn refuse<T>(code: Code, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, reason })
}

/// What an event changes about who is in a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// New members, who see the conversation from this event on.
    pub joined: Vec<Address>,
    /// Former members, who see it up to this event.
    pub left: Vec<Address>,
    /// Title or a role changed.
    pub renamed: bool,
}

impl Group {
    /// Whether the group has been created.
    pub fn exists(&self) -> bool {
        !self.title.is_empty()
    }

    /// Whether `user` is a member now.
    pub fn is_member(&self, user: &Address) -> bool {
        self.members.contains_key(user)
    }

    fn role(&self, user: &Address) -> Option<Role> {
        self.members.get(user).map(|m| m.role)
    }

    /// Whether an event of `sender` with this body counts after the events applied so far. Says
    /// nothing of the body's own limits (text size and the like).
    pub fn check(&self, sender: &Address, body: &Kind) -> Result<(), Refusal> {
        if let Kind::GroupCreate(create) = body {
            if self.exists() {
                return refuse(Code::Conflict, "the group exists already");
            }
            let title = create.title.trim();
            if title.is_empty() || title.chars().count() > MAX_TITLE {
                return refuse(
                    Code::InvalidArgument,
                    "a group's title is 1 to 128 characters",
                );
            }
            let mut members = addresses(&create.members)?;
            members.retain(|m| m != sender);
            if members.len() >= MAX_MEMBERS {
                return refuse(Code::GroupFull, "a group has at most 256 members");
            }
            return Ok(());
        }
        let Some(role) = self.role(sender) else {
            return refuse(Code::NotAMember, "not a member of the conversation");
        };
        let manages = matches!(role, Role::Owner | Role::Admin);
        match body {
            Kind::MembersAdd(add) => {
                if !manages {
                    return refuse(Code::Forbidden, "only the owner and admins add members");
                }
                let added = addresses(&add.members)?;
                if added.is_empty() {
                    return refuse(Code::InvalidArgument, "name at least one member to add");
                }
                let new = added.iter().filter(|a| !self.is_member(a)).count();
                if self.members.len() + new > MAX_MEMBERS {
                    return refuse(Code::GroupFull, "a group has at most 256 members");
                }
            }
            Kind::MemberRemove(remove) => {
                let member = address(&remove.member)?;
                match self.role(&member) {
                    None => return refuse(Code::NotFound, "no such member"),
                    _ if !manages => {
                        return refuse(Code::Forbidden, "only the owner and admins remove members");
                    }
                    Some(Role::Owner) => {
                        return refuse(Code::Forbidden, "the owner cannot be removed");
                    }
                    Some(_) => {}
                }
            }
            Kind::TitleSet(set) => {
                if !manages {
                    return refuse(Code::Forbidden, "only the owner and admins set the title");
                }
                let title = set.title.trim();
                if title.is_empty() || title.chars().count() > MAX_TITLE {
                    return refuse(
                        Code::InvalidArgument,
                        "a group's title is 1 to 128 characters",
                    );
                }
            }
            Kind::RoleSet(set) => {
                if role != Role::Owner {
                    return refuse(Code::Forbidden, "only the owner sets roles");
                }
                let member = address(&set.member)?;
                if member == *sender {
                    return refuse(Code::InvalidArgument, "the owner gives the role to another");
                }
                if !self.is_member(&member) {
                    return refuse(Code::NotFound, "no such member");
                }
                if set.role() == Role::Unspecified {
                    return refuse(Code::InvalidArgument, "role is member, admin or owner");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Applies the event at `seq`; refused events change nothing. An event at or below `as_of` has
    /// been applied already and changes nothing.
    pub fn apply(&mut self, seq: Seq, sender: &Address, body: &Kind) -> Result<Change, Refusal> {
        if seq <= self.as_of {
            return Ok(Change::default());
        }
        self.check(sender, body)?;
        let mut change = Change::default();
        match body {
            Kind::GroupCreate(create) => {
                create.title.trim().clone_into(&mut self.title);
                self.members.insert(
                    sender.clone(),
                    Member {
                        role: Role::Owner,
                        joined: seq,
                    },
                );
                change.joined.push(sender.clone());
                self.add(seq, &addresses(&create.members)?, &mut change);
            }
            Kind::MembersAdd(add) => self.add(seq, &addresses(&add.members)?, &mut change),
            Kind::MemberRemove(remove) => {
                let member = address(&remove.member)?;
                self.members.remove(&member);
                change.left.push(member);
            }
            Kind::MemberLeave(_) => {
                let owner = self.role(sender) == Some(Role::Owner);
                self.members.remove(sender);
                change.left.push(sender.clone());
                if owner {
                    self.succeed_owner();
                }
            }
            Kind::TitleSet(set) => {
                set.title.trim().clone_into(&mut self.title);
                change.renamed = true;
            }
            Kind::RoleSet(set) => {
                let member = address(&set.member)?;
                if let Some(m) = self.members.get_mut(&member) {
                    m.role = set.role();
                }
                if set.role() == Role::Owner
                    && let Some(m) = self.members.get_mut(sender)
                {
                    m.role = Role::Admin;
                }
                change.renamed = true;
            }
            _ => {}
        }
        self.as_of = seq;
        Ok(change)
    }

    fn add(&mut self, seq: Seq, members: &[Address], change: &mut Change) {
        for member in members {
            if !self.is_member(member) {
                self.members.insert(
                    member.clone(),
                    Member {
                        role: Role::Member,
                        joined: seq,
                    },
                );
                change.joined.push(member.clone());
            }
        }
    }

    fn succeed_owner(&mut self) {
        // the oldest admin, else the oldest member; by address among those who came together
        let heir = self
            .members
            .iter()
            .min_by_key(|(a, m)| (m.role != Role::Admin, m.joined, (*a).clone()))
            .map(|(a, _)| a.clone());
        if let Some(m) = heir.and_then(|a| self.members.get_mut(&a)) {
            m.role = Role::Owner;
        }
    }
}

/// Whether an event of this kind changes a group.
pub fn changes_group(body: &Kind) -> bool {
    matches!(
        body,
        Kind::GroupCreate(_)
            | Kind::MembersAdd(_)
            | Kind::MemberRemove(_)
            | Kind::MemberLeave(_)
            | Kind::TitleSet(_)
            | Kind::RoleSet(_)
    )
}

fn address(text: &str) -> Result<Address, Refusal> {
    Address::parse(text).map_err(|_| Refusal {
        code: Code::InvalidArgument,
        reason: "a member is an address",
    })
}

fn addresses(texts: &[String]) -> Result<Vec<Address>, Refusal> {
    let mut out = Vec::with_capacity(texts.len());
    for text in texts {
        let a = address(text)?;
        if !out.contains(&a) {
            out.push(a);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_proto::client::{GroupCreate, MemberLeave, MemberRemove, MembersAdd, RoleSet};

    fn a(s: &str) -> Address {
        Address::parse(&format!("{s}@x.test")).unwrap()
    }

    fn created() -> Group {
        let mut g = Group::default();
        let create = GroupCreate {
            title: " friends ".into(),
            members: vec![
                "bob@x.test".into(),
                "chloe@x.test".into(),
                "bob@x.test".into(),
            ],
        };
        let change = g
            .apply(Seq(1), &a("alice"), &Kind::GroupCreate(create))
            .unwrap();
        assert_eq!(change.joined, [a("alice"), a("bob"), a("chloe")]);
        assert_eq!(g.title, "friends");
        g
    }

    #[test]
    fn a_member_cannot_manage_and_an_outsider_cannot_speak() {
        let g = created();
        let add = Kind::MembersAdd(MembersAdd {
            members: vec!["dan@x.test".into()],
        });
        assert_eq!(g.check(&a("bob"), &add).unwrap_err().code, Code::Forbidden);
        assert_eq!(g.check(&a("dan"), &add).unwrap_err().code, Code::NotAMember);
        assert_eq!(g.check(&a("alice"), &add), Ok(()));
    }

    #[test]
    fn a_replayed_event_changes_nothing() {
        let mut g = created();
        let add = Kind::MembersAdd(MembersAdd {
            members: vec!["dan@x.test".into()],
        });
        g.apply(Seq(5), &a("alice"), &add).unwrap();
        let remove = Kind::MemberRemove(MemberRemove {
            member: "dan@x.test".into(),
        });
        g.apply(Seq(6), &a("alice"), &remove).unwrap();
        let before = g.clone();
        assert_eq!(
            g.apply(Seq(5), &a("alice"), &add).unwrap(),
            Change::default()
        );
        assert_eq!(g, before);
    }

    #[test]
    fn when_the_owner_leaves_the_oldest_admin_follows() {
        let mut g = created();
        let role = RoleSet {
            member: "chloe@x.test".into(),
            role: Role::Admin.into(),
        };
        g.apply(Seq(2), &a("alice"), &Kind::RoleSet(role)).unwrap();
        g.apply(Seq(3), &a("alice"), &Kind::MemberLeave(MemberLeave {}))
            .unwrap();
        assert_eq!(g.role(&a("chloe")), Some(Role::Owner));
        g.apply(Seq(4), &a("chloe"), &Kind::MemberLeave(MemberLeave {}))
            .unwrap();
        assert_eq!(g.role(&a("bob")), Some(Role::Owner));
    }

    #[test]
    fn a_group_has_at_most_256_members() {
        let mut g = created();
        let many = (0..253).map(|i| format!("m{i}@x.test")).collect();
        g.apply(
            Seq(2),
            &a("alice"),
            &Kind::MembersAdd(MembersAdd { members: many }),
        )
        .unwrap();
        assert_eq!(g.members.len(), MAX_MEMBERS);
        let one = Kind::MembersAdd(MembersAdd {
            members: vec!["one@x.test".into()],
        });
        assert_eq!(
            g.check(&a("alice"), &one).unwrap_err().code,
            Code::GroupFull
        );
    }
}
