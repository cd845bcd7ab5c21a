//! Bytes as choices: frames that a device, routing and the other services could have sent, or nearly.

use std::collections::HashMap;

use prost::Message;
use tandem_kernel::Code;
use tandem_proto::client::{
    Body, Bye, ClientFrame, Contact, ContactEvent, ContactsRequest, Delete, Device, DeviceClass,
    Done, Edit, Event, FindRequest, GroupCreate, Head, Heads, HeadsRequest, Hello, MembersRequest,
    Nudge, Page, PageRequest, Ping, Presence, Reaction, Read, Receipt, Received, RenewToken,
    Request, SetPresence, Submit, Text, TitleSet, Typing, TypingEvent, body::Kind,
    client_frame::Frame, request::Op, response, server_frame,
};

use crate::domain::effect::Refusal;

/// Whose session it is.
pub const USER: &str = "alice@x.test";

/// Conversations, the last of which are none or not the user's.
pub const CONVERSATIONS: &[&str] = &[
    "o:alice@x.test,bob@x.test",
    "o:alice@x.test,chloe@x.test",
    "o:alice@x.test,dan@x.test",
    "g:6ba7b810-9dad-41d1-80b4-00c04fd430c8@x.test",
    "g:6ba7b810-9dad-41d1-80b4-00c04fd430c9@x.test",
    "o:bob@x.test,chloe@x.test",
    "o:bob@x.test,alice@x.test",
    "",
    "x",
];

const PEOPLE: &[&str] = &[USER, "bob@x.test", "chloe@x.test", "Dan@X.test", "", "@"];

const EVENT_IDS: &[&str] = &[
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "01890a5d-ac96-774b-bcce-b302099a8058",
    "01890a5d-ac96-774b-bcce-b302099a8059",
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "",
];

const TEXTS: &[&str] = &["hi", "\u{1f44d}", "", "x"];

