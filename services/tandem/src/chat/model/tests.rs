use std::time::Duration;

use crossterm::event::{KeyCode, KeyModifiers};
use tandem_client::{Pages, Update};
use tandem_kernel::event::{Body, Event, MembersAdd, Nudge, Text};
use tandem_proto::client::{
    Contacts, Head, Heads, Member, Page, Presence, Rejected, Response, Role, ServerFrame, Synced,
    TypingEvent, Welcome, client_frame, contact, request, response, server_frame::Frame,
};

use super::*;

pub const ME: &str = "alice@x.test";
pub const BOB: &str = "o:alice@x.test,bob@x.test";
pub const CHLOE: &str = "o:alice@x.test,chloe@x.test";
pub const GROUP: &str = "g:018f4d2e-0000-7000-8000-000000000001@x.test";
/// 2026-01-01 12:00 UTC
pub const NOON: i64 = 1_767_268_800_000;

/// A device and what is shown of it.
pub struct Fixture {
    pub core: Core,
    pub state: State,
    pub done: Vec<Effect>,
    n: u64,
    now: i64,
}

pub fn text(from: &str, conversation: &str, seq: u64, text: &str) -> Event {
    let text = Text {
        text: text.into(),
        ..Text::default()
    };
    event(from, conversation, seq, Kind::Text(text))
}

pub fn event(from: &str, conversation: &str, seq: u64, kind: Kind) -> Event {
    Event {
        event_id: format!("id{seq}"),
        conversation: conversation.into(),
        seq,
        sender: format!("{from}@x.test"),
        at_ms: NOON + seq as i64 * 60_000,
        body: Some(Body { kind: Some(kind) }),
        ..Event::default()
    }
}

impl Fixture {
    /// Connected and synced, with contacts bob (online, busy) and chloe.
    pub fn new() -> Self {
        let mut this = Self::offline();
        this.connect(Vec::new());
        this
    }

    pub fn offline() -> Self {
        Self {
            core: Core::new(Pages::Newest(50)),
            state: State::new(false, None, TimeZone::UTC, NOON),
            done: Vec::new(),
            n: 0,
            now: NOON,
        }
    }

    pub fn connect(&mut self, heads: Vec<Head>) -> Vec<Update> {
        let welcome = Welcome {
            session: "s".into(),
            user: ME.into(),
            heartbeat_ms: 30_000,
            ..Welcome::default()
        };
        self.frame(Frame::Welcome(welcome));
        let presence = Presence {
            user: "bob@x.test".into(),
            status: Status::Busy.into(),
            message: "in a meeting".into(),
            version: 1,
            ..Presence::default()
        };
        let contact = |user: &str, name: &str, presence| Contact {
            user: user.into(),
            name: name.into(),
            state: contact::State::Mutual.into(),
            presence,
        };
        let contacts = vec![
            contact("bob@x.test", "Bob Baker", Some(presence)),
            contact("chloe@x.test", "Chloé", None),
        ];
        self.answer(
            |op| matches!(op, request::Op::Contacts(_)),
            response::Result::Contacts(Contacts { contacts }),
        );
        let mut updates = self.frame(Frame::Heads(Heads { heads }));
        updates.extend(self.frame(Frame::Synced(Synced {})));
        updates
    }

    /// Answers the open question that fits.
    pub fn answer(
        &mut self,
        fits: fn(&request::Op) -> bool,
        result: response::Result,
    ) -> Vec<Update> {
        let (frames, _) = self.core.take_out(Duration::ZERO);
        let id = frames.into_iter().find_map(|f| match f.frame {
            Some(client_frame::Frame::Request(r)) if r.op.as_ref().is_some_and(fits) => Some(r.id),
            _ => None,
        });
        let response = Response {
            id: id.expect("it was asked"),
            result: Some(result),
        };
        self.frame(Frame::Response(response))
    }

    /// The edge says something; the updates that it leads to.
    pub fn frame(&mut self, frame: Frame) -> Vec<Update> {
        self.n += 1;
        let frame = ServerFrame {
            n: self.n,
            frame: Some(frame),
        };
        self.core.on_frame(frame, Duration::ZERO);
        let updates = self.core.take_updates();
        for update in &updates {
            self.on(Input::Update(Box::new(update.clone())));
        }
        updates
    }

