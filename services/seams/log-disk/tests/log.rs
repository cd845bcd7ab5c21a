//! What the log on disk promises beyond the seam's contract.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{sync::Arc, time::Duration};

use tandem_chassis::{Doors, Lifecycle, lifecycle::Exit};
use tandem_log::{Log, LogError, Next, Record, Retention, Start, TopicSpec};
use tandem_log_disk::{DiskLog, Options};

const TOPIC: &str = "t";

async fn open_with(folder: &tempfile::TempDir, lifecycle: &Lifecycle) -> Arc<DiskLog> {
    let log = DiskLog::open(folder.path(), Doors::real(), Options::default(), lifecycle).await;
    let log = log.unwrap();
    let retention = Retention::Delete {
        age: None,
        bytes: None,
    };
    log.ensure_topic(&TopicSpec {
        name: TOPIC.into(),
        partitions: 2,
        retention,
    })
    .await
    .unwrap();
    log
}

async fn open(folder: &tempfile::TempDir) -> Arc<DiskLog> {
    open_with(folder, &Lifecycle::new()).await
}

fn records(count: usize) -> Vec<(u32, Record)> {
    (0..count)
        .map(|n| {
            (
                0,
                Record {
                    value: n.to_string().into(),
                    ..Record::default()
                },
            )
        })
        .collect()
}

#[tokio::test]
async fn appends_at_once_share_an_fsync() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder).await;
    let before = log.stats();
    let all: Vec<_> = (0..1000).map(|_| log.append(TOPIC, records(1))).collect();
    for answers in futures::future::join_all(all).await {
        assert!(answers[0].is_ok());
    }
    let after = log.stats();
    assert_eq!(
        (
            after.appends - before.appends,
            after.records - before.records
        ),
        (1000, 1000)
    );
    let groups = after.groups - before.groups;
    assert!((1..=20).contains(&groups), "{groups} fsyncs");
    // and one after the other cannot
    for _ in 0..10 {
        log.append(TOPIC, records(1)).await;
    }
    assert_eq!(log.stats().groups - after.groups, 10);
}

#[tokio::test]
async fn a_folder_that_is_open_is_refused_by_name_and_free_again_after_close() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder).await;
    let reader = log.subscribe(TOPIC, "g", Start::Oldest).await.unwrap();
    let again = DiskLog::open(
        folder.path(),
        Doors::real(),
        Options::default(),
        &Lifecycle::new(),
    )
    .await;
    let error = again.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, LogError::Unavailable(_)), "{text}");
    assert!(
        text.contains(folder.path().to_str().unwrap()) && text.contains("in use"),
        "{text}"
    );
    log.close().await;
    open(&folder).await.close().await;
    drop(reader);
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_takes_them_again_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder).await;
    assert!(log.append(TOPIC, records(1)).await[0].is_ok());
    let end = log.end_offsets(TOPIC).await.unwrap();
    log.set_reserve(u64::MAX);
    let refused = log.append(TOPIC, records(2)).await;
    assert_eq!(refused.len(), 2);
    assert!(
        refused
            .iter()
            .all(|r| matches!(r, Err(LogError::Unavailable(w)) if w.contains("full")))
    );
    assert!(log.healthy());
    assert_eq!(log.end_offsets(TOPIC).await.unwrap(), end);
    log.set_reserve(0);
    let taken = log.append(TOPIC, records(1)).await.remove(0).unwrap();
    assert_eq!(taken.place.offset, end[0]);
}

#[tokio::test]
async fn what_is_queued_when_it_closes_is_written_and_what_comes_later_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder).await;
    let mut reader = log.subscribe(TOPIC, "g", Start::Newest).await.unwrap();
    assert!(matches!(reader.next().await, Ok(Next::Assigned(_))));
    reader.commit(1, 0).await.unwrap();
    let queued: Vec<_> = (0..100).map(|_| log.append(TOPIC, records(3))).collect();
    log.close().await;
    for answers in futures::future::join_all(queued).await {
        assert!(answers.iter().all(Result::is_ok));
    }
    assert!(matches!(
        log.append(TOPIC, records(1)).await[0],
        Err(LogError::Closed)
    ));
    assert!(matches!(reader.next().await, Err(LogError::Closed)));
    assert!(matches!(reader.commit(1, 0).await, Err(LogError::Closed)));
    let log = open(&folder).await;
    assert_eq!(log.end_offsets(TOPIC).await.unwrap(), [300, 0]);
    assert_eq!(log.committed(TOPIC, "g").await.unwrap(), [None, Some(0)]);
}

