//! What an entered line does.

use tandem_client::{Core, domain::Message};
use tandem_kernel::event::{
    Delete, Edit, Kind, MemberLeave, MemberRemove, MembersAdd, Nudge, Reaction, Role, RoleSet,
    Text, TitleSet,
};
use tandem_proto::client::{Member, contact, contact_change::Action};

use super::{
    super::{
        command::{self, Command},
        names,
        text::one_line,
    },
    Effect, Mode, State,
};

/// The part of a place that names a message in commands: its offset.
pub fn number(seq: u64) -> u64 {
    seq & ((1 << 48) - 1)
}

impl State {
    /// Does what is written in the draft; it stays if that cannot be done.
    pub(super) fn submit(&mut self, core: &Core) {
        let key = self.current.clone().unwrap_or_default();
        let Some(draft) = self.drafts.remove(&key) else {
            return;
        };
        let text = draft.editor.text().trim_end();
        let plain = text
            .strip_prefix("//")
            .map_or_else(|| text.to_owned(), |t| format!("/{t}"));
        let is_command = text.starts_with('/') && !text.starts_with("//");
        let done = match (draft.mode, self.current.clone()) {
            _ if text.trim().is_empty() => Ok(()),
            (Mode::Edit(seq), Some(id)) => self.edit(core, id, seq, text.to_owned()),
            (Mode::Reply(seq), _) if !is_command => self.write(core, &plain, seq),
            _ => command::parse(text).and_then(|command| self.act(core, command)),
        };
        if let Err(why) = done {
            self.complain(why);
            self.drafts.insert(key, draft);
        }
    }

    /// Does what a line says.
    pub(super) fn enter(&mut self, core: &Core, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let done = command::parse(line).and_then(|command| self.act(core, command));
        if let Err(why) = done {
            self.complain(why);
        }
    }

    fn here(&self) -> Result<String, String> {
        self.current
            .clone()
            .ok_or_else(|| "no conversation is open: /to bob opens one".into())
    }

    fn group(&self) -> Result<String, String> {
        let hint = "that is for groups: /new \"Friday lunch\" bob chloe begins one";
        self.here().and_then(|id| {
            if names::is_group(&id) {
                Ok(id)
            } else {
                Err(hint.into())
            }
        })
    }

    fn act(&mut self, core: &Core, command: Command) -> Result<(), String> {
        match command {
            Command::Say(text) => self.write(core, &text, 0)?,
            Command::To(who) => {
                if core.me().is_none() {
                    return Err("not connected yet; try again in a moment".into());
                }
                if !self.go_to(core, &who) {
                    return Err(format!(
                        "{} is no conversation and nobody's address",
                        one_line(&who)
                    ));
                }
            }
            Command::New { title, members } => {
                let members = people(core, &members)?;
                self.out.push(Effect::CreateGroup { title, members });
            }
            Command::Add(members) => {
                let members = people(core, &members)?;
                self.send_to_group(Kind::MembersAdd(MembersAdd { members }))?;
            }
            Command::Remove(who) => {
                let member = person(core, &who)?;
                self.send_to_group(Kind::MemberRemove(MemberRemove { member }))?;
            }
            Command::Leave => self.send_to_group(Kind::MemberLeave(MemberLeave {}))?,
            Command::Title(title) => self.send_to_group(Kind::TitleSet(TitleSet { title }))?,
            Command::Role(who, role) => {
                let set = RoleSet {
                    member: person(core, &who)?,
                    role: role.into(),
                };
                self.send_to_group(Kind::RoleSet(set))?;
            }
            Command::Members => {
                let id = self.group()?;
                self.members_wanted = Some(id.clone());
                self.out.push(Effect::Members(id));
            }
            Command::Edit(target, text) => {
                let (id, target) = self.target(core, target, true)?;
                self.edit(core, id, target, text)?;
            }
            Command::Delete(target) => {
                let (id, target) = self.target(core, target, true)?;
                self.selected = None;
                self.out
                    .push(Effect::Send(id, Kind::Delete(Delete { target })));
            }
            Command::Reply(target, text) => {
                let (_, target) = self.target(core, target, false)?;
                self.write(core, &text, target)?;
            }
            Command::React(target, emoji) => {
                let (id, target) = self.target(core, target, false)?;
                self.selected = None;
                self.out
                    .push(Effect::Send(id, Kind::Reaction(Reaction { target, emoji })));
            }
            Command::Nudge => {
                let id = self.here()?;
                self.out.push(Effect::Send(id, Kind::Nudge(Nudge {})));
            }
            Command::Status(status, message) => {
                let message = message.unwrap_or_else(|| self.presence.1.clone());
                self.presence = (status, message.clone());
                self.say(format!("you are {}", names::status(status)));
                self.out.push(Effect::Presence(status, message));
            }
            Command::Relation { action, who, name } => self.relation(core, action, who, name)?,
            Command::Contacts => self.show("Contacts", contacts(core)),
            Command::More => {
                let id = self.here()?;
                self.fetch(core, &id);
            }
            Command::Help(about) => self.show("Help", command::help(about.as_deref())),
            Command::Quit => self.quit(core),
        }
        Ok(())
    }