    pub fn on(&mut self, input: Input) {
        let effects = self.state.on(&self.core, input, self.now);
        for effect in &effects {
            match effect {
                Effect::Read(id, seq) => self.core.read(id, *seq),
                Effect::Send(to, kind) => {
                    self.n += 1;
                    let body = Body {
                        kind: Some(kind.clone()),
                    };
                    self.core
                        .submit(to, format!("mine{}", self.n), body, self.now);
                }
                _ => {}
            }
        }
        self.done.extend(effects);
    }

    pub fn press(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.on(Input::Key(KeyEvent::new(code, modifiers)));
    }

    pub fn key(&mut self, code: KeyCode) {
        self.press(code, KeyModifiers::NONE);
    }

    pub fn write(&mut self, text: &str) {
        for c in text.chars() {
            self.key(KeyCode::Char(c));
        }
    }

    pub fn enter(&mut self, text: &str) {
        self.write(text);
        self.key(KeyCode::Enter);
    }

    pub fn wait(&mut self, ms: i64) {
        self.now += ms;
        self.on(Input::Tick);
    }

    pub fn sent(&mut self) -> Vec<(String, Kind)> {
        let of = |e: Effect| match e {
            Effect::Send(to, kind) => Some((to, kind)),
            _ => None,
        };
        std::mem::take(&mut self.done)
            .into_iter()
            .filter_map(of)
            .collect()
    }

    pub fn written(&self) -> (&str, Mode) {
        self.state
            .written()
            .map_or(("", Mode::New), |d| (d.editor.text(), d.mode))
    }

    fn said(&self) -> &str {
        self.state.notices.last().map_or("", |n| n.text.as_str())
    }

    fn group(&mut self) {
        self.enter("/to 1");
        self.state.open(&self.core, GROUP);
        let member = |user: &str, role: Role| Member {
            user: user.into(),
            role: role.into(),
        };
        let members = Members {
            conversation: GROUP.into(),
            title: "lunch".into(),
            members: vec![
                member(ME, Role::Owner),
                member("bob@x.test", Role::Member),
                member("chloe@x.test", Role::Member),
            ],
        };
        self.on(Input::Answer(Answer::Members(GROUP.into(), Ok(members))));
    }
}

fn said_text(kind: &Kind) -> (&str, u64, Vec<&str>) {
    match kind {
        Kind::Text(t) => (
            t.text.as_str(),
            t.reply_to,
            t.mentions.iter().map(String::as_str).collect(),
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn contacts_are_listed_and_the_first_conversation_is_open() {
    let f = Fixture::new();
    assert_eq!(f.state.tabs, [BOB, CHLOE]);
    assert_eq!(f.state.current.as_deref(), Some(BOB));
}

#[test]
fn what_is_entered_is_sent_where_it_was_written_and_nothing_empty_is() {
    let mut f = Fixture::new();
    f.enter("hello bob");
    f.key(KeyCode::Tab);
    f.enter("hello chloe");
    f.enter("   ");
    let sent = f.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(
        (sent[0].0.as_str(), said_text(&sent[0].1).0),
        (BOB, "hello bob")
    );
    assert_eq!(
        (sent[1].0.as_str(), said_text(&sent[1].1).0),
        (CHLOE, "hello chloe")
    );
}

#[test]
fn a_draft_stays_with_its_conversation() {
    let mut f = Fixture::new();
    f.write("half a sent");
    f.press(KeyCode::Char('2'), KeyModifiers::ALT);
    assert_eq!(
        (f.state.current.as_deref(), f.written().0),
        (Some(CHLOE), "")
    );
    f.press(KeyCode::BackTab, KeyModifiers::SHIFT);
    assert_eq!(f.written().0, "half a sent");
}

#[test]
fn only_what_is_in_view_is_read() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(text("chloe", CHLOE, 5, "psst")));
    f.frame(Frame::Event(text("bob", BOB, 6, "hi")));
    let reads = |f: &Fixture| {
        f.done
            .iter()
            .filter(|e| matches!(e, Effect::Read(..)))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(reads(&f), [Effect::Read(BOB.into(), 6)]);
    f.on(Input::Focus(false));
    f.frame(Frame::Event(text("bob", BOB, 7, "there?")));
    assert_eq!(reads(&f).len(), 1);
    f.on(Input::Focus(true));
    f.press(KeyCode::Char('a'), KeyModifiers::ALT);
    let news = [
        Effect::Read(BOB.into(), 6),
        Effect::Read(BOB.into(), 7),
        Effect::Read(CHLOE.into(), 5),
    ];
    assert_eq!(reads(&f), news);
}

#[test]
fn ones_own_messages_need_no_read_mark() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(text("alice", BOB, 6, "from my phone")));
    assert!(!f.done.iter().any(|e| matches!(e, Effect::Read(..))));
}

