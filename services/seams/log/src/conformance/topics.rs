//! Cases of topics being there.

use super::*;
use crate::Start;

pub async fn ensuring_a_topic_again_changes_nothing(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    fill(h, &*log, &topic, 1, numbers(0..5)).await;
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: 2,
        retention: KEEP,
    };
    for _ in 0..2 {
        within(h, log.ensure_topic(&spec)).await.unwrap();
    }
    assert_eq!(log.partitions(&topic).await.unwrap(), 2);
    assert_eq!(log.read(&topic, 1, 0, 10).await.unwrap().len(), 5);
    // and many at once
    let name = format!("{topic}-many");
    let spec = TopicSpec {
        name: name.clone(),
        ..spec
    };
    let all = futures::future::join_all((0..8).map(|_| log.ensure_topic(&spec)));
    assert!(within(h, all).await.iter().all(Result::is_ok));
    assert_eq!(log.partitions(&name).await.unwrap(), 2);
}

pub async fn other_partitions_are_a_mismatch(h: &dyn Harness) {
    let log = h.fresh().await;
    let topic = topic(h, &*log, 2, KEEP).await;
    for partitions in [1, 3] {
        let spec = TopicSpec {
            name: topic.clone(),
            partitions,
            retention: KEEP,
        };
        let refused = within(h, log.ensure_topic(&spec)).await;
        assert!(matches!(refused, Err(LogError::Mismatch(name, _)) if name == topic));
    }
    assert_eq!(log.partitions(&topic).await.unwrap(), 2);
}

pub async fn a_bad_name_is_refused(h: &dyn Harness) {
    let log = h.fresh().await;
    for name in ["", "Upper", "a b", "a/b", "ü", &"x".repeat(250)] {
        let spec = TopicSpec {
            name: name.to_owned(),
            partitions: 1,
            retention: KEEP,
        };
        assert!(
            within(h, log.ensure_topic(&spec)).await.is_err(),
            "{name:?}"
        );
    }
    let none = TopicSpec {
        name: format!("t-{}", h.unique()),
        partitions: 0,
        retention: KEEP,
    };
    assert!(
        within(h, log.ensure_topic(&none)).await.is_err(),
        "no partitions"
    );
}

pub async fn a_topic_survives_a_reopen(h: &dyn Harness) {
    let log = h.fresh().await;
    let (first, second) = (
        topic(h, &*log, 3, KEEP).await,
        format!("t-{}-second", h.unique()),
    );
    let compact = TopicSpec {
        name: second.clone(),
        partitions: 1,
        retention: Retention::Compact,
    };
    within(h, log.ensure_topic(&compact)).await.unwrap();
    fill(h, &*log, &second, 0, ["second".to_owned()]).await;
    drop(log);
    let log = h.reopen().await;
    assert_eq!(log.partitions(&first).await.unwrap(), 3);
    assert_eq!(log.partitions(&second).await.unwrap(), 1);
    within(h, log.ensure_topic(&compact)).await.unwrap();
    let third = format!("t-{}-third", h.unique());
    let spec = TopicSpec {
        name: third.clone(),
        partitions: 1,
        retention: KEEP,
    };
    within(h, log.ensure_topic(&spec)).await.unwrap();
    assert!(
        log.read(&third, 0, 0, 10).await.unwrap().is_empty(),
        "topics are apart"
    );
    assert_eq!(log.read(&second, 0, 0, 10).await.unwrap().len(), 1);
}

pub async fn an_unknown_topic_or_partition_is_refused(h: &dyn Harness) {
    let log = h.fresh().await;
    let unknown = format!("t-{}-unknown", h.unique());
    assert!(is_no_topic(within(h, log.partitions(&unknown)).await));
    assert!(is_no_topic(within(h, log.end_offsets(&unknown)).await));
    assert!(is_no_topic(within(h, log.read(&unknown, 0, 0, 1)).await));
    assert!(is_no_topic(within(h, log.committed(&unknown, "g")).await));
    assert!(is_no_topic(
        within(h, log.subscribe(&unknown, "g", Start::Oldest))
            .await
            .map(drop)
    ));
    assert!(is_no_topic(
        within(h, log.follow(&unknown, Start::Oldest))
            .await
            .map(drop)
    ));
    let sent = vec![(0, record("k", "1")), (0, record("k", "2"))];
    let answers = within(h, log.append(&unknown, sent)).await;
    assert_eq!(answers.len(), 2);
    assert!(answers.into_iter().all(is_no_topic));

    let topic = topic(h, &*log, 2, KEEP).await;
    assert!(is_no_topic(within(h, log.read(&topic, 2, 0, 1)).await));
    let sent = vec![(2, record("k", "nowhere")), (1, record("k", "here"))];
    let mut answers = within(h, log.append(&topic, sent)).await.into_iter();
    assert!(is_no_topic(answers.next().unwrap()));
    assert_eq!(answers.next().unwrap().unwrap().place.partition, 1);
}
