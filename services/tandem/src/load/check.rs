//! The checker: decides from the record of what every device sent and saw, and from nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What became of a sent message, as its sender was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No answer.
    Unanswered,
    /// In the log.
    Accepted,
    /// Refused for good.
    Rejected,
}

/// A message that was sent. Its number is its index; one device's numbers rise in its sending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Device that sent it.
    pub device: u32,
    /// Conversation.
    pub conversation: u32,
    /// What its sender was told.
    pub fate: Fate,
}

/// A copy of a message as a device saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Number of the message.
    pub message: u32,
    /// Its place.
    pub seq: u64,
    /// It came by itself; otherwise from history.
    pub live: bool,
}

/// Everything that happened.
#[derive(Debug, Default)]
pub struct Record {
    /// By number.
    pub sent: Vec<Sent>,
    /// Devices of each conversation's members.
    pub audience: Vec<Vec<u32>>,
    /// By device: the copies in the order of arrival.
    pub seen: Vec<Vec<Seen>>,
    /// By device: its own messages and the place that it was told.
    pub told: Vec<Vec<Seen>>,
}

/// What is wrong, and how much was right.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Accepted messages.
    pub accepted: u64,
    /// Pairs of an accepted message and a device other than the sending one that has it.
    pub delivered: u64,
    /// Pairs of an accepted message and a device that should have it and does not.
    pub lost: u64,
    /// Pairs of a message and a device to which history shows it at more than one place. What comes live
    /// again is dropped by its id, as every client library does.
    pub doubled: u64,
    /// Pairs of a message and a device that got live copies of it at more than one place, and dropped them.
    pub moved: u64,
    /// Messages that a device shows in another order than the rest do, or than they were sent in.
    pub out_of_order: u64,
    /// Messages that reached a device which is not of its conversation, or after a refusal.
    pub astray: u64,
}

