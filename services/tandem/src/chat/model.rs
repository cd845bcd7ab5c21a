//! What the client shows, as a pure function: (state, what the device holds, what happened) → (state,
//! what to do). No terminal, no clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};

use crossterm::event::KeyEvent;
use jiff::tz::TimeZone;
use tandem_client::{Core, Update, domain::Conversation};
use tandem_kernel::event::{Body, Event, Kind};
use tandem_proto::client::{Contact, Members, Problem, Status, contact, contact_change::Action};

use super::{editor::Editor, layout, names, text::one_line};

pub mod act;
mod keys;
#[cfg(test)]
pub mod tests;

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The device tells something.
    Update(Box<Update>),
    /// A key was pressed.
    Key(KeyEvent),
    /// A text was pasted.
    Paste(String),
    /// A whole line was given.
    Line(String),
    /// What an effect led to.
    Answer(Answer),
    /// The terminal's size: columns, rows.
    Resize(u16, u16),
    /// Whether the person looks at this terminal.
    Focus(bool),
    /// Time passes.
    Tick,
}

/// What an effect led to.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Of [`Effect::Back`].
    Back(String, Result<bool, Problem>),
    /// Of [`Effect::Relation`]: what to say when it is done, and the relation then.
    Relation(Action, String, Result<Contact, Problem>),
    /// Of [`Effect::Members`].
    Members(String, Result<Members, Problem>),
    /// Of [`Effect::CreateGroup`]: its id, if it could be sent.
    Created(Option<String>),
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send to a conversation.
    Send(String, Kind),
    /// Begin a group.
    CreateGroup { title: String, members: Vec<String> },
    /// The conversation was read up to there.
    Read(String, u64),
    /// The person types, or ceased to.
    Typing(String, bool),
    /// Set status and personal message.
    Presence(Status, String),
    /// Fetch older messages.
    Back(String),
    /// Change a relation, and say `done`.
    Relation {
        who: String,
        action: Action,
        name: String,
        done: String,
    },
    /// Ask who is in a group.
    Members(String),
    /// Sound the bell.
    Bell,
    /// End.
    Quit,
}

/// How the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not open yet, or broken: why, if known.
    Down(Option<String>),
    /// Open.
    Up,
    /// Ended for good: code and text.
    Closed(String, String),
}

/// Something that the person is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The text.
    pub text: String,
    /// Something went wrong.
    pub bad: bool,
    /// When it was said, milliseconds since 1970.
    pub at_ms: i64,
}

/// What the line being written is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A message.
    #[default]
    New,
    /// A reply to the message there.
    Reply(u64),
    /// Another text for the message there.
    Edit(u64),
}

/// What is being written in a conversation.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The text.
    pub editor: Editor,
    /// What it is for.
    pub mode: Mode,
}

/// A message that was refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its text.
    pub text: String,
    /// Why.
    pub reason: String,
    /// The text stands in the editor again.
    pub given_back: bool,
}

/// A longer text, shown in place of the conversation until Esc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    /// Its heading.
    pub title: String,
    /// Its lines.
    pub lines: Vec<String>,
    /// Lines scrolled away above.
    pub top: usize,
}

/// The row at the bottom of what is shown: a message's place, and which of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Place of the message; `u64::MAX`: what waits to be sent.
    pub seq: u64,
    /// Row in it.
    pub row: usize,
}

/// How long a notice is shown, in milliseconds.
const NOTICE_MS: i64 = 10_000;
/// How long somebody is shown to type without further word, in milliseconds.
const TYPING_MS: i64 = 10_000;
/// How often to tell that the person types, and after which silence that they ceased, in milliseconds.
const TYPING_AGAIN_MS: i64 = 4_000;

/// What is shown.
#[derive(Debug, Clone)]
pub struct State {
    /// Conversations, in the order of the list.
    pub tabs: Vec<String>,
    /// The one in view.
    pub current: Option<String>,
    /// Whom to open as soon as that can be done.
    pub wanted: Option<String>,
    /// Drafts by conversation; "" is the one without.
    pub drafts: BTreeMap<String, Draft>,
    /// Refused messages by conversation.
    pub refused: BTreeMap<String, Vec<Refused>>,
    /// (conversation, who) → until when.
    pub typing: BTreeMap<(String, String), i64>,
    /// Groups' members.
    pub members: BTreeMap<String, Members>,
    /// Conversations whose older messages are being fetched.
    pub fetching: BTreeSet<String>,
    /// Conversation in view when it had news → read up to there then.
    pub news_after: BTreeMap<String, u64>,
    /// The connection.
    pub link: Link,
    /// One's own status and personal message.
    pub presence: (Status, String),
    /// Told, oldest first.
    pub notices: Vec<Notice>,
    /// Shown in place of the conversation.
    pub panel: Option<Panel>,
    /// Scrolled to there; `None`: at the newest.
    pub scroll: Option<Anchor>,
    /// The selected message.
    pub selected: Option<u64>,
    /// Columns and rows.
    pub size: (u16, u16),
    /// The time, milliseconds since 1970.
    pub now_ms: i64,
    /// Where days begin.
    pub zone: TimeZone,
    /// The person looks.
    focused: bool,
    /// Lines in and out instead of a screen.
    plain: bool,
    /// Who asks to be a contact, and was told of.
    asking: BTreeSet<String>,
    /// The group whose members are to be shown when they are known.
    members_wanted: Option<String>,
    /// Asked to quit although something is unsent.
    warned: bool,
    /// The list was put in its first order.
    sorted: bool,
    /// Where one's typing was told, and when last, and when the last key was.
    told_typing: Option<(String, i64, i64)>,
    out: Vec<Effect>,
}

