//! From settled holds to sums by day.

use std::sync::Arc;

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbErr, Statement, Value};
use uuid::Uuid;

use super::{
    super::{
        super::{Db, StorageError},
        cut,
        payload::Payload,
        snapshot::Snapshot,
        sql,
    },
    WHAT, words,
};

/// Where the mark is, and what keeps the cut back. The first statement of the snapshot.
const READ: &str = "SELECT (SELECT cut_id FROM usage_mark WHERE id = 1), {standing}";

/// The first hold that is too many for a step of `$3` holds from `$1` on and below `$2`.
const STEP_END: &str = "SELECT id FROM ledger_hold WHERE id >= $1 AND id < $2
    ORDER BY id LIMIT 1 OFFSET $3";

/// What the holds from `$1` on and below `$2` add up to.
const STEP: &str = "SELECT account_id, day, key_id, face_id, model, {sums}
    FROM ({lines} AND h.id >= $1 AND h.id < $2) AS lines
    GROUP BY account_id, day, key_id, face_id, model";

/// Compare-and-set: whoever moves the mark writes the sums.
const MOVE: &str =
    "UPDATE usage_mark SET cut_id = $1, rolled_at = {now} WHERE id = 1 AND cut_id = $2";

/// Batch: `[account, day, key, face, model, six sums]`.
const ADD: &str = "INSERT INTO usage_daily (account_id, day, key_id, face_id, model, requests,
        input_tokens, cached_tokens, output_tokens, provider_cost, cost)
    SELECT {id:0}, {int:1}, {id:2}, {id:3}, {text:4}, {int:5}, {int:6}, {int:7}, {int:8}, {int:9},
        {int:10} FROM {batch} WHERE true
    ON CONFLICT (account_id, day, key_id, face_id, model) DO UPDATE SET
        requests = usage_daily.requests + excluded.requests,
        input_tokens = usage_daily.input_tokens + excluded.input_tokens,
        cached_tokens = usage_daily.cached_tokens + excluded.cached_tokens,
        output_tokens = usage_daily.output_tokens + excluded.output_tokens,
        provider_cost = usage_daily.provider_cost + excluded.provider_cost,
        cost = usage_daily.cost + excluded.cost";

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rolled {
    /// Holds were added, and there are more.
    More,
    /// All holds below the cut are in the sums.
    Done,
    /// Another instance moved the mark in the meantime; nothing was written.
    Lost,
}

struct Step {
    before: Uuid,
    after: Uuid,
    is_last: bool,
    batch: String,
}

/// Adds the next at most `rows_max` holds below the cut to the sums. They are read outside the
/// transaction, because they don't change any more: it writes a few rows and locks nobody out.
///
/// # Errors
/// [`StorageError`]; the sums are as before, or (when the answer of the commit was lost) moved.
///
/// # Cancel safety
/// Dropping the future does not stop the step.
pub async fn roll(db: &Db, rows_max: u32) -> Result<Rolled, StorageError> {
    let step = db.run(WHAT, move |db| async move {
        let snapshot = Snapshot::begin(&db).await.map_err(StorageError::on(WHAT))?;
        let step = next(&snapshot, &db, rows_max).await;
        snapshot.end().await;
        step.map_err(StorageError::on(WHAT))
    });
    let Some(step) = step.await?.map(Arc::new) else { return Ok(Rolled::Done) };
    let is_last = step.is_last;
    let is_moved = db
        .in_transaction(WHAT, move |tx| {
            let step = Arc::clone(&step);
            Box::pin(async move { write(tx, &step).await.map_err(StorageError::on(WHAT)) })
        })
        .await?;
    Ok(match (is_moved, is_last) {
        (false, _) => Rolled::Lost,
        (true, true) => Rolled::Done,
        (true, false) => Rolled::More,
    })
}

async fn next(snapshot: &Snapshot, db: &Db, rows_max: u32) -> Result<Option<Step>, DbErr> {
    let backend = db.backend();
    let standing = snapshot.query(&sql::fill(backend, READ), []).await?;
    let Some(standing) = standing.first() else { return Ok(None) };
    let before: Uuid = standing.try_get_by_index(0)?;
    let highest = cut::highest(standing, 1)?;
    if highest <= before {
        return Ok(None);
    }
    let values: [Value; 3] = [before.into(), highest.into(), i64::from(rows_max).into()];
    let end = snapshot.query(&sql::fill(backend, STEP_END), values).await?;
    let end: Option<Uuid> = end.first().map(|row| row.try_get_by_index(0)).transpose()?;
    let after = end.unwrap_or(highest);
    let step = sql::fill(backend, &words(backend, STEP));
    let rows = snapshot.query(&step, [Value::from(before), after.into()]).await?;
    let mut batch = Payload::with_capacity(rows.len(), 200);
    for row in &rows {
        let batch = batch.row().id(row.try_get_by_index(0)?).int(row.try_get_by_index(1)?);
        batch.id(row.try_get_by_index(2)?).id(row.try_get_by_index(3)?);
        batch.text(&row.try_get_by_index::<String>(4)?);
        for column in 5..11 {
            batch.int(row.try_get_by_index(column)?);
        }
    }
    Ok(Some(Step { before, after, is_last: end.is_none(), batch: batch.finish() }))
}

async fn write(tx: &DatabaseTransaction, step: &Step) -> Result<bool, DbErr> {
    let backend = tx.get_database_backend();
    let statement = |text: &str, values: Vec<Value>| {
        Statement::from_sql_and_values(backend, sql::fill(backend, text), values)
    };
    let moved = statement(MOVE, vec![step.after.into(), step.before.into()]);
    if tx.execute_raw(moved).await?.rows_affected() == 0 {
        return Ok(false);
    }
    tx.execute_raw(statement(ADD, vec![step.batch.as_str().into()])).await?;
    Ok(true)
}
