//! How far a session has each conversation: what may still be passed to it, and what it may confirm.

use std::sync::Arc;

use super::recent::Recent;

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
#[derive(Debug, Default)]
pub struct Places(Recent<Arc<str>, Place>);

const HALF: usize = 4096;

impl Places {
    fn at(&mut self, conversation: &Arc<str>) -> &mut Place {
        self.0.entry(conversation, HALF)
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
    pub fn held(&mut self, conversation: &str, seq: u64) -> Option<(Arc<str>, u64)> {
        let (key, place) = self.find(conversation)?;
        let seq = seq.min(place.known);
        place.held = place.held.max(seq);
        let news = seq.min(place.content);
        if news <= place.delivered {
            return None;
        }
        place.delivered = news;
        Some((key, news))
    }

    /// The device says that it holds these events. Those of them that it can.
    pub fn exact(&mut self, conversation: &str, seqs: &[u64]) -> Option<(Arc<str>, Vec<u64>)> {
        let (key, place) = self.find(conversation)?;
        let most = place.content;
        let mut news: Vec<u64> = seqs
            .iter()
            .copied()
            .filter(|s| *s > 0 && *s <= most && *s > place.delivered)
            .take(256)
            .collect();
        news.sort_unstable();
        news.dedup();
        if news.is_empty() {
            None
        } else {
            Some((key, news))
        }
    }

    /// The person has seen everything up to `seq`. What is news of it, if anything.
    pub fn read(&mut self, conversation: &str, seq: u64) -> Option<(Arc<str>, u64)> {
        let (key, place) = self.find(conversation)?;
        let news = seq.min(place.content);
        if news <= place.read {
            return None;
        }
        place.read = news;
        place.delivered = place.delivered.max(news);
        Some((key, news))
    }

    fn find(&mut self, conversation: &str) -> Option<(Arc<str>, &mut Place)> {
        let key = Arc::clone(self.0.key(conversation)?);
        self.0.get_mut(conversation).map(|p| (key, p))
    }

    /// For each conversation the highest seq up to which the device holds everything.
    pub fn have(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.0
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
        assert_eq!(p.held("o:a@x,b@x", 100), None, "an unknown conversation");
        p.pass(&c(), 5, true);
        assert_eq!(p.held(&c(), 100), Some((c(), 5)));
        assert_eq!(p.exact(&c(), &[7, 100]), None);
        p.pass(&c(), 6, true);
        assert_eq!(p.read(&c(), u64::MAX), Some((c(), 6)));
        assert_eq!(p.read(&c(), 6), None, "no news");
    }

    #[test]
    fn a_receipt_is_not_confirmed_by_a_receipt() {
        let mut p = Places::default();
        p.pass(&c(), 5, true);
        assert_eq!(p.held(&c(), 5), Some((c(), 5)));
        p.pass(&c(), 6, false);
        assert_eq!(p.held(&c(), 6), None);
        assert_eq!(p.exact(&c(), &[6]), None);
        assert_eq!(p.have().collect::<Vec<_>>(), [(&c(), 6)]);
    }
}