/// The bytes that are left.
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte().unwrap_or(0)) % n.max(1)
    }

    /// True in so many of 256 cases.
    pub fn chance(&mut self, of_256: u8) -> bool {
        self.byte().is_some_and(|b| b < of_256)
    }

    fn one_of(&mut self, of: &'static [&'static str]) -> &'static str {
        let at = self.below(of.len());
        of.get(at).copied().unwrap_or_default()
    }

    /// Some octets, as many as the next says.
    fn octets(&mut self) -> &'a [u8] {
        let many = self.below(64).min(self.0.len());
        let (octets, rest) = self.0.split_at(many);
        self.0 = rest;
        octets
    }

    /// A place in a conversation: mostly near the others, sometimes anywhere.
    pub fn seq(&mut self) -> u64 {
        match self.byte().unwrap_or(0) {
            250 => u64::MAX,
            251 => 1 << 48,
            252 => (1 << 48) | 7,
            small => u64::from(small % 16),
        }
    }

    /// Somebody.
    pub fn person(&mut self) -> &'static str {
        self.one_of(PEOPLE)
    }

    fn conversation(&mut self) -> String {
        self.one_of(CONVERSATIONS).to_owned()
    }

    fn text(&mut self) -> Text {
        let times = [1, 1, 1, 20, 33, 65].get(self.below(6)).copied();
        Text {
            text: self.one_of(TEXTS).repeat(times.unwrap_or(1)),
            reply_to: self.seq(),
            mentions: vec![String::new(); if self.chance(4) { 257 } else { 0 }],
        }
    }

    fn kind(&mut self) -> Kind {
        match self.below(12) {
            0 => Kind::Edit(Edit {
                target: self.seq(),
                text: Some(self.text()),
            }),
            1 => Kind::Delete(Delete { target: self.seq() }),
            2 => Kind::Reaction(Reaction {
                target: self.seq(),
                emoji: self.text().text,
            }),
            3 => Kind::Nudge(Nudge {}),
            4 => Kind::Receipt(Receipt {
                read: self.seq(),
                ..Receipt::default()
            }),
            5 => Kind::GroupCreate(GroupCreate {
                title: "t".into(),
                members: vec![self.person().into()],
            }),
            6 => Kind::TitleSet(TitleSet { title: "t".into() }),
            _ => Kind::Text(self.text()),
        }
    }

    fn body(&mut self) -> Option<Body> {
        match self.byte() {
            Some(0) => None,
            Some(1) => Some(Body::default()),
            _ => Some(Body {
                kind: Some(self.kind()),
            }),
        }
    }

    fn submit(&mut self) -> Submit {
        let (conversation, to) = if self.chance(160) {
            (self.conversation(), String::new())
        } else {
            (String::new(), self.person().to_owned())
        };
        Submit {
            event_id: self.one_of(EVENT_IDS).to_owned(),
            conversation,
            to,
            body: self.body(),
            retry: self.chance(64),
        }
    }

    fn op(&mut self) -> Option<Op> {
        Some(match self.below(7) {
            0 => Op::Page(PageRequest {
                conversation: self.conversation(),
                before: self.seq(),
                after: 0,
                limit: u32::from(self.byte().unwrap_or(0)),
            }),
            1 => Op::Heads(HeadsRequest::default()),
            2 => Op::Contacts(ContactsRequest {}),
            3 => Op::Members(MembersRequest {
                conversation: self.conversation(),
            }),
            4 => Op::Find(FindRequest {
                who: self.person().to_owned(),
            }),
            5 => Op::ContactChange(tandem_proto::client::ContactChange::default()),
            _ => return None,
        })
    }

    /// What a device sends while its last frame is `last`. `None`: it cannot be read.
    pub fn client_frame(&mut self, last: u64) -> Option<ClientFrame> {
        let frame = match self.below(24) {
            0 => match ClientFrame::decode(self.octets()) {
                Ok(frame) => return Some(frame),
                Err(_) if self.chance(64) => return None,
                Err(_) => Frame::Ping(Ping { nonce: 2 }),
            },
            1 => Frame::Hello(Hello {
                device: (!self.chance(8)).then(|| Device {
                    id: if self.chance(8) { "?" } else { "pc" }.to_owned(),
                    class: DeviceClass::Pc.into(),
                    agent: String::new(),
                }),
                have: HashMap::from([(self.conversation(), self.seq())]),
                ..Hello::default()
            }),
            2..=8 => Frame::Submit(self.submit()),
            9..=11 => Frame::Received(Received {
                conversation: self.conversation(),
                seq: self.seq(),
                exact: false,
                seqs: Vec::new(),
            }),
            12..=14 => Frame::Received(Received {
                conversation: self.conversation(),
                seq: 0,
                exact: true,
                seqs: vec![self.seq(), self.seq(), self.seq()],
            }),
            15 | 16 => Frame::Read(Read {
                conversation: self.conversation(),
                seq: self.seq(),
            }),
            17 => Frame::Typing(Typing {
                conversation: self.conversation(),
                active: true,
            }),
            18 => Frame::SetPresence(SetPresence {
                status: self.below(10) as i32,
                message: self.text().text,
            }),
            19 | 20 => Frame::Request(Request {
                id: self.below(3) as u64,
                op: self.op(),
            }),
            21 => Frame::RenewToken(RenewToken::default()),
            22 if self.chance(16) => Frame::Bye(Bye {}),
            _ => Frame::Ping(Ping { nonce: 1 }),
        };
        let ack = match self.below(8) {
            0..=4 => 0,
            5 => last,
            6 => last.saturating_sub(self.below(9) as u64),
            _ => last + u64::from(self.chance(16)),
        };
        let frame = (!self.chance(2)).then_some(frame);
        Some(ClientFrame { ack, frame })
    }

    fn event(&mut self) -> Event {
        Event {
            event_id: self.one_of(EVENT_IDS).to_owned(),
            conversation: self.conversation(),
            seq: self.seq(),
            sender: self.person().to_owned(),
            body: self.body(),
            ..Event::default()
        }
    }

    /// What routing and presence pass on.
    pub fn pushed(&mut self) -> Option<server_frame::Frame> {
        use server_frame::Frame as F;
        Some(match self.below(16) {
            0 => F::Typing(TypingEvent {
                conversation: self.conversation(),
                user: self.person().to_owned(),
                active: true,
            }),
            1 | 2 => F::Presence(Presence {
                user: self.person().to_owned(),
                version: self.seq(),
                ..Presence::default()
            }),
            3 => F::Contact(ContactEvent {
                contact: Some(Contact::default()),
            }),
            4 => tandem_proto::client::ServerFrame::decode(self.octets())
                .ok()?
                .frame
                .filter(|f| !matches!(f, F::Event(_)))?,
            _ => F::Event(self.event()),
        })
    }

    /// A head.
    pub fn head(&mut self) -> Head {
        let conversation = self.conversation();
        let (last_seq, last_content_seq) = (self.seq(), self.seq());
        Head {
            conversation,
            last_seq,
            last_content_seq,
            ..Head::default()
        }
    }

    /// The answer of another service.
    pub fn result(&mut self) -> Result<response::Result, Refusal> {
        Ok(match self.below(4) {
            0 => {
                let conversation = self.conversation();
                let mut event = self.event();
                event.conversation.clone_from(&conversation);
                response::Result::Page(Page {
                    conversation,
                    events: vec![event],
                    more: false,
                })
            }
            1 => response::Result::Heads(Heads {
                heads: vec![self.head()],
            }),
            2 => response::Result::Done(Done {}),
            _ => return Err(Refusal::new(Code::NotAMember, "")),
        })
    }
}
