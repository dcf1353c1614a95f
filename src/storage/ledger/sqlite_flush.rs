//! The flush on SQLite: the same transaction in three commands instead of one per statement.
//!
//! Each command crosses to the connection's own thread and back; for the small batches of an
//! ordinary load those crossings cost more than the statements. The order of the statements and
//! every guard are those of `flush.rs`.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, AssertSqlSafe, Either, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow},
};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    FlushError, WHAT,
    decide::decide,
    flush::{self, FlushHead},
    sql::{SqliteFlush, sqlite_flush},
    writes::{Rows, Writes},
};
use crate::domain::{
    AccountId, NanoUsd, clock,
    ledger::{AccountRow, FlushBatch, FlushReply},
};

/// Applies a batch; `None` when the fence did not let it pass (nothing was written then).
pub(super) async fn flush(
    db: &Db,
    head: FlushHead,
    digest: i64,
    batch: &FlushBatch,
) -> Result<Option<FlushReply>, FlushError> {
    let pool = db.writer(WHAT)?.get_sqlite_connection_pool();
    let mut connection = pool.acquire().await.map_err(lost)?;
    let sql = sqlite_flush();
    let applied = apply(&mut connection, sql, head, digest, batch).await;
    let ending = if matches!(applied, Ok(Some(_))) { "COMMIT" } else { "ROLLBACK" };
    match (applied, sqlx::query(ending).execute(&mut *connection).await) {
        (applied, Ok(_)) => applied,
        (Ok(Some(_)), Err(error)) => {
            Err(StorageError::from_commit(WHAT, DbErr::Exec(RuntimeErr::SqlxError(error.into())))
                .into())
        }
        (applied, Err(error)) => {
            // A connection that may still be inside a transaction is used by nobody else.
            log::warn!("rolling back a flush failed, its connection is closed: {error}");
            drop(connection.close().await);
            applied
        }
    }
}

async fn apply(
    connection: &mut SqliteConnection,
    sql: &'static SqliteFlush,
    head: FlushHead,
    digest: i64,
    batch: &FlushBatch,
) -> Result<Option<FlushReply>, FlushError> {
    let ids: Rows = flush::account_ids(batch).into();
    let begun = sqlx::query(AssertSqlSafe(sql.begin.as_str()))
        .bind(head.seq)
        .bind(digest)
        .bind(head.ttl_ms.saturating_mul(1_000))
        .bind(head.instance.0)
        .bind(ids.json);
    let (changed, found) = run(connection, begun).await?;
    // `BEGIN` comes first and changes nothing of its own.
    if changed.get(1) != Some(&1) {
        return Ok(None);
    }
    let now = clock::now().0;
    let rows = found.iter().map(account).collect::<Result<BTreeMap<_, _>, _>>().map_err(lost)?;
    let decision = decide(rows, batch)
        .map_err(|contradiction| FlushError::Contradiction { what: contradiction.to_string() })?;
    write(connection, sql, head, Writes::new(batch, &decision, now), now).await?;
    Ok(Some(FlushReply {
        verdicts: decision.verdicts,
        accounts: decision.rows.into_values().collect(),
    }))
}

async fn write(
    connection: &mut SqliteConnection,
    sql: &'static SqliteFlush,
    head: FlushHead,
    writes: Writes,
    now: i64,
) -> Result<(), FlushError> {
    let Writes { accounts, leases, holds, ends, transfers, usage, attempts } = writes;
    let expected = [
        ("accounts", accounts.count),
        ("leases", leases.count),
        ("open", holds.count),
        ("resolve", ends.count),
        ("transfers", transfers.count),
        ("usage", usage.count),
        ("attempts", attempts.count),
    ];
    if expected.iter().all(|(_, count)| *count == 0) {
        return Ok(());
    }
    let written = sqlx::query(AssertSqlSafe(sql.write.as_str()))
        .bind(accounts.json)
        .bind(leases.json)
        .bind(holds.json)
        .bind(ends.json)
        .bind(transfers.json)
        .bind(usage.json)
        .bind(attempts.json)
        .bind(head.instance.0)
        .bind(head.seq)
        .bind(now);
    let (mut changed, _) = run(connection, written).await?;
    // A lease is updated or, the first time, inserted: two statements, one step.
    if changed.len() > 2 {
        let inserted = changed.remove(2);
        changed[1] = changed[1].saturating_add(inserted);
    }
    if changed.len() != expected.len() {
        return Err(FlushError::Mismatch {
            step: "statements",
            expected: expected.len() as u64,
            changed: changed.len() as u64,
        });
    }
    for ((step, expected), changed) in expected.into_iter().zip(changed) {
        if expected != changed {
            return Err(FlushError::Mismatch { step, expected, changed });
        }
    }
    Ok(())
}

/// Runs all statements of a command: the rows that each changed, and all rows that came back.
async fn run(
    connection: &mut SqliteConnection,
    query: sqlx::query::Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>,
) -> Result<(Vec<u64>, Vec<SqliteRow>), FlushError> {
    let mut changed = Vec::with_capacity(10);
    let mut rows = Vec::new();
    #[expect(deprecated, reason = "sqlx's only way to run several statements with parameters")]
    let mut results = query.fetch_many(connection);
    while let Some(result) = results.try_next().await.map_err(lost)? {
        match result {
            Either::Left(done) => changed.push(done.rows_affected()),
            Either::Right(row) => rows.push(row),
        }
    }
    Ok((changed, rows))
}

/// Reads `id, credits, debits, leased, overdraft_limit, flags`.
fn account(row: &SqliteRow) -> Result<(AccountId, AccountRow), sqlx::Error> {
    let account_id = AccountId(row.try_get::<Uuid, _>(0)?);
    let row = AccountRow {
        account_id,
        credits: NanoUsd(row.try_get(1)?),
        debits: NanoUsd(row.try_get(2)?),
        leased: NanoUsd(row.try_get(3)?),
        overdraft_limit: NanoUsd(row.try_get(4)?),
        flags: row.try_get(5)?,
    };
    Ok((account_id, row))
}

fn lost(error: sqlx::Error) -> FlushError {
    DbErr::Query(RuntimeErr::SqlxError(error.into())).into()
}
