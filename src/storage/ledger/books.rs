//! The books for people: one account, one hold, and every transfer of a time.
//!
//! Owns reading only; what is shown is what is written, in one snapshot. How it fails:
//! [`StorageError`]; an unknown id is `None`. Limits: [`SHOWN_ROWS_MAX`] rows of each list of an
//! account, [`EXPORT_PAGE_ROWS`] transfers of an export in memory for each page that waits.

use std::ops::Range;

use futures_util::TryStreamExt as _;
use sea_orm::{DbErr, QueryResult, StreamTrait as _};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    WHAT,
    snapshot::Snapshot,
};
use crate::domain::{NanoUsd, clock::UnixMicros};

/// Open leases, open holds and newest transfers of an account that are shown at most.
pub const SHOWN_ROWS_MAX: i64 = 100;
/// Transfers in one page of an export.
pub const EXPORT_PAGE_ROWS: usize = 1_000;

/// A line of the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferLine {
    /// Its id; of what a hold caused, the hold's.
    pub id: Uuid,
    /// Code of its [`crate::domain::ledger::TransferKind`].
    pub kind: i16,
    /// Where the money came from.
    pub debit_account: Uuid,
    /// Where it went.
    pub credit_account: Uuid,
    /// How much.
    pub amount: NanoUsd,
    /// The hold that caused it.
    pub hold_id: Option<Uuid>,
    /// The payment's own id.
    pub external_ref: Option<String>,
    /// When it was written.
    pub created_at: UnixMicros,
}

/// An instance's slice of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseLine {
    /// The instance.
    pub instance_id: Uuid,
    /// What it was given.
    pub granted: NanoUsd,
    /// What its resolved holds cost.
    pub posted: NanoUsd,
    /// What of that is in the account's debits.
    pub folded: NanoUsd,
    /// When it was opened.
    pub opened_at: UnixMicros,
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldLine {
    /// Its id.
    pub id: Uuid,
    /// The wallet that pays.
    pub account_id: Uuid,
    /// The key's budget that it reserves too.
    pub cap_account_id: Option<Uuid>,
    /// The instance that made it.
    pub instance_id: Uuid,
    /// The API key.
    pub key_id: Option<Uuid>,
    /// The face.
    pub face_id: Option<Uuid>,
    /// The catalog's model.
    pub model: String,
    /// The pinned price.
    pub price_id: i64,
    /// Code of its [`crate::domain::ledger::HoldState`].
    pub state: i16,
    /// Worst case.
    pub amount: NanoUsd,
    /// What is charged if its instance dies now.
    pub checkpoint: NanoUsd,
    /// The charge; `None` while it is open.
    pub cost: Option<NanoUsd>,
    /// When it was made.
    pub opened_at: UnixMicros,
    /// When it was resolved.
    pub resolved_at: Option<UnixMicros>,
}

/// Tokens of a hold, each in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageLine {
    /// Input, not cached.
    pub input_uncached: i64,
    /// Input read from a cache.
    pub cache_read: i64,
    /// Input written to a cache of five minutes.
    pub cache_write_5m: i64,
    /// Input written to a cache of an hour.
    pub cache_write_1h: i64,
    /// Text output.
    pub output_text: i64,
    /// Reasoning output.
    pub reasoning: i64,
    /// Code of its [`crate::domain::UsageBasis`].
    pub basis: i16,
    /// Code of its [`crate::domain::ledger::Finish`].
    pub finish: i16,
}

/// A call of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptLine {
    /// Its number within the hold.
    pub n: i16,
    /// The provider.
    pub provider: String,
    /// Its name of the model.
    pub upstream_model: String,
    /// Its id of the answer.
    pub upstream_id: Option<String>,
    /// HTTP status, 0 for none.
    pub status: i32,
    /// When it began.
    pub started_at: UnixMicros,
    /// When it ended.
    pub ended_at: UnixMicros,
}

