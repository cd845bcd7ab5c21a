//! How notifications go out, and what happens when they do not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod support;

use std::sync::atomic::Ordering;

use prost::Message;
use support::{Suite, alice_bob, delivered, eventually, gateway::Device, pause, quick, text};
use tandem_kernel::{PUSH_DEAD_TOPIC, event::Parked, parked_topic};
use tandem_log::Log;
use tandem_proto::push::{
    ListDeadRequest, ReplayDeadRequest, VapidKeyRequest, replay_dead_request::Place,
};
use tandem_push::Config;

fn bobs(suite: &Suite, name: &str) -> Device {
    let device = Device::subscribe(&suite.gateway, name);
    suite.fakes.subscribe("bob", name, device.token.clone());
    device
}

fn key(device: &str) -> (String, String) {
    ("bob@x.test".to_owned(), device.to_owned())
}

async fn letters(suite: &Suite) -> Vec<tandem_proto::push::DeadLetter> {
    let request = ListDeadRequest { limit: 0 };
    suite
        .client()
        .list_dead(request)
        .await
        .unwrap()
        .into_inner()
        .letters
}

#[tokio::test]
async fn notifications_of_a_conversation_collapse_and_carry_urgency_and_ttl() {
    let suite = Suite::new(quick()).await;
    let phone = bobs(&suite, "phone");
    suite.settle();
    suite.append(&alice_bob(), "alice", text("one")).await;
    suite.append(&alice_bob(), "alice", text("two")).await;
    eventually(async || suite.gateway.count() == 2).await;
    let got = suite.gateway.got();
    let topic = got[0].headers["topic"].to_str().unwrap();
    assert_eq!(
        (topic.len(), &got[1].headers["topic"]),
        (32, &got[0].headers["topic"])
    );
    assert_eq!(phone.inbox(&suite.gateway)[0]["tag"], topic);
    assert_eq!(got[0].headers["urgency"], "high");
    assert_eq!(got[0].headers["content-encoding"], "aes128gcm");
    let ttl: u64 = got[0].headers["ttl"].to_str().unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&ttl), "{ttl}");
    let server = suite
        .client()
        .vapid_key(VapidKeyRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(server.public_key.len(), 65);
}

#[tokio::test]
async fn a_device_that_wants_no_text_gets_none() {
    let suite = Suite::new(quick()).await;
    suite.settle();
    let mut phone = Device::subscribe(&suite.gateway, "phone");
    phone.token.hide_text = true;
    suite.fakes.subscribe("bob", "phone", phone.token.clone());
    suite.append(&alice_bob(), "alice", text("a secret")).await;
    eventually(async || suite.gateway.count() == 1).await;
    let notification = &phone.inbox(&suite.gateway)[0];
    assert!(
        !notification.to_string().contains("secret"),
        "{notification}"
    );
    assert_eq!(notification["sender"], "alice@x.test");
}

#[tokio::test]
async fn a_dead_token_is_removed() {
    let suite = Suite::new(quick()).await;
    bobs(&suite, "phone");
    suite.settle();
    suite.gateway.status(410);
    let seq = suite.append(&alice_bob(), "alice", text("one")).await;
    suite.wait_committed(seq).await;
    assert!(!suite.fakes.0.tokens.lock().contains_key(&key("phone")));
    assert_eq!(
        (letters(&suite).await, suite.gateway.count()),
        (Vec::new(), 1)
    );
}

#[tokio::test]
async fn a_token_that_replaced_a_dead_one_stays() {
    let suite = Suite::new(Config {
        retry_first_ms: 500,
        retry_max_ms: 500,
        ..quick()
    })
    .await;
    bobs(&suite, "phone");
    suite.settle();
    // the device subscribes anew between the failed attempt and the one that finds the old one dead
    suite.gateway.answers(&[503, 410]);
    let renewed = Device::subscribe(&suite.gateway, "phone");
    let seq = suite.append(&alice_bob(), "alice", text("one")).await;
    eventually(async || suite.gateway.count() == 1).await;
    suite.fakes.subscribe("bob", "phone", renewed.token.clone());
    suite.wait_committed(seq).await;
    assert_eq!(suite.gateway.count(), 2);
    assert_eq!(
        suite.fakes.0.tokens.lock().get(&key("phone")),
        Some(&renewed.token)
    );
}

#[tokio::test]
async fn a_channel_that_fails_for_a_moment_is_tried_again() {
    let suite = Suite::new(quick()).await;
    let phone = bobs(&suite, "phone");
    suite.settle();
    suite.gateway.answers(&[503, 429]);
    let seq = suite.append(&alice_bob(), "alice", text("one")).await;
    suite.wait_committed(seq).await;
    assert_eq!(phone.inbox(&suite.gateway).len(), 3);
    assert_eq!(letters(&suite).await, []);
}

#[tokio::test]
async fn retries_do_not_hold_up_what_comes_after() {
    let config = Config {
        retry_first_ms: 5_000,
        retry_max_ms: 5_000,
        retry_total_ms: 60_000,
        ..quick()
    };
    let suite = Suite::new(config).await;
    bobs(&suite, "phone");
    suite.settle();
    suite.gateway.answers(&[503]);
    let seq = suite.append(&alice_bob(), "alice", text("one")).await;
    eventually(async || suite.gateway.count() == 1).await;
    suite.append(&alice_bob(), "alice", text("two")).await;
    eventually(async || suite.gateway.count() == 2).await;
    pause(100).await;
    assert!(suite.committed().await <= seq.offset());
    // a receipt ends the retries, and the place moves on
    let receipt = suite.append(&alice_bob(), "bob", delivered(seq)).await;
    suite.wait_committed(receipt).await;
    assert_eq!(suite.gateway.count(), 2);
}

