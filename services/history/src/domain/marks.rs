//! How far the members have a conversation.

use tandem_kernel::event::Receipt;

use super::{
    conversation::{Conversation, HEAD_MARKS, Kept, Work},
    rows::{Frozen, Head, Mark},
};

impl Conversation {
    /// Applies a receipt; false if it says nothing new. Single events delivered ahead of others
    /// (`delivered_exact`) move no mark: the cumulative receipt that follows does.
    pub(super) fn receive(
        &mut self,
        work: &mut Work,
        user: &str,
        receipt: &Receipt,
        withheld_from: &[String],
    ) -> bool {
        let read = receipt.read.min(self.head.last_seq);
        let delivered = receipt.delivered.max(receipt.read).min(self.head.last_seq);
        let before = self.mark(work, user);
        let (had_delivered, had_read) = before.map_or((0, 0), |m| (m.delivered, m.read));
        if delivered <= had_delivered && read <= had_read {
            return false;
        }
        let read_count = if read > had_read {
            Some(self.visible_at(work, user, read))
        } else {
            None
        };
        let mark = self.mark_mut(work, user, false);
        mark.frozen.retain(|f| withheld_from.contains(&f.viewer));
        for viewer in withheld_from {
            if !mark.frozen.iter().any(|f| f.viewer == *viewer) {
                let viewer = viewer.clone();
                mark.frozen.push(Frozen {
                    viewer,
                    delivered: had_delivered,
                    read: had_read,
                });
            }
        }
        mark.delivered = had_delivered.max(delivered);
        if let Some(count) = read_count {
            mark.read = read;
            mark.read_count = mark.read_count.max(count);
        }
        true
    }

    /// One's own message moves one's mark.
    pub(super) fn author(&mut self, work: &mut Work, user: &str, seq: u64) {
        let sent_count = self.head.visible_count(user);
        let mark = self.mark_mut(work, user, true);
        mark.sent = seq;
        mark.sent_count = sent_count;
    }

    fn mark<'a>(&'a self, work: &'a Work, user: &str) -> Option<&'a Mark> {
        let in_head = self.head.marks.iter().find(|m| m.user == user);
        in_head.or_else(|| work.marks.get(user).map(|k| &k.value))
    }

    /// The user's mark, in the head if it has room. An author's always goes there, so that sending
    /// costs no further row; the author who has been silent longest makes room.
    fn mark_mut<'a>(&'a mut self, work: &'a mut Work, user: &str, author: bool) -> &'a mut Mark {
        let Head { marks, spilled, .. } = &mut self.head;
        if let Some(at) = marks.iter().position(|m| m.user == user) {
            return &mut marks[at];
        }
        let new = || Mark {
            user: user.to_owned(),
            ..Mark::default()
        };
        if !author && marks.len() >= HEAD_MARKS {
            *spilled = true;
            let kept = work.marks.entry(user.to_owned());
            let kept = kept.or_insert_with(|| Kept {
                value: new(),
                dirty: false,
            });
            kept.dirty = true;
            return &mut kept.value;
        }
        if marks.len() >= HEAD_MARKS
            && let Some(at) = (0..marks.len()).min_by_key(|i| marks[*i].sent)
        {
            *spilled = true;
            let value = marks.swap_remove(at);
            work.marks
                .insert(value.user.clone(), Kept { value, dirty: true });
        }
        let mark = work.marks.remove(user).map_or_else(new, |k| k.value);
        marks.push(mark);
        let last = marks.len() - 1;
        &mut marks[last]
    }

    /// Messages up to `seq` that `user` may see.
    fn visible_at(&self, work: &Work, user: &str, seq: u64) -> u64 {
        if seq >= self.head.last_message_seq {
            return self.head.visible_count(user);
        }
        if let Some(at) = self.recent.iter().rev().find(|c| c.seq <= seq) {
            return at.visible(user);
        }
        work.counts.get(&seq).map_or(0, |c| c.visible(user))
    }
}

impl Mark {
    /// Delivered and read as `viewer` may see them.
    pub fn shown_to(&self, viewer: &str) -> (u64, u64) {
        let frozen = self.frozen.iter().find(|f| f.viewer == viewer);
        frozen.map_or((self.delivered, self.read), |f| (f.delivered, f.read))
    }
}