/// An account with what hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountBooks {
    /// Its id.
    pub id: Uuid,
    /// Code of its [`crate::domain::ledger::AccountKind`].
    pub kind: i16,
    /// Name for people; only wallets have one.
    pub name: Option<String>,
    /// All that came in (of a budget: its limit).
    pub credits: NanoUsd,
    /// All that was charged and folded.
    pub debits: NanoUsd,
    /// What was charged and is not in `debits` yet.
    pub unfolded: NanoUsd,
    /// What instances have.
    pub leased: NanoUsd,
    /// How far it may go below 0.
    pub overdraft_limit: NanoUsd,
    /// [`crate::domain::ledger::FLAG_FROZEN`] and the like.
    pub flags: i32,
    /// Open leases.
    pub leases: Vec<LeaseLine>,
    /// Open holds.
    pub open_holds: Vec<HoldLine>,
    /// Newest transfers first.
    pub transfers: Vec<TransferLine>,
}

/// A hold with what it caused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldBooks {
    /// Its row.
    pub hold: HoldLine,
    /// Its usage, once there is some.
    pub usage: Option<UsageLine>,
    /// Its calls of upstreams.
    pub attempts: Vec<AttemptLine>,
    /// Its lines of the books.
    pub transfers: Vec<TransferLine>,
}

/// What an id names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A wallet, a key's budget or an account of the operator.
    Account(Box<AccountBooks>),
    /// A hold.
    Hold(Box<HoldBooks>),
}

const TRANSFER: &str = "SELECT t.id, t.kind, t.debit_account, t.credit_account, t.amount,
    t.hold_id, t.external_ref, t.created_at FROM ledger_transfer AS t";
const HOLD: &str = "SELECT h.id, h.account_id, h.cap_account_id, h.instance_id, h.key_id,
    h.face_id, h.model, h.price_id, h.state, h.amount, h.checkpoint, h.cost, h.opened_at,
    h.resolved_at FROM ledger_hold AS h";
const ACCOUNT: &str = "SELECT a.kind, c.name, a.credits, a.debits, a.leased, a.overdraft_limit,
    a.flags, CAST(COALESCE((SELECT SUM(l.posted - l.folded) FROM ledger_lease AS l
        WHERE l.account_id = a.id AND l.state = 1), 0) AS BIGINT)
    FROM ledger_account AS a LEFT JOIN account AS c ON c.id = a.id WHERE a.id = $1";
const LEASES: &str = "SELECT l.instance_id, l.granted, l.posted, l.folded, l.opened_at
    FROM ledger_lease AS l WHERE l.account_id = $1 AND l.state = 1
    ORDER BY l.opened_at, l.instance_id LIMIT $2";
const USAGE: &str = "SELECT in_uncached, in_cache_read, in_cache_write_5m, in_cache_write_1h,
    out_text, out_reasoning, usage_source, finish FROM ledger_usage WHERE hold_id = $1";
const ATTEMPTS: &str = "SELECT n, provider, upstream_model, upstream_id, status, started_at,
    ended_at FROM ledger_attempt WHERE hold_id = $1 ORDER BY n";

/// The account or the hold with this id, `None` when there is neither. The newest transfers of an
/// account are searched from the end of the books, which takes time in large ones: no request
/// needs an index for it.
///
/// # Errors
/// [`StorageError::Unavailable`].
///
/// # Cancel safety
/// It only reads; dropping the future lets it end in the background.
pub async fn show(db: &Db, id: Uuid) -> Result<Option<Shown>, StorageError> {
    db.run(WHAT, move |db| async move {
        let snapshot = Snapshot::begin(&db).await.map_err(StorageError::on(WHAT))?;
        let shown = find(&snapshot, id).await;
        snapshot.end().await;
        shown.map_err(StorageError::on(WHAT))
    })
    .await
}