    fn send_to_group(&mut self, kind: Kind) -> Result<(), String> {
        let id = self.group()?;
        self.out.push(Effect::Send(id, kind));
        Ok(())
    }

    pub(super) fn show_members(&mut self, core: &Core, id: &str) {
        let line = |m: &Member| {
            let role = match m.role() {
                Role::Owner => ", owner",
                Role::Admin => ", admin",
                _ => "",
            };
            format!(
                "{} <{}>{role}",
                names::person(core, &m.user),
                one_line(&m.user)
            )
        };
        let members = self.members.get(id).into_iter().flat_map(|m| &m.members);
        let lines = members.map(line).collect();
        self.show(
            format!(
                "Members of {}",
                names::conversation(core, id, names::person)
            ),
            lines,
        );
    }

    /// Opens what is meant by a number of the list, a title, a name, an address or an id.
    pub(super) fn go_to(&mut self, core: &Core, who: &str) -> bool {
        let numbered = who
            .parse::<usize>()
            .ok()
            .and_then(|n| self.tabs.get(n.checked_sub(1)?));
        let lower = who.to_lowercase();
        let titled = self.tabs.iter().find(|id| {
            let title = core.conversation(id).map_or("", |c| c.title());
            !title.is_empty() && title.to_lowercase() == lower
        });
        let meant = || match tandem_kernel::ConversationId::parse(who) {
            Ok(id) => Some(id.to_string()),
            Err(_) => core.with(&names::resolve(core, who)?),
        };
        let Some(id) = numbered.or(titled).cloned().or_else(meant) else {
            return false;
        };
        self.open(core, &id);
        true
    }

    /// Sends a message.
    fn write(&mut self, core: &Core, text: &str, reply_to: u64) -> Result<(), String> {
        let id = self.here()?;
        check_length(core, text)?;
        let mentions = self.mentions(core, &id, text);
        let text = Text {
            text: text.to_owned(),
            reply_to,
            mentions,
        };
        self.out.push(Effect::Send(id.clone(), Kind::Text(text)));
        if let Some(refused) = self.refused.get_mut(&id) {
            refused.retain(|r| !r.given_back);
        }
        self.news_after.remove(&id);
        (self.scroll, self.selected, self.panel) = (None, None, None);
        // the message itself says that the typing is over
        self.told_typing = None;
        Ok(())
    }

    /// Sends another text for a message.
    fn edit(&mut self, core: &Core, id: String, target: u64, text: String) -> Result<(), String> {
        check_length(core, &text)?;
        let before = core
            .conversation(&id)
            .and_then(|c| c.at(target))
            .and_then(|m| m.text);
        let reply_to = before.map_or(0, |t| t.reply_to);
        let mentions = self.mentions(core, &id, &text);
        let text = Some(Text {
            text,
            reply_to,
            mentions,
        });
        self.selected = None;
        self.told_typing = None;
        self.out
            .push(Effect::Send(id, Kind::Edit(Edit { target, text })));
        Ok(())
    }

    /// The people of the conversation whom a text names with `@`.
    fn mentions(&self, core: &Core, id: &str, text: &str) -> Vec<String> {
        let people = self.people(core, id);
        let ends = |c: char| c.is_whitespace() || "(),;:!?\"".contains(c);
        let named = text
            .split(ends)
            .filter_map(|word| word.strip_prefix('@'))
            .filter_map(|name| {
                let name = name.trim_end_matches(['.', '\'']).to_lowercase();
                people
                    .iter()
                    .find(|p| **p == name || names::handle(core, p) == name)
            });
        let named: std::collections::BTreeSet<&String> = named.collect();
        named.into_iter().cloned().collect()
    }

    /// The others in a conversation.
    pub fn people(&self, core: &Core, id: &str) -> Vec<String> {
        if let Some(peer) = names::peer(core, id) {
            return vec![peer];
        }
        let me = core.me().unwrap_or_default();
        let members = self.members.get(id).into_iter().flat_map(|m| &m.members);
        members
            .map(|m| m.user.clone())
            .filter(|u| u != me)
            .collect()
    }

