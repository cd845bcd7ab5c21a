//! Whatever the relations, admission keeps what section 7 of the architecture promises.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use tandem_kernel::{
    Address, Code, ConversationId, EventId, Seq,
    event::{Edit, GroupCreate, Kind, MembersAdd, Reaction, Receipt, Text},
    group::Group,
};
use tandem_routing::domain::{
    admission::{Facts, Need, Target, Verdict, admit},
    item::{Conversation, Item, Limits, Refused, read},
    relations::Relations,
};

const PEOPLE: [&str; 5] = ["a", "b", "c", "d", "e"];
const GROUP: &str = "g:018f4d2e-0000-7000-8000-000000000001@x.test";

fn who(i: usize) -> Address {
    Address::parse(&format!("{}@x.test", PEOPLE[i])).unwrap()
}

#[derive(Debug, Clone, Default)]
struct World {
    /// Who knows whom, both ways.
    contacts: BTreeSet<(usize, usize)>,
    /// Who has blocked whom.
    blocks: BTreeSet<(usize, usize)>,
    /// Who has an account.
    exist: BTreeSet<usize>,
    group: Group,
    author: Option<usize>,
    /// What has been asked for so far; the rest is not known.
    known: BTreeSet<Address>,
    group_known: bool,
    target_known: bool,
}

impl World {
    fn of(&self, user: &Address) -> Relations {
        let index = (0..PEOPLE.len()).find(|i| who(*i) == *user);
        let Some(i) = index.filter(|i| self.exist.contains(i)) else {
            return Relations::default();
        };
        // a block ends the contact on the side of the one who blocks
        let mutual = |j: &usize| {
            let pair = (i.min(*j), i.max(*j));
            self.contacts.contains(&pair) && !self.blocks.contains(&(i, *j))
        };
        let blocked = |j: &usize| self.blocks.contains(&(i, *j));
        let others = || 0..PEOPLE.len();
        Relations::new(
            1,
            others().filter(mutual).map(who).collect(),
            others().filter(blocked).map(who).collect(),
        )
    }
}

impl Facts for World {
    fn relations(&self, user: &Address) -> Option<Arc<Relations>> {
        self.known.contains(user).then(|| Arc::new(self.of(user)))
    }
    fn group(&self) -> Option<Arc<Group>> {
        self.group_known.then(|| Arc::new(self.group.clone()))
    }
    fn blockers(&self, group: &Arc<Group>, sender: &Address) -> Result<Vec<Address>, Vec<Address>> {
        let members = group.members.keys();
        let unknown: Vec<_> = members
            .clone()
            .filter(|m| !self.known.contains(*m))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        Ok(members
            .filter(|m| self.of(m).has_blocked(sender))
            .cloned()
            .collect())
    }
    fn target(&self, _: Seq) -> Option<Option<Target>> {
        let target = |i| Target {
            author: who(i),
            withheld_from: Vec::new(),
        };
        self.target_known.then(|| self.author.map(target))
    }
}

/// Decides, learning what is needed; panics if it asks for the same again.
fn decide(world: &mut World, item: &Item) -> Verdict {
    for _ in 0..10 {
        match admit(item, world) {
            Verdict::Need(Need::Relations(users)) => {
                assert!(!users.is_empty());
                for user in users {
                    assert!(world.known.insert(user), "asked twice");
                }
            }
            Verdict::Need(Need::Group) => assert!(!std::mem::replace(&mut world.group_known, true)),
            Verdict::Need(Need::Target(_)) => {
                assert!(!std::mem::replace(&mut world.target_known, true));
            }
            verdict => return verdict,
        }
    }
    unreachable!("it never decides")
}

fn item(conversation: ConversationId, sender: usize, kind: Kind) -> Item {
    Item {
        sender: who(sender),
        device: "d".into(),
        conversation: Conversation::new(conversation, 3),
        event_id: EventId::new(1, &[7; 10]),
        kind,
        retry: false,
    }
}

