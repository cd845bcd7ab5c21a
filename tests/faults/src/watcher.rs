//! Writes down what passes between one device and its edges, and what the device makes of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tandem_checker::{How, Kind, What, Who};
use tandem_client::{Update, Watched};
use tandem_kernel::event::{self, Event, Role};
use tandem_proto::client::{
    ClientFrame, Head, Presence, Rejected, ServerFrame, Status, Submit, client_frame, response,
    server_frame,
};

use crate::{record::Recorder, tally};

/// A silence before a connection was found lost that is worth telling, in microseconds.
const SILENCE: u64 = 1_000_000;

#[derive(Default)]
struct State {
    /// Ordinals of the device's events; none: refused for now.
    ordinals: HashMap<String, Option<u64>>,
    last_ordinal: u64,
    /// (author, event id) of which a copy came, or which are the device's own and accepted.
    known: HashSet<(String, String)>,
    synced: bool,
    /// The pages that come are those that the person asked for.
    reading: bool,
    /// When the edge was last heard.
    heard: u64,
}

/// Looks at one device.
pub struct Watcher {
    /// The device, as the record names it.
    pub who: Who,
    index: tally::Who,
    recorder: Arc<Recorder>,
    state: Mutex<State>,
}

impl Watcher {
    /// Looks at the device with this place in the cast.
    pub fn new(who: Who, index: tally::Who, recorder: &Arc<Recorder>) -> Arc<Self> {
        Arc::new(Self {
            who,
            index,
            recorder: recorder.clone(),
            state: Mutex::default(),
        })
    }

    /// Adds to the record.
    pub fn note(&self, what: What) {
        self.recorder.note(&self.who, what);
    }

    /// Whether the pages that come from now on are those that the person asks for.
    pub fn reading(&self, reading: bool) {
        self.state.lock().reading = reading;
    }

    /// A frame passes.
    pub fn frame(&self, frame: Watched<'_>) {
        let state = &mut *self.state.lock();
        match frame {
            Watched::Leaves(frame) => self.leaves(state, frame),
            Watched::Came(frame) => {
                state.heard = self.recorder.now();
                self.came(state, frame);
            }
        }
    }

    fn leaves(&self, state: &mut State, frame: &ClientFrame) {
        use client_frame::Frame;
        match &frame.frame {
            Some(Frame::Hello(hello)) => self.note(What::Connecting {
                status: status(hello.status()),
            }),
            Some(Frame::Submit(submit)) => self.submitted(state, submit),
            Some(Frame::Received(r)) => self.note(What::Confirmed {
                conversation: r.conversation.clone(),
                delivered: if r.exact { 0 } else { r.seq },
                exact: r.seqs.clone(),
                read: 0,
            }),
            Some(Frame::Read(r)) => self.note(What::Confirmed {
                conversation: r.conversation.clone(),
                delivered: 0,
                exact: Vec::new(),
                read: r.seq,
            }),
            Some(Frame::SetPresence(set)) => self.note(What::PresenceSet {
                status: status(set.status()),
                message: set.message.clone(),
            }),
            _ => {}
        }
    }

    fn submitted(&self, state: &mut State, submit: &Submit) {
        let kind = submit.body.as_ref().and_then(|b| b.kind.as_ref());
        let Some(kind) = kind.and_then(kind_of) else {
            return;
        };
        let next = &mut state.last_ordinal;
        let ordinal = state.ordinals.entry(submit.event_id.clone()).or_default();
        let ordinal = *ordinal.get_or_insert_with(|| {
            *next += 1;
            *next
        });
        self.note(What::Submitted {
            id: submit.event_id.clone(),
            conversation: submit.conversation.clone(),
            ordinal,
            kind,
        });
    }

    fn came(&self, state: &mut State, frame: &ServerFrame) {
        use server_frame::Frame;
        match &frame.frame {
            Some(Frame::Welcome(w)) => {
                state.synced &= w.resumed;
                self.note(What::Welcome {
                    session: w.session.clone(),
                    resumed: w.resumed,
                });
            }
            Some(Frame::Accepted(a)) => {
                state
                    .known
                    .insert((self.who.user.clone(), a.event_id.clone()));
                self.note(What::Accepted {
                    id: a.event_id.clone(),
                    seq: a.seq,
                });
            }
            Some(Frame::Rejected(r)) => self.rejected(state, r),
            Some(Frame::Event(event)) => self.copy(state, event, How::Live),
            Some(Frame::Heads(heads)) => {
                if std::mem::take(&mut state.synced) {
                    self.note(What::Resyncing {});
                }
                for head in &heads.heads {
                    self.head(state, head);
                }
            }
            Some(Frame::Synced(_)) => {
                state.synced = true;
                self.note(What::Synced {});
            }
            Some(Frame::Response(r)) => {
                if let Some(response::Result::Page(page)) = &r.result {
                    let how = if state.reading { How::Page } else { How::Sync };
                    for event in &page.events {
                        self.copy(state, event, how);
                    }
                }
            }
            _ => {}
        }
    }

