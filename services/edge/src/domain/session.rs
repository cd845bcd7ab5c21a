//! One device's session, as a pure state machine: what comes to it, and what is to be done about it.
//!
//! It never waits, reads no clock and does no I/O, and no sequence of inputs makes it panic. Effects are to
//! be carried out in order. After [`Effect::End`] it does nothing more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ahash::AHashMap;
use bytes::Bytes;
use tandem_kernel::{Address, Code, DeviceId, SessionId};
use tandem_proto::client::{
    Accepted, ClientFrame, Closing, Device, DeviceClass, Event, Head, Heads, Hello, Pong, Presence,
    Problem, Read, Received, Rejected, Request, Response, SetPresence, Status, Submit, Synced,
    Welcome, body::Kind, client_frame, request::Op, response, server_frame,
};

use super::{
    admit,
    bucket::Bucket,
    frame::{Frame, Parcel, Passing, encode},
    places::Places,
    receipts::Mark,
    recent::Recent,
    retained::{Bound, Retained},
};

/// What sessions are held to.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Time for the first frame.
    pub hello_within: Duration,
    /// Silence beyond 2.5 times this closes the connection.
    pub heartbeat: Duration,
    /// How long a session waits for its device to come back.
    pub resume_within: Duration,
    /// Submitted events a second, and at once.
    pub events: (u32, u32),
    /// Frames other than events and useful confirmations, a second and at once.
    pub frames: (u32, u32),
    /// Conversations with unanswered events.
    pub conversations: u32,
    /// Open requests.
    pub requests: usize,
    /// Largest text in bytes.
    pub text_bytes: u32,
    /// Events a page.
    pub page: u32,
    /// Unacknowledged frames kept.
    pub retained: Bound,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Write a frame.
    Send(Frame),
    /// Find out who this is, then [`Session::on_authenticated`].
    Authenticate(Box<Hello>),
    /// Verify the token, then [`Session::on_renewed`].
    Renew(String),
    /// Hand an event to routing, then [`Session::on_answer`].
    Submit(Arc<str>, Box<Submit>),
    /// Hand a typing signal to routing.
    Typing(String, bool),
    /// Confirm events of a conversation.
    Receipt(Arc<str>, Mark),
    /// Sync from the end offsets on, with what the device holds; replaces a sync under way.
    Sync(HashMap<String, u64>),
    /// Fetch the statuses of the contacts, then [`Session::on_presences`].
    Snapshot,
    /// Answer a question, then [`Session::on_response`].
    Ask(u64, Box<Op>),
    /// Register the status and the personal message that the person chose.
    Status(Status, String),
    /// The session is attached (true) or waits for its device: register that.
    Attached(bool),
    /// Let the connection go after what was written.
    Disconnect,
    /// The session is over: let the connection go after what was written, remove the session, `at_once` if true.
    End(bool),
    /// Something was refused: count it.
    Refused(Code),
}

/// A verified sign-in.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Id of the session.
    pub session: SessionId,
    /// Who it is.
    pub user: Address,
    /// To be sent; `session` and `resumed` are set here.
    pub welcome: Welcome,
    /// For each conversation, up to where the device holds everything.
    pub have: HashMap<String, u64>,
    /// When the token stops counting.
    pub token_until: Duration,
}

/// A problem to be told to the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Without a hint of when to try again.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    fn problem(self) -> Problem {
        Problem {
            code: self.code.as_str().to_owned(),
            message: self.message,
            retry_after_ms: millis(self.retry_after.unwrap_or_default()),
        }
    }
}

/// What became of a submitted event.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is in the log.
    Accepted(Accepted),
    /// It is not.
    Rejected(Rejected),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for hello.
    New,
    /// Hello came; who it is, is being found out.
    Verifying,
    Open,
    /// Waits for its device until then.
    Lost(Duration),
    Over,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    rules: Arc<Rules>,
    phase: Phase,
    user: Option<Address>,
    retained: Retained,
    places: Places,
    presences: Recent<Arc<str>, u64>,
    unanswered: AHashMap<Arc<str>, u32>,
    requests: Vec<u64>,
    have: Option<Box<HashMap<String, u64>>>,
    events: Bucket,
    frames: Bucket,
    heard: Duration,
    token_until: Duration,
    acked: u64,
    synced: bool,
    renewing: bool,
}

type Effects = Vec<Effect>;

fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

/// The code that another service named.
fn code(text: &str) -> Code {
    Code::parse(text).unwrap_or(Code::Internal)
}

