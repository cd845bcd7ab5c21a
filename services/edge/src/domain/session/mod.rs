//! One device's session, as a pure state machine: what comes to it, and what is to be done about it.
//!
//! It never waits, reads no clock and does no I/O, and no sequence of inputs makes it panic. Effects are to
//! be carried out in order. After [`Effect::End`] it does nothing more.

mod from_device;
mod to_device;

use std::{collections::HashMap, sync::Arc, time::Duration};

use ahash::AHashMap;
use bytes::Bytes;
use tandem_kernel::{Address, Code};
use tandem_proto::client::{Closing, Status, server_frame};

use super::{
    bucket::Bucket,
    effect::{Effect, Grant, Refusal, Rules, millis},
    frame::{Frame, encode},
    places::Places,
    recent::Recent,
    retained::Retained,
};

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
    have: Option<HashMap<String, u64>>,
    events: Bucket,
    frames: Bucket,
    heard: Duration,
    token_until: Duration,
    acked: u64,
    /// The last refusal for now that the device was told of: its frame and its number.
    postponed: (u64, u64),
    /// Number of the last one that it has certainly acknowledged.
    knows: u64,
    synced: bool,
    renewing: bool,
}

type Effects = Vec<Effect>;

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
            postponed: (0, 0),
            knows: 0,
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
                self.have = Some(grant.have);
                let mut welcome = grant.welcome;
                welcome.session = grant.session.to_string();
                welcome.resumed = false;
                self.send_unnumbered(&server_frame::Frame::Welcome(welcome), out);
                out.push(Effect::Attached(true));
            }
        }
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
        self.send_unnumbered(&server_frame::Frame::Welcome(welcome), out);
        if let Some(frames) = self.retained.above(n) {
            out.extend(frames.map(Effect::Send));
        }
        // what is not numbered was lost with the connection
        self.presences.clear();
        out.push(Effect::Attached(true));
        out.push(Effect::Snapshot);
    }

    fn send(&mut self, frame: &server_frame::Frame, out: &mut Effects) {
        self.send_body(encode(frame), out);
    }

    fn send_body(&mut self, body: Bytes, out: &mut Effects) {
        let frame = self.retained.push(body, self.rules.retained);
        if self.phase == Phase::Open {
            out.push(Effect::Send(frame));
        }
    }

    fn send_unnumbered(&self, frame: &server_frame::Frame, out: &mut Effects) {
        if !matches!(self.phase, Phase::Lost(_)) {
            out.push(Effect::Send(Frame {
                n: 0,
                body: encode(frame),
            }));
        }
    }

    fn problem(&mut self, refusal: Refusal, out: &mut Effects) {
        out.push(Effect::Refused(refusal.code));
        self.send_unnumbered(&server_frame::Frame::Problem(refusal.problem()), out);
    }

    fn closing(&self, code: Code, message: &str, after: Option<Duration>, out: &mut Effects) {
        let closing = Closing {
            code: code.as_str().to_owned(),
            message: message.to_owned(),
            // 0 says: do not come back
            reconnect_after_ms: after.map_or(0, |d| millis(d).max(1)),
        };
        self.send_unnumbered(&server_frame::Frame::Closing(closing), out);
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
