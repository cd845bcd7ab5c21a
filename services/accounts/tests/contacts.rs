//! Contacts by mutual consent, blocks, and changes that touch two people.

mod common;

use std::{sync::atomic::Ordering, time::Duration};

use common::{Suite, at, code, person};
use tandem_kernel::{ACCOUNTS_TOPIC, Code};
use tandem_log::{Log, Record};
use tandem_proto::{
    accounts::{CloseRequest, RelationsRequest, UpsertRequest},
    client::{contact::State, contact_change::Action},
};

#[tokio::test(start_paused = true)]
async fn a_request_that_is_accepted_makes_contacts_on_both_sides() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    assert_eq!(
        suite.change("alice", "bob", Action::Request).await.unwrap(),
        State::Asked
    );
    suite
        .settles("alice", "bob", (State::Asked, State::AskedBy))
        .await;
    assert_eq!(
        suite.change("bob", "alice", Action::Accept).await.unwrap(),
        State::Mutual
    );
    suite
        .settles("alice", "bob", (State::Mutual, State::Mutual))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_declined_request_leaves_nothing_on_either_side() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    suite.change("alice", "bob", Action::Request).await.unwrap();
    suite
        .settles("alice", "bob", (State::Asked, State::AskedBy))
        .await;
    suite.change("bob", "alice", Action::Decline).await.unwrap();
    suite
        .settles("alice", "bob", (State::None, State::None))
        .await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_cross_and_removals_that_cross_end_alike_on_both_sides() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    let (a, b) = tokio::join!(
        suite.change("alice", "bob", Action::Request),
        suite.change("bob", "alice", Action::Request)
    );
    a.unwrap();
    b.unwrap();
    suite
        .settles("alice", "bob", (State::Mutual, State::Mutual))
        .await;
    let (a, b) = tokio::join!(
        suite.change("alice", "bob", Action::Remove),
        suite.change("bob", "alice", Action::Remove)
    );
    a.unwrap();
    b.unwrap();
    suite
        .settles("alice", "bob", (State::None, State::None))
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_same_change_again_changes_no_version_and_writes_no_record() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    suite.change("alice", "bob", Action::Request).await.unwrap();
    suite
        .settles("alice", "bob", (State::Asked, State::AskedBy))
        .await;
    suite.drained().await;
    let before = (
        suite.version("alice").await,
        suite.records("alice").await.len(),
    );
    assert_eq!(
        suite.change("alice", "bob", Action::Request).await.unwrap(),
        State::Asked
    );
    suite.drained().await;
    assert_eq!(
        before,
        (
            suite.version("alice").await,
            suite.records("alice").await.len()
        )
    );
}

#[tokio::test(start_paused = true)]
async fn the_version_grows_with_each_change_and_the_record_says_it() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    for action in [
        Action::Request,
        Action::Remove,
        Action::Block,
        Action::Unblock,
    ] {
        let before = suite.version("alice").await;
        suite.change("alice", "bob", action).await.unwrap();
        let after = suite.version("alice").await;
        assert!(after > before, "{action:?}");
        assert_eq!(suite.records("alice").await.last().unwrap().version, after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_person_sees_no_difference_and_the_blocker_sees_no_request() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    suite.connect("alice", "bob").await;
    suite.drained().await;
    let (seen, records) = (
        suite.contacts("alice").await,
        suite.records("alice").await.len(),
    );
    suite.change("bob", "alice", Action::Block).await.unwrap();
    suite.drained().await;
    assert_eq!(suite.contacts("alice").await, seen);
    assert_eq!(
        suite.records("alice").await.len(),
        records,
        "alice's devices would be told"
    );

    // she ends the contact and asks anew: accepted silently, and nothing comes to bob
    suite.change("alice", "bob", Action::Remove).await.unwrap();
    let told = suite.records("bob").await.len();
    assert_eq!(
        suite.change("alice", "bob", Action::Request).await.unwrap(),
        State::Asked
    );
    suite.drained().await;
    assert_eq!(suite.state("bob", "alice").await, State::Blocked);
    assert_eq!(
        suite.records("bob").await.len(),
        told,
        "bob's devices would be told"
    );
    suite.change("bob", "alice", Action::Unblock).await.unwrap();
    suite.drained().await;
    assert_eq!(suite.state("bob", "alice").await, State::None);
    assert_eq!(suite.state("alice", "bob").await, State::Asked);
}

#[tokio::test(start_paused = true)]
async fn unblocking_restores_the_contact() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    suite.connect("alice", "bob").await;
    suite.change("bob", "alice", Action::Block).await.unwrap();
    assert_eq!(suite.state("bob", "alice").await, State::Blocked);
    suite.change("bob", "alice", Action::Unblock).await.unwrap();
    suite
        .settles("alice", "bob", (State::Mutual, State::Mutual))
        .await;
}

