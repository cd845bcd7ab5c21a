//! Whatever happens, in whatever order, with copies, a store that fails half way and readers that are
//! killed: what people see is what a simple model says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod faulty;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use faulty::Faulty;
use proptest::prelude::*;
use tandem_chassis::rng::Rng;
use tandem_history::Config;
use tandem_kernel::event::Kind;
use world::*;

const PEOPLE: [&str; 4] = ["alice", "bob", "chloe", "dan"];

/// An event as the model keeps it.
#[derive(Debug, Clone)]
struct Seen {
    seq: u64,
    sender: String,
    kind: Kind,
    withheld: Vec<String>,
}

/// A conversation as the events make it, without any cleverness.
#[derive(Debug, Default)]
struct Model {
    group: bool,
    events: Vec<Seen>,
    /// Stays by user: joined and left.
    stays: BTreeMap<String, Vec<(u64, u64)>>,
    read: BTreeMap<String, u64>,
    ids: BTreeSet<(String, String)>,
}

impl Model {
    fn is_member(&self, user: &str) -> bool {
        self.stays
            .get(user)
            .and_then(|s| s.last())
            .is_some_and(|s| s.1 == u64::MAX)
    }

    fn text(&self, seq: u64) -> Option<&Seen> {
        self.events
            .iter()
            .find(|e| e.seq == seq && matches!(e.kind, Kind::Text(_)))
    }

    fn deleted(&self, seq: u64) -> bool {
        self.events
            .iter()
            .any(|e| matches!(&e.kind, Kind::Delete(d) if d.target == seq))
    }

    fn apply(&mut self, seq: u64, say: &Say) {
        let sender = say.sender.clone();
        let known = !self.ids.insert((sender.clone(), say.id.clone().unwrap()));
        if known && !matches!(say.kind, Kind::Receipt(_)) {
            return;
        }
        let create = matches!(say.kind, Kind::GroupCreate(_));
        if !create && !self.is_member(&sender) {
            return;
        }
        let join = |stays: &mut BTreeMap<String, Vec<(u64, u64)>>, user: &str| {
            stays
                .entry(user.to_owned())
                .or_default()
                .push((seq, u64::MAX));
        };
        match &say.kind {
            Kind::Receipt(r) => {
                let last = self.events.last().map_or(0, |e| e.seq);
                let read = self.read.entry(sender).or_default();
                *read = r.read.min(last).max(*read);
                return;
            }
            Kind::Edit(e)
                if self.text(e.target).is_none_or(|t| t.sender != sender)
                    || self.deleted(e.target) =>
            {
                return;
            }
            Kind::Delete(d) if self.text(d.target).is_none_or(|t| t.sender != sender) => return,
            Kind::Reaction(r) if self.text(r.target).is_none() || self.deleted(r.target) => return,
            Kind::GroupCreate(c) => {
                join(&mut self.stays, &sender);
                for m in &c.members {
                    join(&mut self.stays, m);
                }
            }
            Kind::MembersAdd(a) => {
                if sender != at("alice") {
                    return;
                }
                if !self.is_member(&a.members[0]) {
                    join(&mut self.stays, &a.members[0]);
                }
            }
            Kind::MemberRemove(r) => {
                if sender != at("alice") || r.member == sender || !self.is_member(&r.member) {
                    return;
                }
                self.stays.get_mut(&r.member).unwrap().last_mut().unwrap().1 = seq;
            }
            Kind::MemberLeave(_) => {
                self.stays.get_mut(&sender).unwrap().last_mut().unwrap().1 = seq;
            }
            _ => {}
        }
        let (kind, withheld) = (say.kind.clone(), say.withheld.clone());
        self.events.push(Seen {
            seq,
            sender,
            kind,
            withheld,
        });
    }

