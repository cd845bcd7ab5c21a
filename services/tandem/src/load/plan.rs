//! What is sent: who talks where, which words, and (but for "as fast as acknowledged") when.

use std::collections::{BTreeMap, BTreeSet};

use tandem_chassis::rng::Rng;
use tandem_kernel::event::{Body, GroupCreate, Kind, Text};

use super::replay::Script;

/// A conversation to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    /// The people in it; the first makes the group.
    pub members: Vec<u32>,
    /// A group, or one-to-one.
    pub group: bool,
}

/// A message with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Microseconds from the beginning of the sending.
    pub due_us: u64,
    /// Device that sends it.
    pub device: u32,
    /// Conversation.
    pub talk: u32,
    /// Which of [`Plan::texts`].
    pub text: u32,
}

/// What is sent.
#[derive(Debug, Default)]
pub struct Plan {
    /// How many people.
    pub people: u32,
    /// Whose each device is.
    pub devices: Vec<u32>,
    /// The conversations.
    pub talks: Vec<Talk>,
    /// For each device: the conversations in which it speaks, one-to-one and groups.
    pub speaks: Vec<(Vec<u32>, Vec<u32>)>,
    /// What is sent when; empty for "as fast as acknowledged".
    pub timed: Vec<Planned>,
    /// Words of a replay; empty: made up.
    pub texts: Vec<String>,
    /// Length of made-up texts in bytes.
    pub text_bytes: usize,
}

/// The shape of made-up traffic.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many people.
    pub people: u32,
    /// How many sessions they have together.
    pub sessions: u32,
    /// How many groups.
    pub groups: u32,
    /// Members of each.
    pub group_size: u32,
    /// One-to-one conversations of each person, at most.
    pub peers: u32,
    /// Length of texts in bytes.
    pub text_bytes: usize,
}

/// Whose the devices are: everybody has one before anybody has two.
fn devices(people: u32, sessions: u32) -> Vec<u32> {
    (0..sessions.max(people)).map(|d| d % people).collect()
}

impl Plan {
    /// Made-up traffic, of which nothing is timed yet.
    pub fn made_up(shape: Shape) -> Self {
        let people = shape.people.max(2);
        let mut pairs = BTreeSet::new();
        for step in 1..=shape.peers.div_ceil(2).max(1) {
            for a in 0..people {
                let b = (a + step) % people;
                if a != b {
                    pairs.insert((a.min(b), a.max(b)));
                }
            }
        }
        let pair = |(a, b)| Talk {
            members: vec![a, b],
            group: false,
        };
        let mut talks: Vec<Talk> = pairs.into_iter().map(pair).collect();
        let size = shape.group_size.clamp(2, people);
        for g in 0..shape.groups {
            let members = (0..size).map(|i| (g * size + i) % people).collect();
            talks.push(Talk {
                members,
                group: true,
            });
        }
        let devices = devices(people, shape.sessions);
        let text_bytes = shape.text_bytes;
        Self {
            people,
            devices,
            talks,
            text_bytes,
            ..Self::default()
        }
        .with_speakers()
    }

    /// What chat logs say, `speed` times as fast.
    pub fn replay(script: Script, speed: f64, sessions: u32, min_people: u32, rng: &Rng) -> Self {
        let people = (script.nicks.len() as u32).max(min_people).max(2);
        let devices = devices(people, sessions);
        let mut talks: Vec<Talk> = Vec::new();
        let mut silent: Vec<u32> = (script.nicks.len() as u32..people).collect();
        for members in &script.groups {
            let mut members: Vec<u32> = members.iter().map(|m| *m as u32).collect();
            // those who only listen fill up the first groups
            let room = 256usize.saturating_sub(members.len());
            members.extend(silent.split_off(silent.len().saturating_sub(room)));
            talks.push(Talk {
                members,
                group: true,
            });
        }
        let mut pairs = BTreeMap::new();
        let mut of_person: Vec<Vec<u32>> = vec![Vec::new(); people as usize];
        for (device, person) in devices.iter().enumerate() {
            of_person[*person as usize].push(device as u32);
        }
        let (mut timed, mut texts) = (Vec::new(), Vec::new());
        for line in script.lines {
            let talk = match line.to {
                None => line.group as u32,
                Some(to) => {
                    let (a, b) = (line.from.min(to) as u32, line.from.max(to) as u32);
                    *pairs.entry((a, b)).or_insert_with(|| {
                        talks.push(Talk {
                            members: vec![a, b],
                            group: false,
                        });
                        talks.len() as u32 - 1
                    })
                }
            };
            let own = &of_person[line.from];
            let device = own[rng.below(own.len() as u64) as usize];
            let due_us = (line.at_ms as f64 * 1000.0 / speed) as u64;
            timed.push(Planned {
                due_us,
                device,
                talk,
                text: texts.len() as u32,
            });
            texts.push(line.text);
        }
        Self {
            people,
            devices,
            talks,
            timed,
            texts,
            ..Self::default()
        }
        .with_speakers()
    }

    fn with_speakers(mut self) -> Self {
        let mut of_person: Vec<(Vec<u32>, Vec<u32>)> =
            vec![Default::default(); self.people as usize];
        for (i, talk) in self.talks.iter().enumerate() {
            for member in &talk.members {
                let (pairs, groups) = &mut of_person[*member as usize];
                if talk.group {
                    groups.push(i as u32);
                } else {
                    pairs.push(i as u32);
                }
            }
        }
        self.speaks = self
            .devices
            .iter()
            .map(|p| of_person[*p as usize].clone())
            .collect();
        self
    }

