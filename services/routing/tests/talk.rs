//! People talk through routing.

mod world;

use std::sync::atomic::Ordering;

use tandem_kernel::event::{Delete, Edit, Kind, Reaction, Text};
use world::{
    AB, GROUP, Seen, World, add, address, at, create, delivered, leave, read, remove, text,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_every_session_of_both_in_the_order_of_the_log() {
    let world = World::new().await;
    let routing = world.start().await;
    let (a1, a2) = (
        world.session("alice", 1).await,
        world.session("alice", 2).await,
    );
    let b = world.session("bob", 3).await;
    let mut client = routing.connect(&world).await;
    let submits: Vec<_> = (0..200)
        .map(|i| client.submit(AB, text(&i.to_string())))
        .collect();
    let ids: Vec<_> = submits.iter().map(|s| s.event_id.clone()).collect();
    let references = client.send_as("alice", "d", submits);
    for reference in &references {
        client.answer(*reference).await;
    }
    assert_eq!(client.order, references);
    for session in [a1, a2, b] {
        world.edge.has(session, 200).await;
        let events = world.edge.events(session);
        assert_eq!(
            events
                .iter()
                .map(|e| e.event_id.clone())
                .collect::<Vec<_>>(),
            ids
        );
        assert!(events.windows(2).all(|w| w[0].seq < w[1].seq));
        assert!(
            events
                .iter()
                .all(|e| e.sender == at("alice") && !e.request && e.at_ms > 0)
        );
    }
    let appends = world.log.appends.load(Ordering::SeqCst);
    assert!(
        appends < 50,
        "{appends} appends for 200 messages of one conversation"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_a_request_and_a_nobody_is_not_found() {
    let world = World::new().await;
    let routing = world.start().await;
    world.accounts.exists("eve");
    let b = world.session("bob", 1).await;
    let mut client = routing.connect(&world).await;
    client
        .say("eve", "o:bob@x.test,eve@x.test", text("hi"))
        .await
        .unwrap();
    world.edge.has(b, 1).await;
    assert!(world.edge.events(b)[0].request);
    let nobody = client
        .say("alice", "o:alice@x.test,nobody@x.test", text("hi"))
        .await;
    assert_eq!(nobody, Err("not_found".into()));
    let foreign = client.say("eve", AB, text("hi")).await;
    assert_eq!(foreign, Err("not_a_member".into()));
    assert!(world.logged(AB).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_sender_sees_sent_and_never_delivered() {
    let world = World::new().await;
    let routing = world.start().await;
    let (a, b) = (
        world.session("alice", 1).await,
        world.session("bob", 2).await,
    );
    let mut client = routing.connect(&world).await;
    let before = client.say("alice", AB, text("before")).await.unwrap();
    world.edge.has(b, 1).await;
    world.accounts.block("bob", "alice").await;
    // the change arrives through the log
    loop {
        let after = client.say("alice", AB, text("after")).await.unwrap();
        let logged = world.logged(AB).await;
        if logged.last().unwrap().withheld_from == [at("bob")] {
            let event = logged.last().unwrap().event.clone().unwrap();
            assert!(!event.request, "the flag would tell of the block");
            client.say("bob", AB, delivered(before)).await.unwrap();
            let marker = client.say("bob", AB, text("marker")).await.unwrap();
            while world.edge.seqs(a).last() != Some(&marker) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            assert!(world.edge.seqs(a).contains(&after));
            assert!(!world.edge.seqs(b).contains(&after));
            let receipt = |e: &tandem_proto::client::Event| {
                matches!(e.body.as_ref().unwrap().kind, Some(Kind::Receipt(_)))
            };
            assert!(
                !world.edge.events(a).iter().any(receipt),
                "a blocked sender sees no receipt"
            );
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_shown_to_the_authors_of_what_it_covers_and_to_nobody_else() {
    let world = World::new().await;
    let routing = world.start().await;
    let (a, b) = (
        world.session("alice", 1).await,
        world.session("bob", 2).await,
    );
    let (c, b2) = (
        world.session("chloe", 3).await,
        world.session("bob", 4).await,
    );
    let mut client = routing.connect(&world).await;
    client
        .say("alice", GROUP, create(&["bob", "chloe"]))
        .await
        .unwrap();
    let by_alice = client
        .say("alice", GROUP, text("from alice"))
        .await
        .unwrap();
    let by_chloe = client
        .say("chloe", GROUP, text("from chloe"))
        .await
        .unwrap();
    client.say("bob", GROUP, delivered(by_alice)).await.unwrap();
    let second = client.say("bob", GROUP, delivered(by_chloe)).await.unwrap();
    let third = client.say("bob", GROUP, read(by_chloe)).await.unwrap();
    let end = client.say("alice", GROUP, text("end")).await.unwrap();
    for session in [a, b, c, b2] {
        while world.edge.seqs(session).last() != Some(&end) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    let receipts = |session| -> Vec<u64> {
        let events = world.edge.events(session).into_iter();
        let receipt = |k: &Option<Kind>| matches!(k, Some(Kind::Receipt(_)));
        events
            .filter(|e| receipt(&e.body.as_ref().unwrap().kind))
            .map(|e| e.seq)
            .collect()
    };
    assert_eq!(receipts(a).len(), 2, "delivered and read of her message");
    assert_eq!(receipts(c), [second, third]);
    assert_eq!(
        receipts(b2),
        [third],
        "one's own devices see how far one has read"
    );
    let device = client.submit(GROUP, read(by_chloe));
    assert_eq!(
        client.put("bob", "d", device).await,
        Err("invalid_argument".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_begun_filled_and_left_without_waiting_between() {
    let world = World::new().await;
    let routing = world.start().await;
    let d = world.session("dan", 4).await;
    let b = world.session("bob", 2).await;
    let mut client = routing.connect(&world).await;
    let kinds = vec![
        create(&["bob"]),
        text("one"),
        add("dan"),
        text("two"),
        remove("bob"),
        text("three"),
    ];
    let submits: Vec<_> = kinds.into_iter().map(|k| client.submit(GROUP, k)).collect();
    let references = client.send_as("alice", "d", submits);
    let mut seqs = Vec::new();
    for reference in references {
        match client.answer(reference).await {
            tandem_proto::routing::answer::Result::Accepted(a) => seqs.push(a.seq),
            other @ tandem_proto::routing::answer::Result::Rejected(_) => panic!("{other:?}"),
        }
    }
    world.edge.has(d, 4).await;
    world.edge.has(b, 5).await;
    assert_eq!(
        world.edge.seqs(d),
        seqs[2..],
        "whoever is added sees the addition and what follows"
    );
    assert_eq!(
        world.edge.seqs(b),
        seqs[..5],
        "whoever is removed sees the removal and no more"
    );
    assert_eq!(
        client.say("bob", GROUP, text("still here?")).await,
        Err("not_a_member".into())
    );
    assert_eq!(
        client.say("dan", GROUP, add("chloe")).await,
        Err("forbidden".into())
    );
    assert_eq!(
        client.say("eve", GROUP, create(&[])).await,
        Err("not_a_member".into())
    );
    client.say("alice", GROUP, leave()).await.unwrap();
    let members = loop {
        let members = routing.members(GROUP, "").await.unwrap();
        if members.members.as_ref().unwrap().members.len() == 1 {
            break members;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    };
    let member = &members.members.unwrap().members[0];
    assert_eq!((member.user.as_str(), member.role), ("dan@x.test", 3));
    assert!(routing.members(GROUP, "alice@x.test").await.is_err());
    assert!(routing.members(GROUP, "dan@x.test").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_blocked_a_member_is_not_added_by_them_and_sees_nothing_of_them() {
    let world = World::new().await;
    world.accounts.block("dan", "alice").await;
    world.accounts.exists("eve");
    let routing = world.start().await;
    let (b, d) = (world.session("bob", 1).await, world.session("dan", 2).await);
    let mut client = routing.connect(&world).await;
    assert_eq!(
        client.say("alice", GROUP, create(&["dan"])).await,
        Err("forbidden".into())
    );
    assert_eq!(
        client.say("alice", GROUP, create(&["nobody"])).await,
        Err("not_found".into())
    );
    client
        .say("bob", GROUP, create(&["alice", "dan"]))
        .await
        .unwrap();
    let hidden = client
        .say("alice", GROUP, text("hidden from dan"))
        .await
        .unwrap();
    let end = client.say("bob", GROUP, text("for all")).await.unwrap();
    world.edge.has(b, 3).await;
    world.edge.has(d, 2).await;
    assert!(world.edge.seqs(b).contains(&hidden));
    assert_eq!(world.edge.seqs(d).last(), Some(&end));
    assert!(!world.edge.seqs(d).contains(&hidden));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_author_changes_a_message_and_only_who_sees_it_reacts() {
    let world = World::new().await;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    let seq = client.say("alice", AB, text("teh")).await.unwrap();
    let words = Some(Text {
        text: "the".into(),
        ..Text::default()
    });
    let edit = |target| {
        Kind::Edit(Edit {
            target,
            text: words.clone(),
        })
    };
    let react = |target| {
        Kind::Reaction(Reaction {
            target,
            emoji: "👍".into(),
        })
    };
    // history knows nothing yet: the log says who wrote it
    client.say("alice", AB, edit(seq)).await.unwrap();
    assert_eq!(
        client.say("bob", AB, edit(seq)).await,
        Err("forbidden".into())
    );
    client.say("bob", AB, react(seq)).await.unwrap();
    assert_eq!(
        client.say("bob", AB, react(seq + 1_000)).await,
        Err("not_found".into())
    );
    // one of another conversation
    let other = "o:alice@x.test,chloe@x.test";
    let there = client.say("alice", other, text("x")).await.unwrap();
    if tandem_kernel::seq::partition_of(other.as_bytes(), world::PARTITIONS)
        == tandem_kernel::seq::partition_of(AB.as_bytes(), world::PARTITIONS)
    {
        assert_eq!(
            client.say("bob", AB, react(there)).await,
            Err("not_found".into())
        );
    }
    client
        .say("alice", AB, Kind::Delete(Delete { target: seq }))
        .await
        .unwrap();
    // of an earlier generation only history knows
    let old = 7;
    world.history.authors.lock().insert(old, at("alice"));
    assert_eq!(
        client.say("alice", AB, edit(old)).await,
        Err("not_found".into())
    );
    let later = (2 << 48) | 7;
    world.history.authors.lock().insert(later, at("alice"));
    client.say("alice", AB, edit(later)).await.unwrap();
    world.history.down.store(true, Ordering::SeqCst);
    assert_eq!(
        client.say("alice", AB, edit(later)).await,
        Err("unavailable".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_shown_to_contacts_and_leaves_no_trace_in_the_log() {
    let world = World::new().await;
    world.accounts.exists("eve");
    let routing = world.start().await;
    let (a, b) = (
        world.session("alice", 1).await,
        world.session("bob", 2).await,
    );
    let client = routing.connect(&world).await;
    client.typing("eve", "o:bob@x.test,eve@x.test");
    client.typing("alice", AB);
    world.edge.has(b, 1).await;
    let seen = world.edge.seen(b);
    assert!(matches!(&seen[..], [Seen::Typing(t)] if t.user == at("alice") && t.active));
    assert!(world.edge.seen(a).is_empty());
    assert!(world.logged(AB).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_items_are_refused_each_with_its_code_and_the_others_go_on() {
    let world = World::new().await;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    let long = "x".repeat(world.config.text_bytes + 1);
    assert_eq!(
        client.say("alice", AB, text(&long)).await,
        Err("too_large".into())
    );
    assert_eq!(
        client.say("alice", AB, text("  ")).await,
        Err("invalid_argument".into())
    );
    assert_eq!(
        client.say("alice", "o:b,a", text("x")).await,
        Err("invalid_argument".into())
    );
    assert_eq!(
        client.say("alice", AB, create(&[])).await,
        Err("invalid_argument".into())
    );
    let mut submit = client.submit(AB, text("x"));
    submit.event_id = "1".into();
    assert_eq!(
        client.put("alice", "d", submit).await,
        Err("invalid_argument".into())
    );
    let mut submit = client.submit(AB, text("x"));
    submit.body = None;
    assert_eq!(
        client.put("alice", "d", submit).await,
        Err("invalid_argument".into())
    );
    let mut submit = client.submit("", text("to bob"));
    submit.to = at("bob");
    client.put("alice", "d", submit).await.unwrap();
    assert_eq!(world.logged(AB).await.len(), 1);
    assert_eq!(address("bob").as_str(), at("bob"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_refused_with_a_time_to_wait() {
    let mut world = World::new().await;
    world.config.events_burst = 20;
    world.config.events_per_s = 1;
    let routing = world.start().await;
    let mut client = routing.connect(&world).await;
    let submits: Vec<_> = (0..30).map(|_| client.submit(AB, text("x"))).collect();
    let references = client.send_as("alice", "d", submits);
    let mut refused = 0;
    for reference in references {
        if let tandem_proto::routing::answer::Result::Rejected(r) = client.answer(reference).await {
            assert_eq!(r.code, "rate_limited");
            assert!(r.retry_after_ms > 0);
            refused += 1;
        }
    }
    assert!((9..=10).contains(&refused), "{refused}");
    assert_eq!(world.logged(AB).await.len(), 30 - refused);
}
