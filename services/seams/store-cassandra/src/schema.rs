//! The keyspace and the tables: looked for, or made. Forward only; the same again changes nothing. Changes
//! are made one after the other, and each waits until all nodes have it. Two processes must not make
//! them at once: `tandem migrate` is run by one.

use std::collections::BTreeMap;

use scylla::{client::session::Session, statement::unprepared::Statement};
use tandem_store::{StoreError, Table};

use crate::{Config, config::is_name, error::Failure};

/// How long a change of the schema may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Changes and looks for them.
pub(crate) struct Schema {
    config: Config,
    /// Held while something is changed.
    turn: tokio::sync::Mutex<()>,
}

fn failed(what: &str, error: impl Into<Failure>) -> StoreError {
    match StoreError::from(error.into()) {
        StoreError::Unavailable(reason) => StoreError::Unavailable(format!("{what}: {reason}")),
        other => other,
    }
}

async fn rows(
    session: &Session,
    asked: &str,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<scylla::response::query_result::QueryRowsResult, StoreError> {
    let answer = session
        .query_unpaged(asked, values)
        .await
        .map_err(|e| failed("reading the schema", e))?;
    answer
        .into_rows_result()
        .map_err(|e| failed("reading the schema", Failure::unreadable(e)))
}

async fn change(session: &Session, cql: String) -> Result<(), StoreError> {
    let mut statement = Statement::new(cql);
    // each is written so that it may be done twice
    statement.set_is_idempotent(true);
    statement.set_request_timeout(Some(PATIENCE));
    let done = session.query_unpaged(statement, ()).await;
    done.map(drop)
        .map_err(|e| failed("changing the schema", e))?;
    let agreed = session.await_schema_agreement().await;
    agreed.map(drop).map_err(|e| {
        failed(
            "changing the schema",
            Failure::from(scylla::errors::ExecutionError::from(e)),
        )
    })
}

impl Schema {
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Once it returns, the keyspace is there.
    pub async fn keyspace(&self, session: &Session) -> Result<(), StoreError> {
        let name = &self.config.keyspace;
        let asked = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
        let found = rows(session, asked, (name,)).await?;
        let found = found
            .maybe_first_row::<(BTreeMap<String, String>,)>()
            .map_err(|e| failed("reading the schema", Failure::unreadable(e)))?;
        let wanted = self
            .config
            .replication_cql()
            .map_err(StoreError::Unavailable)?;
        if let Some((found,)) = found {
            tracing::debug!(keyspace = name, replication = ?found, wanted, "keyspace found");
            return Ok(());
        }
        if !self.config.create_tables {
            return Err(missing("keyspace", name));
        }
        let _turn = self.turn.lock().await;
        tracing::info!(keyspace = name, replication = wanted, "making a keyspace");
        let cql = format!("CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {wanted}");
        change(session, cql).await
    }

    /// Once it returns, the table is there.
    pub async fn table(&self, session: &Session, table: Table) -> Result<(), StoreError> {
        let (keyspace, name) = (&self.config.keyspace, table.0);
        if !is_name(name, 40) {
            return Err(StoreError::TooLarge(format!(
                "table {name}: a name is 1 to 40 of a-z _"
            )));
        }
        let _turn = self.turn.lock().await;
        let asked = "SELECT compaction FROM system_schema.tables \
            WHERE keyspace_name = ? AND table_name = ?";
        let found = rows(session, asked, (keyspace, name)).await?;
        let found = found
            .maybe_first_row::<(BTreeMap<String, String>,)>()
            .map_err(|e| failed("reading the schema", Failure::unreadable(e)))?;
        let compaction = self.config.compaction_cql(name);
        match (found, self.config.create_tables) {
            (None, false) => Err(missing("table", name)),
            (None, true) => {
                tracing::info!(table = name, "making a table");
                let with =
                    compaction.map_or_else(String::new, |c| format!(" WITH compaction = {c}"));
                let cql = format!(
                    "CREATE TABLE IF NOT EXISTS {keyspace}.{name} (part blob, sort blob, value blob, \
                    writer uuid, PRIMARY KEY (part, sort)){with}"
                );
                change(session, cql).await
            }
            (Some((found,)), create) => {
                let same = self.same(name, &found);
                match compaction {
                    Some(compaction) if !same && create => {
                        tracing::info!(table = name, compaction, "changing a table's compaction");
                        let cql =
                            format!("ALTER TABLE {keyspace}.{name} WITH compaction = {compaction}");
                        change(session, cql).await
                    }
                    Some(_) if !same => {
                        tracing::warn!(
                            table = name,
                            "the table's compaction is not as cassandra.compaction says: run `tandem migrate`"
                        );
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Whether the options that we ask for are set. The server knows classes by longer names.
    fn same(&self, table: &str, found: &BTreeMap<String, String>) -> bool {
        let Some(wanted) = self.config.compaction.get(table) else {
            return true;
        };
        wanted.iter().all(|(name, value)| {
            found.get(name).is_some_and(|found| {
                found == value || name == "class" && found.rsplit('.').next() == Some(value)
            })
        })
    }
}

fn missing(what: &str, name: &str) -> StoreError {
    StoreError::Unavailable(format!("{what} {name} is not there: run `tandem migrate`"))
}
