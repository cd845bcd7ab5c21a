//! What the edge says, and what it changes.

use std::{mem, time::Duration};

use tandem_kernel::{
    Address,
    event::{Event, Kind},
};
use tandem_proto::client::{ContactsRequest, Problem, ServerFrame, Welcome, request, server_frame};

use super::{
    super::{
        conversation::Inserted,
        update::{Pages, Update},
    },
    Asker, Core, Track,
};

impl Core {
    /// Takes a frame. What it leads to is in [`Core::take_out`], [`Core::take_updates`] and
    /// [`Core::take_answers`].
    pub fn on_frame(&mut self, frame: ServerFrame, now: Duration) {
        use server_frame::Frame;
        self.clock = now;
        if frame.n > 0 {
            self.last_n = self.last_n.max(frame.n);
        }
        match frame.frame {
            Some(Frame::Welcome(welcome)) => self.on_welcome(welcome, frame.n, now),
            Some(Frame::Accepted(a)) => {
                self.on_accepted(&a.event_id, &a.conversation, a.seq, a.at_ms);
            }
            Some(Frame::Rejected(r)) => {
                if r.retry_after_ms > 0 {
                    let until = now + Duration::from_millis(r.retry_after_ms.into());
                    if self.outbox.postpone(&r.event_id, until) {
                        return;
                    }
                }
                if let Some(entry) = self.outbox.answered(&r.event_id) {
                    let problem = Problem {
                        code: r.code,
                        message: r.message,
                        retry_after_ms: 0,
                    };
                    self.updates.push(Update::Rejected {
                        event_id: r.event_id,
                        problem,
                        body: entry.body,
                        conversation: entry.conversation,
                    });
                }
            }
            Some(Frame::Event(event)) => self.on_event(event),
            Some(Frame::Heads(heads)) => {
                // unasked for in an open session: the edge syncs it again
                if mem::take(&mut self.synced) {
                    // changes of relations may have been kept from it, too
                    self.ask_contacts();
                }
                self.on_heads(heads);
            }
            Some(Frame::Synced(_)) => {
                self.synced = true;
                self.settle();
            }
            Some(Frame::Typing(t)) => self.updates.push(Update::Typing {
                conversation: t.conversation,
                user: t.user,
                active: t.active,
            }),
            Some(Frame::Presence(p)) => self.on_presence(p),
            Some(Frame::Response(r)) => self.on_response(r),
            Some(Frame::Contact(c)) => {
                if let Some(c) = c.contact {
                    self.on_contact(c);
                }
            }
            Some(Frame::Problem(p)) => self.updates.push(Update::Problem(p)),
            Some(Frame::Pong(_) | Frame::Closing(_)) | None => {}
        }
    }

    pub(super) fn on_welcome(&mut self, welcome: Welcome, n: u64, now: Duration) {
        self.connected = true;
        if let Ok(me) = Address::parse(&welcome.user) {
            self.me = Some(me);
        }
        if let Some(limits) = welcome.limits {
            self.limits = limits;
        }
        self.heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms.max(1000)));
        self.vapid = welcome.vapid_public_key;
        if !welcome.resumed {
            self.synced = false;
            self.live_presences.clear();
            (self.last_n, self.acked_n) = (n, n);
            // an unfinished resync's targets are named again by the heads to come
            for track in self.tracks.values_mut() {
                track.target = 0;
                track.live = track.live.min(track.have);
                track.exact.clear();
            }
        }
        self.session = welcome.session;
        self.outbox.connected(&self.limits, now);
        self.address();
        self.updates.push(Update::Connected {
            user: welcome.user,
            resumed: welcome.resumed,
        });
        self.ask_contacts();
        if welcome.resumed {
            self.to_fetch = self
                .tracks
                .iter()
                .filter(|(_, t)| t.behind())
                .map(|(c, _)| c.clone())
                .collect();
            self.fetch();
            if self.synced {
                self.confirm_again();
            }
        }
    }

    fn ask_contacts(&mut self) {
        if !self.lean && self.pages != Pages::None {
            self.request(Asker::Contacts, request::Op::Contacts(ContactsRequest {}));
        }
    }

    pub(super) fn on_accepted(&mut self, event_id: &str, conversation: &str, seq: u64, at_ms: i64) {
        let Some(entry) = self.outbox.answered(event_id) else {
            return;
        };
        let Some(me) = self.me.as_ref().map(ToString::to_string) else {
            return;
        };
        self.updates.push(Update::Accepted {
            event_id: event_id.to_owned(),
            conversation: conversation.to_owned(),
            seq,
        });
        if self.lean {
            return;
        }
        let event = Event {
            event_id: event_id.to_owned(),
            conversation: conversation.to_owned(),
            seq,
            sender: me,
            at_ms,
            body: Some(entry.body),
            ..Event::default()
        };
        // known, but not *held*: what others wrote just before may not be here yet
        self.put(event, true);
    }

    pub(super) fn on_event(&mut self, event: Event) {
        let (seq, conversation) = (event.seq, event.conversation.clone());
        let receipt = matches!(
            event.body.as_ref().and_then(|b| b.kind.as_ref()),
            Some(Kind::Receipt(_))
        );
        let own = self.me() == Some(event.sender.as_str());
        if own && !receipt {
            self.on_accepted(&event.event_id, &event.conversation, seq, event.at_ms);
        }
        if self.pages == Pages::None {
            return self.put(event, true);
        }
        // nobody waits for a receipt of a receipt, or of one's own words
        let confirm = !receipt && !own;
        if !self.tracks.contains_key(&conversation) {
            self.tracks.insert(conversation.clone(), Track::default());
        }
        let Some(track) = self.tracks.get_mut(&conversation) else {
            return;
        };
        track.live = track.live.max(seq);
        if self.synced && !track.behind() {
            let before = track.have;
            track.have = before.max(seq);
            track.confirm |= confirm;
            if !self.lean {
                // with nothing known below, a first event that comes live begins the conversation
                self.conversations
                    .entry(conversation.clone())
                    .or_default()
                    .holds(before, seq);
            }
        } else if confirm {
            track.exact.push(seq);
        }
        if confirm {
            self.dirty.insert(conversation);
        }
        self.put(event, true);
    }

    pub(super) fn put(&mut self, event: Event, live: bool) {
        if self.lean {
            self.updates.push(Update::Event { event, live });
            return;
        }
        let id = event.conversation.clone();
        let receipt = matches!(
            event.body.as_ref().and_then(|b| b.kind.as_ref()),
            Some(Kind::Receipt(_))
        );
        let others = self.me().is_some_and(|me| me != event.sender);
        let conversation = self.conversations.entry(id.clone()).or_default();
        if live && others && !receipt {
            conversation.set_request(event.request);
        }
        if conversation.insert(event.clone()) == Inserted::New {
            self.updates.push(if receipt {
                Update::Conversation(id)
            } else {
                Update::Event { event, live }
            });
        }
    }
}