    /// Times `count` messages evenly at `rate` a second, from devices at random.
    pub fn at_rate(&mut self, rate: f64, count: u64, group_share: f64, rng: &Rng) {
        for i in 0..count {
            let device = rng.below(self.devices.len() as u64) as u32;
            if let Some(talk) = self.pick(device, group_share, rng) {
                let due_us = (i as f64 * 1e6 / rate) as u64;
                self.timed.push(Planned {
                    due_us,
                    device,
                    talk,
                    text: 0,
                });
            }
        }
    }

    /// A conversation for a device to speak in.
    pub fn pick(&self, device: u32, group_share: f64, rng: &Rng) -> Option<u32> {
        let (pairs, groups) = &self.speaks[device as usize];
        let group = rng.below(1 << 20) as f64 / f64::from(1u32 << 20) < group_share;
        let from = match (group, pairs.is_empty(), groups.is_empty()) {
            (_, true, true) => return None,
            (true, _, false) | (_, true, _) => groups,
            _ => pairs,
        };
        Some(from[rng.below(from.len() as u64) as usize])
    }

    /// Devices of the members of each conversation.
    pub fn audience(&self) -> Vec<Vec<u32>> {
        let mut of_person: Vec<Vec<u32>> = vec![Vec::new(); self.people as usize];
        for (device, person) in self.devices.iter().enumerate() {
            of_person[*person as usize].push(device as u32);
        }
        let devices = |t: &Talk| -> Vec<u32> {
            t.members
                .iter()
                .flat_map(|m| of_person[*m as usize].iter().copied())
                .collect()
        };
        self.talks.iter().map(devices).collect()
    }

    /// The groups' first events: (maker's first device, conversation).
    pub fn beginnings(&self) -> impl Iterator<Item = (u32, u32)> {
        let groups = self.talks.iter().enumerate().filter(|(_, t)| t.group);
        groups.map(|(i, t)| (t.members[0], i as u32))
    }

    /// What begins a group.
    pub fn beginning(&self, talk: u32, addresses: &[String]) -> Body {
        let members = &self.talks[talk as usize].members;
        let members = members[1..]
            .iter()
            .map(|m| addresses[*m as usize].clone())
            .collect();
        let create = GroupCreate {
            title: format!("load {talk}"),
            members,
        };
        Body {
            kind: Some(Kind::GroupCreate(create)),
        }
    }

    /// Writes the words of message `number` into `into`; `text` is its [`Planned::text`].
    pub fn words(&self, number: u32, text: u32, into: &mut String) {
        use std::fmt::Write;
        const FILLER: &str =
            "shall we meet at the station, or is the café by the river closer for you? ";
        into.clear();
        if let Some(words) = self.texts.get(text as usize) {
            into.push_str(words);
            return;
        }
        let _ = write!(into, "{number}: ");
        let skip = number as usize % 7;
        for c in FILLER.chars().cycle().skip(skip) {
            if into.len() + c.len_utf8() > self.text_bytes {
                break;
            }
            into.push(c);
        }
    }

    /// Message `number` as it is sent.
    pub fn body(&self, number: u32, text: u32) -> Body {
        let mut words = String::with_capacity(self.text_bytes);
        self.words(number, text, &mut words);
        Body {
            kind: Some(Kind::Text(Text {
                text: words,
                ..Text::default()
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            people: 10,
            sessions: 15,
            groups: 3,
            group_size: 4,
            peers: 4,
            text_bytes: 100,
        }
    }

    #[test]
    fn everybody_has_a_device_and_peers() {
        let p = Plan::made_up(shape());
        assert_eq!((p.devices.len(), p.talks.len()), (15, 20 + 3));
        assert!(p.speaks.iter().all(|(pairs, _)| pairs.len() == 4));
        assert!(p.audience().iter().all(|a| a.len() >= 2));
        let two = Plan::made_up(Shape {
            people: 2,
            sessions: 2,
            groups: 0,
            ..shape()
        });
        assert_eq!(
            two.talks,
            [Talk {
                members: vec![0, 1],
                group: false
            }]
        );
    }

    #[test]
    fn a_device_speaks_only_where_its_person_is_a_member() {
        let mut p = Plan::made_up(shape());
        let rng = Rng::from_seed(1);
        p.at_rate(100.0, 1000, 0.5, &rng);
        assert_eq!((p.timed.len(), p.timed[999].due_us), (1000, 9_990_000));
        for m in &p.timed {
            let person = p.devices[m.device as usize];
            assert!(p.talks[m.talk as usize].members.contains(&person));
        }
        let groups = p
            .timed
            .iter()
            .filter(|m| p.talks[m.talk as usize].group)
            .count();
        assert!((200..600).contains(&groups), "{groups}");
    }

    #[test]
    fn words_have_the_length_asked_for_and_differ() {
        let p = Plan::made_up(shape());
        let (mut a, mut b) = (String::new(), String::new());
        p.words(1, 0, &mut a);
        p.words(8, 0, &mut b);
        assert!((99..=100).contains(&a.len()) && a != b, "{a}");
    }

    #[test]
    fn a_replay_keeps_the_words_and_the_listeners_are_in_a_group() {
        let log = "[10:00] <a> hello\n[10:01] <b> a: you too\n[10:01] <b> all: fine\n".to_owned();
        let script = Script::read(&[log], 100);
        let p = Plan::replay(script, 60.0, 6, 5, &Rng::from_seed(1));
        assert_eq!((p.people, p.devices.len()), (5, 6));
        assert_eq!(p.texts, ["hello", "a: you too", "all: fine"]);
        assert_eq!(
            p.timed.iter().map(|t| t.due_us).collect::<Vec<_>>(),
            [0, 1_000_000, 1_500_000]
        );
        assert_eq!(p.talks[0].members.len(), 5);
        assert_eq!(p.talks[1].members, [0, 1]);
    }
}
