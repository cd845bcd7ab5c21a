use proptest::prelude::*;

use super::*;

const C: &str = "o:alice@x.test,bob@x.test";

fn user(name: &str) -> Address {
    Address::parse(&format!("{name}@x.test")).unwrap()
}

fn conversation() -> ConversationId {
    ConversationId::parse(C).unwrap()
}

fn window() -> Window {
    Window::new(5_000, 0)
}

fn message(w: &mut Window, offset: u64, at: i64, to: &[&str]) {
    w.read(offset, UnixMillis(at));
    let content = Content {
        conversation: conversation(),
        seq: Seq::new(1, offset),
        sender: Some(user("alice")),
        group: String::new(),
        text: Some("hi".into()),
        nudge: false,
        request: false,
        at: UnixMillis(at),
        traceparent: String::new(),
    };
    w.wait(offset, content, to.iter().map(|n| user(n)).collect());
}

fn receipt(w: &mut Window, offset: u64, at: i64, who: &str, receipt: &Receipt) -> Vec<Effect> {
    let mut effects = Vec::new();
    w.read(offset, UnixMillis(at));
    w.receipt(conversation(), user(who), receipt, &mut effects);
    effects
}

fn delivered(offset: u64) -> Receipt {
    Receipt {
        delivered: Seq::new(1, offset).0,
        ..Receipt::default()
    }
}

fn decide(w: &mut Window) -> Vec<(String, u64)> {
    let mut effects = Vec::new();
    w.decide(&mut effects);
    notified(&effects)
}

fn notified(effects: &[Effect]) -> Vec<(String, u64)> {
    effects
        .iter()
        .filter_map(|e| match e {
            Effect::Notify { user, content, .. } => {
                Some((user.local().to_owned(), content.seq.offset()))
            }
            _ => None,
        })
        .collect()
}

fn jobs(effects: &[Effect]) -> Vec<Job> {
    effects
        .iter()
        .filter_map(|e| {
            if let Effect::Notify { job, .. } = e {
                Some(*job)
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn what_is_not_confirmed_within_the_window_is_notified() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob"]);
    w.ended(1, UnixMillis(5_999));
    assert_eq!(decide(&mut w), []);
    w.ended(1, UnixMillis(6_000));
    assert_eq!(decide(&mut w), [("bob".to_owned(), 0)]);
    assert_eq!(decide(&mut w), []);
}

#[test]
fn what_is_confirmed_is_not_notified_and_not_waited_for() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob"]);
    message(&mut w, 1, 1_001, &["bob"]);
    assert_eq!(receipt(&mut w, 2, 1_500, "bob", &delivered(1)), []);
    w.ended(3, UnixMillis(60_000));
    assert_eq!(decide(&mut w), []);
    assert_eq!((w.commit_place(), w.size()), (3, (0, 0)));
}

#[test]
fn an_exact_receipt_confirms_nothing_below_it() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob"]);
    message(&mut w, 1, 1_000, &["bob"]);
    let exact = Receipt {
        delivered_exact: vec![Seq::new(1, 1).0],
        ..Receipt::default()
    };
    receipt(&mut w, 2, 1_500, "bob", &exact);
    w.ended(3, UnixMillis(60_000));
    assert_eq!(decide(&mut w), [("bob".to_owned(), 0)]);
}

#[test]
fn another_members_receipt_confirms_nothing() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob", "chloe"]);
    receipt(&mut w, 1, 1_500, "chloe", &delivered(0));
    w.ended(2, UnixMillis(60_000));
    assert_eq!(decide(&mut w), [("bob".to_owned(), 0)]);
}

#[test]
fn a_reader_that_is_behind_waits_by_record_time_not_by_the_clock() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob"]);
    // an hour later by the clock; the log goes on to offset 10
    w.ended(10, UnixMillis(3_600_000));
    assert_eq!(decide(&mut w), []);
    // the receipt was in the log in time
    receipt(&mut w, 1, 2_000, "bob", &delivered(0));
    message(&mut w, 2, 3_000, &["bob"]);
    w.read(3, UnixMillis(8_000));
    assert_eq!(decide(&mut w), [("bob".to_owned(), 2)]);
}

#[test]
fn an_end_that_was_asked_for_earlier_is_passed_once_it_is_read() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob"]);
    w.ended(2, UnixMillis(7_000));
    // traffic never ceases: later ends must not put the decision off
    w.ended(9, UnixMillis(8_000));
    assert_eq!(decide(&mut w), []);
    w.read(1, UnixMillis(1_100));
    assert_eq!(decide(&mut w), [("bob".to_owned(), 0)]);
}

#[test]
fn commit_stays_behind_what_waits_and_what_is_being_notified() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob"]);
    message(&mut w, 1, 1_000, &["bob", "chloe"]);
    assert_eq!(w.commit_place(), 0);
    w.ended(2, UnixMillis(60_000));
    let mut effects = Vec::new();
    w.decide(&mut effects);
    let jobs = jobs(&effects);
    assert_eq!((jobs.len(), w.commit_place()), (3, 0));
    w.done(jobs[1]);
    assert_eq!(w.commit_place(), 0);
    w.done(jobs[0]);
    assert_eq!(w.commit_place(), 1);
    w.done(jobs[2]);
    w.done(jobs[2]);
    assert_eq!((w.commit_place(), w.size()), (2, (0, 0)));
}

