//! Cases of one reader by itself.

use futures::FutureExt;

use super::*;
use crate::Start;

pub async fn a_newest_reader_begins_with_what_comes_after_it(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 1, KEEP).await;
    fill(h, &*log, &topic, 0, numbers(0..10)).await;
    let mut reader = log.subscribe(&topic, "g", Start::Newest).await.unwrap();
    let end = log.end_offsets(&topic).await.unwrap()[0];
    assert_eq!(assigned(h, &mut *reader, 1).await, [(0, end)]);
    silent(&mut *reader).await;
    fill(h, &*log, &topic, 0, numbers(10..12)).await;
    assert_eq!(values(h, &mut *reader, 2).await, ["10", "11"]);
}

pub async fn a_follower_from_newest_sees_what_comes_after_it(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 3, KEEP).await;
    fill(h, &*log, &topic, 1, numbers(0..10)).await;
    let ends = log.end_offsets(&topic).await.unwrap();
    let mut follower = log.follow(&topic, Start::Newest).await.unwrap();
    let places = assigned(h, &mut *follower, 3).await;
    assert_eq!(places, (0..).zip(ends).collect::<Vec<_>>());
    for partition in 0..3 {
        fill(h, &*log, &topic, partition, [format!("p{partition}")]).await;
        let (from, read) = records(h, &mut *follower).await;
        assert_eq!((from, text(&read[0])), (partition, format!("p{partition}")));
    }
}

pub async fn a_follower_from_oldest_sees_everything_and_touches_no_group(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    fill(h, &*log, &topic, 0, numbers(0..10)).await;
    let mut member = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assigned(h, &mut *member, 2).await;
    let mut followers = [
        log.follow(&topic, Start::Oldest).await.unwrap(),
        log.follow(&topic, Start::Oldest).await.unwrap(),
    ];
    for follower in &mut followers {
        assert_eq!(assigned(h, &mut **follower, 2).await.len(), 2);
        assert!(
            values(h, &mut **follower, 10)
                .await
                .into_iter()
                .eq(numbers(0..10))
        );
    }
    assert!(
        values(h, &mut *member, 10)
            .await
            .into_iter()
            .eq(numbers(0..10))
    );
    silent(&mut *member).await;
}

pub async fn seeking_goes_back_and_forward(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let answers = fill(h, &*log, &topic, 0, numbers(0..100)).await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assert_eq!(values(h, &mut *reader, 100).await.len(), 100);
    for to in [0usize, 60, 40, 99] {
        reader.seek(0, answers[to].place.offset).await.unwrap();
        let read = values(h, &mut *reader, 100 - to).await;
        assert!(read.into_iter().eq(numbers(to..100)), "from {to}");
    }
    // right after the assignment, before anything is read
    drop(reader);
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assigned(h, &mut *reader, 2).await;
    reader.seek(0, answers[70].place.offset).await.unwrap();
    assert!(
        values(h, &mut *reader, 30)
            .await
            .into_iter()
            .eq(numbers(70..100))
    );
    reader
        .seek(0, log.end_offsets(&topic).await.unwrap()[0])
        .await
        .unwrap();
    silent(&mut *reader).await;
    fill(h, &*log, &topic, 0, ["after".to_owned()]).await;
    assert_eq!(values(h, &mut *reader, 1).await, ["after"]);
}

pub async fn the_offset_of_a_time_is_found(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let mut answers: Vec<Appended> = Vec::new();
    for n in 0..40 {
        answers.extend(fill(h, &*log, &topic, 0, numbers(n * 5..n * 5 + 5)).await);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    drop(log);
    // once from what lies on disk alone, once with more in memory
    let log = h.reopen().await;
    for more in 0..2 {
        let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
        assigned(h, &mut *reader, 2).await;
        let end = log.end_offsets(&topic).await.unwrap()[0];
        let first = answers[0].at;
        let last = answers.last().unwrap().at;
        for at in first.0 - 2..=last.0 + 2 {
            let at = tandem_kernel::UnixMillis(at);
            let want = answers
                .iter()
                .find(|a| a.at >= at)
                .map_or(end, |a| a.place.offset);
            assert_eq!(
                reader.offset_at(0, at).await.unwrap(),
                want,
                "{at:?} in round {more}"
            );
        }
        assert_eq!(
            reader.offset_at(1, first).await.unwrap(),
            log.end_offsets(&topic).await.unwrap()[1]
        );
        drop(reader);
        answers.extend(fill(h, &*log, &topic, 0, numbers(200..300)).await);
    }
}

pub async fn a_paused_partition_keeps_its_place_and_holds_up_no_other(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    assigned(h, &mut *reader, 2).await;
    fill(h, &*log, &topic, 0, numbers(0..5)).await;
    assert!(
        values(h, &mut *reader, 5)
            .await
            .into_iter()
            .eq(numbers(0..5))
    );
    reader.pause(0, true).await.unwrap();
    fill(h, &*log, &topic, 0, numbers(5..10)).await;
    fill(h, &*log, &topic, 1, ["other".to_owned()]).await;
    assert_eq!(values(h, &mut *reader, 1).await, ["other"]);
    silent(&mut *reader).await;
    reader.pause(0, false).await.unwrap();
    assert!(
        values(h, &mut *reader, 5)
            .await
            .into_iter()
            .eq(numbers(5..10))
    );
}

pub async fn next_loses_nothing_when_its_future_is_dropped(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    fill(h, &*log, &topic, 0, numbers(0..3000)).await;
    drop(log);
    let log = h.reopen().await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    let mut seen = Vec::new();
    let mut appended = 3000;
    within(h, async {
        while seen.len() < 4000 {
            // dropped at its first wait, or a moment later
            let next = match reader.next().now_or_never() {
                Some(next) => Some(next),
                None => tokio::time::timeout(Duration::from_millis(1), reader.next())
                    .await
                    .ok(),
            };
            if let Some(Next::Records(_, records)) = next.map(Result::unwrap) {
                seen.extend(records.iter().map(text));
            }
            if appended < 4000 {
                fill(h, &*log, &topic, 0, numbers(appended..appended + 100)).await;
                appended += 100;
            }
        }
    })
    .await;
    assert!(seen.into_iter().eq(numbers(0..4000)));
}

pub async fn records_of_a_partition_follow_each_other_while_it_grows(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 3, KEEP).await;
    let mut reader = log.subscribe(&topic, "g", Start::Oldest).await.unwrap();
    let append = async {
        for n in 0..200usize {
            let records = (0..3).map(|p| (p, record("k", &n.to_string()))).collect();
            assert!(log.append(&topic, records).await.iter().all(Result::is_ok));
        }
    };
    let read = async {
        let mut seen: [Vec<Stored>; 3] = Default::default();
        while seen.iter().any(|s| s.len() < 200) {
            let (partition, records) = records(h, &mut *reader).await;
            seen[partition as usize].extend(records);
        }
        seen
    };
    let (seen, ()) = within(h, async { futures::join!(read, append) }).await;
    for (partition, seen) in (0..).zip(&seen) {
        assert!(seen.iter().map(text).eq(numbers(0..200)));
        assert_eq!(seen, &log.read(&topic, partition, 0, 1000).await.unwrap());
        assert_eq!(seen[0].place, place(partition, seen[0].place.offset));
    }
}