#[tokio::test(start_paused = true)]
async fn someone_unknown_can_be_blocked_but_not_asked() {
    let suite = Suite::start().await;
    suite.people(&["alice"]).await;
    assert_eq!(
        code(suite.change("alice", "ghost", Action::Request).await),
        Code::NotFound
    );
    assert_eq!(
        suite.change("alice", "ghost", Action::Block).await.unwrap(),
        State::Blocked
    );
    assert_eq!(
        code(suite.change("alice", "alice", Action::Request).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(suite.change("ghost", "alice", Action::Request).await),
        Code::NoAccount
    );
}

#[tokio::test(start_paused = true)]
async fn a_contact_is_named_by_a_number_in_the_form_of_ones_own_country() {
    let suite = Suite::start().await;
    let british = |name: &str, phone: Option<&str>| UpsertRequest {
        country: Some("GB".to_owned()),
        phone: phone.map(str::to_owned),
        ..person(name)
    };
    suite.upsert(british("alice", None)).await.unwrap();
    suite
        .upsert(british("bob", Some("07700 900123")))
        .await
        .unwrap();
    let contact = suite
        .change_named("alice", "(07700) 900-123", Action::Request, "")
        .await
        .unwrap();
    assert_eq!((contact.state(), contact.user), (State::Asked, at("bob")));
    let refused = suite
        .change_named("alice", "12", Action::Request, "")
        .await
        .unwrap_err();
    assert!(refused.message().contains("+44"), "{}", refused.message());
    let unknown = suite
        .change_named("alice", "07700 900999", Action::Request, "")
        .await;
    assert_eq!(code(unknown), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_contact_has_the_name_that_was_given_or_that_they_chose() {
    let suite = Suite::start().await;
    suite
        .upsert(UpsertRequest {
            name: Some("Bob B.".to_owned()),
            ..person("bob")
        })
        .await
        .unwrap();
    suite.people(&["alice"]).await;
    let named = |name| suite.change_named("alice", "bob@x.test", Action::Rename, name);
    let asked = suite
        .change_named("alice", "bob@x.test", Action::Request, "")
        .await
        .unwrap();
    assert_eq!(asked.name, "Bob B.");
    assert_eq!(named("Bobby").await.unwrap().name, "Bobby");
    // asking again does not undo it
    let asked = suite
        .change_named("alice", "bob@x.test", Action::Request, "")
        .await
        .unwrap();
    assert_eq!(asked.name, "Bobby");
    assert_eq!(named("").await.unwrap().name, "Bob B.");
    assert_eq!(code(named(&"x".repeat(129)).await), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn a_closed_account_leaves_the_lists_of_its_contacts() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob", "chloe"]).await;
    suite.connect("alice", "bob").await;
    suite.change("chloe", "bob", Action::Request).await.unwrap();
    suite
        .settles("chloe", "bob", (State::Asked, State::AskedBy))
        .await;
    for _ in 0..2 {
        let closed = CloseRequest { user: at("bob") };
        suite.provisioning.clone().close(closed).await.unwrap();
    }
    common::eventually("bob is in nobody's list", || async {
        suite.contacts("alice").await.is_empty() && suite.contacts("chloe").await.is_empty()
    })
    .await;
    let request = RelationsRequest { user: at("bob") };
    let relations = suite
        .accounts
        .clone()
        .relations(request)
        .await
        .unwrap()
        .into_inner();
    assert!(!relations.exists);
    // what was told of the account is not newer than what it says of itself
    assert_eq!(
        suite.records("bob").await.last().unwrap().version,
        relations.version
    );
    assert_eq!(
        code(suite.change("alice", "bob", Action::Request).await),
        Code::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_the_two_halves_leaves_nothing_half_done() {
    let mut suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    suite.drained().await;
    // the record is there, but its reader is not
    suite.log.mute.store(true, Ordering::SeqCst);
    suite.restart().await;
    suite.change("alice", "bob", Action::Request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(suite.state("bob", "alice").await, State::None);
    suite.log.mute.store(false, Ordering::SeqCst);
    suite.restart().await;
    suite
        .settles("alice", "bob", (State::Asked, State::AskedBy))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_record_never_reached_the_log_is_driven_on_after_a_restart() {
    let mut suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    suite.connect("alice", "bob").await;
    suite.drained().await;
    suite.log.refuse_appends.store(true, Ordering::SeqCst);
    assert_eq!(
        code(suite.change("alice", "bob", Action::Remove).await),
        Code::Unavailable
    );
    suite.crash().await;
    suite.log.refuse_appends.store(false, Ordering::SeqCst);
    suite.restart().await;
    suite
        .settles("alice", "bob", (State::None, State::None))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_record_never_reached_the_log_is_driven_on_without_a_restart() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    let version = suite.records("alice").await.last().unwrap().version;
    suite.log.refuse_appends.store(true, Ordering::SeqCst);
    for action in [Action::Request, Action::Remove, Action::Block] {
        assert_eq!(
            code(suite.change("alice", "bob", action).await),
            Code::Unavailable
        );
    }
    suite.log.refuse_appends.store(false, Ordering::SeqCst);
    common::eventually("the block is told", || async {
        let records = suite.records("alice").await;
        let last = records.last().unwrap();
        last.version > version
            && last
                .contact
                .as_ref()
                .is_some_and(|c| c.state() == State::Blocked)
    })
    .await;
    suite.drained().await;
    assert_eq!(suite.state("bob", "alice").await, State::None);
    // nothing stays to be driven on for ever
    let told = suite.records("alice").await.len();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(suite.records("alice").await.len(), told);
}

#[tokio::test(start_paused = true)]
async fn a_closing_that_crashed_half_way_is_finished_after_a_restart() {
    let mut suite = Suite::start().await;
    suite.people(&["alice", "bob", "chloe"]).await;
    suite.connect("alice", "bob").await;
    suite.connect("chloe", "bob").await;
    suite.drained().await;
    suite.log.refuse_appends.store(true, Ordering::SeqCst);
    let closed = suite
        .provisioning
        .clone()
        .close(CloseRequest { user: at("bob") })
        .await;
    assert_eq!(code(closed), Code::Unavailable);
    suite.crash().await;
    suite.log.refuse_appends.store(false, Ordering::SeqCst);
    suite.restart().await;
    common::eventually("bob is in nobody's list", || async {
        suite.contacts("alice").await.is_empty() && suite.contacts("chloe").await.is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_parked_and_holds_up_nothing() {
    let suite = Suite::start().await;
    suite.people(&["alice", "bob"]).await;
    let partitions = suite.log.partitions(ACCOUNTS_TOPIC).await.unwrap();
    let rubbish = Record {
        value: vec![0xff; 8].into(),
        ..Record::default()
    };
    let records = (0..partitions).map(|p| (p, rubbish.clone())).collect();
    for appended in suite.log.append(ACCOUNTS_TOPIC, records).await {
        appended.unwrap();
    }
    suite.change("alice", "bob", Action::Request).await.unwrap();
    suite
        .settles("alice", "bob", (State::Asked, State::AskedBy))
        .await;
    suite.drained().await;
    let parked = suite.log.read("accounts.parked", 0, 0, 100).await.unwrap();
    assert_eq!(parked.len(), partitions as usize);
}
