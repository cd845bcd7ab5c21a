//! Several replicas of each service: people talk on while replicas come, go and die.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod keys;
mod people;
mod suite;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use aws_lc_rs::agreement;
use people::{Device, PATIENCE, check};
use suite::{SERVICES, Suite};
use tandem_proto::client::{PushToken, Status, WebPush, push_token};

const PEOPLE: [&str; 4] = ["alice", "bob", "chloe", "dan"];

fn pair(a: &str, b: &str) -> String {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    format!("o:{a}@tandem.test,{b}@tandem.test")
}

/// Sends one text after the other, not waiting for answers, until told to stop; those accepted.
async fn talk(device: Arc<Device>, to: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut sent = Vec::new();
    for n in 0.. {
        if stop.load(SeqCst) {
            break;
        }
        let text = format!("{} {n}", device.name);
        sent.push((text.clone(), device.client.send_text(&to, text)));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let mut accepted = Vec::new();
    for (text, sent) in sent {
        let outcome = tokio::time::timeout(PATIENCE, sent.outcome()).await;
        outcome.expect("an answer in time").expect("accepted");
        accepted.push(text);
    }
    accepted
}

/// People with two devices each talk in a group and in pairs while `happens`.
async fn talking_while(suite: &Arc<Suite>, happens: impl AsyncFnOnce(&Suite)) {
    let mut devices = Vec::new();
    for who in PEOPLE {
        for id in ["pc", "phone"] {
            devices.push(Arc::new(Device::connect(suite, who, id, None)));
        }
    }
    for device in &devices {
        device.synced().await;
    }
    let members = PEOPLE.map(|p| format!("{p}@tandem.test"));
    let (group, made) = devices[0]
        .client
        .create_group("all", members[1..].to_vec())
        .unwrap();
    made.outcome().await.expect("a group");
    for device in &devices {
        device
            .until("it knows the group", |c| c.conversation(&group).is_some())
            .await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut talks = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        let who = PEOPLE[i / 2];
        let other = PEOPLE[(i / 2 + 1) % PEOPLE.len()];
        for conversation in [group.clone(), pair(who, other)] {
            let task = talk(Arc::clone(device), conversation.clone(), Arc::clone(&stop));
            talks.push((conversation, device.name.clone(), tokio::spawn(task)));
        }
    }
    happens(suite).await;
    stop.store(true, SeqCst);
    let mut accepted: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut count = 0;
    for (conversation, name, task) in talks {
        let sent = task.await.unwrap();
        count += sent.len();
        accepted.entry(conversation).or_default().insert(name, sent);
    }
    for (conversation, accepted) in &accepted {
        let members = devices.iter().filter(|d| {
            let who = d.name.split('/').next().unwrap();
            conversation.starts_with("g:") || conversation.contains(&format!("{who}@"))
        });
        let members: Vec<&Device> = members.map(Arc::as_ref).collect();
        check(&members, conversation, accepted).await;
    }
    let moved: usize = devices.iter().map(|d| d.moved()).sum();
    println!("{count} accepted, {moved} live copies at a second place");
    assert_eq!(moved, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_talk_on_while_replicas_are_added_and_stopped() {
    let suite = Suite::start(&PEOPLE).await;
    talking_while(&suite, async |suite: &Suite| {
        for service in SERVICES {
            suite.add(service, 3).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            suite.stop(service, 1).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    suite.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_talk_on_while_replicas_die() {
    let suite = Suite::start(&PEOPLE).await;
    talking_while(&suite, async |suite: &Suite| {
        for service in SERVICES {
            suite.kill(service, 1).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            suite.add(service, 3).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            suite.kill(service, 2).await;
        }
    })
    .await;
    suite.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_to_another_edge_lacks_nothing_and_has_nothing_twice() {
    let suite = Suite::start(&PEOPLE).await;
    let alice = Arc::new(Device::connect(&suite, "alice", "pc", Some(1)));
    let bob = Device::connect(&suite, "bob", "pc", Some(2));
    let here = pair("alice", "bob");
    let stop = Arc::new(AtomicBool::new(false));
    let talk = tokio::spawn(talk(Arc::clone(&alice), here.clone(), Arc::clone(&stop)));
    for round in 0..12 {
        // each has resume for a session of the other edge
        *alice.road.only.lock() = Some(1 + (round + 1) % 2);
        *bob.road.only.lock() = Some(1 + round % 2);
        alice.road.cut();
        tokio::time::sleep(Duration::from_millis(70)).await;
        bob.road.cut();
        tokio::time::sleep(Duration::from_millis(130)).await;
    }
    stop.store(true, SeqCst);
    let accepted = BTreeMap::from([(alice.name.clone(), talk.await.unwrap())]);
    check(&[&alice, &bob], &here, &accepted).await;
    assert_eq!((alice.moved(), bob.moved()), (0, 0));
    suite.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_away_is_notified_by_whichever_push_is_left() {
    let suite = Suite::start(&PEOPLE).await;
    let (endpoint, notified) = push_service().await;
    let phone = Device::connect(&suite, "bob", "phone", None);
    phone.synced().await;
    let key = agreement::PrivateKey::generate(&agreement::ECDH_P256).unwrap();
    let web_push = WebPush {
        endpoint,
        p256dh: key.compute_public_key().unwrap().as_ref().to_vec(),
        auth: vec![7; 16],
    };
    let token = PushToken {
        channel: Some(push_token::Channel::WebPush(web_push)),
        hide_text: false,
    };
    phone.client.push_token(Some(token)).await.unwrap();
    phone.vanish();
    let senders = ["alice", "chloe", "dan"].map(|who| Device::connect(&suite, who, "pc", None));
    let all_notify = async || {
        for sender in &senders {
            let before = notified.load(SeqCst);
            let sent = sender.client.send_text("bob", "are you there?");
            sent.outcome().await.expect("accepted");
            let wait = async {
                while notified.load(SeqCst) == before {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let told = tokio::time::timeout(PATIENCE, wait).await;
            assert!(told.is_ok(), "{}'s message is notified", sender.name);
        }
    };
    all_notify().await;
    suite.kill("push", 1).await;
    all_notify().await;
    suite.add("push", 3).await;
    suite.stop("push", 2).await;
    all_notify().await;
    suite.end().await;
}

/// Where a push service is, and how many notifications it has had.
async fn push_service() -> (String, Arc<AtomicUsize>) {
    let had = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&had);
    let take = move || {
        count.fetch_add(1, SeqCst);
        async { http::StatusCode::CREATED }
    };
    let router = axum::Router::new().route("/phone", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/phone", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (endpoint, had)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_seen_from_another_edge_and_one_whose_edge_dies_is_offline() {
    let suite = Suite::start(&PEOPLE).await;
    let alice = Device::connect(&suite, "alice", "pc", Some(1));
    let bob = Device::connect(&suite, "bob", "pc", Some(2));
    alice.synced().await;
    bob.synced().await;
    let sees = |status: Status| {
        move |core: &tandem_client::Core| {
            let alice = core.contacts().find(|c| c.user == "alice@tandem.test");
            let presence = alice.and_then(|c| c.presence.as_ref());
            presence.is_some_and(|p| p.status == i32::from(status))
        }
    };
    bob.until("alice is online", sees(Status::Online)).await;
    suite.kill("presence", 1).await;
    alice.client.set_presence(Status::Busy, "");
    bob.until("alice is busy", sees(Status::Busy)).await;
    suite.kill("edge", 1).await;
    alice.vanish();
    bob.until("alice is offline", sees(Status::Offline)).await;
    suite.end().await;
}
