//! From settled holds to sums by day.

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbErr, QueryResult, Statement, Value};
use uuid::Uuid;

use super::{
    super::{
        super::{Db, StorageError},
        cut,
        payload::Payload,
        snapshot::Snapshot,
        sql,
    },
    Sums, WHAT, words,
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

/// Compare-and-set: whoever moves the mark writes the sums. It says that it writes the margins, too:
/// the schema refuses a mark from a server that does not know them.
const MOVE: &str = "UPDATE usage_mark SET cut_id = $1, margin_cut_id = $1, rolled_at = {now}
    WHERE id = 1 AND cut_id = $2";

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

/// Batch: `[account, kind, day, key, face, model, six sums]`.
const ADD_MARGINS: &str = "INSERT INTO usage_margin (account_id, kind, day, key_id, face_id, model,
        requests, input_tokens, cached_tokens, output_tokens, provider_cost, cost)
    SELECT {id:0}, {int:1}, {int:2}, {id:3}, {id:4}, {text:5}, {int:6}, {int:7}, {int:8}, {int:9},
        {int:10}, {int:11} FROM {batch} WHERE true
    ON CONFLICT (account_id, kind, day, key_id, face_id, model) DO UPDATE SET
        requests = usage_margin.requests + excluded.requests,
        input_tokens = usage_margin.input_tokens + excluded.input_tokens,
        cached_tokens = usage_margin.cached_tokens + excluded.cached_tokens,
        output_tokens = usage_margin.output_tokens + excluded.output_tokens,
        provider_cost = usage_margin.provider_cost + excluded.provider_cost,
        cost = usage_margin.cost + excluded.cost";

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
    margins: String,
}

/// Account, kind, day, key, face and model of a row of `usage_margin`.
type Margin = (Uuid, Sums, i64, Uuid, Uuid, String);

/// Rows of `usage_margin` in the making.
#[derive(Default)]
struct Margins(BTreeMap<Margin, [i64; 6]>);

impl Margins {
    /// Adds a row of `usage_daily`. Sums of one step are far from the end of 64 bits.
    fn add(
        &mut self,
        (account, day): (Uuid, i64),
        (key, face): (Uuid, Uuid),
        model: &str,
        sums: [i64; 6],
    ) {
        let none = Uuid::nil();
        for margin in Sums::MARGINS {
            let (key, face, model) = match margin {
                Sums::ByKey => (key, none, ""),
                Sums::ByFace => (none, face, ""),
                Sums::ByModel | Sums::Whole => (none, none, model),
            };
            let row = (account, margin, day, key, face, model.to_owned());
            let total = self.0.entry(row).or_default();
            for (total, more) in total.iter_mut().zip(sums) {
                *total = total.saturating_add(more);
            }
        }
    }

    fn batch(&self) -> String {
        let mut batch = Payload::with_capacity(self.0.len(), 12);
        for ((account, margin, day, key, face, model), sums) in &self.0 {
            let Some(kind) = margin.kind() else { continue };
            let row = batch.row().id(*account).int(kind.into()).int(*day).id(*key).id(*face);
            row.text(model);
            for sum in sums {
                row.int(*sum);
            }
        }
        batch.json()
    }
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
    let (batch, margins) = add_up(&rows)?;
    Ok(Some(Step { before, after, is_last: end.is_none(), batch, margins }))
}

/// The batches of both tables.
fn add_up(rows: &[QueryResult]) -> Result<(String, String), DbErr> {
    let (mut batch, mut margins) = (Payload::with_capacity(rows.len(), 11), Margins::default());
    for row in rows {
        let (account, day) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let (key, face) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
        let model: String = row.try_get_by_index(4)?;
        let mut sums = [0; 6];
        for (column, sum) in (5..).zip(&mut sums) {
            *sum = row.try_get_by_index(column)?;
        }
        let line = batch.row().id(account).int(day).id(key).id(face);
        line.text(&model);
        for sum in sums {
            line.int(sum);
        }
        margins.add((account, day), (key, face), &model, sums);
    }
    Ok((batch.json(), margins.batch()))
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
    tx.execute_raw(statement(ADD_MARGINS, vec![step.margins.as_str().into()])).await?;
    Ok(true)
}
