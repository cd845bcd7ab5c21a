//! What the device says.

use std::{sync::Arc, time::Duration};

use tandem_kernel::{Code, DeviceId};
use tandem_proto::client::{
    ClientFrame, Device, DeviceClass, Pong, Read, Received, Rejected, Request, SetPresence, Submit,
    client_frame, request::Op, response, server_frame,
};

use super::{Effects, Phase, Session, check_status};
use crate::domain::{
    admit,
    effect::{Effect, Refusal},
    receipts::Mark,
};

impl Session {
    /// The device's connection gave a sign of life that is no frame.
    pub fn on_alive(&mut self, now: Duration, out: &mut Effects) {
        if self.phase == Phase::Open {
            self.heard = now;
            self.useless(now, out);
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
                self.close(Code::UnexpectedFrame, "the first frame is hello", None, out);
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
            F::Read(Read { conversation, seq }) => {
                let mark = self.place(&conversation).and_then(|conversation| {
                    let seq = self.places.read(&conversation, seq)?;
                    Some((conversation, Mark::Read(seq)))
                });
                self.on_mark(mark, now, out);
            }
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
                self.send_unnumbered(&server_frame::Frame::Pong(Pong { nonce: ping.nonce }), out);
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
        let taken = self.frames.take(rate, burst, now).is_ok();
        if !taken {
            self.close(
                Code::RateLimited,
                "too many frames",
                Some(Duration::from_secs(5)),
                out,
            );
        }
        taken
    }

    fn on_submit(&mut self, mut submit: Submit, now: Duration, out: &mut Effects) {
        let Some(user) = &self.user else { return };
        let (rate, burst) = self.rules.events;
        let taken = self.events.take(rate, burst, now);
        let conversation = match admit::submit(user, &mut submit, self.rules.text_bytes) {
            Ok(conversation) => conversation,
            Err(r) => {
                self.reject(submit.event_id, r.code, r.reason, out);
                if taken.is_err() {
                    self.useless(now, out);
                }
                return;
            }
        };
        let most = self.rules.conversations as usize;
        let many = self.unanswered.len() >= most && !self.unanswered.contains_key(&conversation);
        let refusal = match taken {
            Err(after) => Some(("too many events", after)),
            Ok(()) => many.then_some(("too many conversations with unanswered events", 1000)),
        };
        *self
            .unanswered
            .entry(Arc::clone(&conversation))
            .or_default() += 1;
        match refusal {
            None => {
                let known = self.known();
                out.push(Effect::Submit(conversation, known, Box::new(submit)));
            }
            Some((message, retry_after_ms)) => {
                let rejected = Rejected {
                    event_id: submit.event_id,
                    code: Code::RateLimited.as_str().to_owned(),
                    message: message.to_owned(),
                    retry_after_ms,
                };
                out.push(Effect::Postpone(conversation, Box::new(rejected)));
                if taken.is_err() {
                    // a sender that goes on in spite of it is a flood
                    self.useless(now, out);
                }
            }
        }
    }

    /// Number of the last refusal for now that the device has acknowledged.
    pub(super) fn known(&mut self) -> u64 {
        if self.acked >= self.postponed.0 {
            self.knows = self.postponed.1;
        }
        self.knows
    }

    fn reject(&mut self, mut event_id: String, code: Code, message: &str, out: &mut Effects) {
        if event_id.len() > 64 {
            event_id.clear();
        }
        out.push(Effect::Refused(code));
        let rejected = Rejected {
            event_id,
            code: code.as_str().to_owned(),
            message: message.to_owned(),
            retry_after_ms: 0,
        };
        self.send(&server_frame::Frame::Rejected(rejected), out);
    }

    fn on_received(&mut self, received: Received, now: Duration, out: &mut Effects) {
        let Received {
            conversation,
            seq,
            exact,
            seqs,
        } = received;
        // before it is synced something below may be missing: the event alone is confirmed
        let mark = self.place(&conversation).and_then(|conversation| {
            let mark = if exact {
                Mark::Exact(self.places.exact(&conversation, &seqs)?)
            } else if self.synced {
                Mark::Delivered(self.places.held(&conversation, seq)?)
            } else {
                Mark::Exact(self.places.exact(&conversation, &[seq])?)
            };
            Some((conversation, mark))
        });
        self.on_mark(mark, now, out);
    }

    /// The conversation's id as it is kept; a new one if the user may be a member.
    fn place(&self, conversation: &str) -> Option<Arc<str>> {
        self.places.key(conversation).or_else(|| {
            let user = self.user.as_ref()?;
            admit::in_conversation(user, conversation)
                .is_ok()
                .then(|| Arc::from(conversation))
        })
    }

    fn on_mark(&mut self, mark: Option<(Arc<str>, Mark)>, now: Duration, out: &mut Effects) {
        match mark {
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
                heads.limit = if heads.limit == 0 { 100 } else { heads.limit }.min(1000);
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
