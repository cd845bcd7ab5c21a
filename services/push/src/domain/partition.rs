//! What push holds of a partition that is its reader's: copies seen, groups, and the window.

use std::collections::BTreeSet;

use tandem_kernel::{
    Address, ConversationId,
    event::{Kind, Nudge},
    group::Group,
};

use super::{
    groups::Groups,
    item::{Event, Item, What},
    notification::{Content, cut},
    seen::Seen,
    window::{Effect, Window},
};

/// How long copies and changes of groups are remembered, by record time, milliseconds.
pub const MEMORY_MS: i64 = 60_000;

/// Bounds of a partition's state.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long a receipt is waited for, milliseconds.
    pub hold_ms: i64,
    /// Groups remembered.
    pub groups: usize,
    /// Longest text kept for a notification, bytes.
    pub text: usize,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Yes,
    /// A copy of an earlier one.
    Copy,
    /// Refused at its place in the log, as by every reader.
    Void,
}

/// The state of a partition.
#[derive(Debug)]
pub struct Partition {
    /// What lies below was done by whoever read the partition before.
    floor: u64,
    seen: Seen,
    groups: Groups,
    window: Window,
    bounds: Bounds,
}

impl Partition {
    /// The group's place is `floor`; reading begins at or below it, to remember what was lately.
    pub fn new(floor: u64, bounds: Bounds) -> Self {
        Self {
            floor,
            seen: Seen::new(MEMORY_MS),
            groups: Groups::new(bounds.groups, MEMORY_MS),
            window: Window::new(bounds.hold_ms, floor),
            bounds,
        }
    }

    /// The window.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Whether what is at `offset` is this reader's to do.
    pub fn is_new(&self, offset: u64) -> bool {
        offset >= self.floor
    }

    /// Groups that must be loaded before these items can be taken.
    pub fn missing(&mut self, items: &[Item]) -> BTreeSet<ConversationId> {
        let floor = self.floor;
        let rings = items
            .iter()
            .filter(|item| item.offset >= floor)
            .filter_map(|item| {
                let event = item.event.as_ref()?;
                let rings =
                    matches!(event.what, What::Ring { .. }) && event.conversation.is_group();
                rings.then_some(&event.conversation)
            });
        self.groups.missing(rings)
    }

    /// Takes a group as the directory has it.
    pub fn load(&mut self, id: ConversationId, group: Group) {
        self.groups.load(id, group);
    }

    /// Takes the next item. Its group must not be missing.
    pub fn take(&mut self, item: Item, effects: &mut Vec<Effect>) -> Taken {
        let Item { offset, at, event } = item;
        self.window.read(offset, at);
        let Some(Event {
            seq,
            conversation,
            sender,
            what,
        }) = event
        else {
            return Taken::Yes;
        };
        match what {
            What::Receipt(receipt) => {
                if offset >= self.floor {
                    self.window.receipt(conversation, sender, &receipt, effects);
                }
                Taken::Yes
            }
            What::Group { id, kind } => {
                if !self.seen.first(at, &sender, id) {
                    return Taken::Copy;
                }
                match self.groups.change(at, seq, &conversation, &sender, kind) {
                    Ok(()) => Taken::Yes,
                    Err(_) => Taken::Void,
                }
            }
            What::Ring {
                id,
                text,
                withheld,
                request,
                traceparent,
            } => {
                if !self.seen.first(at, &sender, id) {
                    return Taken::Copy;
                }
                if offset < self.floor {
                    return Taken::Yes;
                }
                let (mut recipients, group) = if conversation.is_group() {
                    // a text and a nudge count alike
                    let kind = Kind::Nudge(Nudge {});
                    match self.groups.audience(&conversation, seq, &sender, &kind) {
                        Ok((members, title)) => (members, title.to_owned()),
                        Err(_) => return Taken::Void,
                    }
                } else {
                    match conversation.peer_of(&sender) {
                        Some(peer) => (vec![peer], String::new()),
                        None => return Taken::Void,
                    }
                };
                if !withheld.is_empty() {
                    recipients.retain(|r: &Address| withheld.iter().all(|w| w != r.as_str()));
                }
                let nudge = text.is_none();
                let text = text.map(|mut text| {
                    cut(&mut text, self.bounds.text);
                    text
                });
                let sender = Some(sender);
                let content = Content {
                    conversation,
                    seq,
                    sender,
                    group,
                    text,
                    nudge,
                    request,
                    at,
                    traceparent,
                };
                self.window.wait(offset, content, recipients);
                Taken::Yes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_kernel::{EventId, Seq, UnixMillis, event::Receipt};

    use super::*;

    const BOUNDS: Bounds = Bounds {
        hold_ms: 5_000,
        groups: 10,
        text: 1024,
    };

    fn user(name: &str) -> Address {
        Address::parse(&format!("{name}@x.test")).unwrap()
    }

    fn item(offset: u64, at: i64, sender: &str, what: What) -> Item {
        let event = Event {
            seq: Seq::new(1, offset),
            conversation: ConversationId::parse("o:alice@x.test,bob@x.test").unwrap(),
            sender: user(sender),
            what,
        };
        Item {
            offset,
            at: UnixMillis(at),
            event: Some(event),
        }
    }

    fn text(id: u8, withheld: &[&str]) -> What {
        What::Ring {
            id: EventId::new(1, &[id; 10]),
            text: Some("hi".into()),
            withheld: withheld.iter().map(|w| user(w).to_string()).collect(),
            request: false,
            traceparent: String::new(),
        }
    }

    fn decided(p: &mut Partition) -> Vec<u64> {
        let mut effects = Vec::new();
        p.window().ended(0, UnixMillis(1_000_000));
        p.window().decide(&mut effects);
        effects
            .iter()
            .filter_map(|e| match e {
                Effect::Notify { content, .. } => Some(content.seq.offset()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn copies_are_notified_once_and_the_blocked_and_outsiders_not_at_all() {
        let (mut p, mut effects) = (Partition::new(0, BOUNDS), Vec::new());
        assert_eq!(
            p.take(item(0, 1, "alice", text(1, &[])), &mut effects),
            Taken::Yes
        );
        assert_eq!(
            p.take(item(1, 2, "alice", text(1, &[])), &mut effects),
            Taken::Copy
        );
        assert_eq!(
            p.take(item(2, 3, "alice", text(2, &["bob"])), &mut effects),
            Taken::Yes
        );
        assert_eq!(
            p.take(item(3, 4, "mallory", text(3, &[])), &mut effects),
            Taken::Void
        );
        assert_eq!(decided(&mut p), [0]);
    }

    #[test]
    fn what_lies_below_the_committed_place_is_remembered_and_not_done_again() {
        let (mut p, mut effects) = (Partition::new(3, BOUNDS), Vec::new());
        let read = What::Receipt(Receipt {
            read: Seq::new(1, 0).0,
            ..Receipt::default()
        });
        p.take(item(0, 1, "alice", text(1, &[])), &mut effects);
        p.take(item(1, 2, "bob", read), &mut effects);
        assert_eq!(
            p.take(item(3, 3, "alice", text(1, &[])), &mut effects),
            Taken::Copy
        );
        assert_eq!(
            p.take(item(4, 4, "alice", text(2, &[])), &mut effects),
            Taken::Yes
        );
        assert_eq!(effects, []);
        assert_eq!(decided(&mut p), [4]);
    }
}
