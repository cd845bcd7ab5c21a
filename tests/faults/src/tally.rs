//! Counts of what was accepted and what each device shows, to know when everything has arrived. The
//! verdict is the checker's.

use std::collections::{HashMap, HashSet};

use crate::cast::{Cast, Tie};

/// A device, by its person's and its own place in the cast.
pub type Who = (usize, usize);

/// What was accepted and what is shown, by conversation and sender.
#[derive(Debug, Default)]
pub struct Tally {
    talks: HashMap<String, usize>,
    people: HashMap<String, usize>,
    members: Vec<Vec<usize>>,
    /// (who blocked, whom).
    blocks: HashSet<(usize, usize)>,
    /// (sender, event id).
    accepted: HashSet<(usize, String)>,
    /// By (conversation, sender).
    owed: HashMap<(usize, usize), u64>,
    /// By device, then by (conversation, sender).
    shown: HashMap<Who, HashMap<(usize, usize), u64>>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(cast: &Cast) -> Self {
        let blocked = cast.talks.iter().filter(|t| t.tie == Tie::Blocked);
        Self {
            talks: cast
                .talks
                .iter()
                .enumerate()
                .map(|(i, t)| (t.id.clone(), i))
                .collect(),
            people: cast
                .people
                .iter()
                .enumerate()
                .map(|(i, p)| (p.address.clone(), i))
                .collect(),
            members: cast.talks.iter().map(|t| t.members.clone()).collect(),
            blocks: blocked.map(|t| (t.members[0], t.members[1])).collect(),
            ..Self::default()
        }
    }

    /// An event of this person's was accepted. Whether that was news.
    pub fn accept(&mut self, person: usize, event_id: &str, conversation: &str) -> bool {
        let Some(talk) = self.talks.get(conversation) else {
            return false;
        };
        let news = self.accepted.insert((person, event_id.to_owned()));
        if news {
            *self.owed.entry((*talk, person)).or_default() += 1;
        }
        news
    }

    /// A device shows an event that it had not shown.
    pub fn show(&mut self, device: Who, conversation: &str, sender: &str) {
        if let (Some(talk), Some(sender)) = (self.talks.get(conversation), self.people.get(sender))
        {
            let shown = self.shown.entry(device).or_default();
            *shown.entry((*talk, *sender)).or_default() += 1;
        }
    }

    /// How many events were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.len() as u64
    }

    /// How many accepted events a device does not show yet.
    pub fn lacking(&self, device: Who) -> u64 {
        let shown = self.shown.get(&device);
        let owed = self.owed.iter().filter(|((talk, sender), _)| {
            self.members[*talk].contains(&device.0) && !self.blocks.contains(&(device.0, *sender))
        });
        owed.map(|(key, owed)| {
            let shown = shown.and_then(|s| s.get(key)).copied();
            owed.saturating_sub(shown.unwrap_or_default())
        })
        .sum()
    }
}