#[tokio::test]
async fn it_serves_those_who_drain_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let log = open_with(&folder, &lifecycle).await;
    lifecycle.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(log.append(TOPIC, records(1)).await[0].is_ok());
    let (exit, ()) = tokio::join!(lifecycle.run_to_end(Duration::from_secs(20)), log.close());
    assert_eq!(exit, Exit::Clean);
}

#[tokio::test]
async fn a_hard_stop_leaves_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let log = open_with(&folder, &lifecycle).await;
    let mut reader = log.follow(TOPIC, Start::Newest).await.unwrap();
    assert!(matches!(reader.next().await, Ok(Next::Assigned(_))));
    lifecycle.abort();
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        assert!(matches!(reader.next().await, Err(LogError::Closed)));
        let answers = log.append(TOPIC, records(1)).await;
        assert!(matches!(answers[0], Err(LogError::Closed)));
        log.close().await;
    });
    waited.await.unwrap();
}

#[tokio::test]
async fn a_commit_is_on_disk_soon_without_any_append() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(&folder).await;
    log.append(TOPIC, records(5)).await;
    let groups = log.stats().groups;
    let mut reader = log.subscribe(TOPIC, "g", Start::Oldest).await.unwrap();
    while !matches!(reader.next().await.unwrap(), Next::Records(..)) {}
    reader.commit(0, 5).await.unwrap();
    let copied = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // what a crash would leave at this moment
        std::fs::remove_dir_all(copied.path()).unwrap();
        copy(folder.path(), copied.path());
        let crashed = open(&copied).await;
        found = crashed.committed(TOPIC, "g").await.unwrap();
        crashed.close().await;
        if found[0].is_some() {
            break;
        }
    }
    assert_eq!(found, [Some(5), None]);
    assert_eq!(log.stats().groups, groups, "no append was needed");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_forgotten_frees_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        memtable_bytes: 256 << 10,
        retention_every: None,
        ..Options::default()
    };
    let log = DiskLog::open(folder.path(), Doors::real(), options, &Lifecycle::new())
        .await
        .unwrap();
    let retention = Retention::Delete {
        age: None,
        bytes: Some(500_000),
    };
    log.ensure_topic(&TopicSpec {
        name: TOPIC.into(),
        partitions: 1,
        retention,
    })
    .await
    .unwrap();
    let tables = || {
        fn size(path: &std::path::Path) -> u64 {
            let Ok(items) = std::fs::read_dir(path) else {
                return 0;
            };
            items
                .flatten()
                .map(|i| i.metadata().map_or(0, |m| m.len()) + size(&i.path()))
                .sum()
        }
        size(&folder.path().join("db/keyspaces"))
    };
    let mut written = 0u64;
    for round in 0..200u64 {
        // nothing that could be compressed
        let mut x = round;
        let mut noise = || {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (x >> 32) as u8
        };
        let value: Vec<u8> = (0..50_000).map(|_| noise()).collect();
        written += value.len() as u64;
        let record = Record {
            value: value.into(),
            ..Record::default()
        };
        assert!(log.append(TOPIC, vec![(0, record)]).await[0].is_ok());
        if round % 10 == 0 {
            log.retain_now().await.unwrap();
        }
    }
    let mut size = 0;
    for _ in 0..100 {
        log.retain_now().await.unwrap();
        size = tables();
        if size < written / 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        size < written / 4,
        "{size} of {written} bytes are still in tables"
    );
    let kept = log.read(TOPIC, 0, 0, 1000).await.unwrap();
    assert!((10..=12).contains(&kept.len()), "{}", kept.len());
}
