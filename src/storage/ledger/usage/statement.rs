//! What an account owed and paid: by day, and line by line for a time.

use sea_orm::{DbBackend, DbErr, QueryResult};
use uuid::Uuid;

use super::{
    super::{
        super::{Db, StorageError},
        snapshot::Snapshot,
        sql,
    },
    UsageFilter, UsageGroup, UsageSums, WHAT,
    read::{Lines, mark},
};
use crate::domain::{AccountId, Day, NanoUsd, clock::UnixMicros};

/// Incoming transfers and charge lines of one statement, each.
pub const LINES_MAX: usize = 10_000;

/// A day of an account's books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountDay {
    /// What came in.
    pub incoming: NanoUsd,
    /// What was used.
    pub used: UsageSums,
}

/// Money that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The transfer's id.
    pub id: Uuid,
    /// Code of its [`crate::domain::ledger::TransferKind`].
    pub kind: i16,
    /// How much.
    pub amount: NanoUsd,
    /// The payment's own id.
    pub external_ref: Option<String>,
    /// When it was booked.
    pub created_at: UnixMicros,
}

/// What one model cost on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementCharge {
    /// The day.
    pub day: Day,
    /// The model.
    pub model: String,
    /// Its sums.
    pub sums: UsageSums,
}

/// An account's books from one day to another, in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it had before the first day.
    pub opening: NanoUsd,
    /// What came in, oldest first; at most [`LINES_MAX`].
    pub incoming: Vec<Incoming>,
    /// Over all of it.
    pub incoming_total: NanoUsd,
    /// What was charged, by day and model; at most [`LINES_MAX`].
    pub charges: Vec<StatementCharge>,
    /// Over all of it.
    pub charges_total: UsageSums,
    /// Whether a list is longer than what is shown of it.
    pub truncated: bool,
}

/// Transfers of kinds 2 (top-up) and 3 (promo): all that comes into a wallet.
const INCOMING_DAYS: &str = "SELECT created_at / 86400000000 AS day, CAST(SUM(amount) AS BIGINT)
    FROM ledger_transfer WHERE credit_account = $1 AND kind IN (2, 3)
    GROUP BY created_at / 86400000000";
const INCOMING: &str = "SELECT id, kind, amount, external_ref, created_at
    FROM ledger_transfer WHERE credit_account = $1 AND kind IN (2, 3)
    AND created_at >= $2 AND created_at < $3 ORDER BY created_at, id LIMIT $4";
const INCOMING_SUMS: &str = "SELECT
    CAST(COALESCE(SUM(CASE WHEN created_at < $2 THEN amount ELSE 0 END), 0) AS BIGINT),
    CAST(COALESCE(SUM(CASE WHEN created_at >= $2 THEN amount ELSE 0 END), 0) AS BIGINT)
    FROM ledger_transfer WHERE credit_account = $1 AND kind IN (2, 3) AND created_at < $3";

/// Every day on which something came in or was used, oldest first.
///
/// # Errors
/// [`StorageError::Unavailable`].
///
/// # Cancel safety
/// It only reads; dropping the future lets it end in the background.
pub async fn read_days(
    db: &Db,
    account_id: AccountId,
) -> Result<Vec<(Day, AccountDay)>, StorageError> {
    db.read(WHAT, move |db| async move {
        let snapshot = Snapshot::begin(&db).await.map_err(StorageError::on(WHAT))?;
        let days = days(&snapshot, db.backend(), account_id).await;
        snapshot.end().await;
        days.map_err(StorageError::on(WHAT))
    })
    .await
}

async fn days(
    snapshot: &Snapshot,
    backend: DbBackend,
    account_id: AccountId,
) -> Result<Vec<(Day, AccountDay)>, DbErr> {
    let mark = mark(snapshot).await?;
    let lines = Lines::new(backend, &UsageFilter::all(account_id), Some(UsageGroup::Day), mark);
    let used = lines.fill("SELECT day, {sums} FROM ({all}) AS lines GROUP BY day");
    let mut days = std::collections::BTreeMap::<Day, AccountDay>::new();
    for row in snapshot.query(&used, lines.values.clone()).await? {
        days.entry(Day(row.try_get_by_index(0)?)).or_default().used = UsageSums::read(&row, 1)?;
    }
    let text = sql::fill(backend, INCOMING_DAYS);
    for row in snapshot.query(&text, [account_id.0.into()]).await? {
        let day = days.entry(Day(row.try_get_by_index(0)?)).or_default();
        day.incoming = NanoUsd(row.try_get_by_index(1)?);
    }
    Ok(days.into_iter().collect())
}

