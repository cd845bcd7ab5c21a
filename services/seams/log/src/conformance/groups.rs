//! Cases of readers that share the work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use super::*;
use crate::Start;

pub async fn a_group_that_never_committed_says_so(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    assert_eq!(log.committed(&topic, "nobody").await.unwrap(), [None, None]);
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assigned(h, &mut *reader, 2).await;
    assert_eq!(log.committed(&topic, "g").await.unwrap(), [None, None]);
    reader.commit(1, 0).await.unwrap();
    eventually(h, async || {
        log.committed(&topic, "g").await.unwrap() == [None, Some(0)]
    })
    .await;
}

pub async fn a_group_goes_on_where_it_committed(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, KEEP).await;
    let answers = fill(h, &*log, &topic, 0, numbers(0..10)).await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assert_eq!(values(h, &mut *reader, 10).await.len(), 10);
    let place = answers[6].place.offset;
    reader.commit(0, place).await.unwrap();
    eventually(h, async || {
        log.committed(&topic, "g").await.unwrap() == [Some(place)]
    })
    .await;
    drop(reader);
    // what came after the commit comes again, whatever `Start` says
    let mut reader = log.subscribe(&topic, "g", Start::Newest).await.unwrap();
    assert_eq!(assigned(h, &mut *reader, 1).await, [(0, place)]);
    assert!(
        values(h, &mut *reader, 4)
            .await
            .into_iter()
            .eq(numbers(6..10))
    );
}

pub async fn a_commit_survives_a_reopen(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let answers = fill(h, &*log, &topic, 1, numbers(0..10)).await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assigned(h, &mut *reader, 2).await;
    let place = answers[4].place.offset;
    for answer in &answers[..5] {
        reader.commit(1, answer.place.offset).await.unwrap();
    }
    eventually(h, async || {
        log.committed(&topic, "g").await.unwrap()[1] == Some(place)
    })
    .await;
    drop(reader);
    drop(log);
    let log = h.reopen().await;
    assert_eq!(
        log.committed(&topic, "g").await.unwrap(),
        [None, Some(place)]
    );
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assert!(
        values(h, &mut *reader, 6)
            .await
            .into_iter()
            .eq(numbers(4..10))
    );
}

pub async fn two_groups_read_the_same_records(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, KEEP).await;
    fill(h, &*log, &topic, 0, numbers(0..10)).await;
    for group in ["one", "two"] {
        let mut reader = log.subscribe(&topic, group, Start::Oldest).await.unwrap();
        assert!(
            values(h, &mut *reader, 10)
                .await
                .into_iter()
                .eq(numbers(0..10))
        );
        let end = log.end_offsets(&topic).await.unwrap()[0];
        reader.commit(0, end).await.unwrap();
        eventually(h, async || {
            log.committed(&topic, group).await.unwrap() == [Some(end)]
        })
        .await;
    }
}

pub async fn a_reader_alone_is_assigned_everything(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 5, KEEP).await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    let places = assigned(h, &mut *reader, 5).await;
    assert!(places.iter().map(|(p, _)| *p).eq(0..5));
    for partition in 0..5 {
        fill(h, &*log, &topic, partition, [partition.to_string()]).await;
        assert_eq!(values(h, &mut *reader, 1).await, [partition.to_string()]);
    }
}

pub async fn a_partition_that_is_not_assigned_cannot_be_touched(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let answers = fill(h, &*log, &topic, 0, numbers(0..3)).await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assigned(h, &mut *reader, 2).await;
    let (offset, at) = (answers[1].place.offset, answers[1].at);
    assert!(matches!(
        reader.commit(2, offset).await,
        Err(LogError::NotAssigned(2))
    ));
    assert!(matches!(
        reader.seek(2, offset).await,
        Err(LogError::NotAssigned(2))
    ));
    assert!(matches!(
        reader.pause(2, true).await,
        Err(LogError::NotAssigned(2))
    ));
    assert!(matches!(
        reader.offset_at(2, at).await,
        Err(LogError::NotAssigned(2))
    ));
    assert_eq!(log.committed(&topic, "g").await.unwrap(), [None, None]);
}

/// Drives the first reader until it is told that it loses something.
async fn revoked(h: &dyn Harness, reader: &mut dyn Reader) -> Vec<u32> {
    loop {
        if let Next::Revoked(lost) = within(h, reader.next()).await.unwrap() {
            return lost;
        }
    }
}

pub async fn a_revoked_partition_may_be_committed_until_the_next_call(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let mut answers = Vec::new();
    for partition in 0..2 {
        answers.push(fill(h, &*log, &topic, partition, numbers(0..10)).await);
    }
    let mut first = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assert_eq!(values(h, &mut *first, 20).await.len(), 20);
    let mut second = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    let told = async {
        // the second drives its side of the rebalance meanwhile, and gets nothing yet
        tokio::select! {
            lost = revoked(h, &mut *first) => lost,
            next = second.next() => panic!("{next:?} before the first let go"),
        }
    };
    let lost = within(h, told).await;
    assert_eq!(lost.len(), 1);
    let place = answers[lost[0] as usize][7].place.offset;
    first.commit(lost[0], place).await.unwrap();
    let handover = async {
        tokio::select! {
            places = assigned(h, &mut *second, 1) => places,
            next = first.next() => panic!("{next:?}: the first has nothing more to be told"),
        }
    };
    assert_eq!(within(h, handover).await, [(lost[0], place)]);
    assert!(
        values(h, &mut *second, 3)
            .await
            .into_iter()
            .eq(numbers(7..10))
    );
    let late = first.commit(lost[0], place + 1).await;
    assert!(
        matches!(late, Err(LogError::NotAssigned(p)) if p == lost[0]),
        "{late:?}"
    );
    assert_eq!(
        log.committed(&topic, "g").await.unwrap()[lost[0] as usize],
        Some(place)
    );
    assert!(matches!(
        first.seek(lost[0], 0).await,
        Err(LogError::NotAssigned(_))
    ));
}

