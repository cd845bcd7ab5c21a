//! Frames as they go out: the part that sessions share is encoded once, the number is appended.
//!
//! Protobuf fields may come in any order (<https://protobuf.dev/programming-guides/encoding/#order>),
//! so `ServerFrame.n` follows the frame's body.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tandem_proto::client::{Presence, ServerFrame, body::Kind, server_frame};

/// A frame for one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// `ServerFrame.n`; 0: not numbered.
    pub n: u64,
    /// The encoded `ServerFrame` without `n`.
    pub body: Bytes,
}

impl Frame {
    /// The whole encoded `ServerFrame`.
    pub fn bytes(&self) -> Bytes {
        if self.n == 0 {
            return self.body.clone();
        }
        let mut out = BytesMut::with_capacity(self.body.len() + 11);
        out.extend_from_slice(&self.body);
        out.put_u8(0x08); // field 1, varint
        prost::encoding::encode_varint(self.n, &mut out);
        out.freeze()
    }

    /// The frame as a message, for carriers that encode by themselves.
    pub fn message(&self) -> ServerFrame {
        // what was encoded here is decoded without fail
        let mut message = ServerFrame::decode(self.body.clone()).unwrap_or_default();
        message.n = self.n;
        message
    }
}

/// Encodes a frame's body.
pub fn encode(frame: &server_frame::Frame) -> Bytes {
    let mut out = BytesMut::with_capacity(frame.encoded_len());
    frame.encode(&mut out);
    out.freeze()
}

/// What a session must know of a frame that it passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passing {
    /// An event, in rising seq.
    Event {
        /// Its conversation.
        conversation: Arc<str>,
        /// Its place.
        seq: u64,
        /// Its author, empty for a receipt: what its author's own devices need not confirm.
        author: Arc<str>,
    },
    /// A status, in rising version.
    Presence {
        /// Whose.
        user: Arc<str>,
        /// Which.
        version: u64,
    },
    /// Typing: shown or lost.
    Typing,
    /// A relation: numbered, replayed on resume.
    Contact,
}

/// One frame for some sessions, encoded once.
#[derive(Debug)]
pub struct Parcel {
    /// What it is.
    pub passing: Passing,
    /// Its encoded body.
    pub body: Bytes,
    /// When it came, for the sampled latency.
    pub sampled_at: Option<std::time::Duration>,
    /// Its part of the event's trace; ends once every session has it.
    pub span: tracing::Span,
}

impl Parcel {
    /// A parcel of what routing or presence sent. `None`: it is none that sessions get this way.
    pub fn new(frame: &server_frame::Frame) -> Option<Self> {
        let passing = match frame {
            server_frame::Frame::Event(e) => {
                let receipt = matches!(
                    e.body.as_ref().and_then(|b| b.kind.as_ref()),
                    Some(Kind::Receipt(_))
                );
                Passing::Event {
                    conversation: Arc::from(e.conversation.as_str()),
                    seq: e.seq,
                    author: Arc::from(if receipt { "" } else { e.sender.as_str() }),
                }
            }
            server_frame::Frame::Typing(_) => Passing::Typing,
            server_frame::Frame::Presence(Presence { user, version, .. }) => Passing::Presence {
                user: Arc::from(user.as_str()),
                version: *version,
            },
            server_frame::Frame::Contact(_) => Passing::Contact,
            _ => return None,
        };
        Some(Self {
            passing,
            body: encode(frame),
            sampled_at: None,
            span: tracing::Span::none(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_proto::client::Pong;

    #[test]
    fn a_numbered_frame_is_the_message_that_it_was_made_of() {
        for n in [0, 1, 127, 128, u64::MAX] {
            let inner = server_frame::Frame::Pong(Pong { nonce: 7 });
            let frame = Frame {
                n,
                body: encode(&inner),
            };
            let whole = ServerFrame {
                n,
                frame: Some(inner),
            };
            assert_eq!(ServerFrame::decode(frame.bytes()).unwrap(), whole);
            assert_eq!(frame.message(), whole);
        }
    }
}
