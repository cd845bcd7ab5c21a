//! What a person may see.

use tandem_kernel::{
    ConversationId,
    event::{Event, Folded, ReactionBy},
};
use tandem_proto::client;

use super::rows::{EventRow, Fold, Head, Listing, Mark, Stay};

/// From which seq to which (both included) a person sees a conversation.
pub type Span = (u64, u64);

/// The spans of a conversation that its list's entry gives a person, newest first.
pub fn spans(listing: &Listing) -> Vec<Span> {
    if listing.stays.is_empty() {
        return vec![(0, u64::MAX)];
    }
    let until = |s: &Stay| if s.left == 0 { u64::MAX } else { s.left };
    listing
        .stays
        .iter()
        .rev()
        .map(|s| (s.joined, until(s)))
        .collect()
}

/// Whether the row is withheld from `user`.
pub fn withheld(row: &EventRow, user: &str) -> bool {
    row.withheld_from.iter().any(|w| w == user)
        && row.event.as_ref().is_none_or(|e| e.sender != user)
}

/// The event as `user` sees it.
pub fn show(row: EventRow, conversation: &str, user: &str) -> Option<Event> {
    let mut event = row.event?;
    conversation.clone_into(&mut event.conversation);
    event.folded = row.fold.and_then(|fold| folded(fold, user));
    Some(event)
}

fn folded(fold: Fold, user: &str) -> Option<Folded> {
    let seen = |withheld: &[String]| !withheld.iter().any(|w| w == user);
    let edit = fold
        .edits
        .into_iter()
        .rev()
        .find(|e| seen(&e.withheld_from));
    let shown = |r: super::rows::Reacted| {
        let own = r.user == user;
        let show = !r.emoji.is_empty() && (own || seen(&r.withheld_from));
        show.then_some(ReactionBy {
            user: r.user,
            emoji: r.emoji,
            seq: r.seq,
        })
    };
    let reactions: Vec<_> = fold.reactions.into_iter().filter_map(shown).collect();
    let (edited_seq, edited) = edit.map_or((0, None), |e| (e.seq, e.text));
    if edited_seq == 0 && fold.deleted_seq == 0 && reactions.is_empty() {
        return None;
    }
    Some(Folded {
        edited,
        edited_seq,
        deleted_seq: fold.deleted_seq,
        reactions,
    })
}

/// What a person's head says without its marks and its message: enough to order heads, and to know
/// which are ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// Seq of the newest event that the person may see.
    pub last_seq: u64,
    /// Its time, milliseconds since 1970.
    pub last_at_ms: i64,
    /// Seq of the newest message that the person may see; 0: none.
    pub message_seq: u64,
    /// Messages that the person could have seen so far.
    pub visible: u64,
    /// Of these, how many were before they came.
    pub before: u64,
}

/// The conversation at a glance, for `user`.
pub fn glance(head: &Head, listing: &Listing, user: &str) -> Glance {
    let hidden = head.hidden(user);
    let mut glance = Glance {
        last_seq: hidden.map_or(head.last_seq, |h| h.last_seq),
        last_at_ms: hidden.map_or(head.last_at_ms, |h| h.last_at_ms),
        message_seq: head.last_message_seq(user),
        visible: head.visible_count(user),
        before: 0,
    };
    if let Some(stay) = listing.stays.last() {
        glance.before = stay.joined_count;
        if stay.left != 0 {
            glance.last_seq = stay.left;
            glance.last_at_ms = stay.left_at_ms;
            glance.message_seq = stay.left_message_seq;
            glance.visible = stay.left_count;
        }
    }
    let in_span = |seq| {
        spans(listing)
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&seq))
    };
    if !in_span(glance.message_seq) {
        glance.message_seq = 0;
    }
    glance
}

/// The head for `user`. `marks` are all members' marks, in any order; `message` is the row of
/// `glance.message_seq`.
pub fn head(
    id: &ConversationId,
    user: &str,
    head: &Head,
    glance: &Glance,
    marks: &[&Mark],
    message: Option<EventRow>,
) -> client::Head {
    let own = marks.iter().find(|m| m.user == user);
    let (read_seq, seen, sent) = own.map_or((0, 0, 0), |m| {
        (m.read.max(m.sent), m.read_count.max(m.sent_count), m.sent)
    });
    let mut others: Vec<client::Mark> = marks
        .iter()
        .filter(|m| m.user != user && sent > 0)
        .filter_map(|m| {
            // no more than concerns the viewer's own messages
            let (delivered, read) = m.shown_to(user);
            let (delivered, read) = (delivered.min(sent), read.min(sent));
            (delivered > 0).then(|| client::Mark {
                user: m.user.clone(),
                delivered,
                read,
            })
        })
        .collect();
    others.sort_unstable_by(|a, b| a.user.cmp(&b.user));
    others.truncate(tandem_kernel::group::MAX_MEMBERS);
    client::Head {
        conversation: id.as_str().to_owned(),
        last_seq: glance.last_seq,
        unread: glance.visible.saturating_sub(seen.max(glance.before)),
        last_message: message.and_then(|row| show(row, id.as_str(), user)),
        title: head.title.clone(),
        read_seq,
        marks: others,
        request: !head.request_by.is_empty() && head.request_by != user,
        last_content_seq: glance.last_seq,
    }
}