pub async fn a_reader_that_goes_leaves_its_partitions_to_the_others(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 4, KEEP).await;
    let mut first = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assigned(h, &mut *first, 4).await;
    let mut second = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    let lost = revoked(h, &mut *first).await;
    assert_eq!(lost.len(), 2, "the work is divided evenly");
    let won = async {
        tokio::select! {
            places = assigned(h, &mut *second, 2) => places,
            next = first.next() => panic!("{next:?}"),
        }
    };
    let mut has: BTreeSet<u32> = within(h, won).await.into_iter().map(|(p, _)| p).collect();
    assert!(has.iter().eq(&lost));
    for partition in 0..4 {
        fill(h, &*log, &topic, partition, [partition.to_string()]).await;
    }
    // it has not committed, so all of its share comes again
    drop(first);
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        match within(h, second.next()).await.unwrap() {
            Next::Assigned(places) => has.extend(places.iter().map(|(p, _)| p)),
            Next::Revoked(_) => {}
            Next::Records(_, records) => seen.extend(records.iter().map(text)),
        }
    }
    assert_eq!(has.len(), 4);
}

/// What the readers of a group did, as seen from outside.
#[derive(Default)]
struct Seen {
    owners: BTreeMap<u32, usize>,
    handled: BTreeSet<Place>,
}

/// Reads and commits as reader number `me` until `done`, and checks that it alone has its partitions.
async fn work(
    reader: &mut dyn Reader,
    me: usize,
    seen: &Mutex<Seen>,
    done: impl Fn(&Seen) -> bool,
) {
    // these were given up with the last answer, and go with the next call
    let mut leaving: Vec<u32> = Vec::new();
    let mut places: BTreeMap<u32, u64> = BTreeMap::new();
    while !leaving.is_empty() || !done(&seen.lock().unwrap()) {
        for partition in leaving.drain(..) {
            assert_eq!(seen.lock().unwrap().owners.remove(&partition), Some(me));
        }
        let next = tokio::time::timeout(Duration::from_millis(100), reader.next()).await;
        match next {
            Err(_) => {}
            Ok(Ok(Next::Assigned(won))) => {
                for (partition, offset) in won {
                    let before = seen.lock().unwrap().owners.insert(partition, me);
                    assert_eq!(before, None, "partition {partition} has two readers");
                    places.insert(partition, offset);
                }
            }
            Ok(Ok(Next::Revoked(lost))) => {
                for partition in lost {
                    let place = places
                        .remove(&partition)
                        .expect("revoked what was assigned");
                    reader.commit(partition, place).await.unwrap();
                    leaving.push(partition);
                }
            }
            Ok(Ok(Next::Records(partition, records))) => {
                let place = places
                    .get_mut(&partition)
                    .expect("records of what was assigned");
                let mut seen = seen.lock().unwrap();
                for stored in &records {
                    assert!(stored.place.offset >= *place, "in order");
                    *place = stored.place.offset + 1;
                    seen.handled.insert(stored.place);
                }
            }
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    let mut seen = seen.lock().unwrap();
    seen.owners.retain(|_, owner| *owner != me);
}

pub async fn readers_that_come_and_go_handle_every_record(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 6, KEEP).await;
    let (log, topic, seen) = (&*log, &topic, &Mutex::new(Seen::default()));
    let append = async {
        let mut sent = BTreeSet::new();
        for n in 0..100u32 {
            let records = (0..6).map(|p| (p, record("k", &n.to_string()))).collect();
            let answers = log.append(topic, records).await;
            sent.extend(answers.into_iter().map(|a| a.unwrap().place));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sent
    };
    let reader = |me: usize, from: usize, to: usize| async move {
        while seen.lock().unwrap().handled.len() < from {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut reader = log.subscribe(topic, "g", Start::Oldest).await.unwrap();
        work(&mut *reader, me, seen, |seen| seen.handled.len() >= to).await;
    };
    let all = async {
        futures::join!(
            append,
            reader(1, 0, 300),
            reader(2, 100, 600),
            reader(3, 200, 450)
        )
    };
    let (sent, ..) = within(h, all).await;
    assert_eq!(seen.lock().unwrap().handled, sent);
}

pub async fn two_readers_never_have_a_partition_at_once(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 5, KEEP).await;
    let (log, topic, seen) = (&*log, &topic, &Mutex::new(Seen::default()));
    let mut rounds = Vec::new();
    for round in 1..=4usize {
        for partition in 0..5 {
            fill(h, log, topic, partition, numbers(0..4)).await;
        }
        let share = |me: usize| async move {
            let mut reader = log.subscribe(topic, "g", Start::Oldest).await.unwrap();
            let settled = move |seen: &Seen| {
                let mine = seen.owners.values().filter(|o| **o == me).count();
                seen.handled.len() >= round * 20 && mine > 0 && mine < 5
            };
            work(&mut *reader, me, seen, settled).await;
            reader
        };
        let (one, two) = within(h, async { futures::join!(share(1), share(2)) }).await;
        rounds.push(seen.lock().unwrap().handled.len());
        drop((one, two));
    }
    assert_eq!(rounds, [20, 40, 60, 80]);
}
