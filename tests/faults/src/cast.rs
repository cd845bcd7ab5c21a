//! Who talks: people, their devices, and what they are to each other. Decided by the seed alone.

use std::collections::BTreeSet;

use tandem_chassis::rng::Rng;
use tandem_kernel::{Address, ConversationId};
use tandem_proto::client::DeviceClass;

/// How a device keeps its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// It stays.
    Steady,
    /// It loses the network at times and is back within seconds.
    Flapping,
    /// It is there only at times.
    Away,
}

/// A device.
#[derive(Debug, Clone)]
pub struct Gadget {
    /// Its id.
    pub id: &'static str,
    /// What it is.
    pub class: DeviceClass,
    /// How it keeps its connection.
    pub habit: Habit,
    /// Whether it has a push subscription.
    pub notified: bool,
}

/// A person.
#[derive(Debug, Clone)]
pub struct Person {
    /// Address.
    pub address: String,
    /// Devices.
    pub gadgets: Vec<Gadget>,
}

/// What those in a conversation are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// Two contacts.
    Contacts,
    /// The first has blocked the second.
    Blocked,
    /// Nobody has asked anybody.
    Strangers,
    /// A group, which the first makes.
    Group,
}

/// A conversation.
#[derive(Debug, Clone)]
pub struct Talk {
    /// Its id.
    pub id: String,
    /// Who is in it.
    pub members: Vec<usize>,
    /// What they are to each other.
    pub tie: Tie,
}

/// Everybody, and everything they talk in.
#[derive(Debug, Clone)]
pub struct Cast {
    /// The people.
    pub people: Vec<Person>,
    /// The conversations.
    pub talks: Vec<Talk>,
}

const PC: Gadget = Gadget {
    id: "pc",
    class: DeviceClass::Pc,
    habit: Habit::Steady,
    notified: false,
};
const MOBILE: Gadget = Gadget {
    id: "mobile",
    class: DeviceClass::Mobile,
    habit: Habit::Flapping,
    notified: false,
};
const PHONE: Gadget = Gadget {
    id: "phone",
    class: DeviceClass::Mobile,
    habit: Habit::Away,
    notified: true,
};
const PORTAL: Gadget = Gadget {
    id: "portal",
    class: DeviceClass::Portal,
    habit: Habit::Away,
    notified: false,
};

/// What the devices of a person may be. Those with a phone alone are who gets notified.
const SETS: [&[Gadget]; 4] = [
    &[PC, PHONE],
    &[PHONE],
    &[MOBILE, PORTAL],
    &[PC, MOBILE, PHONE],
];

impl Cast {
    /// `count` people (at least 8) of `domain`, whose names begin with `prefix`.
    pub fn new(count: usize, domain: &str, prefix: &str, rng: &Rng) -> Self {
        let count = count.max(8);
        let people = (0..count)
            .map(|i| Person {
                address: format!("{prefix}{i}@{domain}"),
                gadgets: SETS[i % SETS.len()].to_vec(),
            })
            .collect::<Vec<_>>();
        let mut cast = Self {
            people,
            talks: Vec::new(),
        };
        // a ring: everybody has the next two and the last two as contacts
        let mut pairs = BTreeSet::new();
        for step in 1..=2 {
            for a in 0..count {
                let b = (a + step) % count;
                pairs.insert((a.min(b), a.max(b)));
            }
        }
        for (a, b) in pairs {
            cast.pair(a, b, Tie::Contacts);
        }
        // across the ring: those who were contacts until one blocked the other, and those who never were
        for a in 0..count / 4 {
            cast.pair(a, a + count / 2, Tie::Blocked);
            cast.pair(a + count / 4, a + 3 * count / 4, Tie::Strangers);
        }
        for size in [3, 4, count / 2, count] {
            let first = rng.below(count as u64) as usize;
            let members = (0..size).map(|i| (first + i) % count).collect();
            let id = ConversationId::group(rng.uuid(), domain);
            cast.talks.push(Talk {
                id: id.as_str().to_owned(),
                members,
                tie: Tie::Group,
            });
        }
        cast
    }

    fn pair(&mut self, a: usize, b: usize, tie: Tie) {
        let address = |i: usize| Address::parse(&self.people[i].address).ok();
        let id = address(a)
            .zip(address(b))
            .and_then(|(a, b)| ConversationId::one_to_one(&a, &b));
        if let Some(id) = id {
            self.talks.push(Talk {
                id: id.as_str().to_owned(),
                members: vec![a, b],
                tie,
            });
        }
    }

    /// The conversations of a person, by their place in `talks`.
    pub fn talks_of(&self, person: usize) -> Vec<usize> {
        let mine = self.talks.iter().enumerate();
        let mine = mine.filter(|(_, t)| t.members.contains(&person));
        mine.map(|(i, _)| i).collect()
    }

    /// Those who are contacts in the beginning (also those of whom one blocks the other then).
    pub fn contacts(&self) -> impl Iterator<Item = (usize, usize)> {
        let pairs = self.talks.iter();
        let pairs = pairs.filter(|t| matches!(t.tie, Tie::Contacts | Tie::Blocked));
        pairs.map(|t| (t.members[0], t.members[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_alone_decides_who_talks() {
        let cast = |seed| {
            let rng = Rng::from_seed(seed);
            let cast = Cast::new(16, "x.test", "p", &rng);
            cast.talks.into_iter().map(|t| t.id).collect::<Vec<_>>()
        };
        assert_eq!(cast(1), cast(1));
        assert_ne!(cast(1), cast(2));
    }

    #[test]
    fn everybody_has_contacts_groups_and_somebody_to_hide_from() {
        let cast = Cast::new(16, "x.test", "p", &Rng::from_seed(1));
        for person in 0..16 {
            let ties: Vec<Tie> = cast
                .talks_of(person)
                .into_iter()
                .map(|t| cast.talks[t].tie)
                .collect();
            let count = |tie| ties.iter().filter(|t| **t == tie).count();
            assert_eq!(count(Tie::Contacts), 4, "{person}");
            assert_eq!(count(Tie::Blocked) + count(Tie::Strangers), 1, "{person}");
            assert!(count(Tie::Group) >= 1, "{person}");
        }
    }
}