#[test]
fn a_receipt_that_comes_while_a_notification_is_retried_ends_the_retries() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob"]);
    w.ended(1, UnixMillis(60_000));
    let mut effects = Vec::new();
    w.decide(&mut effects);
    let job = jobs(&effects)[0];
    assert_eq!(
        receipt(&mut w, 1, 61_000, "bob", &delivered(0)),
        [Effect::Cancel(job)]
    );
    // still under way until it says that it has ended
    assert_eq!(w.commit_place(), 0);
    w.done(job);
    assert_eq!(w.commit_place(), 2);
}

#[test]
fn whoever_has_no_session_is_notified_at_once_and_once() {
    let mut w = window();
    message(&mut w, 0, 1_000, &["bob"]);
    let from = w.next_entry();
    message(&mut w, 1, 1_000, &["bob", "chloe"]);
    let since = w.waiting_since(from);
    assert_eq!(
        since.iter().map(|(_, u, _)| u.local()).collect::<Vec<_>>(),
        ["bob", "chloe"]
    );
    let mut effects = Vec::new();
    w.notify_now(since[1].0, &mut effects);
    w.notify_now(since[1].0, &mut effects);
    assert_eq!(notified(&effects), [("chloe".to_owned(), 1)]);
    w.ended(2, UnixMillis(60_000));
    assert_eq!(
        decide(&mut w),
        [("bob".to_owned(), 0), ("bob".to_owned(), 1)]
    );
}

#[test]
fn reading_withdraws_even_what_was_decided_long_ago() {
    let mut w = window();
    let read = Receipt {
        read: Seq::new(1, 7).0,
        ..Receipt::default()
    };
    let (user, conversation) = (user("bob"), conversation());
    let withdraw = Effect::Withdraw {
        user,
        conversation,
        up_to: Seq::new(1, 7),
    };
    assert_eq!(receipt(&mut w, 9, 1_000, "bob", &read), [withdraw]);
}

#[test]
fn an_overdue_entry_asks_for_the_logs_end() {
    let mut w = window();
    assert!(!w.overdue(UnixMillis(i64::MAX)));
    message(&mut w, 0, 1_000, &["bob"]);
    assert!(!w.overdue(UnixMillis(5_999)));
    assert!(w.overdue(UnixMillis(6_000)));
    w.ended(1, UnixMillis(6_000));
    decide(&mut w);
    assert!(!w.overdue(UnixMillis(6_000)));
}

/// What happens at an offset: a message to some of three people, or a receipt of one.
#[derive(Debug, Clone)]
enum Step {
    Message(Vec<&'static str>),
    Receipt(&'static str, u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let people = ["bob", "chloe", "dan"];
    prop_oneof![
        proptest::sample::subsequence(people.to_vec(), 0..=3).prop_map(Step::Message),
        (
            proptest::sample::select(people.to_vec()),
            0u64..40,
            any::<bool>()
        )
            .prop_map(|(who, back, exact)| Step::Receipt(who, back, exact)),
    ]
}

proptest! {
    /// Against the definition: (user, event) is notified exactly if no receipt of that user covering it
    /// was taken within the window; however the reading is cut into pieces.
    #[test]
    fn notified_is_exactly_what_no_receipt_covered_in_time(
        steps in proptest::collection::vec((step(), 0i64..2_000, any::<bool>()), 1..40)
    ) {
        let mut w = window();
        let (mut at, mut got, mut log) = (0, Vec::new(), Vec::new());
        for (offset, (step, gap, look)) in steps.into_iter().enumerate() {
            let offset = offset as u64;
            at += gap;
            log.push((offset, at, step.clone()));
            w.read(offset, UnixMillis(at));
            got.extend(decide(&mut w));
            match step {
                Step::Message(to) => message(&mut w, offset, at, &to),
                Step::Receipt(who, back, exact) => {
                    let covered = offset.saturating_sub(back);
                    let r = if exact {
                        Receipt { delivered_exact: vec![Seq::new(1, covered).0], ..Receipt::default() }
                    } else {
                        delivered(covered)
                    };
                    receipt(&mut w, offset, at, who, &r);
                }
            }
            if look {
                w.ended(offset + 1, UnixMillis(at));
                got.extend(decide(&mut w));
            }
        }
        w.ended(log.len() as u64, UnixMillis(at + 5_000));
        got.extend(decide(&mut w));
        let mut want = Vec::new();
        for (offset, at, step) in &log {
            let Step::Message(to) = step else { continue };
            for who in to {
                let covered = log.iter().any(|(o, t, s)| match s {
                    Step::Receipt(r, back, exact) => {
                        let up_to = o.saturating_sub(*back);
                        r == who && o > offset && *t < at + 5_000
                            && if *exact { up_to == *offset } else { up_to >= *offset }
                    }
                    Step::Message(_) => false,
                });
                if !covered {
                    want.push(((*who).to_owned(), *offset));
                }
            }
        }
        got.sort();
        want.sort();
        prop_assert_eq!(got, want);
        prop_assert_eq!(w.size().0, 0);
    }
}
