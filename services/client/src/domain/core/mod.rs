//! The device's side of the protocol: frames in, frames and updates out. Takes the time as an argument
//! and does no I/O.
//!
//! Invariant: `have` of a conversation never passes an event that has not been put in, but for what a
//! [`Pages::Newest`] device leaves to scrolling.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    time::Duration,
};

use tandem_kernel::{Address, ConversationId, event::Body};
use tandem_proto::client::{
    ClientFrame, Contact, Hello, Limits, PageRequest, Presence, Problem, Received, Request, Resume,
    Submit, client_frame, request, response,
};

mod frames;
mod sync;

use super::{
    conversation::Conversation,
    outbox::Outbox,
    update::{Pages, Update},
};

/// Where a conversation stands between this device and the edge.
#[derive(Debug, Clone, Default)]
struct Track {
    /// Up to where the device tells the edge that it holds everything.
    have: u64,
    /// A head that is ahead: fetch up to here.
    target: u64,
    /// Target of the page request under way.
    asked: u64,
    /// Fetched up to here so far.
    reached: u64,
    /// Highest seq that came live.
    live: u64,
    /// Live events to confirm one by one.
    exact: Vec<u64>,
    /// There is something to confirm cumulatively.
    confirm: bool,
}

impl Track {
    fn behind(&self) -> bool {
        self.target > self.have
    }
}

/// Who asked.
#[derive(Debug, Clone, PartialEq)]
enum Asker {
    Sync(String),
    Contacts,
    /// The caller's number, and what a page that they asked for covers.
    Caller(u64, Option<PageRequest>),
}

/// Page requests of a sync that may be open at once; leaves room for the person's own.
const FETCHES: usize = 4;
/// Frames processed beyond the last acknowledged one before that is said by itself.
const UNACKED: u64 = 64;
/// How long a confirmation may take to leave the edge.
const UNSURE: Duration = Duration::from_secs(10);
/// Most seqs in one exact confirmation.
const EXACT: usize = 500;

/// The state of a device.
#[derive(Debug, Clone)]
pub struct Core {
    pages: Pages,
    /// Events are told and not kept, every copy of them.
    lean: bool,
    me: Option<Address>,
    limits: Limits,
    heartbeat: Duration,
    conversations: BTreeMap<String, Conversation>,
    tracks: BTreeMap<String, Track>,
    contacts: BTreeMap<String, Contact>,
    contacts_known: bool,
    /// What came live in this session, by user: every later change does, too, so an answer that was on its way
    /// knows nothing newer.
    live_presences: BTreeMap<String, Presence>,
    outbox: Outbox,
    /// Sends to an address whose domain is not known before the first Welcome: (to, id, body, time).
    unaddressed: Vec<(String, String, Body, i64)>,
    connected: bool,
    synced: bool,
    session: String,
    last_n: u64,
    /// What the edge was told of it.
    acked_n: u64,
    next_request: u64,
    asked: BTreeMap<u64, Asker>,
    to_fetch: VecDeque<String>,
    fetch_again: bool,
    /// Conversations with something to confirm.
    dirty: BTreeSet<String>,
    /// When something was last confirmed of a conversation: what the connection's end cut off may have been
    /// lost with it.
    reconfirm: BTreeMap<String, Duration>,
    /// The time as last told.
    clock: Duration,
    /// Answers for callers.
    answers: Vec<(u64, Result<response::Result, Problem>)>,
    updates: Vec<Update>,
    out: Vec<ClientFrame>,
    vapid: Vec<u8>,
}

impl Core {
    /// A device that holds nothing.
    pub fn new(pages: Pages) -> Self {
        Self {
            pages,
            lean: false,
            me: None,
            limits: Limits {
                frame_bytes: 65536,
                events_per_s: 50,
                events_burst: 200,
                conversations: 64,
                page: 200,
                text_bytes: 16384,
            },
            heartbeat: Duration::from_secs(30),
            conversations: BTreeMap::new(),
            tracks: BTreeMap::new(),
            contacts: BTreeMap::new(),
            contacts_known: false,
            live_presences: BTreeMap::new(),
            outbox: Outbox::default(),
            unaddressed: Vec::new(),
            connected: false,
            synced: false,
            session: String::new(),
            last_n: 0,
            acked_n: 0,
            next_request: 1,
            asked: BTreeMap::new(),
            to_fetch: VecDeque::new(),
            fetch_again: false,
            dirty: BTreeSet::new(),
            reconfirm: BTreeMap::new(),
            clock: Duration::ZERO,
            answers: Vec::new(),
            updates: Vec::new(),
            out: Vec::new(),
            vapid: Vec::new(),
        }
    }