impl State {
    /// At the start. `plain`: lines in and out, and no conversation is opened by itself.
    pub fn new(plain: bool, wanted: Option<String>, zone: TimeZone, now_ms: i64) -> Self {
        Self {
            tabs: Vec::new(),
            current: None,
            wanted,
            drafts: BTreeMap::new(),
            refused: BTreeMap::new(),
            typing: BTreeMap::new(),
            members: BTreeMap::new(),
            fetching: BTreeSet::new(),
            news_after: BTreeMap::new(),
            link: Link::Down(None),
            presence: (Status::Online, String::new()),
            notices: Vec::new(),
            panel: None,
            scroll: None,
            selected: None,
            size: (80, 24),
            now_ms,
            zone,
            focused: true,
            plain,
            asking: BTreeSet::new(),
            members_wanted: None,
            warned: false,
            sorted: false,
            told_typing: None,
            out: Vec::new(),
        }
    }

    /// Takes what happened at `now_ms` and says what to do about it.
    pub fn on(&mut self, core: &Core, input: Input, now_ms: i64) -> Vec<Effect> {
        self.now_ms = now_ms;
        match input {
            Input::Update(update) => self.on_update(core, *update),
            Input::Key(key) => {
                self.focused = true;
                self.on_key(core, key);
            }
            Input::Paste(text) => {
                self.focused = true;
                self.draft().editor.insert(&text);
            }
            Input::Line(line) => {
                self.enter(core, &line);
            }
            Input::Answer(answer) => self.on_answer(core, answer),
            Input::Resize(columns, rows) => {
                self.size = (columns, rows);
                self.scroll = self.scroll.map(|a| Anchor { row: 0, ..a });
            }
            Input::Focus(focused) => self.focused = focused,
            Input::Tick => {}
        }
        self.settle(core);
        std::mem::take(&mut self.out)
    }

    // ------------------------------------------------------------ what is in view

