//! May this person send this event to this conversation, and who must not see it?
//!
//! One function decides, and says what it would need to know while it does not know it.

use std::sync::Arc;

use tandem_kernel::{
    Address, Code, Seq,
    event::Kind,
    group::{Group, changes_group},
};

use super::{
    item::{Item, Refused},
    relations::Relations,
};

/// A message that an edit, delete or reaction names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who wrote it.
    pub author: Address,
    /// Whom it was withheld from.
    pub withheld_from: Vec<Address>,
}

/// What is known when an item is decided on.
pub trait Facts {
    /// The relations of `user`; `None`: not known yet.
    fn relations(&self, user: &Address) -> Option<Arc<Relations>>;

    /// The item's group with the changes before the item; `None`: not known yet.
    fn group(&self) -> Option<Arc<Group>>;

    /// Members of `group` who have blocked `sender`, by address; or whose relations are not known yet.
    fn blockers(&self, group: &Arc<Group>, sender: &Address) -> Result<Vec<Address>, Vec<Address>>;

    /// The message at `seq` of the item's conversation; `None`: not known yet, `Some(None)`: there is none.
    fn target(&self, seq: Seq) -> Option<Option<Target>>;
}

/// What must be known first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Relations of these people.
    Relations(Vec<Address>),
    /// The item's group.
    Group,
    /// The message at this place.
    Target(Seq),
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the log.
    Admit {
        /// Members to whom no service shows it.
        withheld_from: Vec<Address>,
        /// The recipient is to see it as a request.
        request: bool,
    },
    /// It does not.
    Refuse(Refused),
    /// Not decided.
    Need(Need),
}

impl From<Refused> for Verdict {
    fn from(refused: Refused) -> Self {
        Self::Refuse(refused)
    }
}

const NOT_A_MEMBER: Refused = Refused::new(Code::NotAMember, "not a member of the conversation");
const NO_ACCOUNT: Refused = Refused::new(Code::NotFound, "no such person");
const NO_MESSAGE: Refused = Refused::new(Code::NotFound, "no such message");

/// Decides on an item.
pub fn admit(item: &Item, facts: &impl Facts) -> Verdict {
    if item.conversation.pair.is_some() {
        admit_pair(item, facts)
    } else {
        admit_group(item, facts)
    }
}

fn admit_pair(item: &Item, facts: &impl Facts) -> Verdict {
    let Some(peer) = item.conversation.peer_of(&item.sender) else {
        return NOT_A_MEMBER.into();
    };
    if changes_group(&item.kind) {
        let refused = "a conversation of two has no members to change";
        return Refused::new(Code::InvalidArgument, refused).into();
    }
    let receipt = matches!(item.kind, Kind::Receipt(_));
    let Some(theirs) = facts.relations(peer) else {
        let mut unknown = vec![peer.clone()];
        if receipt && facts.relations(&item.sender).is_none() {
            unknown.push(item.sender.clone());
        }
        return Verdict::Need(Need::Relations(unknown));
    };
    if !receipt {
        if !theirs.exists {
            return NO_ACCOUNT.into();
        }
        if let Some(verdict) = check_target(item, None, facts) {
            return verdict;
        }
    }
    let blocked = theirs.has_blocked(&item.sender);
    if !receipt && !blocked {
        let request = !theirs.is_mutual(&item.sender);
        return Verdict::Admit {
            withheld_from: Vec::new(),
            request,
        };
    }
    // A reader's consent decides who may learn what they have read. And for one who is blocked
    // everything, `request` too, is as they believe it to be.
    let Some(own) = facts.relations(&item.sender) else {
        return Verdict::Need(Need::Relations(vec![item.sender.clone()]));
    };
    let withheld = blocked || (receipt && !own.is_mutual(peer));
    Verdict::Admit {
        withheld_from: if withheld {
            vec![peer.clone()]
        } else {
            Vec::new()
        },
        request: !receipt && !own.is_mutual(peer),
    }
}

