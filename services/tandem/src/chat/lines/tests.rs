use tandem_client::Update;
use tandem_kernel::event::{Edit, Kind, Receipt, Text};
use tandem_proto::client::{Head, Page, request, response, server_frame::Frame};

use super::{
    super::model::tests::{BOB, Fixture, event, text},
    Printer,
};

/// Lets the edge say something, and gives the lines for it.
fn said(f: &mut Fixture, printer: &mut Printer, frame: Frame) -> Vec<String> {
    let updates = f.frame(frame);
    let printed = updates.iter().map(|update| printer.update(&f.core, update));
    printed.flatten().collect()
}

#[test]
fn history_is_printed_in_order_although_its_newest_message_came_first() {
    let (mut f, mut printer) = (Fixture::offline(), Printer::default());
    let head = Head {
        conversation: BOB.into(),
        last_seq: 9,
        last_content_seq: 9,
        last_message: Some(text("bob", BOB, 9, "third")),
        ..Head::default()
    };
    for update in f.connect(vec![head]) {
        assert!(
            !printer
                .update(&f.core, &update)
                .iter()
                .any(|l| l.contains("third"))
        );
    }
    let events = vec![
        text("bob", BOB, 4, "first"),
        text("alice", BOB, 7, "se\x1b[2Jcond\nline"),
        text("bob", BOB, 9, "third"),
    ];
    let page = Page {
        conversation: BOB.into(),
        events,
        more: false,
    };
    let page = response::Result::Page(page);
    let updates = f.answer(|op| matches!(op, request::Op::Page(_)), page);
    let lines: Vec<String> = updates
        .iter()
        .flat_map(|update| printer.update(&f.core, update))
        .collect();
    assert_eq!(
        lines,
        [
            "[bob] #4 bob: first",
            "[bob] #7 you: se·[2Jcond ⏎ line",
            "[bob] #9 bob: third",
            "* synced"
        ]
    );
}

#[test]
fn each_event_is_one_line_and_printed_once() {
    let (mut f, mut printer) = (Fixture::new(), Printer::default());
    printer.update(&f.core, &Update::Synced);
    let hello = || Frame::Event(text("bob", BOB, 4, "hello"));
    assert_eq!(said(&mut f, &mut printer, hello()), ["[bob] #4 bob: hello"]);
    assert!(said(&mut f, &mut printer, hello()).is_empty());
    let edit = Edit {
        target: 4,
        text: Some(Text {
            text: "hallo".into(),
            ..Text::default()
        }),
    };
    let edit = Frame::Event(event("bob", BOB, 5, Kind::Edit(edit)));
    assert_eq!(
        said(&mut f, &mut printer, edit),
        ["[bob] #4 bob changed it to: hallo"]
    );
}

#[test]
fn a_receipt_is_printed_when_it_covers_more_of_ones_own() {
    let (mut f, mut printer) = (Fixture::new(), Printer::default());
    printer.update(&f.core, &Update::Synced);
    said(
        &mut f,
        &mut printer,
        Frame::Event(text("alice", BOB, 4, "hello")),
    );
    let receipt = |seq, delivered, read| {
        let receipt = Receipt {
            delivered,
            read,
            ..Receipt::default()
        };
        Frame::Event(event("bob", BOB, seq, Kind::Receipt(receipt)))
    };
    assert_eq!(
        said(&mut f, &mut printer, receipt(5, 4, 0)),
        ["[bob] #4 delivered to bob"]
    );
    assert_eq!(
        said(&mut f, &mut printer, receipt(6, 0, 4)),
        ["[bob] #4 read by bob"]
    );
    // of what the other wrote nobody is told
    assert!(said(&mut f, &mut printer, receipt(8, 8, 8)).is_empty());
}
