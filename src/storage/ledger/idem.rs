//! Idempotency keys: claimed with a hold, finished or freed with its end, read and purged.
//!
//! A key is claimed in the flush that grants its hold, under the lock on the wallet's row: of two
//! instances the second sees the first one's claim, and the primary key is the proof. A key in
//! progress never expires, because every hold is resolved some time.

use std::collections::BTreeMap;

use bytes::Bytes;
use sea_orm::{ConnectionTrait as _, DbErr, QueryResult, Value};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    WHAT,
    payload::Payload,
    sql::statements,
};
use crate::domain::{
    AccountId, HoldId, NanoUsd, Usage, clock,
    ledger::{
        Fingerprint, FlushBatch, HoldOpen, HoldResolve, IdemKey, IdemRecord, IdemState,
        OpenVerdict, StoredResponse,
    },
};

/// Keys that one statement of a purge deletes: bounds how long it keeps a flush waiting.
const PURGE_CHUNK: u64 = 200;
/// Statements of one purge; the rest is left to the next one.
const PURGE_CHUNKS_MAX: u32 = 64;
/// Bytes of stored answers in one statement (PostgreSQL's JSON values end at 256 MiB, and hex
/// doubles them). One answer alone may be larger.
const FINISH_BYTES_MAX: usize = 4 << 20;

/// Batch: `[account, key]`. Keys that can't be claimed now.
pub(super) const READ_CLAIMS: &str = "SELECT i.account_id, i.key, i.hold_id
    FROM {batch} CROSS JOIN ledger_idem AS i
    WHERE i.account_id = {id:0} AND i.key = {text:1} AND (i.state = 1 OR i.expires_at > $2)";

/// Batch: `[account, key, fingerprint, hold, microseconds to keep]`. A key that is taken now changes
/// no row: the caller compares the row count.
pub(super) const CLAIM_KEYS: &str = "INSERT INTO ledger_idem
    (account_id, key, fingerprint, hold_id, state, created_at, expires_at)
    SELECT {id:0}, {text:1}, {bytes:2}, {id:3}, 1, $2, $2 + {int:4} FROM {batch} WHERE true
    ON CONFLICT (account_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
        hold_id = excluded.hold_id, state = 1, status = NULL, content_type = NULL, body = NULL,
        created_at = excluded.created_at, expires_at = excluded.expires_at
    WHERE ledger_idem.state = 2 AND ledger_idem.expires_at <= $2";

/// Batch: `[hold, status, content type, body]`.
pub(super) const FINISH_KEYS: &str = "UPDATE ledger_idem
    SET state = 2, status = {int:1}, content_type = {text:2}, body = {bytes:3}
    FROM {batch} WHERE ledger_idem.hold_id = {id:0} AND ledger_idem.state = 1";

/// Batch: `[hold]`.
pub(super) const FREE_KEYS: &str = "DELETE FROM ledger_idem
    WHERE hold_id IN (SELECT {id:0} FROM {batch}) AND state = 1";

/// One key with what its hold cost.
pub(super) const FIND_KEY: &str =
    "SELECT i.fingerprint, i.state, i.status, i.content_type, i.body, h.cost,
        u.in_uncached, u.in_cache_read, u.in_cache_write_5m, u.in_cache_write_1h, u.out_text,
        u.out_reasoning
    FROM ledger_idem AS i
    LEFT JOIN ledger_hold AS h ON h.id = i.hold_id
    LEFT JOIN ledger_usage AS u ON u.hold_id = i.hold_id
    WHERE i.account_id = $1 AND i.key = $2 AND (i.state = 1 OR i.expires_at > $3)";

pub(super) const PURGE_KEYS: &str = "DELETE FROM ledger_idem WHERE hold_id IN (
    SELECT i.hold_id FROM ledger_idem AS i WHERE i.state = 2 AND i.expires_at <= $1
    ORDER BY i.expires_at LIMIT $2{lock_or_skip})";

/// Keys that can't be claimed now, and the holds that have them.
pub(super) type Claims = BTreeMap<(AccountId, IdemKey), HoldId>;
/// One of them.
pub(super) type Claim = ((AccountId, IdemKey), HoldId);

/// The keys that a batch wants to claim.
pub(super) fn wanted(batch: &FlushBatch) -> Payload {
    let mut payload = Payload::default();
    for open in &batch.opens {
        if let Some(claim) = &open.idem {
            payload.row().id(open.account_id.0).text(claim.key.as_str());
        }
    }
    payload
}

/// One row of `READ_CLAIMS`.
pub(super) fn claim(account: Uuid, key: &str, hold: Uuid) -> Claim {
    ((AccountId(account), IdemKey::stored(key)), HoldId(hold))
}

/// Reads `account, key, hold`.
pub(super) fn claim_of(row: &QueryResult) -> Result<Claim, DbErr> {
    let key: String = row.try_get_by_index(1)?;
    Ok(claim(row.try_get_by_index(0)?, &key, row.try_get_by_index(2)?))
}

/// What a flush does to keys. Everything is empty when no hold of the batch has one.
#[derive(Debug)]
pub(super) struct KeyWrites {
    /// Keys of requests that failed and cost nothing.
    pub(super) freed: Payload,
    /// Keys of granted holds.
    pub(super) claimed: Payload,
    /// Keys of requests that are over, in bounded parts.
    pub(super) finished: Vec<Payload>,
}

