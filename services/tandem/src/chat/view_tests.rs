use crossterm::event::{KeyCode, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend};
use tandem_kernel::event::{Kind, Reaction, Receipt, Text};
use tandem_proto::client::server_frame::Frame;

use super::{
    model::{
        Input,
        tests::{BOB, CHLOE, Fixture, event, text},
    },
    view,
};

fn screen(f: &Fixture) -> String {
    let (columns, rows) = f.state.size;
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let scene = view::scene(&f.state, &f.core, "ws://x.test:7400");
    terminal.draw(|frame| scene.draw(frame)).unwrap();
    terminal.backend().to_string()
}

fn row<'a>(screen: &'a str, with: &str) -> &'a str {
    screen
        .lines()
        .find(|l| l.contains(with))
        .unwrap_or_else(|| panic!("no {with} in\n{screen}"))
}

#[test]
fn a_conversation_shows_who_said_what_and_what_became_of_it() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(text("alice", BOB, 2, "lunch at noon?")));
    let reply = Text {
        text: "@alice yes, where we were".into(),
        reply_to: 2,
        mentions: vec!["alice@x.test".into()],
    };
    f.frame(Frame::Event(event("bob", BOB, 3, Kind::Text(reply))));
    let reaction = Reaction {
        target: 2,
        emoji: "👍".into(),
    };
    f.frame(Frame::Event(event("bob", BOB, 4, Kind::Reaction(reaction))));
    f.frame(Frame::Event(text("alice", BOB, 5, "good")));
    let receipt = Receipt {
        delivered: 5,
        read: 4,
        ..Receipt::default()
    };
    f.frame(Frame::Event(event("bob", BOB, 6, Kind::Receipt(receipt))));
    f.frame(Frame::Event(text("chloe", CHLOE, 7, "psst")));
    f.enter("on its way");
    let shown = screen(&f);
    assert!(
        row(&shown, "Bob Baker  bob").contains("busy on the PC · in a meeting"),
        "{shown}"
    );
    assert!(row(&shown, "Thursday 1 January 2026").contains("──"));
    assert!(
        row(&shown, "lunch at noon?").contains("12:02 you        lunch at noon? ✓✓ read"),
        "{shown}"
    );
    assert!(row(&shown, "👍").contains("Bob Baker"));
    assert!(row(&shown, "↳").contains("↳ you: lunch at noon?"));
    assert!(row(&shown, "yes, where").contains("12:03 Bob Baker  @alice yes, where we were"));
    assert!(row(&shown, "good").contains("good ✓✓ "), "{shown}");
    assert!(!row(&shown, "good").contains("read"));
    assert!(row(&shown, "on its way").contains("on its way …"));
    assert!(row(&shown, "Chloé").contains("2 ○ Chloé"), "{shown}");
    assert!(row(&shown, "Chloé").contains(" 1│"), "{shown}");
}

#[test]
fn nothing_that_others_write_reaches_the_terminal_as_a_control() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(text(
        "bob",
        BOB,
        2,
        "\x1b[2J\x1b]0;pwned\x07 \u{9b}31m\u{202e}evil",
    )));
    let shown = screen(&f);
    assert!(
        row(&shown, "pwned").contains("·[2J·]0;pwned· ·31m·evil"),
        "{shown}"
    );
    assert!(!shown.chars().any(|c| c != '\n' && c.is_control()));
}

#[test]
fn what_is_refused_stays_with_its_reason() {
    let mut f = Fixture::new();
    f.enter("let me in");
    let id = f.core.outbox().of(BOB).next().unwrap().event_id.clone();
    let (code, message) = ("forbidden".into(), "cannot be reached".into());
    f.frame(Frame::Rejected(tandem_proto::client::Rejected {
        event_id: id,
        code,
        message,
        retry_after_ms: 0,
    }));
    let shown = screen(&f);
    assert!(
        row(&shown, "✗").contains("let me in ✗ not sent: cannot be reached"),
        "{shown}"
    );
    assert!(row(&shown, "> ").contains("> let me in"), "{shown}");
}

#[test]
fn every_size_can_be_drawn_and_the_line_is_always_there() {
    let mut f = Fixture::new();
    for seq in 2..40 {
        f.frame(Frame::Event(text(
            "bob",
            BOB,
            seq,
            "日本語テキスト 👩‍👩‍👧 and words and words",
        )));
    }
    f.write("so");
    for columns in 1..100 {
        for rows in [1, 2, 3, 5, 8, 24] {
            f.on(Input::Resize(columns, rows));
            let shown = screen(&f);
            if columns > 6 && rows > 4 {
                assert!(shown.contains("> so"), "{columns}x{rows}\n{shown}");
            }
        }
    }
}

#[test]
fn the_help_is_shown_and_closed() {
    let mut f = Fixture::new();
    f.on(Input::Resize(120, 40));
    f.enter("/help");
    let shown = screen(&f);
    assert!(
        shown.contains("/react 👍") && shown.contains("Esc closes"),
        "{shown}"
    );
    f.key(KeyCode::Esc);
    assert!(!screen(&f).contains("Esc closes"));
}

#[test]
fn news_are_marked_off_when_a_conversation_is_opened() {
    let mut f = Fixture::new();
    f.frame(Frame::Event(text("chloe", CHLOE, 5, "one")));
    f.frame(Frame::Event(text("chloe", CHLOE, 6, "two")));
    f.press(KeyCode::Char('2'), KeyModifiers::ALT);
    let shown = screen(&f);
    let lines: Vec<&str> = shown.lines().collect();
    let news = lines.iter().position(|l| l.contains("── new ─")).unwrap();
    assert!(
        lines[news + 1].contains("one") && lines[news + 2].contains("two"),
        "{shown}"
    );
    assert_eq!(shown.matches("── new ─").count(), 1);
}
