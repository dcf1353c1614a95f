//! Rates of keys and accounts that differ from the server's own.

use sea_orm::{ConnectionTrait as _, QueryResult, Value};
use uuid::Uuid;

use super::{Db, StorageError, ledger};

const RATE: &str = "rate limit";
/// Changes in one reading.
pub const CHANGES_MAX: usize = 10_000;

/// What one key or account may do in a minute. `None`: what the server says; 0: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
}

/// A change that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateChange {
    /// The id of a key or of an account.
    pub subject: Uuid,
    /// What it may do now.
    pub rates: Rates,
    /// When it was changed, microseconds by the database's clock.
    pub changed_at: i64,
}

const SET: &str = "INSERT INTO rate_limit
        (subject_id, requests_per_minute, tokens_per_minute, changed_at)
    VALUES ($1, $2, $3, {now})
    ON CONFLICT (subject_id) DO UPDATE SET
        requests_per_minute = excluded.requests_per_minute,
        tokens_per_minute = excluded.tokens_per_minute, changed_at = excluded.changed_at";

const GET: &str = "SELECT subject_id, requests_per_minute, tokens_per_minute, changed_at
    FROM rate_limit WHERE subject_id = $1";

const CHANGED: &str = "SELECT subject_id, requests_per_minute, tokens_per_minute, changed_at
    FROM rate_limit WHERE changed_at >= $1 ORDER BY changed_at, subject_id LIMIT $2";

/// Sets what a key or an account may do. Servers follow within a second.
///
/// # Errors
/// [`StorageError::Unavailable`] and the like; it may have been written then.
///
/// # Cancel safety
/// Dropping the future does not stop it; repeating it does no harm.
pub async fn set_rates(db: &Db, subject: Uuid, rates: Rates) -> Result<(), StorageError> {
    db.run(RATE, move |db| async move {
        let number = |rate: Option<u64>| rate.map(|rate| i64::try_from(rate).unwrap_or(i64::MAX));
        let values: [Value; 3] =
            [subject.into(), number(rates.requests).into(), number(rates.tokens).into()];
        let statement = db.statement(&ledger::fill(db.backend(), SET), values);
        let done = db.writer(RATE)?.execute_raw(statement).await;
        done.map(drop).map_err(StorageError::on(RATE))
    })
    .await
}

/// What was set for a key or an account.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_rates(db: &Db, subject: Uuid) -> Result<Rates, StorageError> {
    db.read(RATE, move |db| async move {
        let statement = db.statement(&ledger::fill(db.backend(), GET), [subject.into()]);
        let found = db.reader().query_one_raw(statement).await.map_err(StorageError::on(RATE))?;
        let change = found.as_ref().map(change).transpose().map_err(StorageError::on(RATE))?;
        Ok(change.map(|change| change.rates).unwrap_or_default())
    })
    .await
}

/// What was changed at `since` or later, oldest first, at most [`CHANGES_MAX`].
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn changed_rates(db: &Db, since: i64) -> Result<Vec<RateChange>, StorageError> {
    db.read(RATE, move |db| async move {
        let most = i64::try_from(CHANGES_MAX).unwrap_or(i64::MAX);
        let values: [Value; 2] = [since.into(), most.into()];
        let statement = db.statement(&ledger::fill(db.backend(), CHANGED), values);
        let rows = db.reader().query_all_raw(statement).await.map_err(StorageError::on(RATE))?;
        rows.iter().map(change).collect::<Result<_, _>>().map_err(StorageError::on(RATE))
    })
    .await
}

fn change(row: &QueryResult) -> Result<RateChange, sea_orm::DbErr> {
    let rate = |column| {
        let number: Option<i64> = row.try_get_by_index(column)?;
        Ok::<_, sea_orm::DbErr>(number.map(|number| number.max(0).unsigned_abs()))
    };
    Ok(RateChange {
        subject: row.try_get_by_index(0)?,
        rates: Rates { requests: rate(1)?, tokens: rate(2)? },
        changed_at: row.try_get_by_index(3)?,
    })
}
