//! What the other services have for the device.

use std::{sync::Arc, time::Duration};

use tandem_kernel::Code;
use tandem_proto::client::{
    Event, Head, Heads, Presence, Response, Synced, body::Kind, response, server_frame,
};

use super::{Effects, Phase, Session};
use crate::domain::{
    courses::Held,
    effect::{Answer, Effect, Refusal},
    frame::{Frame, Parcel, Passing},
    places::Ends,
};

/// The code that another service named.
fn code(text: &str) -> Code {
    Code::parse(text).unwrap_or(Code::Internal)
}

impl Session {
    /// Events may have been kept from the session: whatever passes from here on has gaps below it, until the
    /// session has synced again. To be called before the first of them can come.
    pub fn on_unsynced(&mut self, out: &mut Effects) {
        if !matches!(self.phase, Phase::Open | Phase::Lost(_)) {
            return;
        }
        // its barrier stands below the gaps
        out.push(Effect::StopSync);
        if std::mem::take(&mut self.synced) {
            self.send(&server_frame::Frame::Heads(Heads::default()), out);
        }
    }

    /// The session is registered where others find it, for the first time or again after that was lost, or
    /// its resync flag is cleared: it syncs from there.
    pub fn on_registered(&mut self, out: &mut Effects) {
        if !matches!(self.phase, Phase::Open | Phase::Lost(_)) {
            return;
        }
        self.on_unsynced(out);
        let have = match self.have.take() {
            Some(have) => have,
            None => self
                .places
                .have()
                .map(|(c, seq)| (c.as_ref().to_owned(), seq))
                .collect(),
        };
        out.push(Effect::Sync(have));
        // a change that came between an earlier look and the registration was told to nobody here
        out.push(Effect::Snapshot);
    }

    /// The sync begins from these end offsets on.
    pub fn on_sync_from(&mut self, ends: Ends) {
        self.places.sync_from(ends);
    }

    /// A part of the sync came.
    pub fn on_sync(&mut self, heads: Vec<Head>, complete: bool, out: &mut Effects) {
        if !matches!(self.phase, Phase::Open | Phase::Lost(_)) {
            return;
        }
        self.told(&heads);
        if !heads.is_empty() {
            self.send(&server_frame::Frame::Heads(Heads { heads }), out);
        }
        if complete {
            self.synced = true;
            self.send(&server_frame::Frame::Synced(Synced {}), out);
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
                self.send_unnumbered(&server_frame::Frame::Presence(presence), out);
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
                self.send(&server_frame::Frame::Accepted(accepted), out);
            }
            Answer::Rejected(rejected) => {
                out.push(Effect::Refused(code(&rejected.code)));
                self.send(&server_frame::Frame::Rejected(rejected), out);
            }
            Answer::Postponed(Held { rejected, number }) => {
                out.push(Effect::Refused(code(&rejected.code)));
                self.send(&server_frame::Frame::Rejected(rejected), out);
                // what it acknowledged before is known of still
                self.known();
                self.postponed = (self.retained.last(), number);
                if number == 0 {
                    // its order can only be kept by beginning anew
                    self.on_close(
                        Code::RateLimited,
                        "too many events were refused and not sent again",
                        Some(Duration::from_secs(5)),
                        out,
                    );
                }
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

    pub(super) fn respond(&mut self, id: u64, result: response::Result, out: &mut Effects) {
        self.send(
            &server_frame::Frame::Response(Response {
                id,
                result: Some(result),
            }),
            out,
        );
    }
}
