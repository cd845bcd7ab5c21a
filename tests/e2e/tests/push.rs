//! What no device confirmed is notified, whatever dies in between; what is read is taken back.

use std::time::{Duration, Instant};

use serde_json::Value;
use tandem_client::Core;
use tandem_e2e_tests::{
    Device, Process, Up,
    device::{PATIENCE, between},
    gateway::{Gateway, Got, Subscription},
    signal, wait_for,
};

/// Notifications go to a push service on loopback, which only tests may allow.
const LOOPBACK: [&str; 6] = [
    "--set",
    "accounts.allow_http_endpoints=true",
    "--set",
    "push.allow_http_endpoints=true",
    "--set",
    "push.allow_private_endpoints=true",
];

/// In which a notification must have left. Five seconds are the window; the rest is a busy machine's.
const NOTIFIED: Duration = Duration::from_secs(10);

/// Bob's mobile, which has subscribed; with the key that notifications are signed with.
async fn subscribed(up: &Up, gateway: &Gateway) -> (Subscription, Vec<u8>) {
    let phone = Device::connect(up, "bob", "phone");
    phone.synced().await;
    let vapid = phone.client.look(|core| core.vapid_public_key().to_vec());
    assert_eq!(
        vapid.len(),
        65,
        "the device is told the key to subscribe with"
    );
    let subscription = Subscription::new(gateway, "phone");
    let set = phone.client.push_token(Some(subscription.token.clone()));
    set.await.expect("a subscription is taken");
    phone.leave().await;
    (subscription, vapid)
}

/// Bob's mobile goes on in a process of its own, and freezes.
fn frozen(up: &Up) -> Process {
    let phone = up.spawn(&["chat", "--as", "bob", "--plain", "--device", "phone"]);
    wait_for("bob's mobile is there", PATIENCE, || {
        phone.output().contains("* synced").then_some(())
    });
    signal("STOP", phone.pid());
    phone
}

/// What is between alice and bob, in the order of arrival, once it tells of this place.
fn notified_of(
    gateway: &Gateway,
    phone: &Subscription,
    vapid: &[u8],
    seq: u64,
    patience: Duration,
) -> (Vec<Got>, Vec<Value>) {
    let seq = seq.to_string();
    wait_for("the notification is there", patience, || {
        let got = gateway.got(phone);
        if got.is_empty() {
            return None;
        }
        let said = phone.read(gateway, vapid, &got);
        said.iter().any(|s| s["seq"] == *seq).then_some((got, said))
    })
}

/// The headers that a push service goes by (RFC 8030, 8188).
fn as_it_should_be(got: &[Got]) {
    for got in got {
        let ttl: u64 = got.header("ttl").parse().expect("seconds");
        // a day, less the age of the message
        assert!((86_000..=86_400).contains(&ttl), "{got:?}");
        assert_eq!(got.header("content-encoding"), "aes128gcm");
        assert_eq!(got.header("topic").len(), 32, "{got:?}");
    }
    let mut topics: Vec<_> = got.iter().map(|g| g.header("topic")).collect();
    topics.dedup();
    assert_eq!(
        topics.len(),
        1,
        "one conversation replaces its own: {topics:?}"
    );
}