    /// The conversation in view, if the device holds anything of it.
    pub fn view<'a>(&self, core: &'a Core) -> Option<&'a Conversation> {
        core.conversation(self.current.as_ref()?)
    }

    /// The draft of the conversation in view.
    pub fn draft(&mut self) -> &mut Draft {
        self.drafts
            .entry(self.current.clone().unwrap_or_default())
            .or_default()
    }

    /// The draft of the conversation in view, to look at.
    pub fn written(&self) -> Option<&Draft> {
        self.drafts.get(self.current.as_deref().unwrap_or_default())
    }

    /// The newest notice, while it is fresh.
    pub fn notice(&self) -> Option<&Notice> {
        self.notices
            .last()
            .filter(|n| self.now_ms - n.at_ms < NOTICE_MS)
    }

    pub(super) fn say(&mut self, text: impl Into<String>) {
        let (text, at_ms) = (text.into(), self.now_ms);
        self.notices.push(Notice {
            text,
            bad: false,
            at_ms,
        });
    }

    pub(super) fn complain(&mut self, text: impl Into<String>) {
        let (text, at_ms) = (text.into(), self.now_ms);
        self.notices.push(Notice {
            text,
            bad: true,
            at_ms,
        });
    }

    pub(super) fn show(&mut self, title: impl Into<String>, lines: Vec<String>) {
        self.panel = Some(Panel {
            title: title.into(),
            lines,
            top: 0,
        });
    }

    /// Opens a conversation.
    pub fn open(&mut self, core: &Core, id: &str) {
        self.panel = None;
        if self.current.as_deref() == Some(id) {
            return;
        }
        self.cease_typing();
        if let Some(left) = self.current.take() {
            self.news_after.remove(&left);
        }
        // what was written before any conversation was open comes along
        let homeless = self.drafts.remove("").filter(|d| !d.editor.is_empty());
        if !self.tabs.iter().any(|t| t == id) {
            self.tabs.push(id.to_owned());
        }
        self.current = Some(id.to_owned());
        (self.scroll, self.selected) = (None, None);
        if let Some(draft) = homeless
            && self.written().is_none_or(|d| d.editor.is_empty())
        {
            *self.draft() = draft;
        }
        if let (Some(c), Some(me)) = (core.conversation(id), core.me())
            && c.unread(me) > 0
        {
            self.news_after.insert(id.to_owned(), c.read(me));
        }
        if names::is_group(id) && !self.members.contains_key(id) {
            self.out.push(Effect::Members(id.to_owned()));
        }
    }

    /// The messages, nudges and changes of a conversation that can be shown without a gap, newest first.
    pub fn lines<'a>(
        c: &'a Conversation,
    ) -> impl Iterator<Item = tandem_client::domain::Message<'a>> + 'a {
        let after = c.ranges().newest_gap().map_or(0, |(_, before)| before);
        c.messages_after(after).rev()
    }

    // ------------------------------------------------------------ what the device tells

    fn on_update(&mut self, core: &Core, update: Update) {
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

    fn on_answer(&mut self, core: &Core, answer: Answer) {
        match answer {
            Answer::Back(id, result) => {
                match result {
                    Ok(true) => {}
                    Ok(false) if self.plain => self.say("there is nothing older"),
                    Ok(false) => {}
                    Err(problem) => self.complain(format!("older messages: {}", reason(&problem))),
                }
                self.fetching.remove(&id);
            }
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

    // ------------------------------------------------------------ what follows from how things stand

    fn settle(&mut self, core: &Core) {
        self.typing.retain(|_, until| *until > self.now_ms);
        self.list(core);
        self.follow_typing();
        let Some(id) = self.current.clone() else {
            return;
        };
        self.read(core, &id);
        if !self.plain && self.panel.is_none() && self.wants_older(core) {
            self.fetch(core, &id);
        }
    }

    fn list(&mut self, core: &Core) {
        let known: BTreeSet<&str> = self.tabs.iter().map(String::as_str).collect();
        let mut found: Vec<(i64, String)> = core
            .conversations()
            .filter(|(id, c)| !known.contains(id) && c.newest().0 > 0)
            .map(|(id, c)| (c.newest().1, id.to_owned()))
            .collect();
        for contact in core
            .contacts()
            .filter(|c| c.state() == contact::State::Mutual)
        {
            if let Some(id) = core.with(&contact.user)
                && !known.contains(id.as_str())
                && !found.iter().any(|(_, f)| *f == id)
            {
                found.push((0, id));
            }
        }
        found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        self.tabs.extend(found.into_iter().map(|(_, id)| id));
        if !self.sorted && core.is_synced() {
            // from here on the numbers stay
            self.sorted = true;
            let newest = |id: &String| core.conversation(id).map_or(0, |c| c.newest().1);
            self.tabs.sort_by_key(|id| std::cmp::Reverse(newest(id)));
        }
        if let Some(wanted) = self.wanted.clone()
            && core.me().is_some()
        {
            self.wanted = None;
            self.go_to(core, &wanted);
        } else if self.sorted
            && self.current.is_none()
            && !self.plain
            && let Some(first) = self.tabs.first().cloned()
        {
            self.open(core, &first);
        }
    }

    fn read(&mut self, core: &Core, id: &str) {
        let (Some(c), Some(me)) = (core.conversation(id), core.me()) else {
            return;
        };
        // what a script prints is read; a person must see the newest
        if !self.plain && (!self.focused || self.scroll.is_some() || self.panel.is_some()) {
            return;
        }
        let theirs = c
            .messages_after(c.read(me))
            .rev()
            .find(|m| m.event.sender != me);
        if let Some(newest) = theirs {
            self.out.push(Effect::Read(id.to_owned(), newest.seq));
        }
    }

    /// Whether the topmost rows in view are the oldest that are here, and there are older ones.
    fn wants_older(&self, core: &Core) -> bool {
        let Some(c) = self.view(core) else {
            return false;
        };
        if c.ranges().newest_gap().is_none() {
            return false;
        }
        let geometry = layout::geometry(self);
        let need = geometry.body_height * 2;
        layout::rows(self, core, geometry.body_width, need).len() < need
    }

    pub(super) fn fetch(&mut self, core: &Core, id: &str) {
        if core.is_connected() && self.fetching.insert(id.to_owned()) {
            self.out.push(Effect::Back(id.to_owned()));
        }
    }

    fn follow_typing(&mut self) {
        let id = self.current.clone();
        let written = self.written();
        let writes =
            written.is_some_and(|d| !d.editor.is_empty() && !d.editor.text().starts_with('/'));
        match (&self.told_typing, id) {
            (Some((told, _, last_key)), Some(id))
                if *told == id && writes && self.now_ms - last_key < TYPING_AGAIN_MS * 2 => {}
            (Some(_), _) => self.cease_typing(),
            (None, _) => {}
        }
    }

    /// A key changed what is being written.
    pub(super) fn typed(&mut self) {
        let Some(id) = self.current.clone() else {
            return;
        };
        let text = self.written().map_or("", |d| d.editor.text());
        if text.is_empty() || text.starts_with('/') || self.link != Link::Up {
            return;
        }
        let now = self.now_ms;
        match &mut self.told_typing {
            Some((told, at, last_key)) if *told == id => {
                *last_key = now;
                if now - *at < TYPING_AGAIN_MS {
                    return;
                }
                *at = now;
            }
            _ => {
                self.cease_typing();
                self.told_typing = Some((id.clone(), now, now));
            }
        }
        self.out.push(Effect::Typing(id, true));
    }

    pub(super) fn cease_typing(&mut self) {
        if let Some((id, _, _)) = self.told_typing.take() {
            self.out.push(Effect::Typing(id, false));
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
