//! For the fuzz targets: arbitrary bytes through the decoders and the session machine.
//!
//! The bytes are read as choices (which input, which conversation, how far), so that nearly any of them
//! reach an open session, and a fuzzer that changes one changes one step.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use prost::Message;
use tandem_kernel::{Address, Code, SessionId};
use tandem_proto::{
    client::{
        Accepted, ClientFrame, Event, Head, Presence, Rejected, ServerFrame, Welcome, body::Kind,
        response, server_frame,
    },
    json,
};

use crate::domain::{
    courses::Held,
    effect::{Answer, Effect, Grant, Refusal, Rules},
    frame::{Frame, Parcel, Passing},
    places::Ends,
    receipts::Mark,
    retained::Bound,
    session::Session,
};

mod choices;

use choices::{Choices, USER};

/// Decodes the bytes as each kind of frame. What is read is written and read again as the same.
pub fn fuzz_frame(bytes: &[u8]) {
    if let Ok(frame) = ClientFrame::decode(bytes) {
        let encoded = frame.encode_to_vec();
        let again = ClientFrame::decode(encoded.as_slice());
        assert_eq!(again.map(|f| f.encode_to_vec()), Ok(encoded));
        // what has a json form keeps its meaning in it
        if let Ok(text) = json::client_frame_to_json(&frame) {
            let again = json::client_frame_from_json(&text);
            assert!(again.is_ok_and(|a| a == frame), "{text}");
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(frame) = json::client_frame_from_json(text)
    {
        let again = json::client_frame_to_json(&frame).map(|t| json::client_frame_from_json(&t));
        assert!(matches!(again, Ok(Ok(again)) if again == frame), "{text}");
    }
    if let Ok(frame) = ServerFrame::decode(bytes) {
        let body = frame
            .frame
            .clone()
            .map(|f| crate::domain::frame::encode(&f));
        let body = body.unwrap_or_default();
        let ours = Frame { n: frame.n, body };
        assert_eq!(ours.message().encode_to_vec(), frame.encode_to_vec());
        assert!(json::server_frame_to_json(&frame).is_ok());
    }
}

/// The rules that the session is fuzzed by: small bounds, so that they are met.
fn rules() -> Rules {
    Rules {
        hello_within: Duration::from_secs(10),
        heartbeat: Duration::from_secs(30),
        resume_within: Duration::from_mins(1),
        events: (5, 8),
        frames: (10, 20),
        conversations: 3,
        requests: 2,
        text_bytes: 64,
        page: 20,
        retained: Bound {
            frames: 8,
            bytes: 512,
        },
    }
}

/// Drives a session with inputs made of the bytes, and checks what must hold of its effects.
pub fn fuzz_session(bytes: &[u8]) {
    let mut world = World::new();
    let mut choices = Choices(bytes);
    while let Some(kind) = choices.byte() {
        world.step(kind, &mut choices);
    }
    world.check_retained();
}

/// A session, and what is known of it from its effects alone.
struct World {
    session: Session,
    now: Duration,
    over: bool,
    welcomed: bool,
    /// The last numbered frame that was to be written.
    last: u64,
    /// Every numbered frame that was to be written.
    sent: BTreeMap<u64, Frame>,
    /// The last event passed of each conversation.
    passed: HashMap<String, u64>,
    /// The highest seq of each conversation that the device may know of.
    known: HashMap<String, u64>,
    /// The last marks made of confirmations: delivered, read.
    marked: HashMap<Arc<str>, (u64, u64)>,
    /// Events handed to routing and not answered.
    submitted: Vec<Arc<str>>,
    submits: u64,
    /// Events that the session refused for now, to be told.
    postponed: Vec<(Arc<str>, Box<Rejected>)>,
    refusals: u64,
    /// Questions not answered.
    asked: Vec<u64>,
}

impl World {
    fn new() -> Self {
        Self {
            session: Session::new(Arc::new(rules()), Duration::ZERO),
            now: Duration::ZERO,
            over: false,
            welcomed: false,
            last: 0,
            sent: BTreeMap::new(),
            passed: HashMap::new(),
            known: HashMap::new(),
            marked: HashMap::new(),
            submitted: Vec::new(),
            submits: 0,
            postponed: Vec::new(),
            refusals: 0,
            asked: Vec::new(),
        }
    }

    fn grant(&self, secs: u8) -> Result<Grant, Refusal> {
        let user = Address::parse(USER);
        let user = user.map_err(|_| Refusal::new(Code::Internal, "no address"))?;
        Ok(Grant {
            session: SessionId(7),
            user,
            welcome: Welcome::default(),
            have: HashMap::new(),
            token_until: self.now + Duration::from_secs(4 * u64::from(secs)),
        })
    }

    /// One input. Kinds that matter more stand more often.
    fn step(&mut self, kind: u8, choices: &mut Choices<'_>) {
        let mut out = Vec::new();
        // so that limits a second are met now and then, and not always
        self.now += Duration::from_millis(40);
        match kind % 32 {
            0..=10 => self.frame(choices, &mut out),
            11..=15 => self.parcel(choices, &mut out),
            16..=18 => self.answer(choices, &mut out),
            19 | 20 => self.response(choices, &mut out),
            21 | 22 => {
                let head = choices.head();
                self.know(&head);
                let complete = choices.chance(128);
                self.session.on_sync(vec![head], complete, &mut out);
            }
            23 if choices.chance(128) => self.session.on_unsynced(&mut out),
            23 => self.session.on_registered(&mut out),
            24 | 25 => {
                let grant = match choices.byte().unwrap_or(100) {
                    0..8 => Err(Refusal::new(Code::TokenInvalid, "")),
                    secs => self.grant(secs),
                };
                self.session.on_authenticated(grant, self.now, &mut out);
            }
            26 => self.time(choices, &mut out),
            27 => {
                self.session.on_lost(self.now, &mut out);
                self.apply(&mut out);
                self.resume(choices);
            }
            28 => self.resume(choices),
            29 => {
                let generation = 1;
                let offsets = Arc::new(vec![u64::from(choices.byte().unwrap_or(0)) % 16; 4]);
                for conversation in choices::CONVERSATIONS {
                    // its events lie in a generation of their own, so it knows of those below its end
                    let end = tandem_kernel::Seq::new(generation, offsets[0]).0;
                    let known = self.known.entry((*conversation).to_owned()).or_default();
                    *known = end.max(*known);
                }
                self.session.on_sync_from(Ends {
                    generation,
                    offsets,
                });
            }
            30 => self.renewed(choices, &mut out),
            _ if choices.chance(16) => {
                self.session
                    .on_close(Code::Draining, "", Some(Duration::ZERO), &mut out);
            }
            _ => self.session.on_alive(self.now, &mut out),
        }
        self.apply(&mut out);
        // told before anything more comes
        for (conversation, rejected) in std::mem::take(&mut self.postponed) {
            let held = self.held(*rejected);
            let answer = Answer::Postponed(held);
            self.session.on_answer(&conversation, answer, &mut out);
            self.apply(&mut out);
        }
        assert_eq!(self.over, self.session.is_over());
    }

    fn frame(&mut self, choices: &mut Choices<'_>, out: &mut Vec<Effect>) {
        if !self.session.reads() {
            return;
        }
        match choices.client_frame(self.last) {
            Some(frame) => self.session.on_frame(frame, self.now, out),
            None => self.session.on_unreadable(Code::Malformed, "", out),
        }
    }

    fn parcel(&mut self, choices: &mut Choices<'_>, out: &mut Vec<Effect>) {
        if let Some(parcel) = choices.pushed().as_ref().and_then(Parcel::new) {
            // a device may say that it has a frame that it never got, on resume
            if let Passing::Event {
                conversation, seq, ..
            } = &parcel.passing
            {
                let known = self.known.entry(conversation.as_ref().to_owned());
                let known = known.or_default();
                *known = (*known).max(*seq);
            }
            self.session.on_parcel(&parcel, out);
        }
    }

    fn answer(&mut self, choices: &mut Choices<'_>, out: &mut Vec<Effect>) {
        if self.submitted.is_empty() {
            return;
        }
        let at = usize::from(choices.byte().unwrap_or(0)) % self.submitted.len();
        let conversation = self.submitted.remove(at);
        let answer = if choices.chance(32) {
            let rejected = Rejected {
                code: "unavailable".into(),
                retry_after_ms: 1,
                ..Rejected::default()
            };
            Answer::Postponed(self.held(rejected))
        } else if choices.chance(64) {
            Answer::Rejected(Rejected {
                code: "not_a_member".into(),
                ..Rejected::default()
            })
        } else {
            let seq = choices.seq();
            let known = self.known.entry(conversation.as_ref().to_owned());
            let known = known.or_default();
            *known = seq.max(*known);
            Answer::Accepted(Accepted {
                seq,
                ..Accepted::default()
            })
        };
        self.session.on_answer(&conversation, answer, out);
    }

    fn held(&mut self, rejected: Rejected) -> Held {
        self.refusals += 1;
        let number = self.refusals;
        Held { rejected, number }
    }

    fn response(&mut self, choices: &mut Choices<'_>, out: &mut Vec<Effect>) {
        let Some(id) = self.asked.pop() else {
            let presence = Presence {
                user: choices.person().into(),
                version: choices.seq(),
                ..Presence::default()
            };
            return self.session.on_presences(vec![presence], out);
        };
        let result = choices.result();
        match &result {
            Ok(response::Result::Heads(heads)) => heads.heads.iter().for_each(|h| self.know(h)),
            Ok(response::Result::Page(page)) => {
                for event in &page.events {
                    let known = self.known.entry(page.conversation.clone()).or_default();
                    *known = event.seq.max(*known);
                }
            }
            _ => {}
        }
        self.session.on_response(id, result, out);
    }

    fn know(&mut self, head: &Head) {
        let known = self.known.entry(head.conversation.clone()).or_default();
        *known = (*known).max(head.last_seq).max(head.last_content_seq);
    }

    fn time(&mut self, choices: &mut Choices<'_>, out: &mut Vec<Effect>) {
        let arg = u64::from(choices.byte().unwrap_or(1));
        // the timer is set to when the session wants it, and may be late
        let wake = self.session.wake_at();
        self.now = match arg {
            0..128 => self.now + Duration::from_millis(arg * 50),
            _ if wake == Duration::MAX => self.now,
            _ => wake.max(self.now) + Duration::from_millis((arg - 128) * 10),
        };
        self.session.on_tick(self.now, out);
        assert!(
            self.session.wake_at() > self.now,
            "no timer is left that has come"
        );
    }

    fn renewed(&mut self, choices: &mut Choices<'_>, out: &mut Vec<Effect>) {
        let until = self.now + Duration::from_secs(u64::from(choices.byte().unwrap_or(0)));
        let renewed = match Address::parse(choices.person()) {
            Ok(user) if choices.chance(200) => Ok((user, until)),
            _ => Err(Refusal::new(Code::TokenExpired, "")),
        };
        self.session.on_renewed(renewed, out);
    }

    /// The device is back, and says how far it is.
    fn resume(&mut self, choices: &mut Choices<'_>) {
        let back = u64::from(choices.byte().unwrap_or(0)) % 12;
        let n = (self.last + 1).saturating_sub(back);
        let resumable = self.session.resumable(n);
        assert!(!resumable || (self.welcomed && !self.over));
        let Ok(grant) = self.grant(choices.byte().unwrap_or(50)) else {
            return;
        };
        let mut out = Vec::new();
        self.session.on_resume(n, grant, self.now, &mut out);
        if !resumable {
            assert!(out.is_empty(), "what cannot go on does not");
            return;
        }
        // everything above n, as it was, without gaps; frames that were never written follow
        let mut next = n + 1;
        for frame in out.iter().filter_map(numbered) {
            assert_eq!(frame.n, next, "replayed without gaps");
            if let Some(before) = self.sent.get(&next) {
                assert_eq!(before, frame, "replayed as it was");
            }
            next += 1;
        }
        assert!(next > self.last, "replayed to the end");
        // what the device says that it has, it need not have got here
        self.last = self.last.max(n);
        out.retain(|effect| numbered(effect).is_none_or(|f| f.n > self.last));
        self.apply(&mut out);
    }

    /// Takes in what the session wants done.
    fn apply(&mut self, out: &mut Vec<Effect>) {
        assert!(
            !self.over || out.is_empty(),
            "a session that is over does nothing more"
        );
        for effect in out.drain(..) {
            match effect {
                Effect::Send(frame) => self.sent(frame),
                Effect::Postpone(conversation, rejected) => {
                    assert!(rejected.retry_after_ms > 0);
                    self.postponed.push((conversation, rejected));
                }
                Effect::Submit(conversation, known, submit) => {
                    assert!(known <= self.refusals, "of a refusal yet to come");
                    assert_eq!(*conversation, *submit.conversation);
                    assert!(submit.to.is_empty());
                    assert!(
                        conversation.contains(USER) || conversation.starts_with("g:"),
                        "a conversation of others: {conversation}"
                    );
                    let kind = submit.body.and_then(|b| b.kind);
                    assert!(!matches!(kind, None | Some(Kind::Receipt(_))));
                    if let Some(Kind::Text(text)) = kind {
                        assert!((1..=64).contains(&text.text.len()));
                    }
                    self.submits += 1;
                    self.submitted.push(conversation);
                    let mut open = self.submitted.clone();
                    open.sort();
                    open.dedup();
                    assert!(open.len() <= 3, "in too many conversations at once");
                    let most = 8.0 + 5.0 * self.now.as_secs_f64();
                    assert!(self.submits as f64 <= most, "too many events");
                }
                Effect::Receipt(conversation, mark) => self.marked(conversation, mark),
                Effect::Ask(id, _) => {
                    assert!(!self.asked.contains(&id), "the question is open already");
                    self.asked.push(id);
                    assert!(self.asked.len() <= 2, "too many questions");
                }
                Effect::Attached(attached) => {
                    assert!(self.welcomed || !attached);
                }
                Effect::End(_) => {
                    assert!(!self.over, "it ends once");
                    self.over = true;
                }
                _ => {}
            }
        }
    }

    fn sent(&mut self, frame: Frame) {
        let message = frame.message().frame;
        self.welcomed |= matches!(message, Some(server_frame::Frame::Welcome(_)));
        assert!(
            self.welcomed || matches!(message, Some(server_frame::Frame::Closing(_))),
            "the first frame is welcome"
        );
        if frame.n == 0 {
            return;
        }
        assert_eq!(frame.n, self.last + 1, "numbers rise by one");
        self.last = frame.n;
        if let Some(server_frame::Frame::Event(Event {
            conversation, seq, ..
        })) = message
        {
            let last = self.passed.entry(conversation).or_insert(0);
            assert!(seq > *last, "a conversation's events rise");
            *last = seq;
        }
        self.sent.insert(frame.n, frame);
    }

    fn marked(&mut self, conversation: Arc<str>, mark: Mark) {
        let known = self.known.get(conversation.as_ref()).copied();
        let known = known.unwrap_or(0);
        let (delivered, read) = self.marked.entry(conversation).or_default();
        let up_to = match mark {
            Mark::Delivered(seq) => {
                assert!(seq > *delivered, "said once");
                *delivered = seq;
                seq
            }
            Mark::Read(seq) => {
                assert!(seq > *read, "said once");
                *read = seq;
                *delivered = seq.max(*delivered);
                seq
            }
            Mark::Exact(seqs) => {
                assert!(seqs.is_sorted_by(|a, b| a < b) && seqs.len() <= 256);
                assert!(seqs.first().is_some_and(|s| s > delivered), "said once");
                seqs.last().copied().unwrap_or(0)
            }
        };
        assert!(up_to <= known, "{up_to} was never told of, {known} is");
    }

    /// What is kept for a resume is bounded.
    fn check_retained(&self) {
        // one more than are kept, since a device may be at the end
        let from: Vec<_> = (0..=self.last + 1)
            .filter(|n| self.session.resumable(*n))
            .collect();
        if let (Some(first), Some(last)) = (from.first(), from.last()) {
            assert!(last - first <= 8, "too many frames are kept");
            let bytes: usize = self
                .sent
                .range(first + 1..)
                .map(|(_, f)| f.body.len())
                .sum();
            assert!(bytes <= 512, "too many bytes are kept");
        }
    }
}

fn numbered(effect: &Effect) -> Option<&Frame> {
    match effect {
        Effect::Send(frame) if frame.n > 0 => Some(frame),
        _ => None,
    }
}
