//! Rows whose time is over: the engine's compactions drop those they meet, a slow sweep the others.

use std::{
    ops::Bound,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use fjall::{
    Keyspace, UserKey,
    compaction::filter::{
        CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
    },
};
use tandem_chassis::Lifecycle;
use tandem_kernel::UnixMillis;
use tandem_store::StoreError;

use crate::{DiskStore, commit::Job, encoding, failed};

/// Rows that are looked at between two pauses.
const STEP: usize = 1_000;

/// How long a sweep pauses between two steps.
const PAUSE: Duration = Duration::from_millis(20);

/// Drops expired rows in compactions. The time is that of the last commit or sweep.
pub(crate) struct DropExpired(pub(crate) Arc<AtomicI64>);

impl Factory for DropExpired {
    fn name(&self) -> &'static str {
        "expired"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Filter(UnixMillis(self.0.load(Ordering::Relaxed))))
    }
}

struct Filter(UnixMillis);

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        Ok(if encoding::over(&item.value()?, self.0) {
            Verdict::Remove
        } else {
            Verdict::Keep
        })
    }
}

/// Sweeps all tables every `period`, until the store is dropped or the process stops.
pub(crate) async fn run(store: Weak<DiskStore>, period: Duration, lifecycle: Lifecycle) {
    loop {
        tokio::select! {
            () = lifecycle.stopped() => return,
            () = tokio::time::sleep(period) => {}
        }
        let Some(tables) = store.upgrade().map(|s| s.tables.all()) else {
            return;
        };
        for (name, keyspace) in tables {
            let swept = tokio::select! {
                () = lifecycle.stopped() => return,
                swept = sweep(&store, name, keyspace) => swept,
            };
            if let Err(error) = swept {
                tracing::warn!(table = name, %error, "sweep of expired rows broke off");
            }
        }
    }
}

async fn sweep(
    store: &Weak<DiskStore>,
    table: &'static str,
    keyspace: Keyspace,
) -> Result<(), StoreError> {
    let mut from = Bound::Unbounded;
    loop {
        let Some(store) = store.upgrade() else {
            return Ok(());
        };
        let now = store.doors.clock.unix();
        store.committer.seen_now.store(now.0, Ordering::Relaxed);
        let (rows, folder) = (keyspace.clone(), store.folder.clone());
        let step = move || look(&rows, from, now).map_err(|e| failed(&folder, &e));
        let (expired, last) = store
            .doors
            .threads
            .run(step)
            .await
            .map_err(|_| StoreError::Closed)??;
        if !expired.is_empty() {
            let gone = store
                .submit(|reply| Job::Expire {
                    table,
                    keys: expired,
                    reply,
                })
                .await?;
            store.swept.add(gone);
        }
        let Some(last) = last else {
            return Ok(());
        };
        from = Bound::Excluded(last);
        drop(store);
        tokio::time::sleep(PAUSE).await;
    }
}

/// The expired ones of the next rows, and the last row looked at if there may be more.
fn look(
    rows: &Keyspace,
    from: Bound<UserKey>,
    now: UnixMillis,
) -> fjall::Result<(Vec<UserKey>, Option<UserKey>)> {
    let mut expired = Vec::new();
    let mut last = None;
    let mut seen = 0;
    for row in rows
        .range::<UserKey, _>((from, Bound::Unbounded))
        .take(STEP)
    {
        let (key, stored) = row.into_inner()?;
        if encoding::over(&stored, now) {
            expired.push(key.clone());
        }
        last = Some(key);
        seen += 1;
    }
    Ok((expired, last.filter(|_| seen == STEP)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tandem_chassis::Doors;
    use tandem_store::{Batch, Op, Store, Table};

    use super::*;
    use crate::Options;

    #[tokio::test(start_paused = true)]
    async fn a_compaction_drops_expired_rows_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let table = Table("rows");
        let store = DiskStore::open(
            dir.path(),
            Doors::for_test(1),
            &Lifecycle::new(),
            &Options {
                sweep_every: Duration::MAX,
                ..Options::default()
            },
        )
        .unwrap();
        store.ensure_table(table).await.unwrap();
        let batch = |sorts: std::ops::Range<u8>, ttl| Batch {
            table,
            version: None,
            partition: Bytes::from_static(b"p"),
            ops: sorts
                .map(|sort| Op::Put {
                    sort: vec![sort].into(),
                    value: Bytes::new(),
                    ttl,
                })
                .collect(),
        };
        let minute = Some(Duration::from_mins(1));
        store
            .write(vec![batch(0..100, minute), batch(100..110, None)])
            .await
            .unwrap();
        tokio::time::advance(Duration::from_mins(2)).await;
        store.write(vec![batch(110..120, minute)]).await.unwrap();
        let rows = store.tables.get(table.0).unwrap();
        assert_eq!(rows.len().unwrap(), 120);
        rows.rotate_memtable_and_wait().unwrap();
        rows.major_compact().unwrap();
        assert_eq!(rows.len().unwrap(), 20);
    }
}