    /// The message that a command is about: the one with the number, else the selected one, else the
    /// newest of one's own (`mine`) or of others.
    fn target(&self, core: &Core, given: Option<u64>, mine: bool) -> Result<(String, u64), String> {
        let id = self.here()?;
        let me = core.me().unwrap_or_default();
        let c = core
            .conversation(&id)
            .ok_or("there is no message here yet")?;
        let named = |m: &Message<'_>| match given {
            Some(n) => number(m.seq) == n,
            None => self.selected == Some(m.seq),
        };
        let found = if given.is_some() || self.selected.is_some() {
            c.messages()
                .rev()
                .find(named)
                .ok_or("there is no such message here")?
        } else {
            let fits = |m: &Message<'_>| m.text.is_some() && (m.event.sender == me) == mine;
            let whose = if mine { "yours" } else { "others" };
            Self::lines(c)
                .find(fits)
                .ok_or_else(|| format!("there is no message of {whose} here"))?
        };
        if mine && found.event.sender != me {
            return Err("that is not your message".into());
        }
        if found.text.is_none() {
            return Err("that is not a message, or was deleted".into());
        }
        Ok((id, found.seq))
    }

    /// One's own message to edit (the selected one, else the newest), and its text.
    pub(super) fn own(&self, core: &Core) -> Option<(u64, String)> {
        let (id, seq) = self.target(core, None, true).ok()?;
        let text = core.conversation(&id)?.at(seq)?.text?.text.clone();
        Some((seq, text))
    }

    fn relation(
        &mut self,
        core: &Core,
        action: Action,
        who: Option<String>,
        name: String,
    ) -> Result<(), String> {
        let phone =
            |w: &str| w.starts_with(['+', '(']) || w.starts_with(|c: char| c.is_ascii_digit());
        let here = || self.current.as_ref().and_then(|id| names::peer(core, id));
        let who = match who {
            Some(who) if action == Action::Request && phone(&who) => who,
            Some(who) => person(core, &who)?,
            None => here().ok_or("name someone, e.g. /ask dan")?,
        };
        let shown = names::person(core, &who);
        let done = match action {
            Action::Request => format!("{shown} is asked to be your contact"),
            Action::Accept => format!("{shown} is your contact"),
            Action::Decline => format!("{shown} was declined"),
            Action::Remove => format!("{shown} is your contact no more"),
            Action::Block => format!("{shown} is blocked"),
            Action::Unblock => format!("{shown} is not blocked any more"),
            Action::Rename => format!("{shown} is shown as {}", one_line(&name)),
            Action::Unspecified => return Ok(()),
        };
        self.out.push(Effect::Relation {
            who,
            action,
            name,
            done,
        });
        Ok(())
    }

    /// Ends; but asks once when something would be lost.
    pub(super) fn quit(&mut self, core: &Core) {
        if !self.plain && !core.all_answered() && !self.warned {
            self.warned = true;
            self.complain(
                "not everything is sent, and what is not is lost if you leave; again to leave",
            );
            return;
        }
        self.cease_typing();
        self.out.push(Effect::Quit);
    }
}

fn check_length(core: &Core, text: &str) -> Result<(), String> {
    let most = core.limits().text_bytes as usize;
    if text.len() > most {
        Err(format!("too long: {} of {most} bytes", text.len()))
    } else {
        Ok(())
    }
}

fn person(core: &Core, who: &str) -> Result<String, String> {
    names::resolve(core, who).ok_or_else(|| format!("{} is not an address", one_line(who)))
}

fn people(core: &Core, who: &[String]) -> Result<Vec<String>, String> {
    who.iter()
        .map(|w| person(core, w.trim_end_matches(',')))
        .collect()
}

fn contacts(core: &Core) -> Vec<String> {
    let mut lines = Vec::new();
    for c in core.contacts() {
        let (who, handle) = (names::person(core, &c.user), names::handle(core, &c.user));
        lines.push(match c.state() {
            contact::State::Mutual => {
                let status = c
                    .presence
                    .as_ref()
                    .map_or("offline", |p| names::status(p.status()));
                let message = c
                    .presence
                    .as_ref()
                    .map(|p| one_line(&p.message))
                    .unwrap_or_default();
                let message = if message.is_empty() {
                    message
                } else {
                    format!(": {message}")
                };
                format!("{who} <{}> is {status}{message}", one_line(&c.user))
            }
            contact::State::Asked => format!("{who}: asked, no answer yet"),
            contact::State::AskedBy => {
                format!("{who} asks you: /accept {handle} or /decline {handle}")
            }
            contact::State::Blocked => format!("{who} is blocked: /unblock {handle}"),
            contact::State::Unspecified | contact::State::None => continue,
        });
    }
    if lines.is_empty() {
        lines.push("nobody yet: /ask dan asks someone".into());
    }
    lines
}
