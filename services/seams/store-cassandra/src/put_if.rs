//! Conditional puts: lightweight transactions, for the few rows where one winner must be chosen.
//!
//! Each names its writer, by which it knows its own success again when no answer came.

use std::time::Duration;

use bytes::Bytes;
use scylla::value::CqlValue;
use scylla::{response::query_result::QueryResult, value::Row};
use tandem_store::{Key, PutIf, StoreError};
use uuid::Uuid;

use crate::{CassandraStore, error::Failure, fold::seconds, gate::Asked, statements::Statements};

/// Rows whose conditional puts wait for each other in this process, rather than contend in the cluster.
pub(crate) const TURNS: usize = 256;

/// A conditional put.
struct Put<'a> {
    key: &'a Key,
    expected: Option<&'a Bytes>,
    value: &'a Bytes,
    ttl: i32,
    writer: Uuid,
}

/// What a row holds.
struct Held {
    value: Option<Bytes>,
    writer: Option<Uuid>,
}

/// `[applied]`, and the value if it was not and there is one.
fn outcome(answer: QueryResult) -> Result<PutIf, Failure> {
    let rows = answer.into_rows_result().map_err(Failure::unreadable)?;
    let place = |name: &str| rows.column_specs().iter().position(|c| c.name() == name);
    let (applied, value) = (place("[applied]"), place("value"));
    let row = rows.first_row::<Row>().map_err(Failure::unreadable)?;
    let column = |at: Option<usize>| row.columns.get(at?)?.as_ref();
    match column(applied) {
        Some(CqlValue::Boolean(true)) => Ok(PutIf::Done),
        Some(CqlValue::Boolean(false)) => {
            let value = column(value).and_then(CqlValue::as_blob);
            Ok(PutIf::Otherwise(value.map(|v| Bytes::copy_from_slice(v))))
        }
        _ => Err(Failure::unreadable(
            "no [applied] in the answer to a condition",
        )),
    }
}

impl CassandraStore {
    pub(crate) async fn put_in_turn(
        &self,
        key: &Key,
        expected: Option<&Bytes>,
        value: &Bytes,
        ttl: Option<Duration>,
    ) -> Result<PutIf, StoreError> {
        let statements = self.statements(key.table)?;
        let put = Put {
            key,
            expected,
            value,
            ttl: seconds(ttl),
            writer: self.doors.rng.uuid(),
        };
        let turn = self
            .hasher
            .hash_one((key.table.0, &key.partition, &key.sort)) as usize
            % TURNS;
        let patience = self.patience;
        let _turn = tokio::time::timeout(patience, self.turns[turn].lock())
            .await
            .map_err(|_| StoreError::Unavailable("too many want to change the same row".into()))?;
        let mut attempt = 1;
        loop {
            let failure = match self
                .gate
                .once(Asked::PutIf, self.put_once(&statements, &put))
                .await?
            {
                Ok(outcome) => return Ok(outcome),
                Err(failure) => failure,
            };
            if !failure.kind.may_pass() {
                return Err(failure.into());
            }
            if !failure.undone {
                let held = self.settle(&statements, key).await?;
                if held.writer == Some(put.writer) {
                    return Ok(PutIf::Done);
                }
                if held.value.as_ref() != expected {
                    // done and changed since, or never done: only who reads the row anew can go on
                    return Err(failure.into());
                }
                // the row is as it was, and what was under way has come to its end
            }
            if attempt >= self.gate.attempts() {
                return Err(failure.into());
            }
            self.gate.pause(attempt).await;
            attempt += 1;
        }
    }

    async fn put_once(&self, statements: &Statements, put: &Put<'_>) -> Result<PutIf, Failure> {
        let Put {
            key,
            value,
            ttl,
            writer,
            ..
        } = *put;
        let (part, sort) = (&key.partition, &key.sort);
        let answer = if let Some(expected) = put.expected {
            let values = (ttl, value, writer, part, sort, expected);
            let statement = &statements.put_if;
            self.session.execute_unpaged(statement, values).await?
        } else {
            let values = (ttl, value, writer, part, sort);
            let statement = &statements.put_if_none;
            self.session.execute_unpaged(statement, values).await?
        };
        outcome(answer)
    }

    /// What the row holds once the conditional put that is under way has come to its end.
    async fn settle(&self, statements: &Statements, key: &Key) -> Result<Held, StoreError> {
        self.gate
            .run(Asked::PutIf, async || {
                let values = (&key.partition, &key.sort);
                let answer = self
                    .session
                    .execute_unpaged(&statements.settle, values)
                    .await?;
                let rows = answer.into_rows_result().map_err(Failure::unreadable)?;
                let row = rows
                    .maybe_first_row::<(Option<Bytes>, Option<Uuid>)>()
                    .map_err(Failure::unreadable)?;
                let (value, writer) = row.unwrap_or_default();
                Ok(Held { value, writer })
            })
            .await
    }
}
