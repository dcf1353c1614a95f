//! Compiling: sources (documents and threads), the queue of work on them, the chunks that are done,
//! and what they cost of a quota.
//!
//! Functions for owners name the account: a foreign source is a missing one. Functions for workers
//! name the lease of their claim: once another worker has claimed the job, or its owner has reset,
//! changed or deleted the source, they answer [`StorageError::Stale`] and write nothing. A
//! transaction locks the face first, then the source, then the job, so that none waits in a circle.
//! Leases are counted by the database's clock, so that instances need not agree on the time.

mod chunks;
mod jobs;
mod merge;
mod messages;
mod quota;
mod sources;
mod threads;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement, Value};

pub use chunks::{ChunkRow, extractions, finish_chunk, open_chunks, plan_chunks, rekey_chunk};
pub use jobs::{
    Job, JobEnd, JobSignal, LeaseId, Transition, apply_event, claim_job, end_job, extend_lease,
    release_lease, retry_job,
};
pub use merge::{
    SourcedPrimitive, SyncPlan, SyncVerdict, Withdrawal, load_sourced_primitives, withdraw_source,
    write_sync,
};
pub use messages::{MessageRow, append_messages, list_messages};
pub use quota::{FaceQuota, Quota, allows_overflow, read_face_quotas, read_quota, set_overflow};
pub use sources::{
    NewSource, SourceEdit, SourceFilter, SourceRow, count_sources, edit_source, facts_of_others,
    find_source, insert_source, is_compiling, list_sources, pending_sources,
};
pub use threads::{ThreadLength, thread_lengths};

use super::StorageError;

const WHAT: &str = "compile source";

/// The words that differ between the databases: `{now}` is the database's clock in microseconds,
/// `{lock}` locks the rows that are read, `{skip}` leaves out those that others have locked.
fn fill(backend: DbBackend, text: &str) -> String {
    let (now, lock, skip) = if backend == DbBackend::Sqlite {
        ("CAST(unixepoch('subsec') * 1000000 AS INTEGER)", "", "")
    } else {
        (
            "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
            " FOR UPDATE",
            " FOR UPDATE SKIP LOCKED",
        )
    };
    text.replace("{now}", now).replace("{lock}", lock).replace("{skip}", skip)
}

fn statement<C: ConnectionTrait>(
    connection: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    let backend = connection.get_database_backend();
    Statement::from_sql_and_values(backend, fill(backend, sql), values)
}

async fn one<C: ConnectionTrait>(
    connection: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Option<QueryResult>, StorageError> {
    let statement = statement(connection, sql, values);
    connection.query_one_raw(statement).await.map_err(StorageError::on(WHAT))
}

async fn all<C: ConnectionTrait>(
    connection: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, StorageError> {
    let statement = statement(connection, sql, values);
    connection.query_all_raw(statement).await.map_err(StorageError::on(WHAT))
}

async fn execute<C: ConnectionTrait>(
    connection: &C,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<ExecResult, StorageError> {
    let statement = statement(connection, sql, values);
    connection.execute_raw(statement).await.map_err(StorageError::on(WHAT))
}

/// A column whose value this program did not write.
fn unreadable(column: &'static str) -> StorageError {
    StorageError::Bug { what: column, source: None }
}

fn flag(row: &QueryResult, column: &str) -> Result<bool, DbErr> {
    Ok(row.try_get::<i16>("", column)? != 0)
}
