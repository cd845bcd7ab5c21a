//! Cases of forgetting.

use super::*;
use crate::Start;

/// Appends `count` values of 1000 bytes in calls of ten.
async fn fill_large(h: &dyn Harness, log: &dyn Log, topic: &str, count: usize) -> Vec<Appended> {
    let mut answers = Vec::new();
    for call in 0..count / 10 {
        let values = (0..10).map(|n| format!("{:01000}", call * 10 + n));
        answers.extend(fill(h, log, topic, 0, values).await);
    }
    answers
}

pub async fn retention_by_size_forgets_the_oldest_and_keeps_the_newest(h: &dyn Harness) {
    let log = h.fresh().await;
    let small = Retention::Delete {
        age: None,
        bytes: Some(50_000),
    };
    let topic = topic(h, &*log, 1, small).await;
    let answers = fill_large(h, &*log, &topic, 200).await;
    let forgets = h.forget().await;
    let kept = log.read(&topic, 0, 0, 1000).await.unwrap();
    assert!(kept.len() >= 50, "what fits must stay: {}", kept.len());
    assert!(kept.len() < 200 || !forgets, "what does not fit must go");
    assert_eq!(
        kept.last().unwrap().place,
        answers[199].place,
        "the oldest goes, not the newest"
    );
    let end = log.end_offsets(&topic).await.unwrap();
    assert!(end[0] > answers[199].place.offset);
    drop(log);
    let log = h.reopen().await;
    assert_eq!(log.end_offsets(&topic).await.unwrap(), end);
    let after = log.read(&topic, 0, 0, 1000).await.unwrap();
    assert_eq!(
        after.first().map(|s| s.place),
        kept.first().map(|s| s.place)
    );
}

pub async fn retention_by_time_forgets_the_old_and_keeps_the_young(h: &dyn Harness) {
    let log = h.fresh().await;
    let age = Duration::from_millis(2500);
    let topic = topic(
        h,
        &*log,
        1,
        Retention::Delete {
            age: Some(age),
            bytes: None,
        },
    )
    .await;
    fill_large(h, &*log, &topic, 20).await;
    h.forget().await;
    assert_eq!(
        log.read(&topic, 0, 0, 100).await.unwrap().len(),
        20,
        "young ones stay"
    );
    tokio::time::sleep(age + Duration::from_millis(100)).await;
    let young = fill_large(h, &*log, &topic, 10).await;
    let forgets = h.forget().await;
    let kept = log.read(&topic, 0, 0, 100).await.unwrap();
    assert_eq!(kept.last().unwrap().place, young[9].place);
    assert!(kept.len() >= 10);
    if forgets {
        assert_eq!(kept.len(), 10, "old ones go");
        tokio::time::sleep(age + Duration::from_millis(100)).await;
        h.forget().await;
        assert!(log.read(&topic, 0, 0, 100).await.unwrap().is_empty());
    }
    drop(log);
    let log = h.reopen().await;
    let next = fill_large(h, &*log, &topic, 10).await;
    assert!(
        next[0].place > young[9].place,
        "an offset is not used again, though its record is gone"
    );
}

pub async fn a_forgotten_offset_goes_on_at_the_oldest_kept_one(h: &dyn Harness) {
    let log = h.fresh().await;
    let small = Retention::Delete {
        age: None,
        bytes: Some(30_000),
    };
    let topic = topic(h, &*log, 1, small).await;
    let mut early = log.subscribe(&topic, "early", Start::Oldest).await.unwrap();
    assigned(h, &mut *early, 1).await;
    let answers = fill_large(h, &*log, &topic, 100).await;
    early.commit(0, answers[1].place.offset).await.unwrap();
    h.forget().await;
    let oldest = log.read(&topic, 0, 0, 1).await.unwrap().remove(0);
    for from in [0, answers[3].place.offset] {
        early.seek(0, from).await.unwrap();
        let (_, read) = records(h, &mut *early).await;
        assert_eq!(read[0], log.read(&topic, 0, from, 1).await.unwrap()[0]);
        assert!(read[0].place >= oldest.place);
    }
    drop(early);
    let mut late = log.subscribe(&topic, "early", Start::Oldest).await.unwrap();
    let (_, read) = records(h, &mut *late).await;
    assert!(read[0].place >= oldest.place.max(answers[1].place));
}

pub async fn a_compacted_topic_keeps_the_last_record_of_each_key(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, Retention::Compact).await;
    let mut last = std::collections::BTreeMap::new();
    for round in 0..30usize {
        let sent: Vec<_> = (0..10usize)
            .map(|n| {
                (
                    format!("k{}", (round * 7 + n * 3) % 20),
                    format!("{round} {n}"),
                )
            })
            .collect();
        let records = sent.iter().map(|(k, v)| (0, record(k, v))).collect();
        for ((key, value), answer) in sent
            .into_iter()
            .zip(within(h, log.append(&topic, records)).await)
        {
            last.insert(key, (value, answer.unwrap().place));
        }
    }
    // the end of a key is a record, too
    fill_key(h, &*log, &topic, "k3", "").await;
    last.remove("k3");
    let end = log.end_offsets(&topic).await.unwrap();
    let forgets = h.forget().await;
    let check = async |log: &dyn Log| {
        let read = log.read(&topic, 0, 0, 1000).await.unwrap();
        assert!(read.is_sorted_by_key(|s| s.place));
        let mut found = std::collections::BTreeMap::new();
        for stored in &read {
            let key = String::from_utf8(stored.record.key.to_vec()).unwrap();
            found.insert(key, (text(stored), stored.place));
        }
        assert_eq!(
            found.remove("k3").unwrap().0,
            "",
            "a young deletion is still to be seen"
        );
        assert_eq!(found, last);
        read.len()
    };
    let memory = check(&*log).await;
    drop(log);
    let log = h.reopen().await;
    let disk = check(&*log).await;
    assert!(
        !forgets || disk <= 25,
        "{memory} records, {disk} after a reopen, are left of 301"
    );
    assert_eq!(log.end_offsets(&topic).await.unwrap(), end);
    let mut follower = log.follow(&topic, Start::Oldest).await.unwrap();
    let mut seen = 0;
    while seen < disk {
        seen += records(h, &mut *follower).await.1.len();
    }
    fill_key(h, &*log, &topic, "k4", "new").await;
    assert_eq!(
        values(h, &mut *follower, 1).await,
        ["new"],
        "reading goes on over the gaps"
    );
}

async fn fill_key(h: &dyn Harness, log: &dyn Log, topic: &str, key: &str, value: &str) {
    within(h, log.append(topic, vec![(0, record(key, value))]))
        .await
        .remove(0)
        .unwrap();
}

pub async fn another_retention_is_taken_over(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, KEEP).await;
    fill_large(h, &*log, &topic, 100).await;
    h.forget().await;
    assert_eq!(log.read(&topic, 0, 0, 1000).await.unwrap().len(), 100);
    let retention = Retention::Delete {
        age: None,
        bytes: Some(20_000),
    };
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: 1,
        retention,
    };
    within(h, log.ensure_topic(&spec)).await.unwrap();
    drop(log);
    let log = h.reopen().await;
    let forgets = h.forget().await;
    let kept = log.read(&topic, 0, 0, 1000).await.unwrap().len();
    assert!((20..100).contains(&kept) || !forgets, "{kept}");
}
