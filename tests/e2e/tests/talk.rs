//! Two people talk, each on two devices.

use tandem_client::Update;
use tandem_e2e_tests::{
    Device, Up,
    device::{PATIENCE, between},
};
use tandem_kernel::event::Kind;
use tandem_proto::client::{Contact, Status, contact, contact_change};

fn texts(shown: &[(String, String)]) -> Vec<&str> {
    shown.iter().map(|(_, t)| t.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_later_shows_the_same_history_in_the_same_order() {
    let up = Up::start(&[]);
    let alice = Device::connect(&up, "alice", "pc");
    let alice_mobile = Device::connect_by_grpc(&up, "alice", "mobile");
    let bob = Device::connect(&up, "bob", "pc");
    let bob_mobile = Device::connect(&up, "bob", "mobile");
    for device in [&alice, &alice_mobile, &bob, &bob_mobile] {
        device.synced().await;
    }
    let here = between("alice", "bob");
    for i in 0..20 {
        let (alices, bobs) = if i % 2 == 0 {
            (&alice, &bob_mobile)
        } else {
            (&alice_mobile, &bob)
        };
        let (one, other) = (format!("alice {i}"), format!("bob {i}"));
        tokio::join!(alices.say("bob", &one), bobs.say("alice", &other));
    }
    let reference = alice.shows_at_least(&here, 40).await;
    for device in [&alice_mobile, &bob, &bob_mobile] {
        assert_eq!(device.shows_at_least(&here, 40).await, reference);
    }
    let third = Device::connect(&up, "bob", "portal");
    third.synced().await;
    assert_eq!(third.shows_at_least(&here, 40).await, reference);
    // what one device sent kept its order
    let alices: Vec<_> = texts(&reference)
        .into_iter()
        .filter(|t| t.starts_with("alice"))
        .collect();
    let sent: Vec<_> = (0..20).map(|i| format!("alice {i}")).collect();
    assert_eq!(alices, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_seen_delivered_and_then_read_by_its_author_and_unread_counts_agree() {
    let up = Up::start(&[]);
    let (alice, bob) = (
        Device::connect(&up, "alice", "pc"),
        Device::connect(&up, "bob", "pc"),
    );
    alice.synced().await;
    bob.synced().await;
    let here = between("alice", "bob");
    let seq = alice.say("bob", "read me").await;
    let marks = |read: bool| {
        let here = here.clone();
        move |core: &tandem_client::Core| {
            core.conversation(&here).is_some_and(|c| {
                let (delivered, seen) = c.seen_by("alice@tandem.test", seq);
                let by = if read { seen } else { delivered };
                by.contains(&"bob@tandem.test")
            })
        }
    };
    alice.until("the message is delivered", marks(false)).await;
    let unread = |count: u64| {
        let here = here.clone();
        move |core: &tandem_client::Core| {
            core.conversation(&here)
                .is_some_and(|c| c.unread("bob@tandem.test") == count)
        }
    };
    bob.until("one is unread", unread(1)).await;
    let late = Device::connect(&up, "bob", "mobile");
    late.synced().await;
    late.until("one is unread there, too", unread(1)).await;
    bob.client.read(&here, seq);
    alice.until("the message is read", marks(true)).await;
    bob.until("none is unread", unread(0)).await;
    late.until("none is unread on the other device", unread(0))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_deletes_reactions_and_replies_look_the_same_live_and_from_history() {
    let up = Up::start(&[]);
    let (alice, bob) = (
        Device::connect(&up, "alice", "pc"),
        Device::connect(&up, "bob", "pc"),
    );
    alice.synced().await;
    bob.synced().await;
    let here = between("alice", "bob");
    let first = alice.say("bob", "helo").await;
    let second = alice.say("bob", "never mind").await;
    alice
        .client
        .edit(&here, first, "hello")
        .outcome()
        .await
        .expect("one's own may be edited");
    alice
        .client
        .delete(&here, second)
        .outcome()
        .await
        .expect("one's own may be deleted");
    bob.client
        .react(&here, first, "👍")
        .outcome()
        .await
        .expect("a member may react");
    let refused = bob.client.edit(&here, first, "hacked").outcome().await;
    assert_eq!(
        refused.expect_err("another's may not be edited").code,
        "forbidden"
    );
    let as_is = |core: &tandem_client::Core| {
        let Some(c) = core.conversation(&here) else {
            return false;
        };
        let (Some(one), Some(two)) = (c.at(first), c.at(second)) else {
            return false;
        };
        one.text.is_some_and(|t| t.text == "hello")
            && one.edited
            && one.reactions.get("bob@tandem.test") == Some(&"👍")
            && two.deleted
            && two.text.is_none()
    };
    alice.until("it looks so to alice", as_is).await;
    bob.until("it looks so to bob", as_is).await;
    let late = Device::connect(&up, "bob", "late");
    late.synced().await;
    late.until("it looks so on a later device", as_is).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_seen_by_its_members_from_where_they_joined_to_where_they_left() {
    let up = Up::start(&[]);
    let people = ["alice", "bob", "chloe"].map(|p| Device::connect(&up, p, "pc"));
    for device in &people {
        device.synced().await;
    }
    let [alice, bob, chloe] = &people;
    let (group, created) = alice
        .client
        .create_group("friends", vec!["bob@tandem.test".into()])
        .expect("signed in");
    created.outcome().await.expect("created");
    alice.say(&group, "before chloe").await;
    let added = alice
        .client
        .add_members(&group, vec!["chloe@tandem.test".into()])
        .outcome()
        .await;
    added.expect("added");
    bob.shows_at_least(&group, 1).await;
    bob.say(&group, "with chloe").await;
    let removed = alice
        .client
        .remove_member(&group, "bob@tandem.test")
        .outcome()
        .await;
    removed.expect("removed");
    chloe.shows_at_least(&group, 1).await;
    chloe.say(&group, "without bob").await;
    let refused = bob.client.send_text(&group, "still here?").outcome().await;
    assert_eq!(refused.expect_err("bob has left").code, "not_a_member");

    assert_eq!(
        texts(&alice.shows_at_least(&group, 3).await),
        ["before chloe", "with chloe", "without bob"]
    );
    assert_eq!(
        texts(&chloe.shows_at_least(&group, 2).await),
        ["with chloe", "without bob"]
    );
    assert_eq!(texts(&bob.shows(&group)), ["before chloe", "with chloe"]);
    for (user, expected) in [
        ("alice", vec!["before chloe", "with chloe", "without bob"]),
        ("bob", vec!["before chloe", "with chloe"]),
        ("chloe", vec!["with chloe", "without bob"]),
    ] {
        let late = Device::connect(&up, user, "late");
        late.synced().await;
        let shown = late.shows_at_least(&group, expected.len()).await;
        assert_eq!(texts(&shown), expected, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_sender_sees_sent_and_never_delivered_and_no_presence() {
    let up = Up::start(&[]);
    let (alice, mut bob) = (
        Device::connect(&up, "alice", "pc"),
        Device::connect(&up, "bob", "pc"),
    );
    alice.synced().await;
    bob.synced().await;
    let here = between("alice", "bob");
    bob.say("alice", "before").await;
    alice.shows_at_least(&here, 1).await;
    let change = alice
        .client
        .contact_change("bob@tandem.test", contact_change::Action::Block, "");
    change.await.expect("blocked");
    while bob.updates.try_recv().is_ok() {}
    let seq = bob.say("alice", "after").await;
    // alice goes and comes: bob must not see it
    alice.client.set_presence(Status::Busy, "here I am");
    let other = bob
        .say("chloe", "a message to somebody else takes the same way")
        .await;
    assert!(other > 0);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(texts(&alice.shows(&here)), ["before"]);
    let late = Device::connect(&up, "alice", "late");
    late.synced().await;
    assert_eq!(texts(&late.shows_at_least(&here, 1).await), ["before"]);
    assert_eq!(
        late.client
            .look(|c| c.conversation(&here).map(|c| c.unread("alice@tandem.test"))),
        Some(1)
    );
    let delivered = bob.client.look(|core| {
        core.conversation(&here)
            .map(|c| c.seen_by("bob@tandem.test", seq).0.len())
            .unwrap_or_default()
    });
    assert_eq!(delivered, 0);
    while let Ok(update) = bob.updates.try_recv() {
        if let Update::Presence(p) = update
            && p.user == "alice@tandem.test"
        {
            assert_eq!(p.status(), Status::Offline, "{p:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_arrives_as_a_request_and_learns_nothing_until_it_is_accepted() {
    let up = Up::start(&[]);
    let (erin, bob) = (
        Device::connect(&up, "erin", "pc"),
        Device::connect(&up, "bob", "pc"),
    );
    erin.synced().await;
    bob.synced().await;
    let here = between("bob", "erin");
    let seq = erin.say("bob", "we met in Lyon").await;
    bob.shows_at_least(&here, 1).await;
    bob.until("it is a request", |core| {
        core.conversation(&here).is_some_and(|c| c.is_request())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let delivered = |core: &tandem_client::Core| {
        core.conversation(&here)
            .is_some_and(|c| !c.seen_by("erin@tandem.test", seq).0.is_empty())
    };
    assert!(
        !erin.client.look(delivered),
        "no receipt before the request is accepted"
    );
    // erin asks, bob accepts; now they are contacts
    use contact_change::Action;
    erin.client
        .contact_change("bob@tandem.test", Action::Request, "")
        .await
        .expect("asked");
    bob.until("bob is asked", |core| {
        core.contacts()
            .any(|c: &Contact| c.user == "erin@tandem.test" && c.state() == contact::State::AskedBy)
    })
    .await;
    bob.client
        .contact_change("erin@tandem.test", Action::Accept, "")
        .await
        .expect("accepted");
    erin.until("they are contacts", |core| {
        core.contacts()
            .any(|c: &Contact| c.user == "bob@tandem.test" && c.state() == contact::State::Mutual)
    })
    .await;
    let seq = erin.say("bob", "now we are contacts").await;
    erin.until("receipts are shown now", |core| {
        core.conversation(&here)
            .is_some_and(|c| !c.seen_by("erin@tandem.test", seq).0.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_see_each_others_presence_and_typing() {
    let up = Up::start(&[]);
    let mut alice = Device::connect(&up, "alice", "pc");
    alice.synced().await;
    let bob = Device::connect(&up, "bob", "mobile");
    bob.synced().await;
    bob.client.set_presence(Status::Busy, "in a meeting");
    let (mut busy, mut typing, mut offline) = (false, false, false);
    bob.say("alice", "hello").await;
    bob.client.typing(&between("alice", "bob"), true);
    let mut bob = Some(bob);
    let wait = async {
        while let Some(update) = alice.updates.recv().await {
            match update {
                Update::Presence(p) if p.user == "bob@tandem.test" => {
                    busy |= p.status() == Status::Busy && p.message == "in a meeting";
                    offline |= busy && p.status() == Status::Offline;
                }
                Update::Typing {
                    user, active: true, ..
                } => typing |= user == "bob@tandem.test",
                _ => {}
            }
            if busy
                && typing
                && let Some(bob) = bob.take()
            {
                bob.leave().await;
            }
            if busy && typing && offline {
                return;
            }
        }
    };
    let seen = tokio::time::timeout(PATIENCE, wait).await;
    assert!(
        seen.is_ok(),
        "busy {busy}, typing {typing}, offline {offline}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_offline_is_kept_and_sent_on_return_once() {
    let mut up = Up::start(&[]);
    let (alice, bob) = (
        Device::connect(&up, "alice", "pc"),
        Device::connect(&up, "bob", "pc"),
    );
    alice.synced().await;
    bob.synced().await;
    let here = between("alice", "bob");
    alice.say("bob", "online").await;
    up.kill();
    let kept: Vec<_> = (0..10)
        .map(|i| alice.client.send_text("bob", format!("offline {i}")))
        .collect();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    up.restart();
    for sent in kept {
        sent.outcome().await.expect("accepted on return");
    }
    let expected: Vec<_> = ["online".to_owned()]
        .into_iter()
        .chain((0..10).map(|i| format!("offline {i}")))
        .collect();
    assert_eq!(texts(&bob.shows_at_least(&here, 11).await), expected);
    assert_eq!(texts(&alice.shows_at_least(&here, 11).await), expected);
    let nudged = bob
        .client
        .send(&here, Kind::Nudge(tandem_kernel::event::Nudge {}));
    nudged.outcome().await.expect("goes on");
}
