//! Who sees whom, when, and in which version.

mod common;

use std::{sync::atomic::Ordering, time::Duration};

use common::{Suite, address, at, eventually, pass};
use tandem_chassis::grpc::code_of;
use tandem_ephemeral::Ephemeral;
use tandem_kernel::Code;
use tandem_log::Log;
use tandem_presence::Config;
use tandem_proto::{
    client::{Status, contact::State},
    presence::{ChangedRequest, SnapshotRequest},
};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn contacts_and_ones_own_devices_are_told_and_nobody_else() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    suite.contacts("bob", "chloe");
    let bob = suite.device("bob", "e1", Status::Online).await;
    let chloe = suite.device("chloe", "e2", Status::Online).await;
    let mut alice = suite.device("alice", "e1", Status::Online).await;
    let other = suite.device("alice", "e2", Status::Away).await;
    bob.sees("alice", Status::Online).await;
    suite.set(&mut alice, Status::Busy).await;
    bob.sees("alice", Status::Busy).await;
    other.sees("alice", Status::Busy).await;
    pass(60).await;
    assert_eq!(chloe.raw("alice"), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_one_user_carries_rising_versions_and_ends_with_the_last_status() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let bob = suite.device("bob", "e1", Status::Online).await;
    let mut alice = suite.device("alice", "e2", Status::Online).await;
    for _ in 0..50 {
        for status in [Status::Busy, Status::Away, Status::OnThePhone] {
            suite.set(&mut alice, status).await;
        }
        tokio::task::yield_now().await;
    }
    suite.set(&mut alice, Status::OutToLunch).await;
    bob.sees("alice", Status::OutToLunch).await;
    let versions: Vec<u64> = bob.raw("alice").iter().map(|p| p.version).collect();
    assert!(versions.windows(2).all(|w| w[0] < w[1]), "{versions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_lost_is_made_good_by_the_sweep() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let bob = suite.device("bob", "e1", Status::Online).await;
    let mut session = suite.device("alice", "e2", Status::Online).await.session;
    bob.sees("alice", Status::Online).await;
    session.status = Status::Busy;
    suite.ephemeral.put(&[session]).await.unwrap();
    bob.sees("alice", Status::Busy).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_appears_offline_is_offline_to_others_on_all_devices() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let bob = suite.device("bob", "e1", Status::Online).await;
    let mut phone = suite.device("alice", "e1", Status::Online).await;
    let _pc = suite.device("alice", "e2", Status::Online).await;
    bob.sees("alice", Status::Online).await;
    suite.set(&mut phone, Status::AppearOffline).await;
    bob.sees("alice", Status::Offline).await;
    let seen = suite.snapshot("bob", &["alice"]).await;
    assert_eq!(
        (seen[0].status(), seen[0].message.as_str()),
        (Status::Offline, "")
    );
    assert!(
        bob.raw("alice")
            .iter()
            .all(|p| p.status() != Status::AppearOffline)
    );
}

#[tokio::test(start_paused = true)]
async fn a_blocked_person_sees_offline_always_and_what_is_true_again_after_that() {
    let suite = Suite::start().await;
    suite.relate("alice", "bob", State::Mutual).await;
    suite.relate("bob", "alice", State::Mutual).await;
    let alice = suite.device("alice", "e1", Status::Online).await;
    let mut bob = suite.device("bob", "e2", Status::Online).await;
    alice.sees("bob", Status::Online).await;
    suite.relate("bob", "alice", State::Blocked).await;
    alice.sees("bob", Status::Offline).await;
    let told = alice.raw("bob").len();
    for status in [Status::Busy, Status::Online, Status::Away] {
        suite.set(&mut bob, status).await;
        pass(10).await;
        let seen = suite.snapshot("alice", &["bob"]).await;
        assert_eq!((seen[0].status(), seen[0].version), (Status::Offline, 0));
    }
    // a contact renamed or told again while blocked is no news
    suite.relate("bob", "alice", State::Blocked).await;
    pass(10).await;
    assert_eq!(alice.raw("bob").len(), told);
    suite.relate("bob", "alice", State::Mutual).await;
    alice.sees("bob", Status::Away).await;
    suite.set(&mut bob, Status::Online).await;
    alice.sees("bob", Status::Online).await;
}

#[tokio::test(start_paused = true)]
async fn unblocking_shows_a_status_that_has_not_changed_meanwhile() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let alice = suite.device("alice", "e1", Status::Online).await;
    let _bob = suite.device("bob", "e2", Status::Busy).await;
    alice.sees("bob", Status::Busy).await;
    suite.relate("bob", "alice", State::Blocked).await;
    alice.sees("bob", Status::Offline).await;
    suite.relate("bob", "alice", State::Mutual).await;
    alice.sees("bob", Status::Busy).await;
}