#[tokio::test]
async fn what_keeps_failing_is_parked_without_its_text_and_replayed_later() {
    let suite = Suite::new(quick()).await;
    let phone = bobs(&suite, "phone");
    suite.settle();
    suite.gateway.status(500);
    let first = suite.append(&alice_bob(), "alice", text("a secret")).await;
    suite.wait_committed(first).await;
    let second = suite
        .append(&alice_bob(), "alice", text("another secret"))
        .await;
    suite.wait_committed(second).await;
    let dead = letters(&suite).await;
    assert_eq!(
        dead.iter().map(|l| l.seq).collect::<Vec<_>>(),
        [second.0, first.0]
    );
    assert_eq!(
        (dead[0].user.as_str(), dead[0].device.as_str()),
        ("bob@x.test", "phone")
    );
    assert_eq!(dead[0].code, "unavailable");
    for stored in suite.log.read(PUSH_DEAD_TOPIC, 0, 0, 10).await.unwrap() {
        assert!(!String::from_utf8_lossy(&stored.record.value).contains("secret"));
    }
    // still failing: stays
    let all = ReplayDeadRequest::default();
    let answer = suite
        .client()
        .replay_dead(all.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.sent, answer.failed), (0, 2));
    assert_eq!(letters(&suite).await.len(), 2);
    suite.gateway.status(201);
    let before = suite.gateway.count();
    let one = Place {
        partition: dead[1].partition,
        offset: dead[1].offset,
    };
    let one = ReplayDeadRequest { places: vec![one] };
    let answer = suite
        .client()
        .replay_dead(one.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.sent, answer.failed), (1, 0));
    let inbox = phone.inbox(&suite.gateway);
    assert_eq!(
        (inbox.len(), &inbox[before]["seq"]),
        (before + 1, &first.to_string().into())
    );
    // a settled letter is neither listed nor sent again
    let answer = suite.client().replay_dead(one).await.unwrap().into_inner();
    assert_eq!((answer.sent, answer.failed), (0, 0));
    assert_eq!(
        letters(&suite)
            .await
            .iter()
            .map(|l| l.seq)
            .collect::<Vec<_>>(),
        [second.0]
    );
    let answer = suite.client().replay_dead(all).await.unwrap().into_inner();
    assert_eq!((answer.sent, answer.failed), (1, 0));
    assert_eq!(letters(&suite).await, []);
}

#[tokio::test]
async fn while_accounts_is_down_messages_wait_and_none_is_parked() {
    let suite = Suite::new(quick()).await;
    let phone = bobs(&suite, "phone");
    suite.settle();
    suite.fakes.0.accounts_down.store(true, Ordering::Relaxed);
    let seq = suite.append(&alice_bob(), "alice", text("one")).await;
    // far more attempts than a channel gets
    eventually(async || suite.fakes.0.refused.load(Ordering::Relaxed) > 12).await;
    assert_eq!(letters(&suite).await, []);
    suite.fakes.0.accounts_down.store(false, Ordering::Relaxed);
    suite.wait_committed(seq).await;
    assert_eq!(phone.inbox(&suite.gateway).len(), 1);
    assert_eq!(letters(&suite).await, []);
}

#[tokio::test]
async fn endpoints_that_lead_inside_are_refused_and_parked() {
    let config = Config {
        allow_private_endpoints: false,
        ..quick()
    };
    let suite = Suite::new(config).await;
    bobs(&suite, "phone");
    suite.settle();
    let seq = suite.append(&alice_bob(), "alice", text("one")).await;
    suite.wait_committed(seq).await;
    let dead = letters(&suite).await;
    assert_eq!(
        (suite.gateway.count(), dead[0].code.as_str()),
        (0, "forbidden")
    );
}

#[tokio::test]
async fn plain_http_endpoints_are_refused_unless_allowed() {
    let suite = Suite::new(Config {
        allow_http_endpoints: false,
        ..quick()
    })
    .await;
    bobs(&suite, "phone");
    suite.settle();
    let seq = suite.append(&alice_bob(), "alice", text("one")).await;
    suite.wait_committed(seq).await;
    let dead = letters(&suite).await;
    assert_eq!(
        (suite.gateway.count(), dead[0].code.as_str()),
        (0, "invalid_argument")
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_parked_and_holds_nobody_up() {
    let suite = Suite::new(quick()).await;
    bobs(&suite, "phone");
    suite.settle();
    let bad = suite
        .append_raw("o:alice@x.test,bob@x.test", b"\xff\xff\xff".to_vec())
        .await;
    suite.append(&alice_bob(), "alice", text("after it")).await;
    eventually(async || suite.gateway.count() == 1).await;
    let parked = suite
        .log
        .read(&parked_topic("push"), 0, 0, 10)
        .await
        .unwrap();
    let parked = Parked::decode(parked[0].record.value.clone()).unwrap();
    assert_eq!(
        (parked.offset, parked.code.as_str()),
        (bad.offset(), "malformed")
    );
    assert_eq!(parked.value.as_ref(), b"\xff\xff\xff");
}
