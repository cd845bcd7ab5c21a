//! How far a session has each conversation: what may still be passed to it, and what it may confirm.

use std::sync::Arc;

use tandem_kernel::{Seq, seq::partition_of};

use super::recent::Recent;

/// End offsets of the log's partitions, and the generation of the topic that they speak of.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The topic's generation.
    pub generation: u16,
    /// By partition.
    pub offsets: Arc<Vec<u64>>,
}

impl Ends {
    /// The highest seq that an event of the conversation may have that was there before.
    fn before(&self, conversation: &str) -> u64 {
        let partitions = u32::try_from(self.offsets.len()).unwrap_or(u32::MAX);
        let at = partition_of(conversation.as_bytes(), partitions);
        match self.offsets.get(at as usize) {
            Some(end @ 1..) => Seq::new(self.generation.max(1), (end - 1).min((1 << 48) - 1)).0,
            _ => 0,
        }
    }
}

/// How far one conversation is.
#[derive(Debug, Default, Clone, Copy)]
struct Place {
    /// Highest seq passed live.
    passed: u64,
    /// Highest seq that the device was told of, in any way.
    known: u64,
    /// Highest seq of another's event that is no receipt: what is worth a receipt.
    content: u64,
    /// Confirmed by the device as held, all of it.
    held: u64,
    /// Reported as delivered and as read.
    delivered: u64,
    read: u64,
}

/// The places of a session's conversations. Bounded: a conversation that was silent while
/// thousands of others spoke is forgotten, and begins anew.
///
/// What a device may confirm is what it was told of in the session, and what was there when the session
/// last began to sync: the device may have that from before. Never what is yet to come.
#[derive(Debug, Default)]
pub struct Places {
    places: Recent<Arc<str>, Place>,
    ends: Option<Ends>,
}

const HALF: usize = 2048;

impl Places {
    fn at(&mut self, conversation: &Arc<str>) -> &mut Place {
        self.places.entry(conversation, HALF)
    }

    /// The session begins to sync from these end offsets on.
    pub fn sync_from(&mut self, ends: Ends) {
        self.ends = Some(ends);
    }

    /// Whether the event may be passed: its seq is above all passed. Remembers it then.
    pub fn pass(&mut self, conversation: &Arc<str>, seq: u64, content: bool) -> bool {
        let place = self.at(conversation);
        if seq <= place.passed {
            return false;
        }
        place.passed = seq;
        place.known = place.known.max(seq);
        if content {
            place.content = place.content.max(seq);
        }
        true
    }

    /// The device is told of the conversation up to `known` by a head, page or answer; `content`: the
    /// highest seq there of an event that is worth a receipt.
    pub fn tell(&mut self, conversation: &Arc<str>, known: u64, content: u64) {
        let place = self.at(conversation);
        place.known = place.known.max(known);
        place.content = place.content.max(content);
    }

    /// The device says that it holds everything up to `seq`. What is news of it, if anything.
    pub fn held(&mut self, conversation: &Arc<str>, seq: u64) -> Option<u64> {
        let before = self.before(conversation);
        let place = self.at(conversation);
        let seq = seq.min(place.known.max(before));
        place.held = place.held.max(seq);
        // of a receipt that came since, nothing is said: it would be answered by one for ever
        let most = if seq <= before { before } else { place.content };
        let news = seq.min(most);
        if news <= place.delivered {
            return None;
        }
        place.delivered = news;
        Some(news)
    }

    /// The device says that it holds these events. Those of them that it can.
    pub fn exact(&mut self, conversation: &Arc<str>, seqs: &[u64]) -> Option<Vec<u64>> {
        let before = self.before(conversation);
        let place = self.at(conversation);
        let most = place.content.max(before);
        let possible = |s: &u64| *s > 0 && *s <= most && *s > place.delivered;
        let mut news: Vec<u64> = seqs.iter().copied().filter(possible).take(256).collect();
        news.sort_unstable();
        news.dedup();
        (!news.is_empty()).then_some(news)
    }

    /// The person has seen everything up to `seq`. What is news of it, if anything.
    pub fn read(&mut self, conversation: &Arc<str>, seq: u64) -> Option<u64> {
        let before = self.before(conversation);
        let place = self.at(conversation);
        let news = seq.min(place.content.max(before));
        if news <= place.read {
            return None;
        }
        place.read = news;
        place.delivered = place.delivered.max(news);
        Some(news)
    }

    /// The conversation's id as it is kept, if it is.
    pub fn key(&self, conversation: &str) -> Option<Arc<str>> {
        self.places.key(conversation).map(Arc::clone)
    }

    fn before(&self, conversation: &str) -> u64 {
        self.ends
            .as_ref()
            .map_or(0, |ends| ends.before(conversation))
    }

    /// For each conversation the highest seq up to which the device holds everything.
    pub fn have(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.places
            .iter()
            .filter(|(_, p)| p.held > 0)
            .map(|(c, p)| (c, p.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c() -> Arc<str> {
        Arc::from("o:a@x,b@x")
    }

    #[test]
    fn events_pass_only_in_rising_seq() {
        let mut p = Places::default();
        assert!(p.pass(&c(), 5, true));
        assert!(!p.pass(&c(), 5, true));
        assert!(!p.pass(&c(), 4, true));
        assert!(p.pass(&c(), 6, true));
    }

    #[test]
    fn a_head_does_not_keep_a_live_event_away() {
        let mut p = Places::default();
        p.tell(&c(), 9, 9);
        assert!(p.pass(&c(), 5, true));
    }

    #[test]
    fn a_device_cannot_confirm_what_it_was_never_told_of() {
        let mut p = Places::default();
        assert_eq!(p.held(&c(), 100), None);
        p.pass(&c(), 5, true);
        assert_eq!(p.held(&c(), 100), Some(5));
        assert_eq!(p.exact(&c(), &[7, 100]), None);
        p.pass(&c(), 6, true);
        assert_eq!(p.read(&c(), u64::MAX), Some(6));
        assert_eq!(p.read(&c(), 6), None, "no news");
    }

    #[test]
    fn a_device_may_confirm_what_it_had_before_the_session_and_nothing_yet_to_come() {
        let mut p = Places::default();
        let ends = Ends {
            generation: 1,
            offsets: Arc::new(vec![10]),
        };
        p.sync_from(ends);
        let last = Seq::new(1, 9).0;
        assert_eq!(p.read(&c(), Seq::new(1, 3).0), Some(Seq::new(1, 3).0));
        assert_eq!(p.held(&c(), Seq::new(1, 5).0), Some(Seq::new(1, 5).0));
        assert_eq!(p.read(&c(), u64::MAX), Some(last));
        p.pass(&c(), Seq::new(1, 12).0, false);
        assert_eq!(
            p.held(&c(), Seq::new(1, 12).0),
            None,
            "a receipt, which is not confirmed"
        );
        p.sync_from(Ends {
            generation: 1,
            offsets: Arc::new(vec![0]),
        });
        assert_eq!(p.exact(&Arc::from("another"), &[1]), None);
    }

    #[test]
    fn a_receipt_is_not_confirmed_by_a_receipt() {
        let mut p = Places::default();
        p.pass(&c(), 5, true);
        assert_eq!(p.held(&c(), 5), Some(5));
        p.pass(&c(), 6, false);
        assert_eq!(p.held(&c(), 6), None);
        assert_eq!(p.exact(&c(), &[6]), None);
        assert_eq!(p.have().collect::<Vec<_>>(), [(&c(), 6)]);
    }
}