    fn rejected(&self, state: &mut State, rejected: &Rejected) {
        let again = rejected.retry_after_ms > 0;
        if again && let Some(ordinal) = state.ordinals.get_mut(&rejected.event_id) {
            *ordinal = None;
        }
        self.note(What::Rejected {
            id: rejected.event_id.clone(),
            code: rejected.code.clone(),
            again,
        });
    }

    fn head(&self, state: &mut State, head: &Head) {
        for mark in head.marks.iter().filter(|m| m.user != self.who.user) {
            self.note(What::Receipt {
                conversation: head.conversation.clone(),
                by: mark.user.clone(),
                delivered: mark.delivered,
                exact: Vec::new(),
                read: mark.read,
                how: How::Sync,
            });
        }
        if let Some(event) = &head.last_message {
            self.copy(state, event, How::Sync);
        }
    }

    /// A copy came. The first one is noted when, and if, the device shows it.
    fn copy(&self, state: &mut State, event: &Event, how: How) {
        let kind = event.body.as_ref().and_then(|b| b.kind.as_ref());
        if let Some(event::Kind::Receipt(receipt)) = kind {
            return self.note(What::Receipt {
                conversation: event.conversation.clone(),
                by: event.sender.clone(),
                delivered: receipt.delivered,
                exact: receipt.delivered_exact.clone(),
                read: receipt.read,
                how,
            });
        }
        let key = (event.sender.clone(), event.event_id.clone());
        if !state.known.insert(key) {
            self.seen(event, how, false);
        }
    }

    fn seen(&self, event: &Event, how: How, shown: bool) {
        self.note(What::Seen {
            conversation: event.conversation.clone(),
            seq: event.seq,
            id: event.event_id.clone(),
            author: event.sender.clone(),
            how,
            shown,
        });
    }

    /// The device tells something.
    pub fn update(&self, update: &Update) {
        match update {
            Update::Disconnected { reason, .. } => self.lost(reason.clone()),
            Update::Closed { code, .. } if code == "stopped" => self.note(What::Closed {}),
            Update::Closed { code, message } => self.lost(format!("for good: {code} {message}")),
            Update::Event { event, live } => {
                let (recorder, conversation) = (&self.recorder, &event.conversation);
                recorder.shown(self.index, conversation, &event.sender);
                self.seen(event, if *live { How::Live } else { How::Sync }, true);
            }
            Update::Accepted {
                event_id,
                conversation,
                ..
            } => self.recorder.accepted(self.index, event_id, conversation),
            Update::Presence(presence) => self.presence(presence),
            Update::Contact(contact) => {
                if let Some(presence) = &contact.presence {
                    self.presence(presence);
                }
            }
            _ => {}
        }
    }

    fn lost(&self, reason: String) {
        let heard = self.state.lock().heard;
        let heard = (heard > 0 && heard + SILENCE < self.recorder.now()).then_some(heard);
        self.note(What::Lost { heard, reason });
    }

    fn presence(&self, presence: &Presence) {
        self.note(What::Presence {
            of: presence.user.clone(),
            status: status(presence.status()),
            message: presence.message.clone(),
            version: presence.version,
            shown: true,
        });
    }
}

/// A status, in the record's words.
pub fn status(status: Status) -> tandem_checker::Status {
    use tandem_checker::Status as S;
    match status {
        Status::Unspecified | Status::Online => S::Online,
        Status::Busy => S::Busy,
        Status::OnThePhone => S::OnThePhone,
        Status::BeRightBack => S::BeRightBack,
        Status::OutToLunch => S::OutToLunch,
        Status::Away => S::Away,
        Status::AppearOffline => S::AppearOffline,
        Status::Offline => S::Offline,
    }
}

/// A kind of event, in the record's words; receipts are none of these.
fn kind_of(kind: &event::Kind) -> Option<Kind> {
    Some(match kind {
        event::Kind::Text(_) => Kind::Text,
        event::Kind::Nudge(_) => Kind::Nudge,
        event::Kind::Edit(_) => Kind::Edit,
        event::Kind::Delete(_) => Kind::Delete,
        event::Kind::Reaction(_) => Kind::Reaction,
        event::Kind::TitleSet(_) => Kind::Title,
        event::Kind::GroupCreate(c) => Kind::Create {
            members: c.members.clone(),
        },
        event::Kind::MembersAdd(a) => Kind::Add {
            members: a.members.clone(),
        },
        event::Kind::MemberRemove(r) => Kind::Remove {
            member: r.member.clone(),
        },
        event::Kind::MemberLeave(_) => Kind::Leave,
        event::Kind::RoleSet(r) => Kind::Role {
            member: r.member.clone(),
            role: match r.role() {
                Role::Owner => "owner",
                Role::Admin => "admin",
                _ => "member",
            }
            .into(),
        },
        event::Kind::Receipt(_) => return None,
    })
}
