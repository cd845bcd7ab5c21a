//! The statements of a table, prepared. Each names its partition, so each goes to a replica of it.

use std::ops::Bound;

use bytes::Bytes;
use scylla::{
    client::session::Session, errors::PrepareError, statement::prepared::PreparedStatement,
};
use tandem_store::{Range, StoreError};
use tokio::sync::OnceCell;

use crate::connect::Profiles;

/// Rows that one answer holds, at most.
pub(crate) const PAGE: i32 = 500;

/// Forms of a range: lower bound open or not, upper bound none, open or not, upwards or downwards.
const RANGES: usize = 2 * 3 * 2;

/// A table's statements. All but the conditional ones may be done twice.
///
/// Rows are set by `UPDATE`, which leaves no marker that a row is there: a row is there as long as its
/// value is.
pub(crate) struct Statements {
    name: String,
    /// part, sort → value
    pub get: PreparedStatement,
    /// part, sorts → sort, value
    pub get_in: PreparedStatement,
    /// part, lowest sort, highest sort → sort, value
    pub between: PreparedStatement,
    /// ttl, value, part, sort
    pub put: PreparedStatement,
    /// ttl, time, value, part, sort
    pub put_at: PreparedStatement,
    /// part, sort
    pub delete: PreparedStatement,
    /// time, part, sort
    pub delete_at: PreparedStatement,
    /// part
    pub clear: PreparedStatement,
    /// time, part
    pub clear_at: PreparedStatement,
    /// ttl, value, writer, part, sort, expected
    pub put_if: PreparedStatement,
    /// ttl, value, writer, part, sort
    pub put_if_none: PreparedStatement,
    /// part, sort → value, writer; what is under way is brought to its end first
    pub settle: PreparedStatement,
    ranges: [OnceCell<PreparedStatement>; RANGES],
}

fn failed(error: &PrepareError) -> StoreError {
    StoreError::Unavailable(format!("cassandra: preparing a statement: {error}"))
}

async fn prepare(session: &Session, cql: String) -> Result<PreparedStatement, StoreError> {
    let mut statement = session.prepare(cql).await.map_err(|e| failed(&e))?;
    statement.set_is_idempotent(true);
    statement.set_page_size(PAGE);
    statement.set_use_cached_result_metadata(true);
    Ok(statement)
}

impl Statements {
    pub async fn prepare(
        session: &Session,
        profiles: &Profiles,
        keyspace: &str,
        table: &str,
    ) -> Result<Self, StoreError> {
        let name = format!("{keyspace}.{table}");
        let row = "WHERE part = ? AND sort = ?";
        let new = |cql: String| prepare(session, cql);
        let (get, get_in, between) = tokio::try_join!(
            new(format!("SELECT value FROM {name} {row}")),
            new(format!(
                "SELECT sort, value FROM {name} WHERE part = ? AND sort IN ?"
            )),
            new(format!(
                "SELECT sort, value FROM {name} WHERE part = ? AND sort >= ? AND sort <= ?"
            )),
        )?;
        let (mut put, put_at, mut delete, delete_at, mut clear, clear_at) = tokio::try_join!(
            new(format!("UPDATE {name} USING TTL ? SET value = ? {row}")),
            new(format!(
                "UPDATE {name} USING TTL ? AND TIMESTAMP ? SET value = ? {row}"
            )),
            new(format!("DELETE FROM {name} {row}")),
            new(format!("DELETE FROM {name} USING TIMESTAMP ? {row}")),
            new(format!("DELETE FROM {name} WHERE part = ?")),
            new(format!(
                "DELETE FROM {name} USING TIMESTAMP ? WHERE part = ?"
            )),
        )?;
        let set = format!("UPDATE {name} USING TTL ? SET value = ?, writer = ? {row}");
        let (mut put_if, mut put_if_none, mut settle) = tokio::try_join!(
            new(format!("{set} IF value = ?")),
            new(format!("{set} IF value = null")),
            new(format!("SELECT value, writer FROM {name} {row}")),
        )?;
        for conditional in [&mut put_if, &mut put_if_none] {
            conditional.set_is_idempotent(false);
            // a condition's answer has other columns when it fails
            conditional.set_use_cached_result_metadata(false);
        }
        settle.set_consistency(scylla::statement::Consistency::LocalSerial);
        for steady in [
            &mut put,
            &mut delete,
            &mut clear,
            &mut put_if,
            &mut put_if_none,
            &mut settle,
        ] {
            steady.set_execution_profile_handle(Some(profiles.steady.clone()));
        }
        Ok(Self {
            name,
            get,
            get_in,
            between,
            put,
            put_at,
            delete,
            delete_at,
            clear,
            clear_at,
            put_if,
            put_if_none,
            settle,
            ranges: Default::default(),
        })
    }

    /// part, lower bound, upper bound if there is one, limit → sort, value
    pub async fn range(
        &self,
        session: &Session,
        range: &Range,
    ) -> Result<&PreparedStatement, StoreError> {
        let (from, low) = match range.from {
            Bound::Excluded(_) => (1, "sort > ?"),
            // the empty key is the lowest
            Bound::Included(_) | Bound::Unbounded => (0, "sort >= ?"),
        };
        let (to, high) = match range.to {
            Bound::Unbounded => (0, ""),
            Bound::Included(_) => (1, " AND sort <= ?"),
            Bound::Excluded(_) => (2, " AND sort < ?"),
        };
        let order = if range.reverse {
            " ORDER BY sort DESC"
        } else {
            ""
        };
        let at = (from * 3 + to) * 2 + usize::from(range.reverse);
        self.ranges[at]
            .get_or_try_init(|| {
                let cql = format!(
                    "SELECT sort, value FROM {} WHERE part = ? AND {low}{high}{order} LIMIT ?",
                    self.name
                );
                prepare(session, cql)
            })
            .await
    }
}

/// The bounds of a range as values; `None`: nothing can lie between them.
pub(crate) fn bounds(range: &Range) -> Option<(&[u8], Option<&Bytes>)> {
    let (low, open) = match &range.from {
        Bound::Unbounded => (&[][..], false),
        Bound::Included(low) => (low.as_ref(), false),
        Bound::Excluded(low) => (low.as_ref(), true),
    };
    let (high, some) = match &range.to {
        Bound::Unbounded => (None, true),
        Bound::Included(high) => (Some(high), low < high.as_ref() || low == high && !open),
        Bound::Excluded(high) => (Some(high), low < high.as_ref()),
    };
    some.then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_cross_hold_nothing() {
        let bounds = |from, to| {
            let range = Range {
                from,
                to,
                ..Range::all(1)
            };
            bounds(&range).is_some()
        };
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert!(!bounds(
            Bound::Included(b.clone()),
            Bound::Included(a.clone())
        ));
        assert!(!bounds(
            Bound::Excluded(a.clone()),
            Bound::Excluded(a.clone())
        ));
        assert!(!bounds(
            Bound::Excluded(a.clone()),
            Bound::Included(a.clone())
        ));
        assert!(!bounds(Bound::Unbounded, Bound::Excluded(Bytes::new())));
        assert!(bounds(
            Bound::Included(a.clone()),
            Bound::Included(a.clone())
        ));
        assert!(bounds(Bound::Excluded(a), Bound::Excluded(b)));
        assert!(bounds(Bound::Unbounded, Bound::Unbounded));
    }
}