    fn page(&self, user: &str) -> Vec<(u64, String, Vec<String>)> {
        let Some(stays) = self.stays.get(user) else {
            return Vec::new();
        };
        let visible = |e: &&Seen| {
            stays
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&e.seq))
                && !e.withheld.iter().any(|w| w == user)
        };
        self.events
            .iter()
            .filter(visible)
            .map(|e| self.show(e))
            .collect()
    }

    fn show(&self, event: &Seen) -> (u64, String, Vec<String>) {
        let mut shown = match &event.kind {
            Kind::Text(t) => t.text.clone(),
            Kind::Edit(_) => "<edit>".into(),
            Kind::Delete(_) => "<delete>".into(),
            Kind::Reaction(_) => "<reaction>".into(),
            _ => "<group>".into(),
        };
        let mut reactions: BTreeMap<String, String> = BTreeMap::new();
        for later in &self.events {
            match &later.kind {
                Kind::Edit(e) if e.target == event.seq => {
                    shown = e.text.clone().unwrap().text;
                }
                Kind::Delete(d) if d.target == event.seq => shown = "<deleted>".into(),
                Kind::Reaction(r) if r.target == event.seq => {
                    reactions.insert(later.sender.clone(), r.emoji.clone());
                }
                _ => {}
            }
        }
        let reactions = reactions.into_iter().filter(|(_, e)| !e.is_empty());
        (
            event.seq,
            shown,
            reactions.map(|(u, e)| format!("{u} {e}")).collect(),
        )
    }

    fn unread(&self, user: &str) -> u64 {
        let (joined, left) = *self.stays[user].last().unwrap();
        let message = |e: &&Seen| matches!(e.kind, Kind::Text(_));
        let own = self
            .events
            .iter()
            .filter(message)
            .filter(|e| e.sender == user);
        let sent = own.map(|e| e.seq).max().unwrap_or(0);
        let from = sent
            .max(self.read.get(user).copied().unwrap_or(0))
            .max(joined);
        let new = self
            .events
            .iter()
            .filter(message)
            .filter(|e| e.seq > from && e.seq <= left);
        new.filter(|e| !e.withheld.iter().any(|w| w == user))
            .count() as u64
    }
}

fn shown(event: &tandem_kernel::event::Event) -> (u64, String, Vec<String>) {
    let folded = event.folded.clone().unwrap_or_default();
    let mut reactions: Vec<String> = folded
        .reactions
        .into_iter()
        .map(|r| format!("{} {}", r.user, r.emoji))
        .collect();
    reactions.sort();
    (event.seq, words(event), reactions)
}

/// What a step of a case does.
#[derive(Debug, Clone)]
enum Step {
    Say {
        group: bool,
        who: usize,
        what: u8,
        which: usize,
        withheld: bool,
    },
    Again {
        which: usize,
    },
    Settle,
    /// The store lets one write get half way, and history is killed two steps later.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let say = (any::<bool>(), 0usize..4, 0u8..20, 0usize..12, 0u8..6).prop_map(
        |(group, who, what, which, withheld)| Step::Say {
            group,
            who,
            what,
            which,
            withheld: withheld == 0,
        },
    );
    prop_oneof![
        20 => say,
        2 => (0usize..12).prop_map(|which| Step::Again { which }),
        2 => Just(Step::Settle),
        2 => Just(Step::Kill),
    ]
}

fn kind(model: &Model, who: usize, what: u8, which: usize, other: &str, n: usize) -> Kind {
    let texts: Vec<u64> = model.events.iter().map(|e| e.seq).collect();
    let target = texts.iter().rev().nth(which).copied().unwrap_or(1);
    match what {
        0..=6 => text(&format!("text {n}")),
        7..=9 => edit(target, &format!("edited {n}")),
        10 => delete(target),
        11 | 12 => react(target, ["👍", "🎉", ""][which % 3]),
        13..=15 => receipt(target, target),
        16 | 17 if model.group => add(other),
        18 if model.group => remove(other),
        // the model knows no other owner than alice
        19 if model.group && who != 0 => leave(),
        _ => text(&format!("more {n}")),
    }
}

async fn check(w: &mut World, models: &[(&str, Model)]) {
    for (conversation, model) in models {
        for user in PEOPLE {
            let expected = model.page(&at(user));
            if !model.stays.contains_key(&at(user)) {
                assert!(w.try_page(user, conversation, (0, 0, 0)).await.is_err());
                continue;
            }
            let page: Vec<_> = w.page(user, conversation).await.iter().map(shown).collect();
            assert_eq!(page, expected, "{user} {conversation}");
            let up = w
                .try_page(user, conversation, (0, 1, 200))
                .await
                .unwrap()
                .events;
            assert_eq!(
                up.iter().map(shown).collect::<Vec<_>>(),
                expected,
                "{user} upwards"
            );
            let heads = w.heads(user).await;
            let head = heads.iter().find(|h| h.conversation == *conversation);
            assert_eq!(
                head.is_some(),
                !expected.is_empty(),
                "{user} {conversation} is listed"
            );
            let Some(head) = head else { continue };
            assert_eq!(
                head.last_seq,
                expected.last().unwrap().0,
                "{user} {conversation} last"
            );
            assert_eq!(
                head.unread,
                model.unread(&at(user)),
                "{user} {conversation} unread"
            );
            let stay = *model.stays[&at(user)].last().unwrap();
            let last = expected
                .iter()
                .rev()
                .find(|e| model.text(e.0).is_some() && e.0 >= stay.0);
            if let Some(last) = last {
                assert_eq!(
                    &shown(head.last_message.as_ref().unwrap()),
                    last,
                    "{user} message"
                );
            }
        }
    }
}