impl Record {
    /// The verdict. A device shows a conversation by the lowest place of each message that it knows of.
    pub fn check(&self) -> Verdict {
        let mut verdict = Verdict::default();
        // the place of a message is the lowest that anybody saw
        let mut places: Vec<u64> = vec![u64::MAX; self.sent.len()];
        for seen in self.seen.iter().flatten() {
            if let Some(place) = places.get_mut(seen.message as usize) {
                *place = (*place).min(seen.seq);
            }
        }
        verdict.accepted = self
            .sent
            .iter()
            .filter(|s| s.fate == Fate::Accepted)
            .count() as u64;
        let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); self.audience.len()];
        for (number, sent) in self.sent.iter().enumerate() {
            if sent.fate == Fate::Accepted {
                wanted[sent.conversation as usize].push(number as u32);
            }
        }
        let mut memberships: Vec<Vec<u32>> = vec![Vec::new(); self.seen.len()];
        for (conversation, devices) in self.audience.iter().enumerate() {
            for device in devices {
                memberships[*device as usize].push(conversation as u32);
            }
        }
        for (device, conversations) in memberships.iter().enumerate() {
            self.check_device(device, conversations, &wanted, &places, &mut verdict);
        }
        verdict
    }

    fn check_device(
        &self,
        device: usize,
        conversations: &[u32],
        wanted: &[Vec<u32>],
        places: &[u64],
        verdict: &mut Verdict,
    ) {
        let mut shown: HashMap<u32, u64> = HashMap::with_capacity(self.seen[device].len());
        let mut stored: HashMap<u32, u64> = HashMap::new();
        let (mut twice, mut moved) = (BTreeSet::new(), BTreeSet::new());
        for seen in &self.seen[device] {
            if !seen.live && *stored.entry(seen.message).or_insert(seen.seq) != seen.seq {
                twice.insert(seen.message);
            }
            let place = shown.entry(seen.message).or_insert(seen.seq);
            if *place != seen.seq {
                moved.insert(seen.message);
                *place = (*place).min(seen.seq);
            }
        }
        verdict.doubled += twice.len() as u64;
        verdict.moved += moved.difference(&twice).count() as u64;
        for conversation in conversations {
            for number in &wanted[*conversation as usize] {
                let sender = self.sent[*number as usize].device as usize == device;
                match (shown.contains_key(number), sender) {
                    (true, false) => verdict.delivered += 1,
                    (false, false) => verdict.lost += 1,
                    (_, true) => {}
                }
            }
        }
        // what one sent oneself and never saw come back stands where one was told
        for told in &self.told[device] {
            shown.entry(told.message).or_insert(told.seq);
        }
        let mut by_conversation: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
        for (number, place) in &shown {
            match self.sent.get(*number as usize) {
                Some(sent)
                    if conversations.binary_search(&sent.conversation).is_ok()
                        && sent.fate != Fate::Rejected =>
                {
                    by_conversation
                        .entry(sent.conversation)
                        .or_default()
                        .push((*place, *number));
                }
                _ => verdict.astray += 1,
            }
        }
        for lines in by_conversation.values_mut() {
            lines.sort_unstable();
            verdict.out_of_order += self.misplaced(lines, places);
        }
    }

    /// Lines that stand after one that should follow them: by the place that all agree on, or by their
    /// device's sending order.
    fn misplaced(&self, lines: &[(u64, u32)], places: &[u64]) -> u64 {
        let mut highest = 0;
        let mut last_of: HashMap<u32, u32> = HashMap::new();
        let mut count = 0;
        for (_, number) in lines {
            // known to its sender alone: nobody disagrees
            let place = places[*number as usize];
            let agreed = place == u64::MAX || place >= highest;
            if place != u64::MAX {
                highest = highest.max(place);
            }
            let last = last_of
                .entry(self.sent[*number as usize].device)
                .or_insert(*number);
            let in_sending_order = *last <= *number;
            *last = (*last).max(*number);
            count += u64::from(!agreed || !in_sending_order);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices 0 (ann), 1 and 2 (bob's); one conversation.
    fn record(messages: u32) -> Record {
        let sent = Sent {
            device: 0,
            conversation: 0,
            fate: Fate::Accepted,
        };
        let seen = |_| {
            (0..messages)
                .map(|m| Seen {
                    message: m,
                    seq: 10 + u64::from(m),
                    live: m % 2 == 0,
                })
                .collect()
        };
        Record {
            sent: vec![sent; messages as usize],
            audience: vec![vec![0, 1, 2]],
            seen: (0..3).map(seen).collect(),
            told: vec![Vec::new(); 3],
        }
    }

    #[test]
    fn what_everybody_has_once_and_in_order_is_right() {
        let want = Verdict {
            accepted: 5,
            delivered: 10,
            ..Verdict::default()
        };
        assert_eq!(record(5).check(), want);
    }

    #[test]
    fn the_order_of_arrival_does_not_matter_and_neither_do_copies_of_the_same_place() {
        let mut r = record(5);
        r.seen[2].reverse();
        let again = r.seen[1][0];
        r.seen[1].push(again);
        assert_eq!(r.check(), record(5).check());
    }

    #[test]
    fn a_device_without_an_accepted_message_has_lost_it() {
        let mut r = record(5);
        r.seen[2].remove(3);
        assert_eq!((r.check().lost, r.check().delivered), (1, 9));
        // never accepted: nothing is owed
        r.sent[3].fate = Fate::Unanswered;
        assert_eq!(r.check().lost, 0);
    }

    #[test]
    fn the_sender_has_what_it_was_told_is_accepted() {
        let mut r = record(2);
        r.told[0] = std::mem::take(&mut r.seen[0]);
        assert_eq!(r.check(), record(2).check());
    }

    #[test]
    fn a_message_that_history_has_twice_is_doubled() {
        let mut r = record(3);
        r.seen[1].push(Seen {
            message: 1,
            seq: 99,
            live: false,
        });
        assert_eq!(
            r.check(),
            Verdict {
                doubled: 1,
                ..record(3).check()
            }
        );
    }

    #[test]
    fn a_further_copy_that_comes_live_is_dropped_and_counted() {
        let mut r = record(3);
        r.seen[1].push(Seen {
            message: 1,
            seq: 99,
            live: true,
        });
        assert_eq!(
            r.check(),
            Verdict {
                moved: 1,
                ..record(3).check()
            }
        );
    }

    #[test]
    fn a_device_that_shows_another_order_is_found() {
        let mut r = record(3);
        r.sent[1].device = 1;
        // 0, 2 swapped around 1's: only device 2 believes it
        r.seen[2][1].seq = 30;
        assert_eq!(r.check().out_of_order, 1);
    }

    #[test]
    fn a_device_whose_sending_order_was_not_kept_is_found_on_every_device() {
        let mut r = record(3);
        for seen in &mut r.seen {
            seen[0].seq = 20;
        }
        assert_eq!(r.check().out_of_order, 3);
        assert_eq!(r.check().lost, 0);
    }

    #[test]
    fn what_reaches_a_stranger_or_was_refused_is_astray() {
        let mut r = record(2);
        r.audience[0].pop();
        assert_eq!(r.check().astray, 2);
        let mut r = record(2);
        r.sent[0].fate = Fate::Rejected;
        assert_eq!((r.check().astray, r.check().lost), (3, 0));
    }
}