fn pair(a: usize, b: usize) -> ConversationId {
    ConversationId::one_to_one(&who(a), &who(b)).unwrap()
}

fn text() -> Kind {
    Kind::Text(Text {
        text: "x".into(),
        ..Text::default()
    })
}

fn receipt() -> Kind {
    Kind::Receipt(Receipt {
        delivered: 1 << 48,
        ..Receipt::default()
    })
}

fn worlds() -> impl Strategy<Value = World> {
    let person = 0..PEOPLE.len();
    let pairs = || proptest::collection::btree_set((0..PEOPLE.len(), 0..PEOPLE.len()), 0..10);
    let members = proptest::collection::btree_set(person.clone(), 1..5);
    (pairs(), pairs(), members, proptest::option::of(person)).prop_map(
        |(contacts, blocks, members, author)| {
            let mut group = Group::default();
            let names = members.iter().map(|m| who(*m).to_string()).collect();
            let create = GroupCreate {
                title: "t".into(),
                members: names,
            };
            let owner = *members.iter().next().unwrap();
            group
                .apply(Seq(1), &who(owner), &Kind::GroupCreate(create))
                .unwrap();
            World {
                contacts: contacts
                    .into_iter()
                    .map(|(a, b)| (a.min(b), a.max(b)))
                    .collect(),
                blocks: blocks.into_iter().filter(|(a, b)| a != b).collect(),
                exist: (0..PEOPLE.len() - 1).collect(),
                group,
                author,
                ..World::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn of_two_only_the_one_who_blocked_does_not_see_and_only_strangers_are_requests(
        mut world in worlds(), a in 0..5usize, b in 0..5usize,
    ) {
        prop_assume!(a != b && a != 4);
        let before = world.clone();
        match decide(&mut world, &item(pair(a, b), a, text())) {
            Verdict::Refuse(r) => {
                prop_assert!(b == 4 && r.code == Code::NotFound);
            }
            Verdict::Admit { withheld_from, request } => {
                let blocked = before.blocks.contains(&(b, a));
                prop_assert_eq!(&withheld_from, &if blocked { vec![who(b)] } else { vec![] });
                // as the sender believes: nothing tells a block from none
                let believes = before.of(&who(a)).is_mutual(&who(b));
                let contacts = before.of(&who(b)).is_mutual(&who(a));
                prop_assert_eq!(request, if blocked { !believes } else { !contacts });
            }
            Verdict::Need(_) => unreachable!(),
        }
    }

    #[test]
    fn a_receipt_is_for_contacts_alone_and_never_for_or_from_the_blocked(
        mut world in worlds(), a in 0..4usize, b in 0..4usize,
    ) {
        prop_assume!(a != b);
        let before = world.clone();
        let verdict = decide(&mut world, &item(pair(a, b), a, receipt()));
        let own = before.of(&who(a));
        let shown = own.is_mutual(&who(b)) && !before.of(&who(b)).has_blocked(&who(a));
        let withheld_from = if shown { vec![] } else { vec![who(b)] };
        prop_assert_eq!(verdict, Verdict::Admit { withheld_from, request: false });
        prop_assert!(!shown || !own.has_blocked(&who(b)));
    }

    #[test]
    fn in_a_group_exactly_the_members_who_blocked_the_sender_do_not_see(
        mut world in worlds(), a in 0..5usize, confirms in any::<bool>(),
    ) {
        let before = world.clone();
        let kind = if confirms { receipt() } else { text() };
        let id = ConversationId::parse(GROUP).unwrap();
        match decide(&mut world, &item(id, a, kind)) {
            Verdict::Refuse(r) => {
                prop_assert!(!before.group.is_member(&who(a)) && r.code == Code::NotAMember);
            }
            Verdict::Admit { withheld_from, request } => {
                prop_assert!(before.group.is_member(&who(a)) && !request);
                for m in 0..5usize {
                    let (to, from) = (before.of(&who(m)), before.of(&who(a)));
                    let hidden = to.has_blocked(&who(a)) || (confirms && from.has_blocked(&who(m)));
                    let expected = before.group.is_member(&who(m)) && hidden;
                    prop_assert_eq!(withheld_from.contains(&who(m)), expected);
                }
            }
            Verdict::Need(_) => unreachable!(),
        }
    }

    #[test]
    fn nobody_is_added_who_blocked_the_one_who_adds_or_does_not_exist(
        mut world in worlds(), a in 0..4usize, b in 0..5usize,
    ) {
        let before = world.clone();
        let add = Kind::MembersAdd(MembersAdd { members: vec![who(b).to_string()] });
        let id = ConversationId::parse(GROUP).unwrap();
        let verdict = decide(&mut world, &item(id, a, add.clone()));
        if let Verdict::Admit { .. } = verdict {
            prop_assert!(before.group.check(&who(a), &add).is_ok());
            let already = before.group.is_member(&who(b));
            prop_assert!(already || (b != 4 && !before.blocks.contains(&(b, a))));
        }
    }

    #[test]
    fn a_message_is_changed_by_its_author_alone(
        mut world in worlds(), a in 0..4usize, b in 0..4usize, reacts in any::<bool>(),
    ) {
        prop_assume!(a != b);
        let target = 1 << 48;
        let kind = if reacts {
            Kind::Reaction(Reaction { target, emoji: "x".into() })
        } else {
            Kind::Edit(Edit { target, text: None })
        };
        let author = world.author;
        let verdict = decide(&mut world, &item(pair(a, b), a, kind));
        match author {
            None => prop_assert!(matches!(verdict, Verdict::Refuse(r) if r.code == Code::NotFound)),
            Some(author) if !reacts && author != a => {
                prop_assert!(matches!(verdict, Verdict::Refuse(r) if r.code == Code::Forbidden));
            }
            // one's own, or a reaction
            Some(_) => {
                let admitted = matches!(verdict, Verdict::Admit { .. });
                prop_assert!(admitted);
            }
        }
    }

    #[test]
    fn no_submitted_bytes_are_read_into_what_the_limits_forbid(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), words in ".{0,40}", device in ".{0,5}",
    ) {
        use prost::Message;
        let mut submit = tandem_proto::client::Submit::decode(&bytes[..]).unwrap_or_default();
        if submit.body.is_none() {
            let kind = Some(Kind::Text(Text { text: words, ..Text::default() }));
            submit.event_id = EventId::new(1, &[1; 10]).to_string();
            submit.body = Some(tandem_kernel::event::Body { kind });
        }
        let conversation = Conversation::new(pair(0, 1), 3);
        let limits = Limits { text_bytes: 16 };
        let item: Result<Item, Refused> = read(who(0), device, conversation, submit, limits);
        if let Ok(Item { kind: Kind::Text(text), device, .. }) = item {
            prop_assert!(text.text.len() <= 16 && !text.text.trim().is_empty());
            prop_assert!(!device.is_empty());
        }
    }
}

#[test]
fn who_is_not_of_the_pair_or_begins_a_group_elsewhere_is_refused() {
    let all = (0..PEOPLE.len()).collect();
    let mut world = World {
        exist: all,
        ..World::default()
    };
    let verdict = decide(&mut world, &item(pair(0, 1), 2, text()));
    assert!(matches!(verdict, Verdict::Refuse(r) if r.code == Code::NotAMember));
    let away = GROUP.replace("x.test", "y.test");
    let create = Kind::GroupCreate(GroupCreate {
        title: "t".into(),
        members: vec![],
    });
    let id = ConversationId::parse(&away).unwrap();
    let verdict = decide(&mut world, &item(id, 0, create));
    assert!(matches!(verdict, Verdict::Refuse(r) if r.code == Code::Forbidden));
}
