//! Whatever freezes, dies or stops: what was accepted is there, once, in order, and nobody was told
//! anything false. The second table of the design's comparison with other servers, row by row.

use std::time::{Duration, Instant};

use tandem_client::{Sent, Update};
use tandem_e2e_tests::{
    Device, Up,
    device::{PATIENCE, between},
    signal, wait_for,
};

/// In which everything must be there when a peer comes back.
const BACK: Duration = Duration::from_secs(20);

fn texts(shown: &[(String, String)]) -> Vec<String> {
    shown.iter().map(|(_, t)| t.clone()).collect()
}

fn numbered(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{what} {i}")).collect()
}

/// What a device shows of a conversation, as (place, text).
fn placed(device: &Device, conversation: &str) -> Vec<(u64, String)> {
    device.client.look(|core| {
        let Some(conversation) = core.conversation(conversation) else {
            return Vec::new();
        };
        let messages = conversation.messages();
        messages
            .filter_map(|m| Some((m.seq, m.text?.text.clone())))
            .collect()
    })
}

/// The texts that a device was told of, live or fetched, in the order of the telling: waits for `count`,
/// since a device holds an event a moment before it tells of it, and takes what is there beyond.
async fn told(device: &mut Device, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    let mut take = |update| {
        if let Update::Event { event, .. } = update
            && let Some(tandem_kernel::event::Kind::Text(text)) = event.body.and_then(|b| b.kind)
        {
            texts.push(text.text);
        }
        texts.len()
    };
    let wait = async { while device.updates.recv().await.is_some_and(|u| take(u) < count) {} };
    let _ = tokio::time::timeout(PATIENCE, wait).await;
    while let Ok(update) = device.updates.try_recv() {
        take(update);
    }
    texts
}

fn once(mut told: Vec<String>) -> Vec<String> {
    let all = told.len();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), all, "a person is told of each once");
    told
}

/// Every one of these was accepted; their places.
async fn accepted(sent: Vec<Sent>) -> Vec<u64> {
    let mut seqs = Vec::new();
    for sent in sent {
        let outcome = tokio::time::timeout(PATIENCE, sent.outcome()).await;
        seqs.push(outcome.expect("an answer in time").expect("accepted").seq);
    }
    seqs
}

