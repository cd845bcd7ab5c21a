//! Who is to see which event: the two of a conversation, or a group's members at the event's place, without
//! those who had blocked its author.

use std::collections::BTreeMap;

use tandem_kernel::{
    Address, ConversationId, Seq,
    event::{
        GroupCreate, Kind as Body, MemberLeave, MemberRemove, MembersAdd, Role, RoleSet, Text,
        TitleSet,
    },
    group::{Group, Member},
};

use crate::{
    model::{Model, NEVER},
    record::Kind,
};

/// A conversation.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    /// Events with a place, in their order.
    pub(crate) events: Vec<u32>,
    /// When each member sees it: from which place to which, both included. `None`: it is a group whose
    /// beginning the record does not know.
    pub(crate) stays: Option<BTreeMap<u32, Vec<(u64, u64)>>>,
}

/// Whether a person is to see an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// They are.
    Owed,
    /// They must not.
    Hidden,
    /// Either is right: a relation was just changing, or the record does not say.
    Either,
}

impl Model {
    /// Finds the conversations' members. Events have their places.
    pub(crate) fn find_audiences(&mut self) {
        let mut talks: Vec<Talk> = (0..self.talks.len()).map(|_| Talk::default()).collect();
        for (number, event) in self.events.iter().enumerate() {
            if event.place != NEVER {
                talks[event.talk as usize].events.push(number as u32);
            }
        }
        for (number, talk) in talks.iter_mut().enumerate() {
            talk.events
                .sort_unstable_by_key(|e| (self.events[*e as usize].place, *e));
            let id = ConversationId::parse(self.talks.name(number as u32));
            talk.stays = match id.ok().map(|id| (id.pair(), id)) {
                Some((Some((a, b)), _)) => {
                    let both = [a, b].map(|m| (self.users.number(m.as_str()), vec![(0, NEVER)]));
                    Some(both.into())
                }
                Some((None, _)) => self.fold_group(number as u32, &talk.events),
                None => {
                    let text = format!("{} is no conversation id", self.talks.name(number as u32));
                    self.flaws.push(text);
                    None
                }
            };
        }
        self.talk = talks;
    }

    fn fold_group(&mut self, talk: u32, events: &[u32]) -> Option<BTreeMap<u32, Vec<(u64, u64)>>> {
        let mut stays: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        let mut group = Group::default();
        if let Some((owner, members)) = self.groups.get(&talk) {
            "as declared".clone_into(&mut group.title);
            for name in members.iter().chain([owner]) {
                let role = if name == owner {
                    Role::Owner
                } else {
                    Role::Member
                };
                let joined = Seq(0);
                let address = Address::parse(name).ok()?;
                group.members.insert(address, Member { role, joined });
                stays.insert(self.users.number(name), vec![(0, NEVER)]);
            }
        }
        let begins = |e: &u32| {
            let change = self.events[*e as usize].change.as_deref();
            matches!(change, Some(Kind::Create { .. }))
        };
        if !group.exists() && !events.iter().any(begins) {
            return None;
        }
        for number in events {
            let event = &self.events[*number as usize];
            let place = event.place;
            let body = body(event.change.as_deref());
            let author = Address::parse(self.users.name(event.author)).ok()?;
            match group.apply(Seq(place), &author, &body) {
                Err(_) => self.events[*number as usize].void = true,
                Ok(change) => {
                    for who in change.joined {
                        let who = self.users.number(who.as_str());
                        stays.entry(who).or_default().push((place, NEVER));
                    }
                    for who in change.left {
                        let who = self.users.number(who.as_str());
                        if let Some(stay) = stays.entry(who).or_default().last_mut() {
                            stay.1 = place;
                        }
                    }
                }
            }
        }
        Some(stays)
    }

    /// Whether a person is to see an event that has a place.
    pub(crate) fn sight(&self, event: u32, user: u32) -> Sight {
        let e = &self.events[event as usize];
        let Some(stays) = &self.talk[e.talk as usize].stays else {
            return Sight::Either;
        };
        if e.void {
            // its author's device may show what it was told is accepted
            return if e.author == user {
                Sight::Either
            } else {
                Sight::Hidden
            };
        }
        let mut stays = stays.get(&user).map_or(&[][..], Vec::as_slice).iter();
        if !stays.any(|(from, to)| (*from..=*to).contains(&e.place)) {
            return Sight::Hidden;
        }
        let Some(block) = self.blocks.get(&(user, e.author)) else {
            return Sight::Owed;
        };
        let (from, until) = self.logged(event);
        match (
            block.may_be(true, from, until),
            block.may_be(false, from, until),
        ) {
            (true, false) => Sight::Hidden,
            (true, true) => Sight::Either,
            _ => Sight::Owed,
        }
    }

    /// Between which times an event was admitted.
    pub(crate) fn logged(&self, event: u32) -> (u64, u64) {
        let e = &self.events[event as usize];
        let known = [e.accepted, e.delivered].into_iter().flatten();
        let until = known.map(|said| said.at).min().unwrap_or(self.end);
        (e.sent.map_or(0, |sent| sent.at.min(until)), until)
    }
}

/// An event's body, as far as it matters to a group.
fn body(change: Option<&Kind>) -> Body {
    match change {
        Some(Kind::Create { members }) => Body::GroupCreate(GroupCreate {
            title: "as recorded".into(),
            members: members.clone(),
        }),
        Some(Kind::Add { members }) => Body::MembersAdd(MembersAdd {
            members: members.clone(),
        }),
        Some(Kind::Remove { member }) => Body::MemberRemove(MemberRemove {
            member: member.clone(),
        }),
        Some(Kind::Leave) => Body::MemberLeave(MemberLeave {}),
        Some(Kind::Title) => Body::TitleSet(TitleSet {
            title: "as recorded".into(),
        }),
        Some(Kind::Role { member, role }) => Body::RoleSet(RoleSet {
            member: member.clone(),
            role: match role.as_str() {
                "owner" => Role::Owner,
                "admin" => Role::Admin,
                _ => Role::Member,
            }
            .into(),
        }),
        _ => Body::Text(Text::default()),
    }
}
