//! Lines in and lines out, for scripts and for terminals that can do no more: one line an event.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tandem_client::{Core, Update, domain::Message};
use tandem_kernel::event::{Event, Kind};
use tandem_proto::client::{Contact, contact};

use super::{
    layout,
    model::{State, act::number, reason},
    names::{self, handle},
    text::{one_line, wrap_columns},
};

mod run;
#[cfg(test)]
mod tests;

pub use run::{Patience, run};

/// What was printed, so that everything is printed once.
#[derive(Debug, Default)]
pub struct Printer {
    /// Conversation → places of messages.
    printed: BTreeMap<String, BTreeSet<u64>>,
    /// (conversation, who) → delivered and read up to.
    reach: BTreeMap<(String, String), (u64, u64)>,
    /// Notices of the state.
    notices: usize,
    presence: BTreeMap<String, String>,
    /// Who → what they are to the person.
    relations: BTreeMap<String, contact::State>,
    synced: bool,
    /// The device holds what was printed already, but for what comes live.
    caught_up: bool,
    /// Was once in sync: what comes from then on is news.
    begun: bool,
}

impl Printer {
    /// The lines for what the device told.
    pub fn update(&mut self, core: &Core, update: &Update) -> Vec<String> {
        let mut lines = Vec::new();
        match update {
            Update::Connected { user, .. } => lines.push(format!("* connected as {user}")),
            Update::Disconnected { reason, retry_in } => {
                (self.synced, self.caught_up) = (false, false);
                let reason = one_line(reason);
                lines.push(format!(
                    "* offline: {reason}; trying again in {}",
                    shown(*retry_in)
                ));
            }
            Update::Closed { code, message } if code != "stopped" => {
                lines.push(format!(
                    "! the session has ended: {} ({code})",
                    one_line(message)
                ));
            }
            Update::Event { live: false, .. } => self.caught_up = false,
            Update::Event { event, live: true } => self.event(core, event, &mut lines),
            Update::Conversation(id) => self.receipts(core, id, &mut lines),
            Update::Typing {
                conversation,
                user,
                active: true,
            } => {
                let who = handle(core, user);
                lines.push(format!("[{}] {who} is typing", place(core, conversation)));
            }
            Update::Presence(p) => {
                let message = one_line(&p.message);
                let message = if message.is_empty() {
                    message
                } else {
                    format!(": {message}")
                };
                let is = format!("{}{message}", names::status(p.status()));
                let before = self.presence.insert(p.user.clone(), is.clone());
                // nobody is told that who was not there is not there
                let news = before.as_ref() != Some(&is) && (before.is_some() || is != "offline");
                if news && core.me() != Some(p.user.as_str()) {
                    lines.push(format!("* {} is {is}", handle(core, &p.user)));
                }
            }
            Update::Contact(c) if self.begun => self.relation(core, c, &mut lines),
            Update::Problem(problem) => lines.push(format!("! {}", reason(problem))),
            _ => {}
        }
        if core.is_synced() && core.knows_contacts() {
            if !std::mem::replace(&mut self.caught_up, true) {
                self.catch_up(core, &mut lines);
            }
            if !self.synced {
                self.synced = true;
                lines.push("* synced".into());
            }
            if !self.begun {
                self.begun = true;
                self.relations = core
                    .contacts()
                    .map(|c| (c.user.clone(), c.state()))
                    .collect();
            }
        }
        lines
    }

    /// A relation as it stands, if that is news.
    pub fn relation(&mut self, core: &Core, c: &Contact, lines: &mut Vec<String>) {
        let state = c.state();
        if self.relations.insert(c.user.clone(), state) == Some(state) {
            return;
        }
        let is = match state {
            contact::State::Mutual => "is your contact",
            contact::State::Asked => "is asked to be your contact",
            contact::State::Blocked => "is blocked",
            contact::State::None => "is no contact",
            // the model tells it, as it wants an answer
            contact::State::AskedBy | contact::State::Unspecified => return,
        };
        lines.push(format!("* {} {is}", handle(core, &c.user)));
    }

    /// What the state says, and shows.
    pub fn said(&mut self, state: &mut State) -> Vec<String> {
        let mut lines = Vec::new();
        for notice in &state.notices {
            let mark = if notice.bad { '!' } else { '*' };
            lines.push(format!("{mark} {}", one_line(&notice.text)));
        }
        self.notices += state.notices.drain(..).filter(|n| n.bad).count();
        if let Some(panel) = state.panel.take() {
            lines.push(format!("* {}", panel.title));
            lines.extend(
                panel
                    .lines
                    .iter()
                    .flat_map(|l| wrap_columns(l, usize::MAX))
                    .map(|l| format!("  {l}")),
            );
        }
        lines
    }

