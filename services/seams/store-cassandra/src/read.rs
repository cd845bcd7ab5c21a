//! Reads.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    response::{PagingState, PagingStateResponse, query_result::QueryResult},
    serialize::row::SerializeRow,
    statement::prepared::PreparedStatement,
};
use tandem_store::{Key, Range, Row, StoreError, Table};

use crate::{
    CassandraStore,
    error::Failure,
    gate::Asked,
    statements::{Statements, bounds},
};

/// Requests of one call that are under way at once.
pub(crate) const FAN_OUT: usize = 64;

/// Rows of a partition that are asked for by their keys; of more, all between are read. ScyllaDB takes no
/// more at once.
const KEYS: usize = 100;

/// Rows of an answer. A row without a value is none.
fn rows(answer: QueryResult) -> Result<Vec<(Bytes, Bytes)>, Failure> {
    let rows = answer.into_rows_result().map_err(Failure::unreadable)?;
    let mut out = Vec::with_capacity(rows.rows_num());
    for row in rows
        .rows::<(Bytes, Option<Bytes>)>()
        .map_err(Failure::unreadable)?
    {
        let (sort, value) = row.map_err(Failure::unreadable)?;
        out.extend(value.map(|value| (sort, value)));
    }
    Ok(out)
}

impl CassandraStore {
    async fn ask(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failure> {
        Ok(self.session.execute_unpaged(statement, values).await?)
    }

    pub(crate) async fn get_one(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let statements = self.statements(key.table)?;
        self.gate
            .run(Asked::Get, async || {
                let answer = self
                    .ask(&statements.get, (&key.partition, &key.sort))
                    .await?;
                let rows = answer.into_rows_result().map_err(Failure::unreadable)?;
                let row = rows
                    .maybe_first_row::<(Option<Bytes>,)>()
                    .map_err(Failure::unreadable)?;
                Ok(row.and_then(|(value,)| value))
            })
            .await
    }

    /// The rows of each partition by one request, which sees them at one moment.
    pub(crate) async fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut partitions: BTreeMap<(&str, &Bytes), Vec<usize>> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            partitions
                .entry((key.table.0, &key.partition))
                .or_default()
                .push(at);
        }
        let mut out = vec![None; keys.len()];
        let mut answers = stream::iter(partitions.into_values())
            .map(|places| async move {
                let values = self.get_partition(keys, &places).await?;
                Ok::<_, StoreError>((places, values))
            })
            .buffer_unordered(FAN_OUT);
        while let Some((places, values)) = answers.try_next().await? {
            for (at, value) in places.into_iter().zip(values) {
                out[at] = value;
            }
        }
        drop(answers);
        Ok(out)
    }

    /// The values of those of the keys, which are of one partition.
    async fn get_partition(
        &self,
        keys: &[Key],
        places: &[usize],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let Some(first) = places.first().map(|at| &keys[*at]) else {
            return Ok(Vec::new());
        };
        if places.len() == 1 {
            return Ok(vec![self.get_one(first).await?]);
        }
        let statements = self.statements(first.table)?;
        let mut sorts: Vec<&Bytes> = places.iter().map(|at| &keys[*at].sort).collect();
        sorts.sort_unstable();
        sorts.dedup();
        let found = self
            .gate
            .run(Asked::GetMany, async || {
                let part = &first.partition;
                let answer = if sorts.len() <= KEYS {
                    self.ask(&statements.get_in, (part, &sorts)).await?
                } else {
                    let (low, high) = (sorts[0], sorts[sorts.len() - 1]);
                    self.ask(&statements.between, (part, low, high)).await?
                };
                rows(answer)
            })
            .await?;
        let found: BTreeMap<Bytes, Bytes> = found.into_iter().collect();
        let value = |at: &usize| found.get(&keys[*at].sort).cloned();
        Ok(places.iter().map(value).collect())
    }

    pub(crate) async fn read_range(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
    ) -> Result<Vec<Row>, StoreError> {
        let statements = self.statements(table)?;
        let Some((low, high)) = bounds(range) else {
            return Ok(Vec::new());
        };
        let limit = i32::try_from(range.limit).unwrap_or(i32::MAX);
        let mut out = Vec::new();
        let mut state = PagingState::start();
        loop {
            let (page, next) = self
                .gate
                .run(Asked::Range, async || {
                    let statement = self.range_statement(&statements, range).await?;
                    let state = state.clone();
                    let answer = match high {
                        None => {
                            let values = (partition, low, limit);
                            self.session
                                .execute_single_page(statement, values, state)
                                .await
                        }
                        Some(high) => {
                            let values = (partition, low, high, limit);
                            self.session
                                .execute_single_page(statement, values, state)
                                .await
                        }
                    };
                    let (answer, next) = answer?;
                    Ok((rows(answer)?, next))
                })
                .await?;
            out.extend(page.into_iter().map(|(sort, value)| Row { sort, value }));
            match next {
                PagingStateResponse::HasMorePages { state: next } if out.len() < range.limit => {
                    state = next;
                }
                _ => return Ok(out),
            }
        }
    }

    async fn range_statement<'a>(
        &self,
        statements: &'a Statements,
        range: &Range,
    ) -> Result<&'a PreparedStatement, Failure> {
        statements
            .range(&self.session, range)
            .await
            .map_err(|e| Failure {
                kind: crate::error::Kind::Unreachable,
                reason: e.to_string(),
                undone: true,
            })
    }
}
