//! A submitted item, read and within its limits.

use std::sync::Arc;

use bytes::Bytes;
use tandem_kernel::{
    Address, Code, ConversationId, DeviceId, EventId,
    event::{Kind, Receipt, Text},
    group::MAX_MEMBERS,
    seq::partition_of,
};
use tandem_proto::client::Submit;

/// Longest reaction, in bytes.
const EMOJI_BYTES: usize = 32;
/// Most single events that a receipt confirms.
const EXACT: usize = 1_024;

/// Why an item is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Code for the sender.
    pub code: Code,
    /// For people.
    pub message: &'static str,
    /// When set, submitting again after this many milliseconds may succeed.
    pub retry_after_ms: u32,
}

impl Refused {
    /// For good.
    pub const fn new(code: Code, message: &'static str) -> Self {
        Self {
            code,
            message,
            retry_after_ms: 0,
        }
    }
}

/// A conversation's id, taken apart once.
#[derive(Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its records' key.
    pub key: Bytes,
    /// Its records' partition.
    pub partition: u32,
    /// Its members, if it is one-to-one.
    pub pair: Option<(Address, Address)>,
}

impl Conversation {
    /// Takes an id apart.
    pub fn new(id: ConversationId, partitions: u32) -> Arc<Self> {
        let key = Bytes::copy_from_slice(id.as_str().as_bytes());
        let (partition, pair) = (partition_of(&key, partitions), id.pair());
        Arc::new(Self {
            id,
            key,
            partition,
            pair,
        })
    }

    /// The other member of a one-to-one conversation; `None` if `user` is not in it or it is a group.
    pub fn peer_of(&self, user: &Address) -> Option<&Address> {
        match &self.pair {
            Some((a, b)) if a == user => Some(b),
            Some((a, b)) if b == user => Some(a),
            _ => None,
        }
    }
}

/// An event to be admitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Who sends it.
    pub sender: Address,
    /// The device; empty for receipts.
    pub device: String,
    /// Where to.
    pub conversation: Arc<Conversation>,
    /// Its id.
    pub event_id: EventId,
    /// What it says.
    pub kind: Kind,
    /// It may have been submitted before.
    pub retry: bool,
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest text, in bytes.
    pub text_bytes: usize,
}

/// Reads a submitted event of `sender` for `conversation`.
pub fn read(
    sender: Address,
    device: String,
    conversation: Arc<Conversation>,
    submit: Submit,
    limits: Limits,
) -> Result<Item, Refused> {
    const ID: Refused = Refused::new(Code::InvalidArgument, "an event id is a UUIDv7");
    const BODY: Refused = Refused::new(Code::InvalidArgument, "an event has a body");
    const DEVICE: Refused = Refused::new(Code::InvalidArgument, "a device has an id");
    let event_id = EventId::parse(&submit.event_id).map_err(|_| ID)?;
    let kind = submit.body.and_then(|b| b.kind).ok_or(BODY)?;
    let receipt = matches!(kind, Kind::Receipt(_));
    if receipt != device.is_empty() {
        return Err(if receipt {
            Refused::new(
                Code::InvalidArgument,
                "devices send received and read, not receipts",
            )
        } else {
            DEVICE
        });
    }
    if !receipt && DeviceId::parse(&device).is_err() {
        return Err(DEVICE);
    }
    check_body(&kind, limits)?;
    Ok(Item {
        sender,
        device,
        conversation,
        event_id,
        kind,
        retry: submit.retry,
    })
}

fn check_body(kind: &Kind, limits: Limits) -> Result<(), Refused> {
    match kind {
        Kind::Text(text) => check_text(text, limits),
        Kind::Edit(edit) => match &edit.text {
            Some(text) => check_text(text, limits),
            None => refuse("an edit has a text"),
        },
        Kind::Reaction(reaction) => {
            if reaction.emoji.len() > EMOJI_BYTES || reaction.emoji.chars().any(char::is_control) {
                return refuse("a reaction is one emoji of at most 32 bytes");
            }
            Ok(())
        }
        Kind::Receipt(receipt) => check_receipt(receipt),
        // a cheap bound before the group's own rules
        Kind::GroupCreate(create) if create.members.len() > 2 * MAX_MEMBERS => FULL,
        Kind::MembersAdd(add) if add.members.len() > 2 * MAX_MEMBERS => FULL,
        _ => Ok(()),
    }
}

const FULL: Result<(), Refused> = Err(Refused::new(
    Code::GroupFull,
    "a group has at most 256 members",
));

fn check_text(text: &Text, limits: Limits) -> Result<(), Refused> {
    if text.text.len() > limits.text_bytes {
        return Err(Refused::new(
            Code::TooLarge,
            "the text is larger than the limit",
        ));
    }
    if text.text.trim().is_empty() {
        return refuse("a text is not empty");
    }
    if text.mentions.len() > MAX_MEMBERS {
        return refuse("a text names at most 256 people");
    }
    if text.mentions.iter().any(|m| Address::parse(m).is_err()) {
        return refuse("a mention is an address");
    }
    Ok(())
}

fn check_receipt(receipt: &Receipt) -> Result<(), Refused> {
    if receipt.delivered == 0 && receipt.read == 0 && receipt.delivered_exact.is_empty() {
        return refuse("a receipt confirms something");
    }
    if receipt.delivered_exact.len() > EXACT {
        return refuse("a receipt confirms at most 1024 single events");
    }
    Ok(())
}

const fn refuse<T>(message: &'static str) -> Result<T, Refused> {
    Err(Refused::new(Code::InvalidArgument, message))
}
