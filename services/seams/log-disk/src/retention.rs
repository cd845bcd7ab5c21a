//! Forgetting: by time, by size, and of all but the last record of a key.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tandem_kernel::UnixMillis;
use tandem_log::{LogError, Retention};

use crate::{Inner, disk::Disk, topic::Topic};

/// How long the record that deletes a key stays for readers to see.
const TOMBSTONES: Duration = Duration::from_hours(24);
/// Less than this is not worth a compaction.
const WORTH: u64 = 1 << 20;

/// Forgets every so often, until the log is gone.
pub async fn keep_running(inner: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.is_ended() {
            return;
        }
        if let Err(error) = run(&inner, false).await {
            tracing::warn!(%error, "log could not forget what it may");
        }
    }
}

/// Forgets what may be forgotten; compacts only where it is worth the work, unless `all`.
pub async fn run(inner: &Inner, all: bool) -> Result<(), LogError> {
    let now = inner.doors.clock.unix();
    for topic in inner.all_topics() {
        let retention = topic.retention.lock().clone();
        match retention {
            Retention::Delete {
                age: None,
                bytes: None,
            } => {}
            Retention::Delete { age, bytes } => {
                let before = age.map(|age| UnixMillis(now.0.saturating_sub(millis(age))));
                inner
                    .blocking(move |disk| forget(disk, &topic, before, bytes))
                    .await?;
            }
            Retention::Compact => {
                let tombstones = UnixMillis(now.0.saturating_sub(millis(TOMBSTONES)));
                inner
                    .blocking(move |disk| compact(disk, &topic, tombstones, all))
                    .await?;
            }
        }
    }
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn forget(
    disk: &Disk,
    topic: &Arc<Topic>,
    before: Option<UnixMillis>,
    bytes: Option<u64>,
) -> Result<(), LogError> {
    let mut lows = Vec::new();
    for (partition, tail) in (0..).zip(&topic.tails) {
        let (from, end, total) = {
            let tail = tail.lock();
            (tail.low, tail.end, tail.total)
        };
        let mut low = from;
        for entry in disk.entries(topic.id, partition, from)? {
            let (head, _) = entry?;
            let old = before.is_some_and(|before| head.at < before);
            let much = bytes.is_some_and(|bytes| total.saturating_sub(head.total) >= bytes);
            // what came after `end` was read is younger than what was asked about
            if head.next > end || !(old || much) {
                break;
            }
            low = low.max(head.next);
        }
        if low > from {
            lows.push((partition, low));
        }
    }
    if lows.is_empty() {
        return Ok(());
    }
    // readers go on above it before anything is gone
    for (partition, low) in &lows {
        topic.tail(*partition)?.lock().forget(*low);
    }
    disk.forget(topic.id, &lows)
}

fn compact(
    disk: &Disk,
    topic: &Arc<Topic>,
    tombstones: UnixMillis,
    all: bool,
) -> Result<(), LogError> {
    for (partition, tail) in (0..).zip(&topic.tails) {
        let (low, total, fresh, live) = {
            let tail = tail.lock();
            (tail.low, tail.total, tail.total - tail.compacted, tail.live)
        };
        if !all && fresh < WORTH.max(live / 2) {
            continue;
        }
        let live = disk.compact(topic.id, partition, low, tombstones)?;
        let mut tail = tail.lock();
        (tail.compacted, tail.live) = (total, live);
    }
    Ok(())
}