async fn find(snapshot: &Snapshot, id: Uuid) -> Result<Option<Shown>, DbErr> {
    if let Some(row) = snapshot.query(ACCOUNT, [id.into()]).await?.first() {
        return Ok(Some(Shown::Account(Box::new(account(snapshot, id, row).await?))));
    }
    let rows = snapshot.query(&format!("{HOLD} WHERE h.id = $1"), [id.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let usage_rows = snapshot.query(USAGE, [id.into()]).await?;
    let attempts = snapshot.query(ATTEMPTS, [id.into()]).await?;
    let lines =
        snapshot.query(&format!("{TRANSFER} WHERE t.id = $1 ORDER BY t.kind"), [id.into()]).await?;
    Ok(Some(Shown::Hold(Box::new(HoldBooks {
        hold: hold(row)?,
        usage: usage_rows.first().map(usage).transpose()?,
        attempts: attempts.iter().map(attempt).collect::<Result<_, _>>()?,
        transfers: lines.iter().map(transfer).collect::<Result<_, _>>()?,
    }))))
}

async fn account(snapshot: &Snapshot, id: Uuid, row: &QueryResult) -> Result<AccountBooks, DbErr> {
    let leases = snapshot.query(LEASES, [id.into(), SHOWN_ROWS_MAX.into()]).await?;
    // By the leases, because open holds are indexed by instance and account; a budget's leases
    // stand beside its wallet's, whose holds they share.
    let open = format!(
        "{HOLD} JOIN ledger_account AS a ON a.id = $1
        JOIN ledger_lease AS l ON l.state = 1
            AND l.account_id = CASE WHEN a.kind = 2 THEN a.parent_id ELSE a.id END
            AND l.instance_id = h.instance_id AND l.account_id = h.account_id
        WHERE h.state = 1 AND (h.account_id = $1 OR h.cap_account_id = $1)
        ORDER BY h.id LIMIT $2"
    );
    let open_holds = snapshot.query(&open, [id.into(), SHOWN_ROWS_MAX.into()]).await?;
    let newest = format!(
        "{TRANSFER} WHERE t.debit_account = $1 OR t.credit_account = $1
        ORDER BY t.id DESC, t.kind LIMIT $2"
    );
    let transfers = snapshot.query(&newest, [id.into(), SHOWN_ROWS_MAX.into()]).await?;
    Ok(AccountBooks {
        id,
        kind: row.try_get_by_index(0)?,
        name: row.try_get_by_index(1)?,
        credits: money(row, 2)?,
        debits: money(row, 3)?,
        leased: money(row, 4)?,
        overdraft_limit: money(row, 5)?,
        flags: row.try_get_by_index(6)?,
        unfolded: money(row, 7)?,
        leases: leases.iter().map(lease).collect::<Result<_, _>>()?,
        open_holds: open_holds.iter().map(hold).collect::<Result<_, _>>()?,
        transfers: transfers.iter().map(transfer).collect::<Result<_, _>>()?,
    })
}

/// Sends every transfer of `range` (start inclusive, end exclusive) in pages, ordered by time, id
/// and kind, and answers how many there were. One statement reads all of them, so they are one
/// snapshot; it waits while `pages` is full, and ends early when the receiver is gone.
///
/// The database sorts the range: there is no index on the time, whose upkeep each request would
/// pay.
///
/// # Errors
/// [`StorageError::Unavailable`]: what was sent is not everything.
///
/// # Cancel safety
/// It only reads. Dropped, it goes on until the receiver is gone.
pub async fn export_transfers(
    db: &Db,
    range: Range<UnixMicros>,
    pages: mpsc::Sender<Vec<TransferLine>>,
) -> Result<u64, StorageError> {
    db.run(WHAT, move |db| async move {
        send_pages(&db, range, pages).await.map_err(StorageError::on(WHAT))
    })
    .await
}

async fn send_pages(
    db: &Db,
    range: Range<UnixMicros>,
    pages: mpsc::Sender<Vec<TransferLine>>,
) -> Result<u64, DbErr> {
    let sql = format!(
        "{TRANSFER} WHERE t.created_at >= $1 AND t.created_at < $2
        ORDER BY t.created_at, t.id, t.kind"
    );
    let statement = db.statement(&sql, [range.start.0.into(), range.end.0.into()]);
    let mut rows = db.reader().stream_raw(statement).await?;
    let mut page = Vec::with_capacity(EXPORT_PAGE_ROWS);
    let mut sent = 0;
    while let Some(row) = rows.try_next().await? {
        page.push(transfer(&row)?);
        sent += 1;
        if page.len() == EXPORT_PAGE_ROWS {
            let full = std::mem::replace(&mut page, Vec::with_capacity(EXPORT_PAGE_ROWS));
            if pages.send(full).await.is_err() {
                return Ok(sent);
            }
        }
    }
    // A receiver that is gone does not want the rest either.
    let _ = pages.send(page).await;
    Ok(sent)
}

fn money(row: &QueryResult, column: usize) -> Result<NanoUsd, DbErr> {
    Ok(NanoUsd(row.try_get_by_index(column)?))
}

fn time(row: &QueryResult, column: usize) -> Result<UnixMicros, DbErr> {
    Ok(UnixMicros(row.try_get_by_index(column)?))
}

fn transfer(row: &QueryResult) -> Result<TransferLine, DbErr> {
    Ok(TransferLine {
        id: row.try_get_by_index(0)?,
        kind: row.try_get_by_index(1)?,
        debit_account: row.try_get_by_index(2)?,
        credit_account: row.try_get_by_index(3)?,
        amount: money(row, 4)?,
        hold_id: row.try_get_by_index(5)?,
        external_ref: row.try_get_by_index(6)?,
        created_at: time(row, 7)?,
    })
}

fn lease(row: &QueryResult) -> Result<LeaseLine, DbErr> {
    Ok(LeaseLine {
        instance_id: row.try_get_by_index(0)?,
        granted: money(row, 1)?,
        posted: money(row, 2)?,
        folded: money(row, 3)?,
        opened_at: time(row, 4)?,
    })
}

fn hold(row: &QueryResult) -> Result<HoldLine, DbErr> {
    Ok(HoldLine {
        id: row.try_get_by_index(0)?,
        account_id: row.try_get_by_index(1)?,
        cap_account_id: row.try_get_by_index(2)?,
        instance_id: row.try_get_by_index(3)?,
        key_id: row.try_get_by_index(4)?,
        face_id: row.try_get_by_index(5)?,
        model: row.try_get_by_index(6)?,
        price_id: row.try_get_by_index(7)?,
        state: row.try_get_by_index(8)?,
        amount: money(row, 9)?,
        checkpoint: money(row, 10)?,
        cost: row.try_get_by_index::<Option<i64>>(11)?.map(NanoUsd),
        opened_at: time(row, 12)?,
        resolved_at: row.try_get_by_index::<Option<i64>>(13)?.map(UnixMicros),
    })
}

fn usage(row: &QueryResult) -> Result<UsageLine, DbErr> {
    Ok(UsageLine {
        input_uncached: row.try_get_by_index(0)?,
        cache_read: row.try_get_by_index(1)?,
        cache_write_5m: row.try_get_by_index(2)?,
        cache_write_1h: row.try_get_by_index(3)?,
        output_text: row.try_get_by_index(4)?,
        reasoning: row.try_get_by_index(5)?,
        basis: row.try_get_by_index(6)?,
        finish: row.try_get_by_index(7)?,
    })
}

fn attempt(row: &QueryResult) -> Result<AttemptLine, DbErr> {
    Ok(AttemptLine {
        n: row.try_get_by_index(0)?,
        provider: row.try_get_by_index(1)?,
        upstream_model: row.try_get_by_index(2)?,
        upstream_id: row.try_get_by_index(3)?,
        status: row.try_get_by_index(4)?,
        started_at: time(row, 5)?,
        ended_at: time(row, 6)?,
    })
}