/// The books of an account from `from` to `to`, both included.
///
/// # Errors
/// [`StorageError::Unavailable`].
///
/// # Cancel safety
/// It only reads; dropping the future lets it end in the background.
pub async fn read_statement(
    db: &Db,
    account_id: AccountId,
    from: Day,
    to: Day,
) -> Result<Statement, StorageError> {
    db.read(WHAT, move |db| async move {
        let snapshot = Snapshot::begin(&db).await.map_err(StorageError::on(WHAT))?;
        let statement = statement(&snapshot, db.backend(), account_id, from, to).await;
        snapshot.end().await;
        statement.map_err(StorageError::on(WHAT))
    })
    .await
}

async fn statement(
    snapshot: &Snapshot,
    backend: DbBackend,
    account_id: AccountId,
    from: Day,
    to: Day,
) -> Result<Statement, DbErr> {
    let mark = mark(snapshot).await?;
    let all = UsageFilter::all(account_id);
    let until = |last| UsageFilter { to: Some(last), ..all.clone() };
    let before = Lines::new(backend, &until(Day(from.0 - 1)), None, mark);
    let sums = before.fill("SELECT {sums} FROM ({all}) AS lines");
    let spent_before = snapshot.query(&sums, before.values.clone()).await?;
    let spent_before =
        spent_before.first().map_or(Ok(UsageSums::default()), |row| UsageSums::read(row, 0))?;

    let within = UsageFilter { from: Some(from), ..until(to) };
    let mut lines = Lines::new(backend, &within, Some(UsageGroup::Model), mark);
    let totals = lines.fill("SELECT {sums} FROM ({all}) AS lines");
    let totals = snapshot.query(&totals, lines.values.clone()).await?;
    let charges_total =
        totals.first().map_or(Ok(UsageSums::default()), |row| UsageSums::read(row, 0))?;
    let limit = i64::try_from(LINES_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let most = lines.bind(limit.into());
    let text = format!(
        "SELECT day, model, {{sums}} FROM ({{all}}) AS lines GROUP BY day, model
         ORDER BY day, model LIMIT {most}"
    );
    let charges = snapshot.query(&lines.fill(&text), lines.values.clone()).await?;

    let fill = |text: &str| sql::fill(backend, text);
    let (start, end) = (from.start().0, Day(to.0 + 1).start().0);
    let values = [account_id.0.into(), start.into(), end.into()];
    let sums = snapshot.query(&fill(INCOMING_SUMS), values.clone()).await?;
    let (came_before, incoming_total) = match sums.first() {
        Some(row) => (row.try_get_by_index(0)?, NanoUsd(row.try_get_by_index(1)?)),
        None => (0, NanoUsd::ZERO),
    };
    let values = values.into_iter().chain([limit.into()]);
    let incoming = snapshot.query(&fill(INCOMING), values).await?;
    Ok(Statement {
        opening: NanoUsd(came_before - spent_before.cost.0),
        truncated: incoming.len() > LINES_MAX || charges.len() > LINES_MAX,
        incoming: incoming.iter().take(LINES_MAX).map(incoming_row).collect::<Result<_, _>>()?,
        incoming_total,
        charges: charges.iter().take(LINES_MAX).map(charge_row).collect::<Result<_, _>>()?,
        charges_total,
    })
}

fn incoming_row(row: &QueryResult) -> Result<Incoming, DbErr> {
    Ok(Incoming {
        id: row.try_get_by_index(0)?,
        kind: row.try_get_by_index(1)?,
        amount: NanoUsd(row.try_get_by_index(2)?),
        external_ref: row.try_get_by_index(3)?,
        created_at: UnixMicros(row.try_get_by_index(4)?),
    })
}

fn charge_row(row: &QueryResult) -> Result<StatementCharge, DbErr> {
    Ok(StatementCharge {
        day: Day(row.try_get_by_index(0)?),
        model: row.try_get_by_index(1)?,
        sums: UsageSums::read(row, 2)?,
    })
}