/// Kills history, and the store works again.
async fn revive(w: &mut World, dying: &AtomicBool, dead: &AtomicBool) {
    if dying.load(Ordering::Relaxed) {
        // until a write has got half way
        tokio::time::sleep(Duration::from_millis(5)).await;
        w.lifecycle.abort();
        w.lifecycle.run_to_end(Duration::from_secs(5)).await;
        dying.store(false, Ordering::Relaxed);
        dead.store(false, Ordering::Relaxed);
        w.restart().await;
        // until its reader has its partitions
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

async fn run(steps: Vec<Step>, seed: u64) -> u64 {
    let config = Config {
        bucket_events: 4,
        retry_ms: 1,
        linger_ms: 0,
        cached_conversations: 1,
        ..Config::default()
    };
    let (on, failed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (dying, dead) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let faulty = |inner| Faulty {
        inner,
        rng: Rng::from_seed(seed),
        on: Arc::clone(&on),
        dying: Arc::clone(&dying),
        dead: Arc::clone(&dead),
        failed: Arc::clone(&failed),
    };
    let mut w = World::with(config, |inner| Arc::new(faulty(inner))).await;
    on.store(false, Ordering::Relaxed);
    w.settle().await;
    // the reader may be settled before it has its partitions
    tokio::time::sleep(Duration::from_millis(60)).await;
    on.store(true, Ordering::Relaxed);
    let pair = BTreeMap::from_iter(["alice", "bob"].map(|u| (at(u), vec![(0, u64::MAX)])));
    let mut models = [
        (
            AB,
            Model {
                stays: pair,
                ..Model::default()
            },
        ),
        (
            GROUP,
            Model {
                group: true,
                ..Model::default()
            },
        ),
    ];
    let mut said: Vec<Say> = Vec::new();
    let id = |w: &World| Some(w.doors.rng.event_id(w.doors.clock.unix()).to_string());
    let mut first = say(GROUP, "alice", create("us", &["bob"]));
    first.id = id(&w);
    let seq = w.append(first.clone()).await;
    models[1].1.apply(seq, &first);
    let mut kill_at = 0;
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Say {
                group,
                who,
                what,
                which,
                withheld,
            } => {
                let (conversation, model) = &mut models[usize::from(group)];
                let other = PEOPLE[(who + 1 + which % 3) % 4];
                let mut one = say(
                    conversation,
                    PEOPLE[who],
                    kind(model, who, what, which, other, n),
                );
                if !group && withheld && matches!(one.kind, Kind::Text(_)) {
                    one = one.withheld(["bob", "alice"][usize::from(who == 1)]);
                }
                one.id = id(&w);
                let seq = w.append(one.clone()).await;
                model.apply(seq, &one);
                said.push(one);
            }
            Step::Again { which } => {
                let Some(again) = said.iter().rev().nth(which) else {
                    continue;
                };
                let mut again = again.clone();
                again.retry = true;
                let at = usize::from(again.conversation == GROUP);
                let seq = w.append(again.clone()).await;
                models[at].1.apply(seq, &again);
            }
            Step::Settle => {
                kill_at = 0;
                revive(&mut w, &dying, &dead).await;
                on.store(false, Ordering::Relaxed);
                w.settle().await;
                check(&mut w, &models).await;
                on.store(true, Ordering::Relaxed);
            }
            Step::Kill => {
                dying.store(true, Ordering::Relaxed);
                kill_at = n + 3;
            }
        }
        if kill_at == n {
            revive(&mut w, &dying, &dead).await;
        }
    }
    revive(&mut w, &dying, &dead).await;
    on.store(false, Ordering::Relaxed);
    w.settle().await;
    check(&mut w, &models).await;
    w.restart().await;
    w.settle().await;
    check(&mut w, &models).await;
    failed.load(Ordering::Relaxed)
}

proptest! {
    // PROPTEST_CASES=2000 for a long run
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_people_see_is_what_the_model_says(
        steps in prop::collection::vec(step(), 1..80),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps, seed));
    }
}

#[tokio::test]
async fn the_store_of_the_model_does_fail() {
    let text = |i: usize| Step::Say {
        group: i.is_multiple_of(2),
        who: i % 2,
        what: 0,
        which: i % 5,
        withheld: false,
    };
    let steps = (0..20).map(|i| if i == 10 { Step::Kill } else { text(i) });
    assert!(run(steps.collect(), 3).await > 0);
}
