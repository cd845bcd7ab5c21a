//! A walk back through a conversation.

use crate::{Error, domain::rows::EventRow, tables::Tables};

/// Rows that are read at once.
const STEP: usize = 200;

/// Buckets that are asked for at once.
const BUCKETS: usize = 16;

/// Shows `each` the rows with a seq in `first..=last`, newest first, until it says false. True: it was
/// shown all that it wanted; false: `most` rows were read before.
pub(crate) async fn down(
    tables: &Tables,
    key: &[u8],
    (first, mut last): (u64, u64),
    most: usize,
    mut each: impl FnMut(EventRow) -> bool,
) -> Result<bool, Error> {
    let mut left = most;
    while first <= last {
        let buckets = tables.buckets_down(key, last, BUCKETS).await?;
        let Some(oldest) = buckets.last().copied() else {
            break;
        };
        for bucket in buckets {
            loop {
                if left == 0 {
                    return Ok(false);
                }
                let step = STEP.min(left);
                let rows = tables
                    .events(key, bucket, (first, last), true, step)
                    .await?;
                let more = rows.len() == step;
                left -= rows.len();
                for row in rows {
                    last = row.seq().saturating_sub(1);
                    if !each(row) {
                        return Ok(true);
                    }
                }
                if !more || first > last {
                    break;
                }
            }
            if bucket <= first {
                return Ok(true);
            }
        }
        last = last.min(oldest.saturating_sub(1));
    }
    Ok(true)
}