impl KeyWrites {
    pub(super) fn new(batch: &FlushBatch, verdicts: &[OpenVerdict]) -> Self {
        let mut claimed = Payload::default();
        for (open, verdict) in batch.opens.iter().zip(verdicts) {
            if matches!(verdict, OpenVerdict::Granted { .. }) {
                claim_row(&mut claimed, open);
            }
        }
        let mut freed = Payload::default();
        for end in batch.resolves.iter().filter(|end| end.idem.is_some() && end.frees_key()) {
            freed.row().id(end.hold_id.0);
        }
        Self { freed, claimed, finished: finished(&batch.resolves) }
    }
}

fn claim_row(payload: &mut Payload, open: &HoldOpen) {
    let Some(claim) = &open.idem else { return };
    payload
        .row()
        .id(open.account_id.0)
        .text(claim.key.as_str())
        .bytes(Bytes::copy_from_slice(&claim.fingerprint))
        .id(open.hold_id.0)
        .int(claim.ttl_ms.saturating_mul(1_000));
}

fn finished(resolves: &[HoldResolve]) -> Vec<Payload> {
    let mut parts = Vec::new();
    let mut payload = Payload::default();
    let mut bytes = 0;
    for end in resolves.iter().filter(|end| !end.frees_key()) {
        let Some(idem) = &end.idem else { continue };
        let size = idem.response.as_ref().map_or(0, |response| response.body.len());
        if payload.row_count() > 0 && bytes + size > FINISH_BYTES_MAX {
            parts.push(std::mem::take(&mut payload));
            bytes = 0;
        }
        bytes += size;
        finish_row(&mut payload, end.hold_id.0, idem.response.as_ref());
    }
    if payload.row_count() > 0 {
        parts.push(payload);
    }
    parts
}

/// A row of `FINISH_KEYS`.
pub(super) fn finish_row(payload: &mut Payload, hold: Uuid, response: Option<&StoredResponse>) {
    payload.row().id(hold);
    match response {
        Some(response) => payload
            .int(response.status.into())
            .text(&response.content_type)
            .bytes(response.body.clone()),
        None => payload.null().null().null(),
    };
}

/// Looks a key up. `None`: it is free, so a request with it may run.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_key(
    db: &Db,
    account: AccountId,
    key: IdemKey,
) -> Result<Option<IdemRecord>, StorageError> {
    db.read(WHAT, move |db| async move {
        let sql = &statements(db.backend()).find_key;
        let values: [Value; 3] = [account.0.into(), key.as_str().into(), clock::now().0.into()];
        let found = db.reader().query_one_raw(db.statement(sql, values)).await;
        let row = found.map_err(StorageError::on(WHAT))?;
        row.as_ref().map(record).transpose().map_err(StorageError::on(WHAT))
    })
    .await
}

fn record(row: &QueryResult) -> Result<IdemRecord, DbErr> {
    let fingerprint: Vec<u8> = row.try_get_by_index(0)?;
    let fingerprint = Fingerprint::try_from(fingerprint);
    let fingerprint =
        fingerprint.map_err(|_| DbErr::Type("a fingerprint has 32 bytes".to_owned()))?;
    if row.try_get_by_index::<i16>(1)? == 1 {
        return Ok(IdemRecord { fingerprint, state: IdemState::InProgress });
    }
    let status: Option<i32> = row.try_get_by_index(2)?;
    let content_type: Option<String> = row.try_get_by_index(3)?;
    let body: Option<Vec<u8>> = row.try_get_by_index(4)?;
    let response = match (status.and_then(|status| u16::try_from(status).ok()), content_type, body)
    {
        (Some(status), Some(content_type), Some(body)) => {
            Some(StoredResponse { status, content_type, body: Bytes::from(body) })
        }
        _ => None,
    };
    let cost: Option<i64> = row.try_get_by_index(5)?;
    let tokens = |column| {
        let count: Option<i64> = row.try_get_by_index(column)?;
        Ok::<_, DbErr>(u64::try_from(count.unwrap_or_default()).unwrap_or_default())
    };
    let usage = Usage {
        input_uncached: tokens(6)?,
        cache_read: tokens(7)?,
        cache_write_5m: tokens(8)?,
        cache_write_1h: tokens(9)?,
        output_text: tokens(10)?,
        reasoning: tokens(11)?,
    };
    let cost = NanoUsd(cost.unwrap_or_default());
    Ok(IdemRecord { fingerprint, state: IdemState::Done { response, usage, cost } })
}

/// Deletes keys whose time is over, in bounded chunks; answers how many. What an unusually large
/// backlog leaves over is deleted by the next call. Several instances may do it at once.
///
/// # Errors
/// As every write ([`StorageError`]); what was deleted until then stays deleted.
///
/// # Cancel safety
/// Dropping the future does not stop it.
pub async fn purge_keys(db: &Db) -> Result<u64, StorageError> {
    db.run(WHAT, move |db| async move {
        let mut deleted = 0;
        for _ in 0..PURGE_CHUNKS_MAX {
            let values = [clock::now().0.into(), PURGE_CHUNK.cast_signed().into()];
            let statement = db.statement(&statements(db.backend()).purge_keys, values);
            let done = db.writer(WHAT)?.execute_raw(statement).await;
            let chunk = done.map_err(StorageError::on(WHAT))?.rows_affected();
            deleted += chunk;
            if chunk < PURGE_CHUNK {
                break;
            }
        }
        Ok(deleted)
    })
    .await
}
