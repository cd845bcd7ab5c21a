//! What the client shows, as a pure function: (state, what the device holds, what happened) → (state,
//! what to do). No terminal, no clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};

use crossterm::event::KeyEvent;
use jiff::tz::TimeZone;
use tandem_client::{
    Core, Update,
    domain::{Conversation, Message},
};
use tandem_kernel::event::Kind;
use tandem_proto::client::{Contact, Members, Problem, Status, contact_change::Action};

use super::{editor::Editor, names};

pub mod act;
mod keys;
mod settle;
#[cfg(test)]
pub mod tests;
mod told;

pub use told::reason;

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
    pub fn lines(c: &Conversation) -> impl Iterator<Item = Message<'_>> {
        let after = c.ranges().newest_gap().map_or(0, |(_, before)| before);
        c.messages_after(after).rev()
    }
}
