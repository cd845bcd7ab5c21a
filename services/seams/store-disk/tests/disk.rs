//! What is the disk store's own: shared fsyncs, one process a folder, the disk's limits.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tandem_chassis::{Doors, Lifecycle};
use tandem_kernel::Code;
use tandem_store::{Batch, Key, Op, Range, Store, StoreError, Table};
use tandem_store_disk::{DiskStore, Options};

const TABLE: Table = Table("rows");

fn open(folder: &Path, doors: Doors, options: &Options) -> Result<Arc<DiskStore>, StoreError> {
    DiskStore::open(folder, doors, &Lifecycle::new(), options)
}

fn one(sort: u64, ttl: Option<Duration>) -> Vec<Batch> {
    let op = Op::Put {
        sort: Bytes::copy_from_slice(&sort.to_be_bytes()),
        value: Bytes::from_static(b"value"),
        ttl,
    };
    vec![Batch {
        version: None,
        table: TABLE,
        partition: Bytes::from_static(b"p"),
        ops: vec![op],
    }]
}

async fn count(store: &DiskStore) -> usize {
    store
        .range(TABLE, b"p", Range::all(100_000))
        .await
        .unwrap()
        .len()
}

#[tokio::test]
async fn concurrent_writes_share_fsyncs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Doors::real(), &Options::default()).unwrap();
    store.ensure_table(TABLE).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for i in 0..20 {
                store.write(one(writer * 1_000 + i, None)).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let stats = store.stats();
    assert_eq!(stats.writes, 64 * 20);
    assert!(stats.syncs * 4 <= stats.writes, "{stats:?}");
    assert_eq!(count(&store).await, 64 * 20);
}

#[tokio::test]
async fn a_writer_that_goes_away_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Doors::real(), &Options::default()).unwrap();
    store.ensure_table(TABLE).await.unwrap();
    for i in 0..200 {
        // polled once and dropped: it may just have begun to commit for others
        let mut write = store.write(one(i, None));
        let _ = poll_once(&mut write).await;
        drop(write);
        store.write(one(i + 1_000, None)).await.unwrap();
    }
    assert_eq!(count(&store).await, 400);
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(out) => Some(out),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_folder_in_use_is_refused_by_name_and_free_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Doors::real(), &Options::default()).unwrap();
    let error = open(dir.path(), Doors::real(), &Options::default()).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let text = error.to_string();
    assert!(
        text.contains(&dir.path().display().to_string()) && text.contains("in use"),
        "{text}"
    );
    drop(store);
    open(dir.path(), Doors::real(), &Options::default()).unwrap();
}

#[tokio::test]
async fn a_table_that_was_not_ensured_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Doors::real(), &Options::default()).unwrap();
    let error = store.write(one(1, None)).await.unwrap_err();
    assert!(error.to_string().contains("table rows"), "{error}");
    assert!(store.range(TABLE, b"p", Range::all(1)).await.is_err());
    assert!(store.ensure_table(Table("No Table")).await.is_err());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Doors::real(), &Options::default()).unwrap();
    store.ensure_table(TABLE).await.unwrap();
    store.write(one(1, None)).await.unwrap();
    assert!(store.healthy().is_ok());
    drop(store);
    let full = Options {
        reserve_bytes: u64::MAX,
        ..Options::default()
    };
    let store = open(dir.path(), Doors::real(), &full).unwrap();
    store.ensure_table(TABLE).await.unwrap();
    let key = Key {
        table: TABLE,
        partition: Bytes::from_static(b"p"),
        sort: Bytes::copy_from_slice(&9_u64.to_be_bytes()),
    };
    let refused = [
        store.write(one(2, None)).await.unwrap_err(),
        store
            .put_if(&key, None, Bytes::new(), None)
            .await
            .unwrap_err(),
        store.healthy().unwrap_err(),
    ];
    for error in refused {
        assert!(
            matches!(&error, StoreError::Unavailable(why) if why.contains("free")),
            "{error}"
        );
    }
    assert_eq!(count(&store).await, 1);
    drop(store);
    let store = open(dir.path(), Doors::real(), &Options::default()).unwrap();
    store.ensure_table(TABLE).await.unwrap();
    store.write(one(3, None)).await.unwrap();
    assert_eq!(count(&store).await, 2);
}

#[tokio::test(start_paused = true)]
async fn the_sweep_removes_expired_rows_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        sweep_every: Duration::from_mins(1),
        ..Options::default()
    };
    let store = open(dir.path(), Doors::for_test(1), &options).unwrap();
    store.ensure_table(TABLE).await.unwrap();
    for sort in 0..2_500 {
        let ttl = [
            Some(Duration::from_secs(30)),
            Some(Duration::from_hours(1)),
            None,
        ];
        store
            .write(one(sort, ttl[sort as usize % 3]))
            .await
            .unwrap();
    }
    assert_eq!(store.stats().swept, 0);
    // long enough for one sweep with its pauses, too short for another
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(store.stats().swept, 834);
    assert_eq!(count(&store).await, 2_500 - 834);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(store.stats().swept, 834 + 833);
    assert_eq!(count(&store).await, 833);
}
