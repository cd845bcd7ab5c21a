//! Changes that the ephemeral store does late.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::{sync::atomic::Ordering, time::Duration};

use common::World;
use tandem_ephemeral::Ephemeral;
use tandem_kernel::Address;
use tandem_proto::client::{Bye, SetPresence, Status, client_frame};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_session_whose_registration_is_done_after_its_end_does_not_stay() {
    let w = World::new().await;
    let alice = [Address::parse("alice@tandem.test").unwrap()];
    w.flaky.late.store(1, Ordering::SeqCst);
    let mut device = w.open("alice", "pc").await;
    device.send(client_frame::Frame::Bye(Bye {})).await;
    sleep(Duration::from_secs(1)).await;
    let sessions = async || w.ephemeral.reach(&alice).await.unwrap()[0].sessions;
    assert_eq!(sessions().await, 0);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(sessions().await, 1, "the late one is done");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(sessions().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_status_whose_registration_is_done_after_a_newer_one_does_not_stay() {
    let w = World::new().await;
    let alice = [Address::parse("alice@tandem.test").unwrap()];
    let mut device = w.open("alice", "pc").await;
    let choose = |status: Status| {
        client_frame::Frame::SetPresence(SetPresence {
            status: status.into(),
            message: String::new(),
        })
    };
    w.flaky.late.store(1, Ordering::SeqCst);
    device.send(choose(Status::Busy)).await;
    sleep(Duration::from_millis(20)).await;
    device.send(choose(Status::Away)).await;
    sleep(Duration::from_secs(15)).await;
    w.ephemeral.settle(&alice).await.unwrap();
    let statuses = w.ephemeral.statuses(&alice).await.unwrap();
    assert_eq!(statuses[0].as_ref().unwrap().status, Status::Away);
}
