//! What the device tells, and what the answers to questions say.

use tandem_client::{Core, Update};
use tandem_kernel::event::{Body, Event, Kind};
use tandem_proto::client::{Problem, contact, contact_change::Action};

use super::{
    super::{names, text::one_line},
    Answer, Effect, Link, Mode, Refused, State, TYPING_MS,
};

impl State {
    pub(super) fn on_update(&mut self, core: &Core, update: Update) {
        match update {
            Update::Connected { resumed, .. } => {
                self.link = Link::Up;
                self.fetching.clear();
                if !resumed {
                    self.members.clear();
                    if let Some(id) = self.current.clone().filter(|id| names::is_group(id)) {
                        self.out.push(Effect::Members(id));
                    }
                }
            }
            Update::Disconnected { reason, .. } => {
                self.link = Link::Down(Some(one_line(&reason)));
                self.typing.clear();
            }
            Update::Closed { code, message } => {
                self.link = Link::Closed(code, one_line(&message));
                self.out.push(Effect::Quit);
            }
            Update::Event { event, live } => self.on_event(core, &event, live),
            Update::Rejected {
                problem,
                body,
                conversation,
                ..
            } => {
                self.on_rejected(core, &problem, body, &conversation);
            }
            Update::Typing {
                conversation,
                user,
                active,
            } => {
                if active {
                    self.typing
                        .insert((conversation, user), self.now_ms + TYPING_MS);
                } else {
                    self.typing.remove(&(conversation, user));
                }
            }
            Update::Contact(change) => {
                if change.state() != contact::State::AskedBy {
                    self.asking.remove(&change.user);
                } else if self.asking.insert(change.user.clone()) {
                    let who = names::person(core, &change.user);
                    let handle = names::handle(core, &change.user);
                    self.say(format!(
                        "{who} asks to be your contact: /accept {handle} or /decline {handle}"
                    ));
                }
            }
            Update::Problem(problem) => self.complain(reason(&problem)),
            Update::Synced
            | Update::Accepted { .. }
            | Update::Conversation(_)
            | Update::Presence(_) => {}
        }
    }

    fn on_event(&mut self, core: &Core, event: &Event, live: bool) {
        let conversation = &event.conversation;
        let mine = core.me() == Some(event.sender.as_str());
        self.typing
            .remove(&(conversation.clone(), event.sender.clone()));
        let Some(kind) = event.body.as_ref().and_then(|b| b.kind.as_ref()) else {
            return;
        };
        let group = tandem_kernel::group::changes_group(kind);
        if group
            && live
            && (self.members.contains_key(conversation)
                || self.current.as_ref() == Some(conversation))
        {
            self.out.push(Effect::Members(conversation.clone()));
        }
        if !live || mine {
            return;
        }
        let mentioned = match kind {
            Kind::Text(text) => text.mentions.iter().any(|m| core.me() == Some(m.as_str())),
            Kind::Nudge(_) => true,
            _ => false,
        };
        if mentioned {
            self.out.push(Effect::Bell);
        }
        if !self.plain && mentioned && self.current.as_ref() != Some(conversation) {
            let who = names::person(core, &event.sender);
            let what = if matches!(kind, Kind::Nudge(_)) {
                "nudges"
            } else {
                "mentions"
            };
            let place = names::conversation(core, conversation, names::person);
            self.say(if names::is_group(conversation) {
                format!("{who} {what} you in {place}")
            } else {
                format!("{who} {what} you")
            });
        }
    }

    fn on_rejected(&mut self, core: &Core, problem: &Problem, body: Body, conversation: &str) {
        let reason = reason(problem);
        let place = names::conversation(core, conversation, names::person);
        match body.kind {
            Some(Kind::Text(text)) => {
                let draft = self.drafts.entry(conversation.to_owned()).or_default();
                let given_back = !self.plain && draft.editor.is_empty() && draft.mode == Mode::New;
                if given_back {
                    draft.editor.set(text.text.clone());
                    draft.mode = if text.reply_to > 0 {
                        Mode::Reply(text.reply_to)
                    } else {
                        Mode::New
                    };
                }
                self.complain(if self.plain {
                    format!("not sent to {place}: {reason}: {}", one_line(&text.text))
                } else {
                    format!("not sent to {place}: {reason}")
                });
                let refused = Refused {
                    text: text.text,
                    reason,
                    given_back,
                };
                self.refused
                    .entry(conversation.to_owned())
                    .or_default()
                    .push(refused);
            }
            Some(Kind::Edit(edit)) => {
                let text = edit.text.unwrap_or_default().text;
                self.complain(format!("not changed in {place}: {reason}"));
                let draft = self.drafts.entry(conversation.to_owned()).or_default();
                if !self.plain && draft.editor.is_empty() && draft.mode == Mode::New {
                    draft.editor.set(text);
                    draft.mode = Mode::Edit(edit.target);
                }
            }
            Some(Kind::GroupCreate(group)) => {
                self.complain(format!(
                    "\"{}\" was not begun: {reason}",
                    one_line(&group.title)
                ));
                self.tabs.retain(|t| t != conversation);
                if self.current.as_deref() == Some(conversation) {
                    self.current = None;
                }
            }
            _ => self.complain(format!("not done in {place}: {reason}")),
        }
    }

    pub(super) fn on_answer(&mut self, core: &Core, answer: Answer) {
        match answer {
            Answer::Back(id, result) => {
                match result {
                    Ok(false) if self.plain => self.say("there is nothing older"),
                    Ok(_) => {}
                    Err(problem) => self.complain(format!("older messages: {}", reason(&problem))),
                }
                self.fetching.remove(&id);
            }
            // in lines, the relation is printed, once, whether it comes here or by itself
            Answer::Relation(action, _, Ok(_)) if self.plain && action != Action::Rename => {}
            Answer::Relation(Action::Request, _, Ok(c)) if c.state() == contact::State::Mutual => {
                let who = names::person(core, &c.user);
                self.say(format!("{who} is your contact"));
            }
            Answer::Relation(_, done, Ok(_)) => self.say(done),
            Answer::Relation(_, _, Err(problem)) => self.complain(reason(&problem)),
            Answer::Members(id, Ok(members)) => {
                self.members.insert(id.clone(), members);
                if self
                    .members_wanted
                    .take_if(|wanted| *wanted == id)
                    .is_some()
                {
                    self.show_members(core, &id);
                }
            }
            Answer::Members(id, Err(problem)) => {
                // a group that is not told yet, or that one has left, has no list
                if self
                    .members_wanted
                    .take_if(|wanted| *wanted == id)
                    .is_some()
                {
                    self.complain(format!("members: {}", reason(&problem)));
                }
            }
            Answer::Created(Some(id)) => self.open(core, &id),
            Answer::Created(None) => self.complain("not connected yet; try again in a moment"),
        }
    }
}

/// A problem in words.
pub fn reason(problem: &Problem) -> String {
    if problem.message.is_empty() {
        one_line(&problem.code.replace('_', " "))
    } else {
        one_line(&problem.message)
    }
}