fn admit_group(item: &Item, facts: &impl Facts) -> Verdict {
    let Some(group) = facts.group() else {
        return Verdict::Need(Need::Group);
    };
    if let Kind::GroupCreate(_) = item.kind {
        let home = item
            .conversation
            .id
            .as_str()
            .split_once('@')
            .map(|(_, domain)| domain);
        if home != Some(item.sender.domain()) {
            let refused = "a group is at home in the domain of the one who begins it";
            return Refused::new(Code::Forbidden, refused).into();
        }
        // whether there is one already is not for outsiders to learn
        if group.exists() && !group.is_member(&item.sender) {
            return NOT_A_MEMBER.into();
        }
    }
    if let Err(refusal) = group.check(&item.sender, &item.kind) {
        return Refused::new(refusal.code, refusal.reason).into();
    }
    if let Some(verdict) = check_invited(item, &group, facts) {
        return verdict;
    }
    if let Some(verdict) = check_target(item, Some(&group), facts) {
        return verdict;
    }
    let mut withheld_from = match facts.blockers(&group, &item.sender) {
        Ok(blockers) => blockers,
        Err(unknown) => return Verdict::Need(Need::Relations(unknown)),
    };
    if matches!(item.kind, Kind::Receipt(_)) {
        let Some(own) = facts.relations(&item.sender) else {
            return Verdict::Need(Need::Relations(vec![item.sender.clone()]));
        };
        for blocked in own.blocked() {
            if group.is_member(blocked) && !withheld_from.contains(blocked) {
                withheld_from.push(blocked.clone());
            }
        }
    }
    Verdict::Admit {
        withheld_from,
        request: false,
    }
}

/// Whoever is added must exist and must not have blocked the one who adds. `None`: all may be.
fn check_invited(item: &Item, group: &Group, facts: &impl Facts) -> Option<Verdict> {
    let invited = match &item.kind {
        Kind::GroupCreate(create) => &create.members,
        Kind::MembersAdd(add) => &add.members,
        _ => return None,
    };
    let mut unknown = Vec::new();
    let mut refused = None;
    for text in invited {
        let Ok(who) = Address::parse(text) else {
            return Some(Refused::new(Code::InvalidArgument, "a member is an address").into());
        };
        if who == item.sender || group.is_member(&who) {
            continue;
        }
        match facts.relations(&who) {
            None => unknown.push(who),
            Some(r) if !r.exists => refused = Some(NO_ACCOUNT),
            Some(r) if r.has_blocked(&item.sender) => {
                refused = Some(Refused::new(
                    Code::Forbidden,
                    "a person named cannot be added",
                ));
            }
            Some(_) => {}
        }
    }
    if unknown.is_empty() {
        refused.map(Verdict::Refuse)
    } else {
        Some(Verdict::Need(Need::Relations(unknown)))
    }
}

/// Edits and deletes are the author's, reactions are of those who can see the message. `None`: it is so.
fn check_target(item: &Item, group: Option<&Group>, facts: &impl Facts) -> Option<Verdict> {
    let (seq, own) = match &item.kind {
        Kind::Edit(edit) => (Seq(edit.target), true),
        Kind::Delete(delete) => (Seq(delete.target), true),
        Kind::Reaction(reaction) => (Seq(reaction.target), false),
        _ => return None,
    };
    if seq.generation() == 0 {
        return Some(NO_MESSAGE.into());
    }
    if let Some(member) = group.and_then(|g| g.members.get(&item.sender))
        && member.joined > seq
        && !own
    {
        return Some(NO_MESSAGE.into());
    }
    match facts.target(seq) {
        None => Some(Verdict::Need(Need::Target(seq))),
        Some(None) => Some(NO_MESSAGE.into()),
        Some(Some(target)) if target.withheld_from.contains(&item.sender) => {
            Some(NO_MESSAGE.into())
        }
        Some(Some(target)) if own && target.author != item.sender => {
            Some(Refused::new(Code::Forbidden, "only the author changes a message").into())
        }
        Some(Some(_)) => None,
    }
}