impl Session {
    /// A session whose connection has just been made.
    pub fn new(rules: Arc<Rules>, now: Duration) -> Self {
        Self {
            phase: Phase::New,
            user: None,
            retained: Retained::default(),
            places: Places::default(),
            presences: Recent::default(),
            unanswered: AHashMap::new(),
            requests: Vec::new(),
            have: None,
            events: Bucket::full(rules.events.1, now),
            frames: Bucket::full(rules.frames.1, now),
            heard: now,
            token_until: Duration::MAX,
            acked: 0,
            synced: false,
            renewing: false,
            rules,
        }
    }

    /// Whether frames of the device are to be read now.
    pub fn reads(&self) -> bool {
        matches!(self.phase, Phase::New | Phase::Open)
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When [`Session::on_tick`] is wanted next, if nothing happens before.
    pub fn wake_at(&self) -> Duration {
        match self.phase {
            Phase::New => self.heard + self.rules.hello_within,
            Phase::Open => (self.heard + self.rules.heartbeat * 5 / 2).min(self.token_until),
            Phase::Lost(until) => until,
            Phase::Verifying | Phase::Over => Duration::MAX,
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Duration, out: &mut Effects) {
        if now < self.wake_at() {
            return;
        }
        match self.phase {
            Phase::New => self.close(
                Code::IdleTimeout,
                "no hello came in time",
                Some(Duration::ZERO),
                out,
            ),
            Phase::Open if now >= self.token_until => {
                self.close(
                    Code::TokenExpired,
                    "the token has expired",
                    Some(Duration::ZERO),
                    out,
                );
            }
            Phase::Open => {
                out.push(Effect::Refused(Code::IdleTimeout));
                self.closing(
                    Code::IdleTimeout,
                    "nothing was heard from the device",
                    Some(Duration::ZERO),
                    out,
                );
                out.push(Effect::Disconnect);
                self.on_lost(now, out);
            }
            Phase::Lost(_) => self.over(false, out),
            Phase::Verifying | Phase::Over => {}
        }
    }

    /// What the device sent cannot be read.
    pub fn on_unreadable(&mut self, code: Code, message: &str, out: &mut Effects) {
        if self.phase != Phase::Over {
            self.close(code, message, Some(Duration::ZERO), out);
        }
    }

    /// The session is to end, for a reason of ours. `reconnect_after`: `None`: the device is not to come back by itself.
    pub fn on_close(
        &mut self,
        code: Code,
        message: &str,
        reconnect_after: Option<Duration>,
        out: &mut Effects,
    ) {
        if self.phase != Phase::Over {
            self.close(code, message, reconnect_after, out);
        }
    }

    /// The device sent a frame.
    pub fn on_frame(&mut self, frame: ClientFrame, now: Duration, out: &mut Effects) {
        match (self.phase, frame.frame) {
            (Phase::New, Some(client_frame::Frame::Hello(hello))) => {
                match check_device(hello.device.as_ref()) {
                    Ok(()) => {
                        self.phase = Phase::Verifying;
                        out.push(Effect::Authenticate(Box::new(hello)));
                    }
                    Err(reason) => self.close(Code::InvalidArgument, reason, None, out),
                }
            }
            (Phase::New, _) => {
                self.close(Code::UnexpectedFrame, "the first frame is hello", None, out)
            }
            (Phase::Open, inner) => {
                self.heard = now;
                let acked = frame.ack > self.acked;
                if acked {
                    if !self.retained.ack(frame.ack) {
                        self.close(
                            Code::InvalidArgument,
                            "ack of a frame that was never sent",
                            Some(Duration::ZERO),
                            out,
                        );
                        return;
                    }
                    self.acked = frame.ack;
                }
                match inner {
                    Some(inner) => self.on_open_frame(inner, now, out),
                    None if acked => {}
                    None => {
                        self.useless(now, out);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_open_frame(&mut self, frame: client_frame::Frame, now: Duration, out: &mut Effects) {
        use client_frame::Frame as F;
        match frame {
            F::Submit(submit) => self.on_submit(submit, now, out),
            F::Received(received) => self.on_received(received, now, out),
            F::Read(Read { conversation, seq }) => match self.places.read(&conversation, seq) {
                Some((conversation, seq)) => {
                    out.push(Effect::Receipt(conversation, Mark::Read(seq)))
                }
                None => {
                    self.useless(now, out);
                }
            },
            F::Hello(_) => {
                self.close(
                    Code::UnexpectedFrame,
                    "hello comes once",
                    Some(Duration::ZERO),
                    out,
                );
            }
            F::Bye(_) => self.over(true, out),
            other => {
                if self.useless(now, out) {
                    self.on_plain_frame(other, out);
                }
            }
        }
    }

    /// Frames that the flood bucket has admitted.
    fn on_plain_frame(&mut self, frame: client_frame::Frame, out: &mut Effects) {
        use client_frame::Frame as F;
        match frame {
            F::Ping(ping) => {
                self.send_unnumbered(server_frame::Frame::Pong(Pong { nonce: ping.nonce }), out)
            }
            F::Typing(typing) => {
                let Some(user) = &self.user else { return };
                match admit::in_conversation(user, &typing.conversation) {
                    Ok(_) => out.push(Effect::Typing(typing.conversation, typing.active)),
                    Err(r) => self.problem(Refusal::new(r.code, r.reason), out),
                }
            }
            F::SetPresence(SetPresence { status, message }) => match check_status(status, &message)
            {
                Ok(status) => out.push(Effect::Status(status, message)),
                Err(reason) => self.problem(Refusal::new(Code::InvalidArgument, reason), out),
            },
            F::Request(request) => self.on_request(request, out),
            F::RenewToken(renew) => {
                if self.renewing {
                    self.problem(
                        Refusal::new(Code::RateLimited, "a renewal is under way"),
                        out,
                    );
                } else {
                    self.renewing = true;
                    out.push(Effect::Renew(renew.token));
                }
            }
            F::Hello(_) | F::Submit(_) | F::Received(_) | F::Read(_) | F::Bye(_) => {}
        }
    }

    /// Takes a token of the flood bucket; false: there was none, and the session is closed.
    fn useless(&mut self, now: Duration, out: &mut Effects) -> bool {
        let (rate, burst) = self.rules.frames;
        match self.frames.take(rate, burst, now) {
            Ok(()) => true,
            Err(_) => {
                self.close(
                    Code::RateLimited,
                    "too many frames",
                    Some(Duration::from_secs(5)),
                    out,
                );
                false
            }
        }
    }

    fn on_submit(&mut self, mut submit: Submit, now: Duration, out: &mut Effects) {
        let Some(user) = &self.user else { return };
        let (rate, burst) = self.rules.events;
        if let Err(after) = self.events.take(rate, burst, now) {
            self.reject(
                submit.event_id,
                Code::RateLimited,
                "too many events",
                after,
                out,
            );
            // a sender that goes on in spite of it is a flood
            self.useless(now, out);
            return;
        }
        match admit::submit(user, &mut submit, self.rules.text_bytes) {
            Err(r) => self.reject(submit.event_id, r.code, r.reason, 0, out),
            Ok(conversation) => {
                let most = self.rules.conversations as usize;
                if self.unanswered.len() >= most && !self.unanswered.contains_key(&conversation) {
                    self.reject(
                        submit.event_id,
                        Code::RateLimited,
                        "too many conversations with unanswered events",
                        1000,
                        out,
                    );
                    return;
                }
                *self
                    .unanswered
                    .entry(Arc::clone(&conversation))
                    .or_default() += 1;
                out.push(Effect::Submit(conversation, Box::new(submit)));
            }
        }
    }

    fn reject(
        &mut self,
        mut event_id: String,
        code: Code,
        message: &str,
        retry_after_ms: u32,
        out: &mut Effects,
    ) {
        if event_id.len() > 64 {
            event_id.clear();
        }
        out.push(Effect::Refused(code));
        let rejected = Rejected {
            event_id,
            code: code.as_str().to_owned(),
            message: message.to_owned(),
            retry_after_ms,
        };
        self.send(server_frame::Frame::Rejected(rejected), out);
    }

    fn on_received(&mut self, received: Received, now: Duration, out: &mut Effects) {
        let Received {
            conversation,
            seq,
            exact,
            seqs,
        } = received;
        // before it is synced something below may be missing: the event alone is confirmed
        let news = if exact {
            self.places
                .exact(&conversation, &seqs)
                .map(|(c, s)| (c, Mark::Exact(s)))
        } else if self.synced {
            self.places
                .held(&conversation, seq)
                .map(|(c, s)| (c, Mark::Delivered(s)))
        } else {
            self.places
                .exact(&conversation, &[seq])
                .map(|(c, s)| (c, Mark::Exact(s)))
        };
        match news {
            Some((conversation, mark)) => out.push(Effect::Receipt(conversation, mark)),
            None => {
                self.useless(now, out);
            }
        }
    }

    fn on_request(&mut self, request: Request, out: &mut Effects) {
        let refusal = match request.op {
            None => Refusal::new(Code::Malformed, "the request asks nothing"),
            Some(_) if self.requests.contains(&request.id) => {
                Refusal::new(Code::Conflict, "a request of this id is open")
            }
            Some(_) if self.requests.len() >= self.rules.requests => Refusal {
                code: Code::RateLimited,
                message: "too many open requests".to_owned(),
                retry_after: Some(Duration::from_millis(200)),
            },
            Some(op) => match self.check_op(op) {
                Ok(op) => {
                    self.requests.push(request.id);
                    out.push(Effect::Ask(request.id, Box::new(op)));
                    return;
                }
                Err(refusal) => refusal,
            },
        };
        out.push(Effect::Refused(refusal.code));
        self.respond(
            request.id,
            response::Result::Problem(refusal.problem()),
            out,
        );
    }

    fn check_op(&self, mut op: Op) -> Result<Op, Refusal> {
        let member = |conversation: &str| match &self.user {
            Some(user) => admit::in_conversation(user, conversation)
                .map_err(|r| Refusal::new(r.code, r.reason)),
            None => Err(Refusal::new(Code::Internal, "no user")),
        };
        match &mut op {
            Op::Page(page) => {
                member(&page.conversation)?;
                page.limit = if page.limit == 0 { 50 } else { page.limit }.min(self.rules.page);
            }
            Op::Heads(heads) => {
                heads.limit = if heads.limit == 0 { 100 } else { heads.limit }.min(1000)
            }
            Op::Members(members) => {
                if !member(&members.conversation)? {
                    return Err(Refusal::new(
                        Code::InvalidArgument,
                        "only a group has members",
                    ));
                }
            }
            Op::Find(find) if find.who.is_empty() || find.who.len() > 320 => {
                return Err(Refusal::new(
                    Code::InvalidArgument,
                    "who is an address or a phone number",
                ));
            }
            Op::Find(_) | Op::Contacts(_) | Op::ContactChange(_) | Op::PushToken(_) => {}
        }
        Ok(op)
    }

    /// Who it is was found out, or not.
    pub fn on_authenticated(
        &mut self,
        grant: Result<Grant, Refusal>,
        now: Duration,
        out: &mut Effects,
    ) {
        if self.phase != Phase::Verifying {
            return;
        }
        match grant {
            Err(refusal) => {
                let after = refusal.retry_after;
                self.close(refusal.code, &refusal.message, after, out);
            }
            Ok(grant) => {
                self.phase = Phase::Open;
                self.heard = now;
                self.user = Some(grant.user);
                self.token_until = grant.token_until;
                self.have = Some(Box::new(grant.have));
                let mut welcome = grant.welcome;
                welcome.session = grant.session.to_string();
                welcome.resumed = false;
                self.send_unnumbered(server_frame::Frame::Welcome(welcome), out);
                out.push(Effect::Attached(true));
                out.push(Effect::Snapshot);
            }
        }
    }

    /// The session is registered where others find it, for the first time or again after that was lost, or
    /// its resync flag is cleared: it syncs from there.
    pub fn on_registered(&mut self, out: &mut Effects) {
        if !matches!(self.phase, Phase::Open | Phase::Lost(_)) {
            return;
        }
        self.synced = false;
        let have = match self.have.take() {
            Some(have) => *have,
            None => self
                .places
                .have()
                .map(|(c, seq)| (c.as_ref().to_owned(), seq))
                .collect(),
        };
        out.push(Effect::Sync(have));
    }

    /// A part of the sync came.
    pub fn on_sync(&mut self, heads: Vec<Head>, complete: bool, out: &mut Effects) {
        if !matches!(self.phase, Phase::Open | Phase::Lost(_)) {
            return;
        }
        self.told(&heads);
        if !heads.is_empty() {
            self.send(server_frame::Frame::Heads(Heads { heads }), out);
        }
        if complete {
            self.synced = true;
            self.send(server_frame::Frame::Synced(Synced {}), out);
        }
    }

    fn told(&mut self, heads: &[Head]) {
        for head in heads {
            let last = head.last_seq.max(head.last_content_seq);
            self.places.tell(
                &Arc::from(head.conversation.as_str()),
                last,
                head.last_content_seq,
            );
        }
    }

    /// Routing or presence has something for it.
    pub fn on_parcel(&mut self, parcel: &Parcel, out: &mut Effects) {
        let open = self.phase == Phase::Open;
        if !open && !matches!(self.phase, Phase::Lost(_)) {
            return;
        }
        match &parcel.passing {
            Passing::Event {
                conversation,
                seq,
                author,
            } => {
                let own = self
                    .user
                    .as_ref()
                    .is_some_and(|u| u.as_str() == author.as_ref());
                if self
                    .places
                    .pass(conversation, *seq, !author.is_empty() && !own)
                {
                    self.send_body(parcel.body.clone(), out);
                }
            }
            Passing::Contact => self.send_body(parcel.body.clone(), out),
            Passing::Typing if open => out.push(Effect::Send(Frame {
                n: 0,
                body: parcel.body.clone(),
            })),
            Passing::Presence { user, version } if open => {
                if self.newer(user, *version) {
                    out.push(Effect::Send(Frame {
                        n: 0,
                        body: parcel.body.clone(),
                    }));
                }
            }
            Passing::Typing | Passing::Presence { .. } => {}
        }
    }

    fn newer(&mut self, user: &Arc<str>, version: u64) -> bool {
        const HALF: usize = 4096;
        match self.presences.get_mut(user.as_ref()) {
            Some(last) if *last >= version => false,
            Some(last) => {
                *last = version;
                true
            }
            None => {
                self.presences.insert(Arc::clone(user), version, HALF);
                true
            }
        }
    }

    /// The contacts' statuses.
    pub fn on_presences(&mut self, presences: Vec<Presence>, out: &mut Effects) {
        if self.phase != Phase::Open {
            return;
        }
        for presence in presences {
            if self.newer(&Arc::from(presence.user.as_str()), presence.version) {
                self.send_unnumbered(server_frame::Frame::Presence(presence), out);
            }
        }
    }

    /// What became of an event.
    pub fn on_answer(&mut self, conversation: &Arc<str>, answer: Answer, out: &mut Effects) {
        if let Some(open) = self.unanswered.get_mut(conversation) {
            *open -= 1;
            if *open == 0 {
                self.unanswered.remove(conversation);
            }
        }
        if !matches!(self.phase, Phase::Open | Phase::Lost(_)) {
            return;
        }
        match answer {
            Answer::Accepted(accepted) => {
                self.places.tell(conversation, accepted.seq, 0);
                self.send(server_frame::Frame::Accepted(accepted), out);
            }
            Answer::Rejected(rejected) => {
                out.push(Effect::Refused(code(&rejected.code)));
                self.send(server_frame::Frame::Rejected(rejected), out);
            }
        }
    }

    /// The answer to a question.
    pub fn on_response(
        &mut self,
        id: u64,
        answer: Result<response::Result, Refusal>,
        out: &mut Effects,
    ) {
        self.requests.retain(|open| *open != id);
        if !matches!(self.phase, Phase::Open | Phase::Lost(_)) {
            return;
        }
        let result = match answer {
            Ok(result) => result,
            Err(refusal) => {
                out.push(Effect::Refused(refusal.code));
                response::Result::Problem(refusal.problem())
            }
        };
        match &result {
            response::Result::Heads(heads) => self.told(&heads.heads),
            response::Result::Page(page) => {
                let known = page.events.iter().map(|e| e.seq).max().unwrap_or(0);
                let content = page
                    .events
                    .iter()
                    .filter(|e| self.is_content(e))
                    .map(|e| e.seq)
                    .max();
                if known > 0 {
                    self.places.tell(
                        &Arc::from(page.conversation.as_str()),
                        known,
                        content.unwrap_or(0),
                    );
                }
            }
            _ => {}
        }
        self.respond(id, result, out);
    }

    fn is_content(&self, event: &Event) -> bool {
        let kind = event.body.as_ref().and_then(|b| b.kind.as_ref());
        !matches!(kind, Some(Kind::Receipt(_)))
            && self
                .user
                .as_ref()
                .is_none_or(|u| u.as_str() != event.sender)
    }

    fn respond(&mut self, id: u64, result: response::Result, out: &mut Effects) {
        self.send(
            server_frame::Frame::Response(Response {
                id,
                result: Some(result),
            }),
            out,
        );
    }

    /// The new token was verified, or not.
    pub fn on_renewed(&mut self, renewed: Result<(Address, Duration), Refusal>, out: &mut Effects) {
        self.renewing = false;
        if !matches!(self.phase, Phase::Open | Phase::Lost(_)) {
            return;
        }
        match renewed {
            Ok((user, until)) if self.user.as_ref() == Some(&user) => self.token_until = until,
            Ok(_) => self.problem(
                Refusal::new(Code::TokenInvalid, "the token is somebody else's"),
                out,
            ),
            Err(refusal) => self.problem(refusal, out),
        }
    }

    /// The connection is gone.
    pub fn on_lost(&mut self, now: Duration, out: &mut Effects) {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Lost(now + self.rules.resume_within);
                out.push(Effect::Attached(false));
            }
            Phase::New | Phase::Verifying => self.over(false, out),
            Phase::Lost(_) | Phase::Over => {}
        }
    }

    /// Whether the session can go on after frame `n`.
    pub fn resumable(&self, n: u64) -> bool {
        matches!(self.phase, Phase::Open | Phase::Lost(_)) && self.retained.above(n).is_some()
    }

    /// The device is back on a new connection, verified, and has processed everything up to frame `n`. Only
    /// when [`Session::resumable`].
    pub fn on_resume(&mut self, n: u64, grant: Grant, now: Duration, out: &mut Effects) {
        if !self.resumable(n) {
            return;
        }
        self.retained.ack(n);
        self.acked = self.acked.max(n);
        self.phase = Phase::Open;
        self.heard = now;
        self.token_until = grant.token_until;
        let mut welcome = grant.welcome;
        welcome.session = grant.session.to_string();
        welcome.resumed = true;
        self.send_unnumbered(server_frame::Frame::Welcome(welcome), out);
        if let Some(frames) = self.retained.above(n) {
            out.extend(frames.map(Effect::Send));
        }
        // what is not numbered was lost with the connection
        self.presences.clear();
        out.push(Effect::Attached(true));
        out.push(Effect::Snapshot);
    }

    fn send(&mut self, frame: server_frame::Frame, out: &mut Effects) {
        self.send_body(encode(&frame), out);
    }

    fn send_body(&mut self, body: Bytes, out: &mut Effects) {
        let frame = self.retained.push(body, self.rules.retained);
        if self.phase == Phase::Open {
            out.push(Effect::Send(frame));
        }
    }

    fn send_unnumbered(&self, frame: server_frame::Frame, out: &mut Effects) {
        if !matches!(self.phase, Phase::Lost(_)) {
            out.push(Effect::Send(Frame {
                n: 0,
                body: encode(&frame),
            }));
        }
    }

    fn problem(&mut self, refusal: Refusal, out: &mut Effects) {
        out.push(Effect::Refused(refusal.code));
        self.send_unnumbered(server_frame::Frame::Problem(refusal.problem()), out);
    }

    fn closing(&self, code: Code, message: &str, after: Option<Duration>, out: &mut Effects) {
        let closing = Closing {
            code: code.as_str().to_owned(),
            message: message.to_owned(),
            // 0 says: do not come back
            reconnect_after_ms: after.map_or(0, |d| millis(d).max(1)),
        };
        self.send_unnumbered(server_frame::Frame::Closing(closing), out);
    }

    fn close(&mut self, code: Code, message: &str, after: Option<Duration>, out: &mut Effects) {
        out.push(Effect::Refused(code));
        self.closing(code, message, after, out);
        self.over(false, out);
    }

    fn over(&mut self, at_once: bool, out: &mut Effects) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            out.push(Effect::End(at_once));
        }
    }
}

fn check_device(device: Option<&Device>) -> Result<(), &'static str> {
    let Some(device) = device else {
        return Err("hello names the device");
    };
    if DeviceId::parse(&device.id).is_err() {
        return Err("a device id is 1 to 64 characters of A-Z a-z 0-9 . _ -");
    }
    if !matches!(
        DeviceClass::try_from(device.class),
        Ok(DeviceClass::Pc | DeviceClass::Mobile | DeviceClass::Portal)
    ) {
        return Err("a device's class is pc, mobile or portal");
    }
    if device.agent.chars().count() > 128 {
        return Err("a device's agent is at most 128 characters");
    }
    Ok(())
}

/// The status that a person may choose; unspecified means online.
pub fn check_status(status: i32, message: &str) -> Result<Status, &'static str> {
    if message.chars().count() > 256 {
        return Err("a personal message is at most 256 characters");
    }
    match Status::try_from(status) {
        Ok(Status::Unspecified) => Ok(Status::Online),
        Ok(Status::Offline) | Err(_) => Err("no such status"),
        Ok(status) => Ok(status),
    }
}