#[test]
fn up_edits_the_last_own_message_and_escape_cancels() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(text("alice", BOB, 6, "helo")));
    f.frame(Frame::Event(text("bob", BOB, 7, "?")));
    f.key(KeyCode::Up);
    assert_eq!(f.written(), ("helo", Mode::Edit(6)));
    f.key(KeyCode::Esc);
    assert_eq!(f.written(), ("", Mode::New));
    f.key(KeyCode::Up);
    f.key(KeyCode::Backspace);
    f.enter("lo");
    match &f.sent()[..] {
        [(to, Kind::Edit(edit))] => {
            assert_eq!((to.as_str(), edit.target), (BOB, 6));
            assert_eq!(edit.text.as_ref().unwrap().text, "hello");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(f.written(), ("", Mode::New));
}

#[test]
fn a_refused_message_gives_its_text_back() {
    let mut f = Fixture::new();
    f.enter("first");
    f.enter("second");
    let ids: Vec<String> = f
        .core
        .outbox()
        .of(BOB)
        .map(|p| p.event_id.clone())
        .collect();
    for id in ids {
        let (code, message) = ("forbidden".into(), "not today".into());
        f.frame(Frame::Rejected(Rejected {
            event_id: id,
            code,
            message,
            retry_after_ms: 0,
        }));
    }
    // the line was empty for the first; the second waits until it is asked for
    assert_eq!(f.written().0, "first");
    assert!(f.said().contains("not today"));
    f.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    f.key(KeyCode::Up);
    assert_eq!(f.written().0, "second");
}

#[test]
fn a_line_that_cannot_be_done_stays() {
    let mut f = Fixture::new();
    f.enter("/titel lunch");
    assert_eq!(f.written().0, "/titel lunch");
    assert!(f.said().contains("no command /titel"));
    f.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    f.enter("/add dan");
    assert!(f.said().contains("for groups"));
    f.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    f.on(Input::Paste("x".repeat(20_000)));
    f.key(KeyCode::Enter);
    assert!(f.said().contains("too long: 20000 of 16384"));
    assert_eq!(f.written().0.len(), 20_000);
    assert!(f.sent().is_empty());
}

#[test]
fn replies_and_reactions_are_for_the_newest_of_others_or_the_selected_one() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(text("bob", BOB, 6, "lunch?")));
    f.frame(Frame::Event(text("bob", BOB, 7, "at noon?")));
    f.enter("/re yes");
    f.press(KeyCode::Up, KeyModifiers::ALT);
    f.press(KeyCode::Up, KeyModifiers::ALT);
    f.enter("/react heart");
    f.enter("/react #7 +1");
    let sent = f.sent();
    assert_eq!(said_text(&sent[0].1), ("yes", 7, vec![]));
    let reaction = |k: &Kind| match k {
        Kind::Reaction(r) => (r.target, r.emoji.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(reaction(&sent[1].1), (6, "❤️".into()));
    assert_eq!(reaction(&sent[2].1), (7, "👍".into()));
    f.enter("/edit #7 no");
    assert!(f.said().contains("not your message"));
}

#[test]
fn people_of_the_conversation_are_mentioned_and_no_others() {
    let mut f = Fixture::new();
    f.group();
    f.enter("@bob, @chloe@x.test and @dan: mail a@bob");
    let sent = f.sent();
    let (_, _, mentions) = said_text(&sent[0].1);
    assert_eq!(mentions, ["bob@x.test", "chloe@x.test"]);
}

#[test]
fn typing_is_told_now_and_then_and_taken_back() {
    let mut f = Fixture::new();
    let typing = |f: &mut Fixture| -> Vec<bool> {
        let of = |e: Effect| match e {
            Effect::Typing(_, active) => Some(active),
            _ => None,
        };
        std::mem::take(&mut f.done)
            .into_iter()
            .filter_map(of)
            .collect()
    };
    f.write("/status");
    assert!(typing(&mut f).is_empty());
    f.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    f.write("hello");
    assert_eq!(typing(&mut f), [true]);
    f.wait(5_000);
    f.write("!");
    assert_eq!(typing(&mut f), [true]);
    f.wait(9_000);
    assert_eq!(typing(&mut f), [false]);
    f.write("!");
    f.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    assert_eq!(typing(&mut f), [true, false]);
}

#[test]
fn who_types_is_shown_until_they_write_or_time_passes() {
    let mut f = Fixture::new();
    let typing = || {
        Frame::Typing(TypingEvent {
            conversation: BOB.into(),
            user: "bob@x.test".into(),
            active: true,
        })
    };
    f.frame(typing());
    assert_eq!(f.state.typing.len(), 1);
    f.frame(Frame::Event(text("bob", BOB, 6, "hi")));
    assert_eq!(f.state.typing.len(), 0);
    f.frame(typing());
    f.wait(10_001);
    assert_eq!(f.state.typing.len(), 0);
}

#[test]
fn scrolling_up_fetches_what_is_older_once() {
    let mut f = Fixture::offline();
    let head = Head {
        conversation: BOB.into(),
        last_seq: 200,
        last_content_seq: 200,
        ..Head::default()
    };
    f.connect(vec![head]);
    let events = (151..=200).map(|seq| text("bob", BOB, seq, "x")).collect();
    let page = Page {
        conversation: BOB.into(),
        events,
        more: true,
    };
    f.answer(
        |op| matches!(op, request::Op::Page(_)),
        response::Result::Page(page),
    );
    let back = |f: &Fixture| {
        f.done
            .iter()
            .filter(|e| **e == Effect::Back(BOB.into()))
            .count()
    };
    assert_eq!(back(&f), 0);
    for _ in 0..4 {
        f.key(KeyCode::PageUp);
    }
    assert_eq!(back(&f), 1);
    f.on(Input::Answer(Answer::Back(BOB.into(), Ok(true))));
    assert_eq!(back(&f), 2);
    // what comes meanwhile does not move what is read, and is not taken as read
    let anchor = f.state.scroll;
    f.done.clear();
    f.frame(Frame::Event(text("bob", BOB, 201, "new")));
    assert_eq!(f.state.scroll, anchor);
    assert!(!f.done.iter().any(|e| matches!(e, Effect::Read(..))));
    for _ in 0..5 {
        f.key(KeyCode::PageDown);
    }
    assert_eq!(f.state.scroll, None);
    assert!(f.done.contains(&Effect::Read(BOB.into(), 201)));
}

#[test]
fn a_page_down_undoes_a_page_up() {
    let mut f = Fixture::new();
    for seq in 1..=100 {
        f.frame(Frame::Event(text(
            "bob",
            BOB,
            seq,
            &"word ".repeat(seq as usize),
        )));
    }
    f.key(KeyCode::PageUp);
    let once = f.state.scroll;
    f.key(KeyCode::PageUp);
    assert_ne!(f.state.scroll, once);
    f.key(KeyCode::PageDown);
    assert_eq!(f.state.scroll, once);
    f.key(KeyCode::PageDown);
    assert_eq!(f.state.scroll, None);
}

#[test]
fn leaving_with_something_unsent_is_asked_about_once() {
    let mut f = Fixture::new();
    f.enter("on its way");
    f.press(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(!f.done.contains(&Effect::Quit));
    f.press(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(f.done.contains(&Effect::Quit));
    let mut f = Fixture::new();
    f.enter("/quit");
    assert!(f.done.contains(&Effect::Quit));
}

#[test]
fn a_group_is_begun_opened_and_its_members_kept_up_to_date() {
    let mut f = Fixture::new();
    f.enter("/new \"Friday lunch\" bob Chloé");
    let create = Effect::CreateGroup {
        title: "Friday lunch".into(),
        members: vec!["bob@x.test".into(), "chloe@x.test".into()],
    };
    assert!(f.done.contains(&create));
    f.on(Input::Answer(Answer::Created(Some(GROUP.into()))));
    assert_eq!(f.state.current.as_deref(), Some(GROUP));
    f.done.clear();
    let add = MembersAdd {
        members: vec!["dan@x.test".into()],
    };
    f.frame(Frame::Event(event(
        "alice",
        GROUP,
        9,
        Kind::MembersAdd(add),
    )));
    assert!(f.done.contains(&Effect::Members(GROUP.into())));
}

#[test]
fn a_nudge_sounds_the_bell() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(event(
        "chloe",
        CHLOE,
        9,
        Kind::Nudge(Nudge {}),
    )));
    assert!(f.done.contains(&Effect::Bell));
    assert_eq!(f.said(), "Chloé nudges you");
}

#[test]
fn a_contact_request_tells_how_to_answer() {
    let mut f = Fixture::new();
    let contact = Contact {
        user: "dan@x.test".into(),
        name: "Dan\x1b[2J".into(),
        state: contact::State::AskedBy.into(),
        presence: None,
    };
    f.frame(Frame::Contact(tandem_proto::client::ContactEvent {
        contact: Some(contact),
    }));
    assert_eq!(
        f.said(),
        "Dan·[2J asks to be your contact: /accept dan or /decline dan"
    );
    f.enter("/accept dan");
    let accept = |e: &Effect| matches!(e, Effect::Relation { who, action: Action::Accept, .. } if who == "dan@x.test");
    assert!(f.done.iter().any(accept));
}

#[test]
fn a_strangers_request_is_not_read_until_it_is_opened() {
    const EVE: &str = "o:alice@x.test,eve@x.test";
    let mut f = Fixture::offline();
    let request = Event {
        request: true,
        ..text("eve", EVE, 6, "buy this")
    };
    let head = Head {
        conversation: EVE.into(),
        last_seq: 6,
        last_content_seq: 6,
        unread: 1,
        request: true,
        ..Head::default()
    };
    f.connect(vec![head]);
    let page = Page {
        conversation: EVE.into(),
        events: vec![request],
        more: false,
    };
    f.answer(
        |op| matches!(op, request::Op::Page(_)),
        response::Result::Page(page),
    );
    assert_eq!(f.state.tabs[0], EVE, "it is the newest");
    assert_eq!(f.state.current.as_deref(), Some(BOB));
    let read = |e: &Effect| matches!(e, Effect::Read(id, _) if id == EVE);
    assert!(!f.done.iter().any(read));
    f.enter("/to eve");
    assert!(f.done.iter().any(read));
}

#[test]
fn tab_completes_commands_and_names() {
    let mut f = Fixture::new();
    f.write("/reac");
    f.key(KeyCode::Tab);
    assert_eq!(f.written().0, "/react ");
    f.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    f.write("hi @bo");
    f.key(KeyCode::Tab);
    assert_eq!(f.written().0, "hi @bob ");
    f.press(KeyCode::Char('u'), KeyModifiers::CONTROL);
    f.write("/to ch");
    f.key(KeyCode::Tab);
    f.key(KeyCode::Enter);
    assert_eq!(f.state.current.as_deref(), Some(CHLOE));
    assert_eq!(f.written().0, "");
}

#[test]
fn the_list_keeps_its_numbers_when_messages_come() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(text("chloe", CHLOE, 5, "hi")));
    f.frame(Frame::Event(text(
        "eve",
        "o:alice@x.test,eve@x.test",
        6,
        "hi",
    )));
    assert_eq!(f.state.tabs, [BOB, CHLOE, "o:alice@x.test,eve@x.test"]);
}

#[test]
fn an_end_for_good_ends_the_client_with_the_reason() {
    let mut f = Fixture::new();
    let closed = Update::Closed {
        code: "no_account".into(),
        message: "the account is closed".into(),
    };
    f.on(Input::Update(Box::new(closed)));
    assert_eq!(
        f.state.link,
        Link::Closed("no_account".into(), "the account is closed".into())
    );
    assert!(f.done.contains(&Effect::Quit));
}