    /// How often something went wrong.
    pub fn complaints(&self) -> usize {
        self.notices
    }

    /// Everything that the device holds and that was not printed, oldest first in each conversation.
    fn catch_up(&mut self, core: &Core, lines: &mut Vec<String>) {
        for (id, c) in core.conversations() {
            let printed = self.printed.entry(id.to_owned()).or_default();
            for message in c.messages().filter(|m| !printed.contains(&m.seq)) {
                lines.push(line(core, id, &message));
            }
            printed.extend(c.messages().map(|m| m.seq));
        }
    }

    fn event(&mut self, core: &Core, event: &Event, lines: &mut Vec<String>) {
        let id = event.conversation.as_str();
        let Some(kind) = event.body.as_ref().and_then(|b| b.kind.as_ref()) else {
            return;
        };
        let (place, who) = (place(core, id), you(core, &event.sender));
        match kind {
            Kind::Edit(edit) => {
                let text = edit
                    .text
                    .as_ref()
                    .map(|t| one_line(&t.text))
                    .unwrap_or_default();
                lines.push(format!(
                    "[{place}] #{} {who} changed it to: {text}",
                    number(edit.target)
                ));
            }
            Kind::Delete(delete) => {
                lines.push(format!(
                    "[{place}] #{} {who} deleted it",
                    number(delete.target)
                ));
            }
            Kind::Reaction(r) if r.emoji.is_empty() => {
                lines.push(format!(
                    "[{place}] #{} {who} took the reaction back",
                    number(r.target)
                ));
            }
            Kind::Reaction(r) => {
                let emoji = one_line(&r.emoji);
                lines.push(format!(
                    "[{place}] #{} {who} reacted {emoji}",
                    number(r.target)
                ));
            }
            _ => {
                if let Some(message) = core.conversation(id).and_then(|c| c.at(event.seq))
                    && self
                        .printed
                        .entry(id.to_owned())
                        .or_default()
                        .insert(message.seq)
                {
                    lines.push(line(core, id, &message));
                }
            }
        }
    }

    /// How far others have one's own messages, when that has grown.
    fn receipts(&mut self, core: &Core, id: &str, lines: &mut Vec<String>) {
        let (Some(c), Some(me)) = (core.conversation(id), core.me()) else {
            return;
        };
        let newest = c.messages().rev().take(500);
        let own = newest.filter(|m| m.event.sender == me);
        let mut reach: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for message in own {
            let (delivered, read) = c.seen_by(me, message.seq);
            for who in delivered {
                let of = reach.entry(who.to_owned()).or_default();
                of.0 = of.0.max(message.seq);
            }
            for who in read {
                let of = reach.entry(who.to_owned()).or_default();
                of.1 = of.1.max(message.seq);
            }
        }
        for (who, now) in reach {
            let before = self.reach.entry((id.to_owned(), who.clone())).or_default();
            // what was so when the session began is no news
            if self.begun {
                let (place, who) = (place(core, id), handle(core, &who));
                if now.1 > before.1 {
                    lines.push(format!("[{place}] #{} read by {who}", number(now.1)));
                } else if now.0 > before.0 {
                    lines.push(format!("[{place}] #{} delivered to {who}", number(now.0)));
                }
            }
            *before = (before.0.max(now.0), before.1.max(now.1));
        }
    }
}

fn shown(d: Duration) -> String {
    format!("{:.1} s", d.as_secs_f64())
}

fn you(core: &Core, who: &str) -> String {
    if core.me() == Some(who) {
        "you".into()
    } else {
        handle(core, who)
    }
}

fn place(core: &Core, id: &str) -> String {
    names::conversation(core, id, handle)
}

fn line(core: &Core, id: &str, m: &Message<'_>) -> String {
    let (place, who, n) = (place(core, id), you(core, &m.event.sender), number(m.seq));
    let Some(text) = m.text else {
        let deed = if m.deleted {
            "(deleted)".into()
        } else {
            layout::deed(core, m.event, handle)
        };
        return format!("[{place}] #{n} {who} {deed}");
    };
    let reply = if text.reply_to > 0 {
        format!(" (to #{})", number(text.reply_to))
    } else {
        String::new()
    };
    let edited = if m.edited { " (edited)" } else { "" };
    let reactions: Vec<String> = m
        .reactions
        .iter()
        .map(|(u, e)| format!(" {{{} {}}}", one_line(e), you(core, u)))
        .collect();
    let mention = text.mentions.iter().any(|u| core.me() == Some(u.as_str()));
    let mention = if mention { " @you" } else { "" };
    format!(
        "[{place}] #{n} {who}{reply}{mention}: {}{edited}{}",
        one_line(&text.text),
        reactions.concat()
    )
}