/// Bob reads up to a place on another device: the mobile is told to take its notification back.
async fn withdrawn_on_read(
    up: &Up,
    gateway: &Gateway,
    (phone, vapid): (&Subscription, &[u8]),
    seq: u64,
) {
    let here = between("alice", "bob");
    let before = gateway.got(phone).len();
    let pc = Device::connect(up, "bob", "pc");
    pc.synced().await;
    assert_eq!(gateway.got(phone).len(), before, "nothing is read yet");
    pc.client.read(&here, seq);
    let (got, said) = wait_for("the notification is taken back", PATIENCE, || {
        let got = gateway.got(phone).split_off(before);
        (!got.is_empty()).then(|| {
            let said = phone.read(gateway, vapid, &got);
            (got, said)
        })
    });
    assert_eq!(said[0]["type"], "withdraw", "{said:?}");
    assert_eq!(said[0]["conversation"], here);
    assert_eq!(said[0]["up_to"], seq.to_string());
    assert_eq!(said[0]["tag"], got[0].header("topic"));
    as_it_should_be(&gateway.got(phone));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frozen_peer_did_not_confirm_is_notified_within_seconds_and_taken_back_when_read() {
    let gateway = Gateway::start();
    let up = Up::start(&LOOPBACK);
    let alice = Device::connect(&up, "alice", "pc");
    alice.synced().await;
    let (phone, vapid) = subscribed(&up, &gateway).await;
    let process = up.spawn(&["chat", "--as", "bob", "--plain", "--device", "phone"]);
    wait_for("bob's mobile is there", PATIENCE, || {
        process.output().contains("* synced").then_some(())
    });
    let confirmed = alice.say("bob", "confirmed").await;
    let delivered = |core: &Core| {
        core.conversation(&between("alice", "bob"))
            .is_some_and(|c| !c.seen_by("alice@tandem.test", confirmed).0.is_empty())
    };
    alice.until("bob's mobile confirms", delivered).await;
    signal("STOP", process.pid());
    let begin = Instant::now();
    let mut seqs = Vec::new();
    for i in 0..50 {
        seqs.push(alice.say("bob", &format!("frozen {i}")).await);
    }
    let end = Instant::now();
    let last = *seqs.last().expect("fifty");
    let (got, said) = notified_of(&gateway, &phone, &vapid, last, PATIENCE);
    as_it_should_be(&got);
    let first = got[0].at.duration_since(begin);
    assert!(
        first >= Duration::from_millis(4_900),
        "a device that is there gets its time to confirm: {first:?}"
    );
    let newest = got.iter().zip(&said);
    let text = last.to_string();
    let newest = newest.filter(|(_, s)| s["seq"] == *text);
    let newest = newest.map(|(g, _)| g.at).min().expect("it is there");
    let took = newest.duration_since(end);
    eprintln!("notified {first:?} after the first, {took:?} after the last");
    assert!(took < NOTIFIED, "{took:?}");
    for (got, said) in got.iter().zip(&said) {
        assert_eq!(said["type"], "message", "{said}");
        assert_eq!(said["sender"], "alice@tandem.test");
        assert_eq!(said["title"], "Alice");
        assert_eq!(said["tag"], got.header("topic"));
        let seq = said["seq"].as_str().and_then(|s| s.parse::<u64>().ok());
        let i = seqs.iter().position(|s| Some(*s) == seq);
        let i = i.unwrap_or_else(|| panic!("not of what was confirmed: {said}"));
        assert_eq!(said["body"], format!("frozen {i}"));
    }
    withdrawn_on_read(&up, &gateway, (&phone, &vapid), last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_within_the_window_still_notifies() {
    let gateway = Gateway::start();
    let mut up = Up::start(&LOOPBACK);
    let alice = Device::connect(&up, "alice", "pc");
    alice.synced().await;
    let (phone, vapid) = subscribed(&up, &gateway).await;
    let mut process = frozen(&up);
    let seq = alice.say("bob", "in the window").await;
    // the reader of the log has it, and waits for the receipt
    wait_for("it waits for the receipt", Duration::from_secs(4), || {
        let waiting = up.metric("tandem_push_window", &["state=\"waiting\""]);
        (waiting >= 1.0).then_some(())
    });
    up.kill();
    process.kill();
    assert_eq!(gateway.got(&phone).len(), 0, "the window was open");
    up.restart();
    let (got, said) = notified_of(&gateway, &phone, &vapid, seq, PATIENCE);
    as_it_should_be(&got);
    assert!(
        said.iter().any(|s| s["body"] == "in the window"),
        "{said:?}"
    );
    withdrawn_on_read(&up, &gateway, (&phone, &vapid), seq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_outlives_the_server_and_whoever_is_away_is_notified_until_it_ends() {
    let gateway = Gateway::start();
    let mut up = Up::start(&LOOPBACK);
    let (phone, vapid) = subscribed(&up, &gateway).await;
    up.kill();
    up.restart();
    let alice = Device::connect(&up, "alice", "pc");
    alice.synced().await;
    let seq = alice.say("bob", "are you there?").await;
    let (got, said) = notified_of(&gateway, &phone, &vapid, seq, PATIENCE);
    as_it_should_be(&got);
    assert_eq!(said[0]["body"], "are you there?");
    // the subscription ends with the device's own word
    let device = Device::connect(&up, "bob", "phone");
    device.synced().await;
    device.client.push_token(None).await.expect("removed");
    device.leave().await;
    let before = gateway.got(&phone).len();
    alice.say("bob", "and now?").await;
    wait_for("push finds no device to notify", PATIENCE, || {
        let left_out = up.metric("tandem_push_left_out_total", &["reason=\"no_device\""]);
        (left_out >= 1.0).then_some(())
    });
    assert_eq!(gateway.got(&phone).len(), before);
}
