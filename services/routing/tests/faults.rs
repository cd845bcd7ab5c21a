//! What routing keeps when something behind it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod world;

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use prost::Message;
use tandem_chassis::grpc::local;
use tandem_ephemeral::Ephemeral;
use tandem_kernel::{EdgeId, event::Parked};
use tandem_log::Log;
use tandem_proto::{edge::edge_server::EdgeServer, routing::answer::Result as Answered};
use world::{AB, FakeEdge, GROUP, Mode, World, add, address, at, create, delivered, read, text};

async fn soon(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("it never came to hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_without_an_answer_is_repeated_and_never_rejected() {
    let world = World::new().await;
    let routing = world.start().await;
    let (a, b) = (
        world.session("alice", 1).await,
        world.session("bob", 2).await,
    );
    let mut client = routing.connect(&world).await;
    world.log.lose.store(2, Ordering::SeqCst);
    world.log.refuse.store(1, Ordering::SeqCst);
    let submits: Vec<_> = (0..20)
        .map(|i| client.submit(AB, text(&i.to_string())))
        .collect();
    let ids: Vec<_> = submits.iter().map(|s| s.event_id.clone()).collect();
    let references = client.send_as("alice", "d", submits);
    for reference in &references {
        assert!(matches!(
            client.answer(*reference).await,
            Answered::Accepted(_)
        ));
    }
    assert_eq!(client.order, references);
    for session in [a, b] {
        world.edge.has(session, 20).await;
        let seen: Vec<_> = world
            .edge
            .events(session)
            .into_iter()
            .map(|e| e.event_id)
            .collect();
        assert_eq!(seen, ids, "once and in order, though the log has copies");
    }
    let logged = world.logged(AB).await;
    assert!(logged.len() > 20);
    assert!(logged[20..].iter().all(|e| e.retry));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_long_is_appended_as_what_may_be_in_the_log_already() {
    let mut world = World::new().await;
    world.config.late_ms = 100;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    client.say("alice", AB, text("at once")).await.unwrap();
    world.log.refuse.store(usize::MAX, Ordering::SeqCst);
    let submits = ["first", "behind it"].map(|t| client.submit(AB, text(t)));
    let mut references = client.send_as("alice", "d", vec![submits[0].clone()]);
    soon(async || world.log.appends.load(Ordering::SeqCst) > 1).await;
    references.extend(client.send_as("alice", "d", vec![submits[1].clone()]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.log.refuse.store(0, Ordering::SeqCst);
    for reference in references {
        assert!(matches!(
            client.answer(reference).await,
            Answered::Accepted(_)
        ));
    }
    let logged = world.logged(AB).await;
    let marked: Vec<_> = logged.iter().map(|e| e.retry).collect();
    assert_eq!(marked, [false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_to_the_same_replica_is_answered_with_its_place_and_not_appended_again() {
    let world = World::new().await;
    let routing = world.start().await;
    let b = world.session("bob", 2).await;
    let mut client = routing.connect(&world).await;
    let mut submit = client.submit(AB, text("once"));
    let seq = client.put("alice", "d", submit.clone()).await.unwrap();
    world.edge.has(b, 1).await;
    submit.retry = true;
    let mut again = routing.connect(&world).await;
    assert_eq!(again.put("alice", "d", submit).await, Ok(seq));
    assert_eq!(world.logged(AB).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_what_history_has_would_be_untrue() {
    let world = World::new().await;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    let mut submit = client.submit(GROUP, text("was a member then"));
    submit.retry = true;
    let place = (at("alice"), submit.event_id.clone());
    assert_eq!(
        client.put("alice", "d", submit.clone()).await,
        Err("not_a_member".into())
    );
    world.history.places.lock().insert(place, 77);
    assert_eq!(client.put("alice", "d", submit.clone()).await, Ok(77));
    world.history.down.store(true, Ordering::SeqCst);
    assert_eq!(
        client.put("alice", "d", submit).await,
        Err("unavailable".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_not_delivered_and_nobody_hides_anothers_event_behind_its_id() {
    let world = World::new().await;
    let routing = world.start().await;
    let b = world.session("bob", 2).await;
    let first = world.envelope(AB, "alice", text("first"));
    let one = world.append(&first).await;
    world.append(&first).await;
    let mut stolen = first.clone();
    stolen.event.as_mut().unwrap().sender = at("bob");
    let two = world.append(&stolen).await;
    // one that history has seen long ago, and one that it has not
    let mut old = world.envelope(AB, "alice", text("old"));
    old.retry = true;
    let id = old.event.as_ref().unwrap().event_id.clone();
    world.history.places.lock().insert((at("alice"), id), 3);
    world.append(&old).await;
    let mut new = world.envelope(AB, "alice", text("new"));
    new.retry = true;
    let three = world.append(&new).await;
    world.edge.has(b, 3).await;
    assert_eq!(world.edge.seqs(b), [one, two, three]);
    // without history's answer it is delivered: clients know an id again
    world.history.down.store(true, Ordering::SeqCst);
    let mut unsure = world.envelope(AB, "alice", text("unsure"));
    unsure.retry = true;
    let four = world.append(&unsure).await;
    world.edge.has(b, 4).await;
    assert_eq!(world.edge.seqs(b), [one, two, three, four]);
    routing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_before_a_stop_is_not_done_again_and_copies_are_still_known() {
    let world = World::new().await;
    let b = world.session("bob", 2).await;
    let routing = world.start().await;
    let first = world.envelope(AB, "alice", text("first"));
    let one = world.append(&first).await;
    world.edge.has(b, 1).await;
    routing.stop().await;
    world.append(&first).await;
    let two = world
        .append(&world.envelope(AB, "alice", text("second")))
        .await;
    let routing = world.start().await;
    world.edge.has(b, 2).await;
    assert_eq!(world.edge.seqs(b), [one, two]);
    routing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_loses_nothing_and_keeps_the_order() {
    let world = World::new().await;
    let b = world.session("bob", 2).await;
    let mut ids = Vec::new();
    let mut unanswered: Vec<tandem_proto::client::Submit> = Vec::new();
    for round in 0..8 {
        let routing = world.start().await;
        let mut client = routing.connect(&world).await;
        for submit in &mut unanswered {
            submit.retry = true;
        }
        let mut submits = unanswered;
        for i in 0..50 {
            let kind = if round == 0 && i == 0 {
                create(&["bob"])
            } else {
                text(&i.to_string())
            };
            submits.push(client.submit(GROUP, kind));
        }
        ids.extend(submits.iter().map(|s| s.event_id.clone()));
        let references = client.send_as("alice", "d", submits.clone());
        let answered = if round == 7 {
            references.len()
        } else {
            10 * round.min(3)
        };
        for reference in &references[..answered] {
            assert!(matches!(
                client.answer(*reference).await,
                Answered::Accepted(_)
            ));
        }
        let known = client.order.len();
        unanswered = submits.split_off(known);
        if round < 7 {
            routing.kill().await;
        } else {
            soon(async || world.edge.seqs(b).len() >= 8 * 50).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            routing.stop().await;
        }
    }
    assert!(unanswered.is_empty());
    let mut sent = Vec::new();
    for id in ids {
        if !sent.contains(&id) {
            sent.push(id);
        }
    }
    // as an edge passes them on
    let (mut last, mut seen) = (0, Vec::new());
    for event in world.edge.events(b) {
        if event.seq > last {
            last = event.seq;
            seen.push(event.event_id);
        }
    }
    assert_eq!(seen, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_takes_nothing_is_flagged_and_holds_nobody_up() {
    let world = World::new().await;
    let routing = world.start().await;
    let other = FakeEdge::new();
    let other_id = EdgeId::new("edge-2", 1);
    world.ephemeral.renew(&other_id, 0).await.unwrap();
    world
        .peers
        .set("edge-2", local(EdgeServer::new(other.clone())));
    let (a, b) = (
        world.session("alice", 1).await,
        world.session_on(&other_id, "bob", 2).await,
    );
    let mut client = routing.connect(&world).await;
    let before = client.say("alice", AB, text("before")).await.unwrap();
    other.has(b, 1).await;
    other.set(Mode::Frozen);
    let mut seqs = vec![before];
    for i in 0..300 {
        seqs.push(client.say("alice", AB, text(&i.to_string())).await.unwrap());
    }
    world.edge.has(a, 301).await;
    assert_eq!(world.edge.seqs(a), seqs, "the frozen edge holds nobody up");
    let renewal = soon_flagged(&world, &other_id).await;
    assert_eq!(renewal, [b]);
    other.set(Mode::Takes);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let unseen = client
        .say("alice", AB, text("while flagged"))
        .await
        .unwrap();
    world.edge.has(a, 302).await;
    let seen = other.seqs(b);
    assert_eq!(
        seen,
        seqs[..seen.len()],
        "no later event where an earlier one is missing"
    );
    assert!(
        !seen.contains(&unseen),
        "a flagged session gets nothing live"
    );
    world
        .ephemeral
        .clear_resync(&address("bob"), b)
        .await
        .unwrap();
    let live = client.say("alice", AB, text("again live")).await.unwrap();
    soon(async || other.seqs(b).last() == Some(&live)).await;
}

async fn soon_flagged(world: &World, edge: &EdgeId) -> Vec<tandem_kernel::SessionId> {
    loop {
        let renewal = world.ephemeral.renew(edge, 0).await.unwrap();
        if !renewal.resync.is_empty() {
            return renewal.resync;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_breaks_streams_leaves_no_gap_unflagged() {
    let world = World::new().await;
    let routing = world.start().await;
    let b = world.session("bob", 2).await;
    let mut client = routing.connect(&world).await;
    let (mut since, mut flags) = (Vec::new(), 0);
    for i in 0..400 {
        match i % 40 {
            10 => world.edge.set(Mode::Breaks),
            14 => world.edge.set(Mode::Takes),
            _ => {}
        }
        since.push(client.say("alice", AB, text(&i.to_string())).await.unwrap());
        let passed: Vec<u64> = passed_on(world.edge.seqs(b))
            .into_iter()
            .filter(|s| *s >= since[0])
            .collect();
        assert_eq!(passed, since[..passed.len()], "a gap that no flag tells of");
        if !world
            .ephemeral
            .renew(&world.edge_id, 0)
            .await
            .unwrap()
            .resync
            .is_empty()
        {
            // an edge syncs the session here; what comes next is live again
            world
                .ephemeral
                .clear_resync(&address("bob"), b)
                .await
                .unwrap();
            flags += 1;
            since.clear();
            since.push(client.say("alice", AB, text("synced")).await.unwrap());
        }
    }
    soon(async || world.edge.seqs(b).last() == since.last()).await;
    assert!(flags > 0, "the fault did not bite");
}

/// What an edge passes on of what it was handed.
fn passed_on(seqs: Vec<u64>) -> Vec<u64> {
    let mut passed: Vec<u64> = Vec::new();
    for seq in seqs {
        if passed.last().is_none_or(|last| *last < seq) {
            passed.push(seq);
        }
    }
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_ephemeral_store_away_delivery_waits_and_admission_does_not() {
    let world = World::new().await;
    let routing = world.start().await;
    let b = world.session("bob", 2).await;
    let mut client = routing.connect(&world).await;
    world.ephemeral.away.store(true, Ordering::SeqCst);
    let mut seqs = Vec::new();
    for i in 0..5 {
        seqs.push(client.say("alice", AB, text(&i.to_string())).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.edge.seqs(b).is_empty());
    world.ephemeral.away.store(false, Ordering::SeqCst);
    world.edge.has(b, 5).await;
    assert_eq!(world.edge.seqs(b), seqs);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_in_a_chain_that_was_refused_for_now_is_refused_too() {
    const AD: &str = "o:alice@x.test,dan@x.test";
    let world = World::new().await;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    let submits = ["1", "2", "3"].map(|t| client.submit(AD, text(t)));
    world.accounts.down.store(true, Ordering::SeqCst);
    client.chain = 5;
    let first = client.send_as("alice", "d", vec![submits[0].clone()])[0];
    let Answered::Rejected(refused) = client.answer(first).await else {
        unreachable!("accounts is down");
    };
    assert_eq!(
        (refused.code.as_str(), refused.retry_after_ms > 0),
        ("unavailable", true)
    );
    world.accounts.down.store(false, Ordering::SeqCst);
    // once accounts is asked again, others write to the same conversation
    client.chain = 0;
    soon(async || client.say("alice", AD, text("of another")).await.is_ok()).await;
    // and what was on its way behind the refused one comes
    client.chain = 5;
    let late = client.send_as("alice", "d", submits[1..].to_vec());
    for (reference, submit) in late.into_iter().zip(&submits[1..]) {
        let Answered::Rejected(late) = client.answer(reference).await else {
            unreachable!("it would overtake the first");
        };
        assert_eq!(
            (late.event_id, late.code, late.retry_after_ms),
            (
                submit.event_id.clone(),
                refused.code.clone(),
                refused.retry_after_ms
            )
        );
    }
    client.chain = 7;
    for reference in client.send_as("alice", "d", submits.to_vec()) {
        let answer = client.answer(reference).await;
        assert!(matches!(answer, Answered::Accepted(_)), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_accounts_down_those_who_are_known_talk_on() {
    let world = World::new().await;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    client.say("alice", AB, text("known now")).await.unwrap();
    world.accounts.down.store(true, Ordering::SeqCst);
    client.say("alice", AB, text("still")).await.unwrap();
    let unknown = client.submit("o:alice@x.test,chloe@x.test", text("who is chloe"));
    let reference = client.send_as("alice", "d", vec![unknown])[0];
    match client.answer(reference).await {
        Answered::Rejected(r) => assert!(r.code == "unavailable" && r.retry_after_ms > 0),
        other @ Answered::Accepted(_) => panic!("{other:?}"),
    }
    world.accounts.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(100)).await;
    client
        .say("alice", "o:alice@x.test,chloe@x.test", text("chloe"))
        .await
        .unwrap();
    let asked = world.accounts.asked.load(Ordering::SeqCst);
    for i in 0..50 {
        client.say("alice", AB, text(&i.to_string())).await.unwrap();
    }
    assert_eq!(
        world.accounts.asked.load(Ordering::SeqCst),
        asked,
        "relations are asked for once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_parked_and_the_next_is_delivered() {
    let world = World::new().await;
    let routing = world.start().await;
    let b = world.session("bob", 2).await;
    let offset = world
        .append_raw(
            Bytes::from_static(AB.as_bytes()),
            Bytes::from_static(b"\xff\xff"),
        )
        .await;
    let mut foreign = world.envelope(AB, "alice", text("x"));
    foreign.event.as_mut().unwrap().conversation = "o:alice@x.test,chloe@x.test".into();
    world
        .append_raw(
            Bytes::from_static(AB.as_bytes()),
            foreign.encode_to_vec().into(),
        )
        .await;
    let next = world
        .append(&world.envelope(AB, "alice", text("next")))
        .await;
    world.edge.has(b, 1).await;
    assert_eq!(world.edge.seqs(b), [next]);
    let parked = world.log.read("routing.parked", 0, 0, 10).await.unwrap();
    assert_eq!(parked.len(), 2);
    let first = Parked::decode(parked[0].record.value.as_ref()).unwrap();
    assert_eq!(
        (first.offset | 1 << 48, first.value.as_ref()),
        (offset, b"\xff\xff".as_ref())
    );
    assert!(!first.reason.is_empty());
    routing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_count_at_its_place_is_not_delivered() {
    let world = World::new().await;
    let routing = world.start().await;
    let (a, b) = (
        world.session("alice", 1).await,
        world.session("bob", 2).await,
    );
    let one = world
        .append(&world.envelope(GROUP, "alice", create(&["bob"])))
        .await;
    // as two replicas at once might admit: chloe is not a member, and bob may not add
    world
        .append(&world.envelope(GROUP, "chloe", text("no member")))
        .await;
    world
        .append(&world.envelope(GROUP, "bob", add("chloe")))
        .await;
    world
        .append(&world.envelope(AB, "chloe", text("not of this pair")))
        .await;
    let two = world
        .append(&world.envelope(GROUP, "bob", text("counts")))
        .await;
    for session in [a, b] {
        world.edge.has(session, 2).await;
        assert_eq!(world.edge.seqs(session), [one, two]);
    }
    routing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_survives_and_a_new_replica_goes_on_with_it() {
    let world = World::new().await;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    client
        .say("alice", GROUP, create(&["bob", "chloe"]))
        .await
        .unwrap();
    let text_seq = client.say("bob", GROUP, text("x")).await.unwrap();
    soon(async || {
        routing
            .members(GROUP, "")
            .await
            .is_ok_and(|m| m.members.unwrap().members.len() == 3)
    })
    .await;
    routing.kill().await;
    let routing = world.start().await;
    let members = routing.members(GROUP, "bob@x.test").await.unwrap();
    let names: Vec<_> = members
        .members
        .unwrap()
        .members
        .into_iter()
        .map(|m| m.user)
        .collect();
    assert_eq!(names, [at("alice"), at("bob"), at("chloe")]);
    let mut client = routing.connect(&world).await;
    client
        .say("chloe", GROUP, text("still here"))
        .await
        .unwrap();
    // memory does not go back so far, so history says whom a receipt concerns
    for i in 0..40 {
        client
            .say("alice", GROUP, text(&i.to_string()))
            .await
            .unwrap();
    }
    let (a, b) = (
        world.session("alice", 1).await,
        world.session("bob", 2).await,
    );
    world.history.authors.lock().insert(text_seq - 1, at("bob"));
    let receipt = client
        .say("chloe", GROUP, delivered(text_seq))
        .await
        .unwrap();
    soon(async || world.edge.seqs(b).last() == Some(&receipt)).await;
    assert!(!world.edge.seqs(a).contains(&receipt));
    client.say("chloe", GROUP, read(text_seq)).await.unwrap();
    routing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_was_taken_and_ends_the_streams() {
    let world = World::new().await;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    let submits: Vec<_> = (0..100)
        .map(|i| client.submit(AB, text(&i.to_string())))
        .collect();
    let references = client.send_as("alice", "d", submits);
    client.answer(references[0]).await;
    let stopping = async { routing.stop().await };
    let answers = async { while client.more().await.is_some() {} };
    tokio::join!(stopping, answers);
    let answered = client.order.len();
    assert_eq!(client.order, references[..answered]);
    assert_eq!(
        world.logged(AB).await.len(),
        answered,
        "nothing is in the log unanswered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_conversation_does_not_hold_up_the_others() {
    let world = World::new().await;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    client.say("alice", AB, text("known")).await.unwrap();
    world.accounts.down.store(true, Ordering::SeqCst);
    let asks = client.submit("o:alice@x.test,dan@x.test", text("asks accounts"));
    let goes = client.submit(AB, text("goes on"));
    let references = client.send_as("alice", "d", vec![asks, goes]);
    assert!(matches!(
        client.answer(references[1]).await,
        Answered::Accepted(_)
    ));
    let _ = client.answer(references[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joined_through_one_replica_is_heard_at_once_through_the_other() {
    let mut world = World::new().await;
    // what a replica saw of a group, it goes by for long
    world.config.directory_fresh_ms = 60_000;
    for who in ["eve", "fay"] {
        world.accounts.exists(who);
    }
    let (one, two) = (world.start().await, world.start().await);
    let bob = world.session("bob", 2).await;
    let (mut by_one, mut by_two) = (one.connect(&world).await, two.connect(&world).await);
    by_one.say("alice", GROUP, create(&["bob"])).await.unwrap();
    soon(async || by_two.say("bob", GROUP, text("first")).await.is_ok()).await;
    for (who, first) in [("eve", true), ("fay", false)] {
        let (with, other) = if first {
            (&mut by_one, &mut by_two)
        } else {
            (&mut by_two, &mut by_one)
        };
        let joined = with.say("alice", GROUP, add(who)).await.unwrap();
        soon(async || world.edge.seqs(bob).contains(&joined)).await;
        other.say(who, GROUP, text("hello")).await.unwrap();
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_the_partitions_and_agree_on_who_is_heard() {
    let world = World::new().await;
    let (one, two) = (world.start().await, world.start().await);
    let (a, b) = (
        world.session("alice", 1).await,
        world.session("bob", 2).await,
    );
    let (mut by_one, mut by_two) = (one.connect(&world).await, two.connect(&world).await);
    let created = by_one.say("alice", GROUP, create(&["bob"])).await.unwrap();
    let mut heard = vec![created];
    // the other replica sees the group as soon as its partition's reader has folded it
    soon(async || by_two.say("bob", GROUP, text("first")).await.is_ok()).await;
    for i in 0..20 {
        let client = if i % 2 == 0 { &mut by_one } else { &mut by_two };
        heard.push(
            client
                .say("bob", GROUP, text(&i.to_string()))
                .await
                .unwrap(),
        );
    }
    let removed = by_one
        .say("alice", GROUP, world::remove("bob"))
        .await
        .unwrap();
    heard.push(removed);
    // the other replica may not know yet and accept it; it does not count at its place
    let stale = by_two.say("bob", GROUP, text("am I heard?")).await;
    one.stop().await;
    soon(async || matches!(by_two.say("bob", GROUP, text("now?")).await, Err(code) if code == "not_a_member")).await;
    let end = by_two.say("alice", GROUP, text("end")).await.unwrap();
    heard.push(end);
    soon(async || world.edge.seqs(a).contains(&end)).await;
    let seen = passed_on(world.edge.seqs(a));
    assert!(heard.iter().all(|seq| seen.contains(seq)));
    assert!(stale.is_err() || !seen.contains(&stale.unwrap()));
    assert_eq!(passed_on(world.edge.seqs(b)).last(), Some(&removed));
    assert_eq!(seen.len(), heard.len() + 1, "and bob's first");
    two.stop().await;
}