/// The texts of alice's that `tandem chat --plain` printed so far.
fn printed(output: &str) -> Vec<String> {
    let lines = output.lines().filter_map(|line| {
        let (_, text) = line.strip_prefix("[alice] #")?.split_once(" alice: ")?;
        Some(text.to_owned())
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_peer_that_comes_back_on_another_device_has_all_once_and_in_order() {
    let up = Up::start(&[]);
    let alice = Device::connect(&up, "alice", "pc");
    alice.synced().await;
    let frozen = up.spawn(&["chat", "--as", "bob", "--plain", "--device", "phone"]);
    wait_for("bob is there", PATIENCE, || {
        frozen.output().contains("* synced").then_some(())
    });
    signal("STOP", frozen.pid());
    // as many as a terminal client fetches by itself; what is older it shows when it scrolls there
    let expected = numbered("frozen", 50);
    let sent = expected.iter();
    accepted(
        sent.map(|text| alice.client.send_text("bob", text.as_str()))
            .collect(),
    )
    .await;
    assert!(
        printed(&frozen.output()).is_empty(),
        "it is frozen in earnest"
    );

    let back = up.spawn(&["chat", "--as", "bob", "--plain", "--device", "pc"]);
    let shown = wait_for("bob has them all", BACK, || {
        let shown = printed(&back.output());
        (shown.len() >= expected.len()).then_some(shown)
    });
    assert_eq!(shown, expected);

    // the frozen device thaws: it has them all, too
    signal("CONT", frozen.pid());
    let shown = wait_for("the frozen device has them all", PATIENCE, || {
        let shown = printed(&frozen.output());
        (shown.len() >= expected.len()).then_some(shown)
    });
    assert_eq!(shown, expected);
    // and nothing comes twice, of which a later message is the witness
    alice.say("bob", "thawed").await;
    for process in [&back, &frozen] {
        let shown = wait_for("the later message is there", PATIENCE, || {
            let shown = printed(&process.output());
            shown.iter().any(|t| t == "thawed").then_some(shown)
        });
        assert_eq!(shown[..50], expected);
        assert_eq!(shown[50..], ["thawed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_peer_that_comes_back_on_the_same_device_has_all_once_and_in_order() {
    let up = Up::start(&[]);
    let alice = Device::connect(&up, "alice", "pc");
    alice.synced().await;
    let here = between("alice", "bob");
    let frozen = up.spawn(&["chat", "--as", "bob", "--plain", "--device", "phone"]);
    wait_for("bob is there", PATIENCE, || {
        frozen.output().contains("* synced").then_some(())
    });
    signal("STOP", frozen.pid());
    let expected = numbered("frozen", 50);
    let sent = expected.iter();
    let seqs = accepted(
        sent.map(|text| alice.client.send_text("bob", text.as_str()))
            .collect(),
    )
    .await;
    let reached = |core: &tandem_client::Core| {
        core.conversation(&here).is_some_and(|c| {
            let (delivered, _) = c.seen_by("alice@tandem.test", seqs[0]);
            !delivered.is_empty()
        })
    };
    assert!(!alice.client.look(reached), "nobody confirmed anything");

    let begin = Instant::now();
    let mut back = Device::connect(&up, "bob", "phone");
    let shown = tokio::time::timeout(BACK, back.shows_at_least(&here, 50)).await;
    assert_eq!(texts(&shown.expect("in time")), expected);
    back.synced().await;
    assert!(begin.elapsed() < BACK, "{:?}", begin.elapsed());
    assert_eq!(once(told(&mut back, 50).await).len(), 50);
    // now they are confirmed
    alice.until("the first is delivered", reached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_right_after_the_last_acknowledgement_has_everything() {
    let mut up = Up::start(&[]);
    let alice = Device::connect(&up, "alice", "pc");
    alice.synced().await;
    let here = between("alice", "bob");
    let expected = numbered("acknowledged", 50);
    let mut seqs = Vec::new();
    for text in &expected {
        seqs.push(alice.say("bob", text).await);
    }
    up.kill();
    // nobody is left who could say it again
    alice.leave().await;
    up.restart();
    let expected: Vec<_> = seqs.into_iter().zip(expected).collect();
    for user in ["alice", "bob"] {
        let mut late = Device::connect(&up, user, "late");
        late.synced().await;
        late.shows_at_least(&here, 50).await;
        assert_eq!(placed(&late, &here), expected, "{user}");
        assert_eq!(once(told(&mut late, 50).await).len(), 50, "{user}");
    }
}

/// Sends 1,000 texts at the session's pace, every hundredth of them too long, and says after each
/// answer how many there were.
async fn talk(
    device: &Device,
    to: &str,
    name: &str,
    answers: &std::sync::atomic::AtomicUsize,
) -> (Vec<(u64, String)>, usize) {
    let texts = (0..1_000).map(|i| match i % 100 {
        99 => format!("refused {name} {}", "x".repeat(20_000)),
        _ => format!("{name} {i}"),
    });
    let (mut taken, mut refused) = (Vec::new(), 0);
    let mut open = std::collections::VecDeque::new();
    let mut texts = texts.peekable();
    while texts.peek().is_some() || !open.is_empty() {
        while open.len() < 20
            && let Some(text) = texts.next()
        {
            open.push_back((device.client.send_text(to, text.clone()), text));
        }
        let (sent, text) = open.pop_front().expect("one is open");
        let outcome = tokio::time::timeout(PATIENCE, sent.outcome()).await;
        match outcome.expect("an answer in time") {
            Ok(at) => taken.push((at.seq, text)),
            Err(problem) => {
                assert!(text.starts_with("refused"), "{text}: {problem:?}");
                assert_eq!(problem.code, "too_large");
                refused += 1;
            }
        }
        answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    (taken, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_three_times_loses_nothing_of_two_thousand_and_tells_nothing_false() {
    let mut up = Up::start(&[
        "--set",
        "edge.events_per_s=1000",
        "--set",
        "edge.events_burst=1000",
    ]);
    let mut alice = Device::connect(&up, "alice", "pc");
    let mut bob = Device::connect(&up, "bob", "pc");
    alice.synced().await;
    bob.synced().await;
    let here = between("alice", "bob");
    let answers = std::sync::atomic::AtomicUsize::new(0);
    let kills = async {
        for at in [500, 1_000, 1_500] {
            while answers.load(std::sync::atomic::Ordering::Relaxed) < at {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::task::block_in_place(|| {
                up.kill();
                up.restart();
            });
        }
    };
    let ((alices, a_refused), (bobs, b_refused), ()) = tokio::join!(
        talk(&alice, "bob", "alice", &answers),
        talk(&bob, "alice", "bob", &answers),
        kills
    );
    assert_eq!((a_refused, b_refused), (10, 10));
    assert_eq!((alices.len(), bobs.len()), (990, 990));
    // what each was told is one order, in which each said what they said
    for said in [&alices, &bobs] {
        assert!(said.windows(2).all(|w| w[0].0 < w[1].0), "in sending order");
    }
    let mut expected: Vec<_> = alices.into_iter().chain(bobs).collect();
    expected.sort();
    for device in [&mut alice, &mut bob] {
        device.shows_at_least(&here, expected.len()).await;
        device.synced().await;
        assert_eq!(placed(device, &here), expected);
        assert_eq!(
            once(told(device, expected.len()).await).len(),
            expected.len()
        );
    }
    for user in ["alice", "bob"] {
        let mut late = Device::connect(&up, user, "late");
        late.synced().await;
        late.shows_at_least(&here, expected.len()).await;
        assert_eq!(placed(&late, &here), expected, "{user}");
        assert_eq!(
            once(told(&mut late, expected.len()).await).len(),
            expected.len(),
            "{user}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_goes_on_while_history_is_stopped_and_nothing_is_missed_when_it_is_back() {
    let up = Up::start(&["--test-hooks"]);
    let alice = Device::connect(&up, "alice", "pc");
    let bob = Device::connect(&up, "bob", "pc");
    alice.synced().await;
    bob.synced().await;
    let here = between("alice", "bob");
    alice.say("bob", "before").await;
    bob.shows_at_least(&here, 1).await;
    let hook = |what: &str| {
        let answer = up
            .http("POST", &format!("/dev/history/{what}"), "")
            .expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    };
    hook("pause");
    let mut expected = vec!["before".to_owned()];
    for i in 0..30 {
        let (from, to) = if i % 2 == 0 {
            (&alice, "bob")
        } else {
            (&bob, "alice")
        };
        let text = format!("without history {i}");
        from.say(to, &text).await;
        expected.push(text);
    }
    for device in [&alice, &bob] {
        assert_eq!(texts(&device.shows_at_least(&here, 31).await), expected);
    }
    // a device that comes now chats live, and is told that it has not everything yet
    let mut late = Device::connect(&up, "bob", "late");
    late.until("it is connected", tandem_client::Core::is_connected)
        .await;
    late.until("it hears of contacts", tandem_client::Core::knows_contacts)
        .await;
    for i in 0..10 {
        let text = format!("live {i}");
        alice.say("bob", &text).await;
        expected.push(text);
    }
    late.until("it has what is said now", |core| {
        let here = core.conversation(&here);
        here.is_some_and(|c| {
            c.messages()
                .any(|m| m.text.is_some_and(|t| t.text == "live 9"))
        })
    })
    .await;
    let own = late.say("alice", "from the late device").await;
    expected.push("from the late device".to_owned());
    assert_eq!(texts(&alice.shows_at_least(&here, 42).await), expected);
    assert!(own > 0);
    assert!(
        !late.client.look(tandem_client::Core::is_synced),
        "history has not said that this is all"
    );
    let missing = texts(&late.shows(&here));
    assert!(
        !missing.iter().any(|t| t.starts_with("without history")),
        "history was stopped in earnest: {missing:?}"
    );
    hook("resume");
    late.synced().await;
    assert_eq!(texts(&late.shows_at_least(&here, 42).await), expected);
    assert_eq!(once(told(&mut late, 42).await).len(), 42);
    let after = Device::connect(&up, "alice", "after");
    after.synced().await;
    assert_eq!(texts(&after.shows_at_least(&here, 42).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_told_to_stop_lets_go_of_its_devices_and_ends_well_and_in_time() {
    let mut up = Up::start(&[]);
    let mut alice = Device::connect(&up, "alice", "pc");
    let mut bob = Device::connect(&up, "bob", "pc");
    alice.synced().await;
    bob.synced().await;
    let here = between("alice", "bob");
    // a device that sends on and on, through the stop
    let stop = std::sync::atomic::AtomicBool::new(false);
    let sending = async {
        let mut sent = Vec::new();
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let text = format!("through the stop {}", sent.len());
            sent.push(alice.client.send_text("bob", text));
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        sent
    };
    let stopping = async {
        bob.shows_at_least(&here, 20).await;
        // clean, so within the time for a drain
        let code = tokio::task::block_in_place(|| up.stop());
        assert_eq!(code, Some(0), "{}", up.log());
        tokio::task::block_in_place(|| up.restart());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(sending, stopping);
    let expected = numbered("through the stop", sent.len());
    accepted(sent).await;
    for device in [&mut alice, &mut bob] {
        assert_eq!(
            texts(&device.shows_at_least(&here, expected.len()).await),
            expected
        );
        device.synced().await;
        let (mut draining, mut connected) = (false, 0);
        let mut told = Vec::new();
        while let Ok(update) = device.updates.try_recv() {
            match update {
                Update::Disconnected { reason, .. } => draining |= reason == "draining",
                Update::Connected { .. } => connected += 1,
                Update::Event { event, .. } => told.push(event.event_id),
                _ => {}
            }
        }
        assert!(draining, "it was told why");
        assert!(connected >= 2, "it came back");
        once(told);
    }
    let late = Device::connect(&up, "bob", "late");
    late.synced().await;
    assert_eq!(
        texts(&late.shows_at_least(&here, expected.len()).await),
        expected
    );
}
