//! For the fuzz target: arbitrary bytes through the decoders and the session machine.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prost::Message;
use tandem_kernel::{Address, Code, SessionId};
use tandem_proto::{
    client::{ClientFrame, Head, ServerFrame, Welcome, server_frame},
    json,
};

use crate::domain::{
    effect::{Answer, Effect, Grant, Refusal, Rules},
    frame::Parcel,
    retained::Bound,
    session::Session,
};

/// Decodes the bytes as each kind of frame. What is read is written and read again as the same.
pub fn fuzz_frame(bytes: &[u8]) {
    if let Ok(frame) = ClientFrame::decode(bytes) {
        let again = ClientFrame::decode(frame.encode_to_vec().as_slice());
        assert_eq!(
            again.as_ref().map(Message::encode_to_vec),
            Ok(frame.encode_to_vec())
        );
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(frame) = json::client_frame_from_json(text)
    {
        let again = json::client_frame_to_json(&frame).map(|t| json::client_frame_from_json(&t));
        assert!(matches!(again, Ok(Ok(again)) if again == frame));
    }
    if let Ok(frame) = ServerFrame::decode(bytes) {
        let _ = json::server_frame_to_json(&frame);
    }
}

/// The rules that the fuzz target plays by: small bounds, so that they are met.
pub fn rules() -> Rules {
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

/// A sign-in of alice.
pub fn grant(token_until: Duration) -> Option<Grant> {
    Some(Grant {
        session: SessionId(7),
        user: Address::parse("alice@x.test").ok()?,
        welcome: Welcome::default(),
        have: HashMap::new(),
        token_until,
    })
}

/// Reads steps from the bytes: what kind, how long, and the bytes of a frame.
struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn next(&mut self) -> Option<(u8, u8, &'a [u8])> {
        let [kind, arg, len, rest @ ..] = self.0 else {
            return None;
        };
        let (body, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        self.0 = rest;
        Some((*kind, *arg, body))
    }
}

/// Drives a session with steps made of the bytes, and checks what must hold of its effects.
pub fn fuzz_session(bytes: &[u8]) {
    let mut steps = Steps(bytes);
    let mut now = Duration::ZERO;
    let mut session = Session::new(Arc::new(rules()), now);
    let (mut last_n, mut over) = (0, false);
    let mut submitted = Vec::new();
    let mut passed: HashMap<String, u64> = HashMap::new();
    while let Some((kind, arg, body)) = steps.next() {
        let mut out = Vec::new();
        let resumed = step(
            &mut session,
            kind,
            arg,
            body,
            &mut now,
            &mut submitted,
            &mut out,
        );
        assert!(
            !over || out.is_empty(),
            "a session that is over does nothing more"
        );
        for effect in out {
            match effect {
                Effect::Send(frame) if frame.n > 0 => {
                    assert!(resumed || frame.n > last_n, "numbers rise");
                    let new = frame.n > last_n;
                    last_n = last_n.max(frame.n);
                    if let Some(server_frame::Frame::Event(event)) = frame.message().frame
                        && new
                    {
                        let last = passed.entry(event.conversation).or_insert(0);
                        assert!(event.seq > *last, "a conversation's events rise");
                        *last = event.seq;
                    }
                }
                Effect::Submit(conversation, submit) => {
                    assert_eq!(*conversation, *submit.conversation);
                    submitted.push((conversation, submit.event_id));
                }
                Effect::End(_) => {
                    assert!(!over, "it ends once");
                    over = true;
                }
                _ => {}
            }
        }
        assert_eq!(over, session.is_over());
    }
}

/// Does one step; true if it was a resume.
fn step(
    session: &mut Session,
    kind: u8,
    arg: u8,
    body: &[u8],
    now: &mut Duration,
    submitted: &mut Vec<(Arc<str>, String)>,
    out: &mut Vec<Effect>,
) -> bool {
    match kind % 12 {
        0..=2 => {
            if let Ok(frame) = ClientFrame::decode(body) {
                session.on_frame(frame, *now, out);
            } else {
                session.on_unreadable(Code::Malformed, "not a client frame", out);
            }
        }
        3 => session.on_authenticated(
            grant(*now + Duration::from_mins(5)).ok_or_else(|| Refusal::new(Code::Internal, "")),
            *now,
            out,
        ),
        4 => {
            *now += Duration::from_secs(u64::from(arg));
            session.on_tick(*now, out);
        }
        5 => session.on_registered(out),
        6 => {
            if let Ok(head) = Head::decode(body) {
                session.on_sync(vec![head], arg.is_multiple_of(2), out);
            }
        }
        7 => {
            if let Ok(frame) = ServerFrame::decode(body)
                && let Some(frame) = frame.frame
            {
                match frame {
                    server_frame::Frame::Response(response) => {
                        if let Some(result) = response.result {
                            session.on_response(response.id, Ok(result), out);
                        }
                    }
                    server_frame::Frame::Accepted(accepted) => {
                        if let Some((conversation, _)) = submitted.pop() {
                            session.on_answer(&conversation, Answer::Accepted(accepted), out);
                        }
                    }
                    server_frame::Frame::Presence(presence) => {
                        session.on_presences(vec![presence], out);
                    }
                    other => {
                        if let Some(parcel) = Parcel::new(&other) {
                            session.on_parcel(&parcel, out);
                        }
                    }
                }
            }
        }
        8 => session.on_lost(*now, out),
        9 => {
            let n = u64::from(arg);
            if session.resumable(n)
                && let Some(grant) = grant(*now + Duration::from_mins(5))
            {
                session.on_resume(n, grant, *now, out);
                return true;
            }
        }
        10 if arg > 200 => session.on_alive(*now, out),
        10 => session.on_renewed(Err(Refusal::new(Code::TokenExpired, "")), out),
        _ => {
            if arg > 250 {
                session.on_close(Code::Draining, "", Some(Duration::ZERO), out);
            }
        }
    }
    false
}
