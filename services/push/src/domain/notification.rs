//! What a notification says.

use serde::Serialize;
use tandem_kernel::{Address, ConversationId, Seq, UnixMillis};

/// What there is to notify of: an event, without its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Conversation.
    pub conversation: ConversationId,
    /// Place of the event.
    pub seq: Seq,
    /// Who sent it; `None`: no longer known (a replayed dead letter).
    pub sender: Option<Address>,
    /// The group's title; empty for one-to-one.
    pub group: String,
    /// Text; `None` for a nudge, and where it is no longer known.
    pub text: Option<String>,
    /// A nudge.
    pub nudge: bool,
    /// From someone who is not a contact.
    pub request: bool,
    /// When the log took it.
    pub at: UnixMillis,
    /// W3C traceparent; empty when not sampled.
    pub traceparent: String,
}

/// The payload of a notification, as the device decrypts it: one JSON object. 64-bit places are
/// strings, as in the JSON mapping of the client protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Payload {
    /// There is a message.
    Message {
        /// Conversation.
        conversation: String,
        /// Place of the event; the newest one that this notification tells of.
        seq: String,
        /// The author's address.
        #[serde(skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
        /// The author's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        sender_name: Option<String>,
        /// What to put on top: the group's title, or the author's name or address. Absent: not
        /// known; the brand's name will do.
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// Text, cut to the limit; absent for a nudge, or when the device wants none.
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// A nudge: ask for attention.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        nudge: bool,
        /// From someone who is not a contact.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        request: bool,
        /// A notification replaces the one of the same tag.
        tag: String,
        /// Brand of the recipient.
        brand: String,
        /// When the log took the event, milliseconds since 1970.
        ts: i64,
    },
    /// What was notified up to a place has been read elsewhere: close the notification of this tag,
    /// unless it tells of a later place.
    Withdraw {
        /// Conversation.
        conversation: String,
        /// Everything up to this place is read.
        up_to: String,
        /// Tag of the notification to close.
        tag: String,
    },
}

/// What is to be sent to a device.
#[derive(Debug, Clone)]
pub enum Notice<'a> {
    /// There is a message.
    Message {
        /// The event.
        content: &'a Content,
        /// The author's name, if known.
        sender_name: Option<&'a str>,
        /// What is said without text: the device wants none, or a dead letter is replayed.
        hide_text: bool,
    },
    /// What was notified has been read elsewhere.
    Withdraw {
        /// Conversation.
        conversation: &'a ConversationId,
        /// Everything up to this place is read.
        up_to: Seq,
    },
}

impl Notice<'_> {
    /// The conversation that it is about.
    pub fn conversation(&self) -> &ConversationId {
        match self {
            Self::Message { content, .. } => &content.conversation,
            Self::Withdraw { conversation, .. } => conversation,
        }
    }

    /// The JSON payload, at most `max` bytes: the text is cut until it fits.
    pub fn payload(&self, tag: &str, brand: &str, max: usize) -> Vec<u8> {
        let mut payload = match self {
            Self::Withdraw {
                conversation,
                up_to,
            } => Payload::Withdraw {
                conversation: conversation.to_string(),
                up_to: up_to.to_string(),
                tag: tag.to_owned(),
            },
            Self::Message {
                content,
                sender_name,
                hide_text,
            } => {
                let sender = content.sender.as_ref().map(ToString::to_string);
                let title = if content.group.is_empty() {
                    sender_name.map(str::to_owned).or_else(|| sender.clone())
                } else {
                    Some(content.group.clone())
                };
                Payload::Message {
                    conversation: content.conversation.to_string(),
                    seq: content.seq.to_string(),
                    sender_name: sender_name.map(str::to_owned),
                    title,
                    body: if *hide_text {
                        None
                    } else {
                        content.text.clone()
                    },
                    nudge: content.nudge,
                    sender,
                    request: content.request,
                    tag: tag.to_owned(),
                    brand: brand.to_owned(),
                    ts: content.at.0,
                }
            }
        };
        loop {
            let json = serde_json::to_vec(&payload).unwrap_or_default();
            if json.len() <= max {
                return json;
            }
            // escapes may make a text much longer than it is
            match &mut payload {
                Payload::Message {
                    body: Some(text), ..
                } if !text.is_empty() => {
                    let shorter = text.len() / 2;
                    cut(text, shorter);
                }
                Payload::Message {
                    title, sender_name, ..
                } if title.is_some() => {
                    (*title, *sender_name) = (None, None);
                }
                _ => return json,
            }
        }
    }
}

/// Cuts a text to at most `max` bytes of UTF-8, with an ellipsis where something is missing.
pub fn cut(text: &mut String, max: usize) {
    const ELLIPSIS: char = '…';
    if text.len() <= max {
        return;
    }
    let mut end = max.saturating_sub(ELLIPSIS.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    if max >= ELLIPSIS.len_utf8() {
        text.push(ELLIPSIS);
    }
    text.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Content {
        Content {
            conversation: ConversationId::parse("o:a@x.test,b@x.test").unwrap(),
            seq: Seq::new(1, 5),
            sender: Some(Address::parse("a@x.test").unwrap()),
            group: String::new(),
            text: Some(text.into()),
            nudge: false,
            request: false,
            at: UnixMillis(1_000),
            traceparent: String::new(),
        }
    }

    fn json(content: &Content, hide_text: bool, max: usize) -> serde_json::Value {
        let notice = Notice::Message {
            content,
            sender_name: Some("Alice"),
            hide_text,
        };
        let payload = notice.payload("tag", "acme", max);
        assert!(payload.len() <= max);
        serde_json::from_slice(&payload).unwrap()
    }

    #[test]
    fn a_payload_names_the_message_and_its_author() {
        let got = json(&content("hi"), false, 3993);
        let want = serde_json::json!({
            "type": "message", "conversation": "o:a@x.test,b@x.test",
            "seq": "281474976710661", "sender": "a@x.test", "sender_name": "Alice",
            "title": "Alice", "body": "hi", "tag": "tag", "brand": "acme", "ts": 1000,
        });
        assert_eq!(got, want);
    }

    #[test]
    fn hidden_text_is_not_in_the_payload() {
        let payload = json(&content("secret words"), true, 3993);
        assert!(!payload.to_string().contains("secret"));
        assert_eq!(payload.get("nudge"), None);
    }

    #[test]
    fn a_text_that_grows_by_escapes_still_fits() {
        let payload = json(&content(&"\u{1}".repeat(3_000)), false, 3993);
        assert!(payload["body"].as_str().unwrap().ends_with('…'));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let mut text = "ääääää".to_owned();
        cut(&mut text, 8);
        assert_eq!(text, "ää…");
        let mut short = "ok".to_owned();
        cut(&mut short, 8);
        assert_eq!(short, "ok");
    }
}
