//! Cases of appending and reading back.

use std::collections::BTreeMap;

use futures::{StreamExt, stream::FuturesUnordered};

use super::*;

pub async fn the_order_of_calls_is_the_order_of_offsets(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let mut calls: Vec<_> = (0..300usize)
        .map(|n| log.append(&topic, vec![((n % 2) as u32, record("k", &n.to_string()))]))
        .collect();
    // polled the wrong way round
    let mut last = [u64::MAX; 2];
    while let Some(call) = calls.pop() {
        let answer = within(h, call).await.remove(0).unwrap();
        let after = &mut last[answer.place.partition as usize];
        assert!(answer.place.offset < *after);
        *after = answer.place.offset;
    }
    for partition in 0..2 {
        let read = log.read(&topic, partition, 0, 1000).await.unwrap();
        let want: Vec<_> = (0..300)
            .filter(|n| n % 2 == partition)
            .map(|n: u32| n.to_string())
            .collect();
        assert_eq!(read.iter().map(text).collect::<Vec<_>>(), want);
    }
}

pub async fn answers_come_in_the_order_of_the_records(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 3, KEEP).await;
    let sent: Vec<_> = (0..60usize)
        .map(|n| ((n * 7 % 3) as u32, record("k", &n.to_string())))
        .collect();
    let answers = within(h, log.append(&topic, sent.clone())).await;
    assert_eq!(answers.len(), sent.len());
    for ((partition, record), answer) in sent.into_iter().zip(answers) {
        let Appended { place, at } = answer.unwrap();
        assert_eq!(place.partition, partition);
        let found = log
            .read(&topic, partition, place.offset, 1)
            .await
            .unwrap()
            .remove(0);
        assert_eq!(found, Stored { place, at, record });
    }
    assert!(within(h, log.append(&topic, Vec::new())).await.is_empty());
}

pub async fn a_dropped_append_is_appended_all_the_same(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, KEEP).await;
    drop(log.append(&topic, vec![(0, record("k", "dropped"))]));
    let later = fill(h, &*log, &topic, 0, ["later".to_owned()]).await;
    let read = log.read(&topic, 0, 0, 10).await.unwrap();
    assert_eq!(
        read.iter().map(text).collect::<Vec<_>>(),
        ["dropped", "later"]
    );
    assert_eq!(read[1].place, later[0].place);
}

pub async fn many_appenders_at_once_lose_and_double_nothing(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 4, KEEP).await;
    let (log, topic) = (&*log, &topic);
    let mut appenders: FuturesUnordered<_> = (0..16u32)
        .map(|who| async move {
            let mut places = Vec::new();
            for n in 0..50u32 {
                let sent = record(&who.to_string(), &format!("{who} {n}"));
                let answer = log
                    .append(topic, vec![((who + n) % 4, sent)])
                    .await
                    .remove(0)
                    .unwrap();
                places.push((answer.place, format!("{who} {n}")));
            }
            places
        })
        .collect();
    let mut answered = BTreeMap::new();
    while let Some(places) = within(h, appenders.next()).await {
        for (place, value) in places {
            assert!(
                answered.insert(place, value).is_none(),
                "two records at {place:?}"
            );
        }
    }
    let mut found = BTreeMap::new();
    for partition in 0..4 {
        let read = log.read(topic, partition, 0, 10_000).await.unwrap();
        found.extend(read.iter().map(|s| (s.place, text(s))));
    }
    assert_eq!(found, answered);
}

pub async fn a_record_is_given_back_as_it_was_appended(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, KEEP).await;
    let all: Vec<u8> = (0..=255).collect();
    let sent = vec![
        Record::default(),
        record("only a key", ""),
        record("", "only a value"),
        Record {
            key: all.clone().into(),
            value: all.repeat(40).into(),
            headers: vec![
                ("traceparent".into(), Bytes::from_static(b"00-1-2-01")),
                ("v".into(), Bytes::from_static(b"1")),
                ("empty".into(), Bytes::new()),
                ("v".into(), all.into()),
            ],
        },
    ];
    within(
        h,
        log.append(&topic, sent.iter().map(|r| (0, r.clone())).collect()),
    )
    .await;
    let read = log.read(&topic, 0, 0, 10).await.unwrap();
    assert_eq!(read.into_iter().map(|s| s.record).collect::<Vec<_>>(), sent);
    drop(log);
    let read = h.reopen().await.read(&topic, 0, 0, 10).await.unwrap();
    assert_eq!(read.into_iter().map(|s| s.record).collect::<Vec<_>>(), sent);
}

