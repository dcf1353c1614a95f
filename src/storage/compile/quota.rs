//! What compiling has used of a plan's tokens.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Value};

use super::{
    super::{Db, StorageError},
    WHAT, all, execute, flag, one,
};
use crate::domain::{AccountId, FaceName, SourceId, clock::UnixMicros, compile::CompileState};

/// What an account may compile in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// When the period began; 0 when it never ends.
    pub period_start: UnixMicros,
    /// Most tokens; `None` for no bound.
    pub tokens_limit: Option<i64>,
}

/// What one face has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceQuota {
    /// Its username.
    pub face: FaceName,
    /// Tokens of the sources that are in it.
    pub tokens_in_face: i64,
    /// Tokens charged in the period.
    pub tokens_period: i64,
    /// Tokens charged in all periods.
    pub tokens_alltime: i64,
    /// When a source was written to it last.
    pub synced_at: Option<UnixMicros>,
}

/// Tokens that the account used in a period.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn read_quota(
    db: &Db,
    account_id: AccountId,
    period_start: UnixMicros,
) -> Result<i64, StorageError> {
    db.read(WHAT, move |db| async move { used(db.reader(), account_id, period_start).await }).await
}

/// Whether an account lets compiling go beyond its quota.
///
/// # Errors
/// [`StorageError::Missing`] without such an account.
pub async fn allows_overflow(db: &Db, account_id: AccountId) -> Result<bool, StorageError> {
    db.read(WHAT, move |db| async move { overflow(db.reader(), account_id).await }).await
}

/// Lets compiling go beyond the quota, or not.
///
/// # Errors
/// [`StorageError::Missing`] without such an account.
pub async fn set_overflow(
    db: &Db,
    account_id: AccountId,
    allowed: bool,
) -> Result<(), StorageError> {
    db.run(WHAT, move |db| async move {
        let sql = "UPDATE account SET allow_compile_overflow = $2 WHERE id = $1";
        let values: [Value; 2] = [account_id.0.into(), i16::from(allowed).into()];
        match execute(db.writer(WHAT)?, sql, values).await?.rows_affected() {
            0 => Err(StorageError::Missing { what: "account" }),
            _ => Ok(()),
        }
    })
    .await
}

/// What each face of the account has used, by username, at most `limit`.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn read_face_quotas(
    db: &Db,
    account_id: AccountId,
    period_start: UnixMicros,
    limit: u32,
) -> Result<Vec<FaceQuota>, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = "SELECT f.username,
                CAST(COALESCE((SELECT SUM(s.token_count) FROM compile_source AS s
                    WHERE s.face_id = f.id AND s.state = $4), 0) AS BIGINT) AS in_face,
                CAST(COALESCE((SELECT SUM(q.tokens_used) FROM compile_face_quota AS q
                    WHERE q.face_id = f.id AND q.period_start = $2), 0) AS BIGINT) AS in_period,
                CAST(COALESCE((SELECT SUM(q.tokens_used) FROM compile_face_quota AS q
                    WHERE q.face_id = f.id), 0) AS BIGINT) AS in_all,
                (SELECT MAX(s.synced_at) FROM compile_source AS s WHERE s.face_id = f.id) AS synced
            FROM face AS f WHERE f.account_id = $1 ORDER BY f.username LIMIT $3";
        let values: [Value; 4] = [
            account_id.0.into(),
            period_start.0.into(),
            i64::from(limit).into(),
            CompileState::Synced.as_str().into(),
        ];
        let rows = all(db.reader(), sql, values).await?;
        rows.iter().map(face_quota_of).collect()
    })
    .await
}

/// What a charge came to.
pub(super) enum Charged {
    /// It was written; whether it went beyond the quota.
    Done { overflow: bool },
    /// The quota is used up; nothing was written.
    Refused { tokens_used: i64 },
}

/// Charges the tokens of a source to its account's quota. The row of the period orders concurrent
/// charges.
pub(super) async fn charge(
    tx: &DatabaseTransaction,
    account_id: AccountId,
    source_id: SourceId,
    quota: Quota,
    tokens: i64,
) -> Result<Charged, StorageError> {
    let account: [Value; 3] = [account_id.0.into(), quota.period_start.0.into(), tokens.into()];
    let sql = "INSERT INTO compile_quota (account_id, period_start, tokens_used)
        VALUES ($1, $2, 0) ON CONFLICT (account_id, period_start) DO NOTHING";
    execute(tx, sql, account[..2].to_vec()).await?;
    let sql = "UPDATE compile_quota SET tokens_used = tokens_used + $3
        WHERE account_id = $1 AND period_start = $2";
    execute(tx, sql, account).await?;
    let after = used(tx, account_id, quota.period_start).await?;
    let beyond = quota.tokens_limit.is_some_and(|limit| after > limit);
    if beyond && !overflow(tx, account_id).await? {
        let sql = "UPDATE compile_quota SET tokens_used = tokens_used - $3
            WHERE account_id = $1 AND period_start = $2";
        let undo: [Value; 3] = [account_id.0.into(), quota.period_start.0.into(), tokens.into()];
        execute(tx, sql, undo).await?;
        return Ok(Charged::Refused { tokens_used: after.saturating_sub(tokens) });
    }
    let sql = "INSERT INTO compile_face_quota (face_id, period_start, tokens_used)
        SELECT s.face_id, $2, $3 FROM compile_source AS s WHERE s.id = $1
        ON CONFLICT (face_id, period_start)
        DO UPDATE SET tokens_used = compile_face_quota.tokens_used + excluded.tokens_used";
    let face: [Value; 3] = [source_id.0.into(), quota.period_start.0.into(), tokens.into()];
    execute(tx, sql, face).await?;
    Ok(Charged::Done { overflow: beyond })
}

async fn used<C: ConnectionTrait>(
    connection: &C,
    account_id: AccountId,
    period_start: UnixMicros,
) -> Result<i64, StorageError> {
    let sql = "SELECT tokens_used FROM compile_quota WHERE account_id = $1 AND period_start = $2";
    let row = one(connection, sql, [account_id.0.into(), period_start.0.into()]).await?;
    let used = row.map(|row| row.try_get::<i64>("", "tokens_used")).transpose();
    Ok(used.map_err(StorageError::on(WHAT))?.unwrap_or_default())
}

async fn overflow<C: ConnectionTrait>(
    connection: &C,
    account_id: AccountId,
) -> Result<bool, StorageError> {
    let sql = "SELECT allow_compile_overflow FROM account WHERE id = $1";
    let row = one(connection, sql, [account_id.0.into()]).await?;
    let row = row.ok_or(StorageError::Missing { what: "account" })?;
    flag(&row, "allow_compile_overflow").map_err(StorageError::on(WHAT))
}

fn face_quota_of(row: &QueryResult) -> Result<FaceQuota, StorageError> {
    let read = || -> Result<_, DbErr> {
        let number = |column| row.try_get::<i64>("", column);
        let synced: Option<i64> = row.try_get("", "synced")?;
        let username: String = row.try_get("", "username")?;
        Ok((username, number("in_face")?, number("in_period")?, number("in_all")?, synced))
    };
    let (username, tokens_in_face, tokens_period, tokens_alltime, synced) =
        read().map_err(StorageError::on(WHAT))?;
    let face = FaceName::parse(&username).map_err(|_| super::unreadable("a username"))?;
    let synced_at = synced.map(UnixMicros);
    Ok(FaceQuota { face, tokens_in_face, tokens_period, tokens_alltime, synced_at })
}
