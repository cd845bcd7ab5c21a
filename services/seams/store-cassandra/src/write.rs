//! Writes: what one version makes of a partition is one request, which is done whole or not at all.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    response::query_result::QueryResult,
    serialize::{
        SerializationError,
        row::{RowSerializationContext, SerializeRow},
        writers::RowWriter,
    },
    statement::{
        batch::{Batch as Request, BatchStatement, BatchType},
        prepared::PreparedStatement,
    },
};
use tandem_store::{Batch, Range, StoreError};

use crate::{
    CassandraStore,
    error::Failure,
    fold::{Folded, Partition, Row, partitions},
    gate::Asked,
    read::FAN_OUT,
    statements::Statements,
};

/// Changes that one request may hold.
const CHANGES: usize = u16::MAX as usize;

/// The values of a change.
#[derive(Debug, Clone, Copy)]
enum Values<'a> {
    Put(i32, &'a Bytes, &'a Bytes, &'a Bytes),
    PutAt(i32, i64, &'a Bytes, &'a Bytes, &'a Bytes),
    Delete(&'a Bytes, &'a Bytes),
    DeleteAt(i64, &'a Bytes, &'a Bytes),
    Clear(&'a Bytes),
    ClearAt(i64, &'a Bytes),
}

impl SerializeRow for Values<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        match *self {
            Self::Put(ttl, value, part, sort) => {
                (ttl, value, part, sort).serialize(context, writer)
            }
            Self::PutAt(ttl, time, value, part, sort) => {
                (ttl, time, value, part, sort).serialize(context, writer)
            }
            Self::Delete(part, sort) => (part, sort).serialize(context, writer),
            Self::DeleteAt(time, part, sort) => (time, part, sort).serialize(context, writer),
            Self::Clear(part) => (part,).serialize(context, writer),
            Self::ClearAt(time, part) => (time, part).serialize(context, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// The changes as statements and values.
fn changes<'a>(
    statements: &'a Statements,
    part: &'a Bytes,
    version: Option<u64>,
    folded: &Folded<'a>,
) -> Vec<(&'a PreparedStatement, Values<'a>)> {
    let time = version.map(|v| i64::try_from(v).unwrap_or(i64::MAX));
    let mut out = Vec::with_capacity(folded.rows.len() + 1);
    if folded.clear {
        out.push(match time {
            // of one time, a delete outdoes a put
            Some(time) if folded.puts() => (&statements.clear_at, Values::ClearAt(time - 1, part)),
            Some(time) => (&statements.clear_at, Values::ClearAt(time, part)),
            None => (&statements.clear, Values::Clear(part)),
        });
    }
    for (sort, row) in &folded.rows {
        out.push(match (*row, time) {
            (Row::Put(value, ttl), None) => (&statements.put, Values::Put(ttl, value, part, sort)),
            (Row::Put(value, ttl), Some(time)) => (
                &statements.put_at,
                Values::PutAt(ttl, time, value, part, sort),
            ),
            (Row::Gone, _) if folded.clear && !folded.puts() => continue,
            (Row::Gone, None) => (&statements.delete, Values::Delete(part, sort)),
            (Row::Gone, Some(time)) => (&statements.delete_at, Values::DeleteAt(time, part, sort)),
        });
    }
    out
}

impl CassandraStore {
    pub(crate) async fn write_all(&self, batches: &[Batch]) -> Result<(), StoreError> {
        stream::iter(partitions(batches))
            .map(Ok)
            .try_for_each_concurrent(FAN_OUT, |partition| self.write_partition(partition))
            .await
    }

    async fn write_partition(&self, partition: Partition<'_>) -> Result<(), StoreError> {
        let statements = self.statements(partition.table)?;
        for (version, folded) in &partition.steps {
            if version.is_none() && folded.clear && folded.puts() {
                self.write_anew(&partition, &statements, folded).await?;
            } else {
                self.send(changes(&statements, partition.key, *version, folded))
                    .await?;
            }
        }
        Ok(())
    }

    /// All rows of a partition go and others come, without a version: since the cluster would take both for
    /// simultaneous, the rows that are there go one by one.
    async fn write_anew(
        &self,
        partition: &Partition<'_>,
        statements: &Statements,
        folded: &Folded<'_>,
    ) -> Result<(), StoreError> {
        let all = Range::all(CHANGES);
        let there = self
            .read_range(partition.table, partition.key, &all)
            .await?;
        let mut one_by_one = Folded {
            clear: false,
            rows: there.iter().map(|row| (&row.sort, Row::Gone)).collect(),
        };
        one_by_one.rows.extend(folded.rows.iter());
        self.send(changes(statements, partition.key, None, &one_by_one))
            .await
    }

    async fn send(&self, changes: Vec<(&PreparedStatement, Values<'_>)>) -> Result<(), StoreError> {
        if changes.len() > CHANGES {
            return Err(StoreError::TooLarge(format!(
                "a batch is at most {CHANGES} changes"
            )));
        }
        match &changes[..] {
            [] => Ok(()),
            [(statement, values)] => {
                let request = async || Ok(self.session.execute_unpaged(statement, values).await?);
                self.gate
                    .run(Asked::Write, request)
                    .await
                    .map(|_: QueryResult| ())
            }
            [(first, _), ..] => {
                let profile = first.get_execution_profile_handle().cloned();
                let (all, values): (Vec<BatchStatement>, Vec<Values<'_>>) = changes
                    .into_iter()
                    .map(|(statement, values)| (statement.clone().into(), values))
                    .unzip();
                let mut batch = Request::new_with_statements(BatchType::Unlogged, all);
                batch.set_is_idempotent(true);
                batch.set_execution_profile_handle(profile);
                let request = async || Ok::<_, Failure>(self.session.batch(&batch, &values).await?);
                self.gate.run(Asked::Write, request).await.map(drop)
            }
        }
    }
}