pub async fn an_oversize_record_is_refused_and_its_neighbours_are_not(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, KEEP).await;
    let huge = Record {
        value: vec![7; h.max_record() + 4096].into(),
        ..Record::default()
    };
    let sent = vec![
        (0, record("k", "before")),
        (0, huge),
        (0, record("k", "after")),
    ];
    let answers = within(h, log.append(&topic, sent)).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert!(matches!(answers[1], Err(LogError::TooLarge(n)) if n >= h.max_record()));
    let read = log.read(&topic, 0, 0, 10).await.unwrap();
    assert_eq!(
        read.iter().map(text).collect::<Vec<_>>(),
        ["before", "after"]
    );
}

pub async fn times_do_not_fall_within_a_partition(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, KEEP).await;
    let mut answers = Vec::new();
    for n in 0..20 {
        answers.extend(fill(h, &*log, &topic, 0, numbers(n * 3..n * 3 + 3)).await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(answers.is_sorted_by_key(|a| a.at));
    assert!(answers[59].at > answers[0].at, "time passes");
    let read = log.read(&topic, 0, 0, 100).await.unwrap();
    assert!(read.iter().map(|s| s.at).eq(answers.iter().map(|a| a.at)));
}

pub async fn end_offsets_come_after_all_that_was_answered(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 3, KEEP).await;
    let empty = log.end_offsets(&topic).await.unwrap();
    assert_eq!(empty.len(), 3);
    for round in 0..20 {
        let answers = fill(h, &*log, &topic, 1, numbers(round..round + 2)).await;
        let ends = log.end_offsets(&topic).await.unwrap();
        assert_eq!((ends[0], ends[2]), (empty[0], empty[2]));
        assert!(ends[1] > answers[1].place.offset);
        assert!(
            log.read(&topic, 1, ends[1], 10).await.unwrap().is_empty(),
            "nothing after the end"
        );
    }
}

pub async fn all_that_was_answered_is_there_after_a_reopen(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let mut answers = fill(h, &*log, &topic, 0, numbers(0..500)).await;
    drop(log);
    for round in 1..4 {
        let log = h.reopen().await;
        let read = log.read(&topic, 0, 0, 10_000).await.unwrap();
        let found: Vec<_> = read.iter().map(|s| (s.place, s.at)).collect();
        assert_eq!(
            found,
            answers.iter().map(|a| (a.place, a.at)).collect::<Vec<_>>()
        );
        assert!(read.iter().map(text).eq(numbers(0..read.len())));
        let more = fill(h, &*log, &topic, 0, numbers(500 * round..500 * (round + 1))).await;
        assert!(
            more[0].place > answers.last().unwrap().place,
            "no offset is used twice"
        );
        answers.extend(more);
    }
}

pub async fn a_range_is_read_from_its_offset_up_to_its_limit(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let answers = fill(h, &*log, &topic, 1, numbers(0..3000)).await;
    for (from, limit) in [(0usize, 1usize), (0, 3000), (17, 100), (2990, 100), (5, 0)] {
        let read = log
            .read(&topic, 1, answers[from].place.offset, limit)
            .await
            .unwrap();
        let to = (from + limit).min(3000);
        assert!(
            read.iter().map(text).eq(numbers(from..to)),
            "{limit} from {from}"
        );
    }
    assert!(log.read(&topic, 0, 0, 10).await.unwrap().is_empty());
    let end = log.end_offsets(&topic).await.unwrap()[1];
    assert!(log.read(&topic, 1, end, 10).await.unwrap().is_empty());
    assert!(
        log.read(&topic, 1, end + 1000, 10)
            .await
            .unwrap()
            .is_empty()
    );
}