#[tokio::test(start_paused = true)]
async fn a_block_sends_nothing_to_someone_who_saw_nothing() {
    let suite = Suite::start().await;
    let stranger = suite.device("stranger", "e1", Status::Online).await;
    let _bob = suite.device("bob", "e2", Status::Online).await;
    suite.contacts("alice", "dan");
    let alice = suite.device("alice", "e1", Status::Online).await;
    pass(5).await;
    let (told, alices) = (stranger.count(), alice.count());
    suite.relate("bob", "stranger", State::Blocked).await;
    // what a crash left is told again, without saying what was before
    suite
        .tell("bob", "stranger", State::Blocked, State::Unspecified)
        .await;
    suite.relate("bob", "stranger", State::None).await;
    suite
        .tell("bob", "stranger", State::None, State::Unspecified)
        .await;
    // dan is offline already: another offline would tell alice that something happened
    suite.relate("dan", "alice", State::Blocked).await;
    pass(60).await;
    assert_eq!((stranger.count(), alice.count()), (told, alices));
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_tells_nothing_of_the_one_who_refused() {
    let suite = Suite::start().await;
    let alice = suite.device("alice", "e1", Status::Online).await;
    let _bob = suite.device("bob", "e2", Status::Online).await;
    suite.relate("alice", "bob", State::Asked).await;
    suite.relate("bob", "alice", State::AskedBy).await;
    suite.relate("bob", "alice", State::None).await;
    suite.relate("alice", "bob", State::None).await;
    eventually("alice is told of the refusal", || async {
        alice.contacts() == [(at("bob"), State::Asked), (at("bob"), State::None)]
    })
    .await;
    pass(60).await;
    assert_eq!(alice.raw("bob"), []);
}

#[tokio::test(start_paused = true)]
async fn new_contacts_see_each_other_at_once_and_each_device_learns_of_the_change() {
    let suite = Suite::start().await;
    let alice = suite.device("alice", "e1", Status::Busy).await;
    let bob = suite.device("bob", "e2", Status::Away).await;
    let phone = suite.device("bob", "e1", Status::Away).await;
    pass(5).await;
    suite.relate("alice", "bob", State::Mutual).await;
    pass(1).await;
    assert_eq!(alice.raw("bob"), [], "bob has not consented yet");
    suite.relate("bob", "alice", State::Mutual).await;
    alice.sees("bob", Status::Away).await;
    bob.sees("alice", Status::Busy).await;
    phone.sees("alice", Status::Busy).await;
    assert_eq!(phone.contacts(), [(at("alice"), State::Mutual)]);
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_ended_and_was_made_again_is_seen_again() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let alice = suite.device("alice", "e1", Status::Online).await;
    let _bob = suite.device("bob", "e2", Status::Online).await;
    alice.sees("bob", Status::Online).await;
    suite.relate("bob", "alice", State::None).await;
    suite.relate("alice", "bob", State::None).await;
    alice.sees("bob", Status::Offline).await;
    suite.relate("alice", "bob", State::Mutual).await;
    suite.relate("bob", "alice", State::Mutual).await;
    alice.sees("bob", Status::Online).await;
}

#[tokio::test(start_paused = true)]
async fn an_edge_that_dies_takes_its_people_with_it_within_20_seconds() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let bob = suite.device("bob", "e1", Status::Online).await;
    let _alice = suite.device("alice", "e2", Status::Online).await;
    bob.sees("alice", Status::Online).await;
    pass(120).await;
    assert_eq!(bob.saw("alice"), [Status::Online]);
    suite.kill("e2");
    let died = Instant::now();
    while bob.saw("alice").last() != Some(&Status::Offline) {
        assert!(died.elapsed() <= Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flapping_mobile_is_not_told_and_one_that_stays_away_is() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let bob = suite.device("bob", "e1", Status::Online).await;
    let mut phone = suite.device("alice", "e2", Status::Online).await;
    bob.sees("alice", Status::Online).await;
    for _ in 0..10 {
        phone.session.attached = false;
        suite.put(&phone.session).await;
        pass(3).await;
        phone.session.attached = true;
        suite.put(&phone.session).await;
        pass(1).await;
    }
    assert_eq!(bob.saw("alice"), [Status::Online]);
    phone.session.attached = false;
    suite.put(&phone.session).await;
    pass(4).await;
    assert_eq!(bob.saw("alice"), [Status::Online]);
    bob.sees("alice", Status::Offline).await;
}

#[tokio::test(start_paused = true)]
async fn an_emptied_store_is_filled_again_and_everybody_sees_what_is_true() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let mut bob = suite.device("bob", "e1", Status::Online).await;
    let mut alice = suite.device("alice", "e2", Status::Online).await;
    bob.sees("alice", Status::Online).await;
    suite.ephemeral.empty();
    // both edges find out and register what they hold; alice has become busy meanwhile
    for device in [&bob, &alice] {
        assert!(
            suite
                .ephemeral
                .renew(&device.session.edge, 0)
                .await
                .unwrap()
                .lapsed
        );
    }
    suite.set(&mut bob, Status::Online).await;
    suite.set(&mut alice, Status::Busy).await;
    pass(10).await;
    bob.sees("alice", Status::Busy).await;
    let seen = suite.snapshot("bob", &[]).await;
    assert_eq!((seen.len(), seen[0].status()), (1, Status::Busy));
}

#[tokio::test(start_paused = true)]
async fn while_accounts_is_down_statuses_wait_and_are_told_once_it_is_back() {
    let suite = Suite::start().await;
    suite.contacts("alice", "bob");
    let bob = suite.device("bob", "e1", Status::Online).await;
    pass(5).await;
    suite.accounts.down.store(true, Ordering::SeqCst);
    let mut alice = suite.device("alice", "e2", Status::Online).await;
    pass(30).await;
    suite.set(&mut alice, Status::Busy).await;
    pass(30).await;
    assert_eq!(bob.raw("alice"), []);
    // one's own devices need no consent
    assert_eq!(alice.saw("alice").last(), Some(&Status::Busy));
    suite.accounts.down.store(false, Ordering::SeqCst);
    bob.sees("alice", Status::Busy).await;
}

#[tokio::test(start_paused = true)]
async fn an_edge_that_is_frozen_holds_up_no_other() {
    let suite = Suite::start().await;
    for viewer in ["bob", "chloe"] {
        suite.contacts("alice", viewer);
    }
    let bob = suite.device("bob", "e1", Status::Online).await;
    let chloe = suite.device("chloe", "e2", Status::Online).await;
    let mut alice = suite.device("alice", "e3", Status::Online).await;
    bob.sees("alice", Status::Online).await;
    chloe.sees("alice", Status::Online).await;
    bob.edge.frozen.store(true, Ordering::SeqCst);
    for status in [Status::Busy, Status::Away, Status::Online, Status::Busy] {
        suite.set(&mut alice, status).await;
        let asked = Instant::now();
        chloe.sees("alice", status).await;
        assert!(asked.elapsed() < Duration::from_millis(500));
    }
    // what bob missed, his session looks at when it syncs
    eventually("bob's session is flagged", || async {
        let reach = suite.ephemeral.reach(&[address("bob")]).await.unwrap();
        reach[0].live.is_empty() && reach[0].sessions == 1
    })
    .await;
    bob.edge.frozen.store(false, Ordering::SeqCst);
    let id = bob.session.id;
    suite
        .ephemeral
        .clear_resync(&address("bob"), id)
        .await
        .unwrap();
    suite.set(&mut alice, Status::OnThePhone).await;
    bob.sees("alice", Status::OnThePhone).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_missed_a_change_of_a_contact_syncs_anew() {
    let suite = Suite::start().await;
    let bob = suite.device("bob", "e1", Status::Online).await;
    pass(5).await;
    bob.edge.frozen.store(true, Ordering::SeqCst);
    suite.relate("bob", "alice", State::AskedBy).await;
    eventually("bob's session is flagged", || async {
        let reach = suite.ephemeral.reach(&[address("bob")]).await.unwrap();
        reach[0].live.is_empty() && reach[0].sessions == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_watchers_are_told_in_batches_of_bounded_size() {
    let config = Config {
        edge_batch: 500,
        reach_batch: 256,
        ..Config::default()
    };
    let suite = Suite::without_topic(config).await;
    let mut watchers = Vec::new();
    for n in 0..3_000 {
        let name = format!("user{n}");
        suite.contacts("alice", &name);
        watchers.push(
            suite
                .device(&name, &format!("e{}", n % 3), Status::Online)
                .await,
        );
    }
    suite.device("alice", "e9", Status::Busy).await;
    pass(5).await;
    for watcher in &watchers {
        assert_eq!(watcher.saw("alice"), [Status::Busy]);
    }
    for n in 0..3 {
        let (_, edge) = suite.edge(&format!("e{n}")).await;
        assert!(edge.largest_batch() <= 500, "{}", edge.largest_batch());
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_all_contacts_and_hides_everybody_else() {
    let suite = Suite::start().await;
    for contact in ["bob", "chloe"] {
        suite.contacts("alice", contact);
    }
    let _bob = suite.device("bob", "e1", Status::Busy).await;
    let _dan = suite.device("dan", "e1", Status::Online).await;
    pass(5).await;
    let seen = suite.snapshot("alice", &[]).await;
    let seen: Vec<_> = seen.iter().map(|p| (p.user.clone(), p.status())).collect();
    assert_eq!(
        seen,
        [(at("bob"), Status::Busy), (at("chloe"), Status::Offline)]
    );
    let seen = suite.snapshot("alice", &["dan", "bob", "ghost"]).await;
    let seen: Vec<_> = seen.iter().map(|p| (p.status(), p.version > 0)).collect();
    assert_eq!(
        seen,
        [
            (Status::Offline, false),
            (Status::Busy, true),
            (Status::Offline, false)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn it_starts_before_accounts_has_made_its_topic() {
    let suite = Suite::without_topic(Config::default()).await;
    let bob = suite.device("bob", "e1", Status::Online).await;
    pass(60).await;
    suite.make_topic().await;
    pass(10).await;
    suite.relate("bob", "alice", State::AskedBy).await;
    eventually("bob is told", || async {
        bob.contacts() == [(at("alice"), State::AskedBy)]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_made_before_its_reader_ever_began_is_told() {
    let suite = Suite::without_topic(Config::default()).await;
    let bob = suite.device("bob", "e1", Status::Online).await;
    suite.make_topic().await;
    suite.relate("bob", "alice", State::AskedBy).await;
    eventually("bob is told", || async {
        bob.contacts() == [(at("alice"), State::AskedBy)]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_parked_and_holds_up_nothing() {
    let suite = Suite::start().await;
    let bob = suite.device("bob", "e1", Status::Online).await;
    suite.append("bob", vec![0xff; 8]).await;
    suite.relate("bob", "alice", State::AskedBy).await;
    eventually("bob is told", || async { bob.contacts().len() == 1 }).await;
    let parked = suite.log.read("presence.parked", 0, 0, 100).await.unwrap();
    assert_eq!(parked.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn bad_input_is_refused_with_its_code() {
    let suite = Suite::start().await;
    let users = vec!["nobody".to_owned()];
    let refused = suite
        .presence
        .clone()
        .changed(ChangedRequest { users })
        .await
        .unwrap_err();
    assert_eq!(code_of(&refused), Code::InvalidArgument);
    let request = SnapshotRequest::default();
    let refused = suite.presence.clone().snapshot(request).await.unwrap_err();
    assert_eq!(code_of(&refused), Code::InvalidArgument);
}
