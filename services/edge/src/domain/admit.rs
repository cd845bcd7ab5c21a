//! What a submitted event must look like before it goes to routing. Who may write to whom is routing's.

use std::sync::Arc;

use tandem_kernel::{Address, Code, ConversationId, EventId, group};
use tandem_proto::client::{Submit, Text, body::Kind};

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Code for the device.
    pub code: Code,
    /// For people.
    pub reason: &'static str,
}

const fn refuse<T>(code: Code, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { code, reason })
}

/// Most people named in one text.
const MENTIONS: usize = 256;
/// Longest emoji, in bytes.
const EMOJI: usize = 32;

/// Checks the event and says which conversation it is for; names that conversation in the event.
pub fn submit(user: &Address, submit: &mut Submit, text_bytes: u32) -> Result<Arc<str>, Refusal> {
    if EventId::parse(&submit.event_id).is_err() {
        return refuse(
            Code::InvalidArgument,
            "event_id is a uuid of version 7 in its usual form",
        );
    }
    let Some(kind) = submit.body.as_ref().and_then(|b| b.kind.as_ref()) else {
        return refuse(Code::InvalidArgument, "an event has a body");
    };
    body(kind, text_bytes)?;
    let changes_group = group::changes_group(kind);
    let group = conversation(user, submit)?;
    if changes_group && !group {
        return refuse(
            Code::InvalidArgument,
            "only a group has members, roles and a title",
        );
    }
    Ok(Arc::from(submit.conversation.as_str()))
}

/// Settles the conversation; says whether it is a group.
fn conversation(user: &Address, submit: &mut Submit) -> Result<bool, Refusal> {
    if !submit.to.is_empty() {
        if !submit.conversation.is_empty() {
            return refuse(
                Code::InvalidArgument,
                "name the conversation or the other, not both",
            );
        }
        let Ok(to) = Address::parse(&submit.to) else {
            return refuse(Code::InvalidArgument, "to is an address");
        };
        let Some(id) = ConversationId::one_to_one(user, &to) else {
            return refuse(Code::InvalidArgument, "to is somebody else");
        };
        id.as_str().clone_into(&mut submit.conversation);
        submit.to.clear();
        return Ok(false);
    }
    in_conversation(user, &submit.conversation)
}

/// Whether the conversation is a group; refused if it is none, or visibly not the user's.
pub fn in_conversation(user: &Address, conversation: &str) -> Result<bool, Refusal> {
    let Ok(id) = ConversationId::parse(conversation) else {
        return refuse(
            Code::InvalidArgument,
            "conversation is o:<address>,<address> in order, or g:<uuid>@<domain>",
        );
    };
    if id.is_group() {
        return Ok(true);
    }
    if id.peer_of(user).is_none() {
        return refuse(Code::NotAMember, "not a member of the conversation");
    }
    Ok(false)
}

fn body(kind: &Kind, text_bytes: u32) -> Result<(), Refusal> {
    match kind {
        Kind::Receipt(_) => refuse(
            Code::InvalidArgument,
            "receipts are made of received and read",
        ),
        Kind::Text(t) => text(t, text_bytes),
        Kind::Edit(e) => match (&e.text, e.target) {
            (Some(t), 1..) => text(t, text_bytes),
            _ => refuse(Code::InvalidArgument, "an edit has a target and a text"),
        },
        Kind::Delete(d) if d.target == 0 => refuse(Code::InvalidArgument, "a delete has a target"),
        Kind::Reaction(r) if r.target == 0 => {
            refuse(Code::InvalidArgument, "a reaction has a target")
        }
        Kind::Reaction(r) if r.emoji.len() > EMOJI => refuse(
            Code::TooLarge,
            "a reaction is one emoji of at most 32 bytes",
        ),
        _ => Ok(()),
    }
}

fn text(text: &Text, text_bytes: u32) -> Result<(), Refusal> {
    if text.text.is_empty() {
        return refuse(Code::InvalidArgument, "a text is not empty");
    }
    if text.text.len() > text_bytes as usize {
        return refuse(Code::TooLarge, "the text is longer than the limit");
    }
    if text.mentions.len() > MENTIONS {
        return refuse(Code::TooLarge, "a text names at most 256 people");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_proto::client::{Body, Delete, Edit, Nudge, Reaction, Receipt, TitleSet};

    fn alice() -> Address {
        Address::parse("alice@x.test").unwrap()
    }

    fn sub(to: &str, conversation: &str, kind: Kind) -> Submit {
        Submit {
            event_id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
            conversation: conversation.into(),
            to: to.into(),
            body: Some(Body { kind: Some(kind) }),
            retry: false,
        }
    }

    fn hi(s: &str) -> Kind {
        Kind::Text(Text {
            text: s.into(),
            ..Default::default()
        })
    }

    fn code(mut s: Submit) -> Code {
        submit(&alice(), &mut s, 10).unwrap_err().code
    }

    #[test]
    fn an_address_names_the_conversation_with_it() {
        let mut s = sub("Bob@x.test", "", hi("hi"));
        assert_eq!(
            &*submit(&alice(), &mut s, 10).unwrap(),
            "o:alice@x.test,bob@x.test"
        );
        assert_eq!(
            (s.to.as_str(), s.conversation.as_str()),
            ("", "o:alice@x.test,bob@x.test")
        );
    }

    #[test]
    fn each_kind_of_bad_event_is_refused_with_its_code() {
        use Code::{InvalidArgument, NotAMember, TooLarge};
        let c = "o:alice@x.test,bob@x.test";
        assert_eq!(code(sub("alice@x.test", "", hi("hi"))), InvalidArgument);
        assert_eq!(code(sub("nobody", "", hi("hi"))), InvalidArgument);
        assert_eq!(code(sub("bob@x.test", c, hi("hi"))), InvalidArgument);
        assert_eq!(
            code(sub("", "o:bob@x.test,chloe@x.test", hi("hi"))),
            NotAMember
        );
        assert_eq!(
            code(sub("", "o:bob@x.test,alice@x.test", hi("hi"))),
            InvalidArgument
        );
        assert_eq!(code(sub("", c, hi(""))), InvalidArgument);
        assert_eq!(code(sub("", c, hi("eleven char"))), TooLarge);
        assert_eq!(
            code(sub(
                "",
                c,
                Kind::Edit(Edit {
                    target: 1,
                    text: None
                })
            )),
            InvalidArgument
        );
        assert_eq!(
            code(sub("", c, Kind::Delete(Delete { target: 0 }))),
            InvalidArgument
        );
        assert_eq!(
            code(sub(
                "",
                c,
                Kind::Reaction(Reaction {
                    target: 1,
                    emoji: "x".repeat(33)
                })
            )),
            TooLarge
        );
        assert_eq!(
            code(sub("", c, Kind::Receipt(Receipt::default()))),
            InvalidArgument
        );
        assert_eq!(
            code(sub("", c, Kind::TitleSet(TitleSet::default()))),
            InvalidArgument
        );
        let mut s = sub("", c, Kind::Nudge(Nudge {}));
        s.event_id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into();
        assert_eq!(code(s.clone()), InvalidArgument, "not a uuid v7");
        s.body = None;
        assert_eq!(code(s), InvalidArgument);
    }
}