    /// A device that fetches everything, tells every copy of every event (receipts, too) and keeps none:
    /// for programs that keep their own record.
    pub fn lean() -> Self {
        Self {
            lean: true,
            ..Self::new(Pages::All)
        }
    }

    // ------------------------------------------------------------ what it shows

    /// The subscriber, once the first session was opened.
    pub fn me(&self) -> Option<&str> {
        self.me.as_ref().map(Address::as_str)
    }

    /// The conversations, by id.
    pub fn conversations(&self) -> impl Iterator<Item = (&str, &Conversation)> {
        self.conversations.iter().map(|(id, c)| (id.as_str(), c))
    }

    /// A conversation.
    pub fn conversation(&self, id: &str) -> Option<&Conversation> {
        self.conversations.get(id)
    }

    /// The contacts as last told, by address.
    pub fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values()
    }

    /// Whether the contacts were told once; before, there seem to be none.
    pub fn knows_contacts(&self) -> bool {
        self.contacts_known
    }

    /// What is on its way.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether nothing that was sent waits for its answer.
    pub fn all_answered(&self) -> bool {
        self.outbox.is_empty() && self.unaddressed.is_empty()
    }

    /// What the edge enforces.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How often to send a ping in silence.
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Whether a session is open and everything before it is known.
    pub fn is_synced(&self) -> bool {
        self.connected && self.synced && !self.tracks.values().any(Track::behind)
    }

    /// Whether a session is open.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The edge's VAPID public key; empty: no Web Push.
    pub fn vapid_public_key(&self) -> &[u8] {
        &self.vapid
    }

    /// Up to where this device holds everything, by conversation.
    pub fn have(&self) -> BTreeMap<String, u64> {
        let held = |t: &Track| t.have > 0;
        self.tracks
            .iter()
            .filter(|(_, t)| held(t))
            .map(|(c, t)| (c.clone(), t.have))
            .collect()
    }

    // ------------------------------------------------------------ what the person does

    /// Queues an event. `conversation` is an id, or an address (or its local part) for a one-to-one.
    pub fn submit(&mut self, conversation: &str, event_id: String, body: Body, made_ms: i64) {
        if conversation.starts_with("o:") || conversation.starts_with("g:") {
            self.outbox
                .push(event_id, conversation.to_owned(), body, made_ms);
        } else {
            self.unaddressed
                .push((conversation.to_owned(), event_id, body, made_ms));
            self.address();
        }
    }

    /// The conversation with `who`: an address or, in one's own domain, its local part.
    pub fn with(&self, who: &str) -> Option<String> {
        let me = self.me.as_ref()?;
        let who = match Address::parse(who) {
            Ok(a) => a,
            Err(_) => Address::parse(&format!("{who}@{}", me.domain())).ok()?,
        };
        ConversationId::one_to_one(me, &who).map(|c| c.as_str().to_owned())
    }

    fn address(&mut self) {
        if self.me.is_none() {
            return;
        }
        for (to, event_id, body, made_ms) in mem::take(&mut self.unaddressed) {
            match self.with(&to) {
                Some(conversation) => self.outbox.push(event_id, conversation, body, made_ms),
                None => self.updates.push(Update::Rejected {
                    event_id,
                    problem: Problem {
                        code: "invalid_argument".into(),
                        message: "not the address of another person".into(),
                        retry_after_ms: 0,
                    },
                    body,
                    conversation: to,
                }),
            }
        }
    }

    /// The person has read a conversation up to `seq`.
    pub fn read(&mut self, conversation: &str, seq: u64) {
        let me = self.me().unwrap_or_default().to_owned();
        let Some(c) = self.conversations.get_mut(conversation) else {
            return;
        };
        if c.read_up_to(&me, seq) {
            self.updates
                .push(Update::Conversation(conversation.to_owned()));
        }
        self.reconfirm.insert(conversation.to_owned(), self.clock);
        if self.connected {
            self.out.push(read_frame(conversation, seq));
        }
    }

    /// Asks a question for the caller's `number`; false if there is no session to ask in.
    pub fn ask(&mut self, number: u64, op: request::Op) -> bool {
        if !self.connected {
            return false;
        }
        let page = match &op {
            request::Op::Page(p) => Some(p.clone()),
            _ => None,
        };
        self.request(Asker::Caller(number, page), op);
        true
    }

    /// Queues a frame that needs no answer; dropped when there is no session.
    pub fn say(&mut self, frame: client_frame::Frame) {
        if self.connected {
            self.out.push(ClientFrame {
                ack: 0,
                frame: Some(frame),
            });
        }
    }

    fn request(&mut self, asker: Asker, op: request::Op) {
        let id = self.next_request;
        self.next_request += 1;
        self.asked.insert(id, asker);
        self.say(client_frame::Frame::Request(Request { id, op: Some(op) }));
    }

    // ------------------------------------------------------------ the session

    /// The first frame of a connection; token, device and status are the caller's to fill in.
    pub fn hello(&self) -> Hello {
        let resume = (!self.session.is_empty()).then(|| Resume {
            session: self.session.clone(),
            n: self.last_n,
        });
        Hello {
            resume,
            have: self.have().into_iter().collect(),
            ..Hello::default()
        }
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.out.clear();
        // what is older has left the edge long ago
        let since = self.clock.saturating_sub(UNSURE);
        self.reconfirm.retain(|_, at| *at >= since);
        self.to_fetch.clear();
        for asker in mem::take(&mut self.asked).into_values() {
            if let Asker::Caller(number, _) = asker {
                let problem = Problem {
                    code: "unavailable".into(),
                    message: "the connection broke".into(),
                    retry_after_ms: 0,
                };
                self.answers.push((number, Err(problem)));
            }
        }
        for track in self.tracks.values_mut() {
            track.asked = 0;
        }
    }

    /// The session is not to be resumed: the next connection syncs.
    pub fn forget_session(&mut self) {
        self.session.clear();
    }

    // ------------------------------------------------------------ what it leads to

    /// The frames to send now, and how long to wait when limits hold some back.
    pub fn take_out(&mut self, now: Duration) -> (Vec<ClientFrame>, Option<Duration>) {
        if !self.connected {
            return (Vec::new(), None);
        }
        self.clock = now;
        self.confirm();
        let (due, wait) = self.outbox.due(&self.limits, now);
        self.out.extend(due.into_iter().map(submit_frame));
        let mut out = mem::take(&mut self.out);
        if out.is_empty() && self.last_n >= self.acked_n + UNACKED {
            out.push(ClientFrame::default());
        }
        if let Some(last) = out.last_mut() {
            last.ack = self.last_n;
            self.acked_n = self.last_n;
        }
        (out, wait)
    }

    fn confirm(&mut self) {
        for id in mem::take(&mut self.dirty) {
            let Some(track) = self.tracks.get_mut(&id) else {
                continue;
            };
            if mem::take(&mut track.confirm) {
                let frame = Received {
                    conversation: id.clone(),
                    seq: track.have,
                    ..Received::default()
                };
                self.out.push(received_frame(frame));
            }
            for part in mem::take(&mut track.exact).chunks(EXACT) {
                self.out.push(received_frame(Received {
                    conversation: id.clone(),
                    seq: 0,
                    exact: true,
                    seqs: part.to_vec(),
                }));
            }
            self.reconfirm.insert(id, self.clock);
        }
    }

    /// A ping, which says, too, what has been processed.
    pub fn ping(&self) -> ClientFrame {
        let ping = tandem_proto::client::Ping { nonce: self.last_n };
        ClientFrame {
            ack: self.last_n,
            frame: Some(client_frame::Frame::Ping(ping)),
        }
    }

    /// What the person is to be told.
    pub fn take_updates(&mut self) -> Vec<Update> {
        mem::take(&mut self.updates)
    }

    /// Adds an update in its order.
    pub fn tell(&mut self, update: Update) {
        self.updates.push(update);
    }

    /// Answers to questions, by the caller's number.
    pub fn take_answers(&mut self) -> Vec<(u64, Result<response::Result, Problem>)> {
        mem::take(&mut self.answers)
    }
}

fn submit_frame(submit: Submit) -> ClientFrame {
    ClientFrame {
        ack: 0,
        frame: Some(client_frame::Frame::Submit(submit)),
    }
}

fn received_frame(received: Received) -> ClientFrame {
    ClientFrame {
        ack: 0,
        frame: Some(client_frame::Frame::Received(received)),
    }
}

fn read_frame(conversation: &str, seq: u64) -> ClientFrame {
    let read = tandem_proto::client::Read {
        conversation: conversation.to_owned(),
        seq,
    };
    ClientFrame {
        ack: 0,
        frame: Some(client_frame::Frame::Read(read)),
    }
}

#[cfg(test)]
mod tests;
