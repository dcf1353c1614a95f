//! The flush: one transaction that opens and resolves everything that waited.
//!
//! Order matters and is the lock order of every writer of the books: instance row, accounts by id,
//! leases, holds, then the rows that nobody updates. See `ARCHITECTURE.md`, chapter on money.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use sea_orm::{
    ConnectionTrait as _, DatabaseTransaction, DbErr, QueryResult, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait as _, Value,
};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    FlushError, WHAT,
    decide::{Change, Decision, decide},
    payload::Payload,
    rows,
    sql::{Statements, statements},
};
use crate::domain::{
    AccountId, HoldId, InstanceId, NanoUsd, clock,
    ledger::{AccountRow, FlushBatch, FlushReply, HoldOpen, HoldResolve, HoldState, OpenVerdict},
};

/// Who flushes, and which of its flushes this is.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlushHead {
    pub(super) instance: InstanceId,
    pub(super) seq: i64,
    pub(super) ttl_ms: i64,
}

/// Applies a batch, or finds that it was applied.
pub(super) async fn flush(
    db: &Db,
    head: FlushHead,
    batch: &FlushBatch,
) -> Result<FlushReply, FlushError> {
    let tx = Tx::begin(db).await?;
    let digest = digest(batch);
    let values = [
        head.seq.into(),
        digest.into(),
        head.ttl_ms.saturating_mul(1_000).into(),
        head.instance.0.into(),
    ];
    let reply = match tx.execute(&tx.sql.fence, values).await {
        Ok(1) => tx.apply(head, batch).await,
        Ok(_) => {
            let reply = tx.already_applied(head, digest, batch).await;
            tx.rollback().await;
            return reply;
        }
        Err(error) => Err(error.into()),
    };
    match reply {
        Ok(reply) => match tx.commit().await {
            Ok(()) => Ok(reply),
            // A failed write or sync of a local file: what the disk holds is known only after the
            // file is opened again (a sync that failed once must not be trusted when repeated).
            Err(error @ StorageError::OutcomeUnknown { .. }) if db.is_sqlite() => {
                Err(FlushError::Failed(error))
            }
            Err(error) => Err(error.into()),
        },
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

/// A writing transaction with its statements.
pub(super) struct Tx {
    transaction: DatabaseTransaction,
    pub(super) sql: &'static Statements,
}

impl Tx {
    /// Begins a transaction that will write (`BEGIN IMMEDIATE` on SQLite: a later upgrade would
    /// fail at once, whatever the busy timeout).
    pub(super) async fn begin(db: &Db) -> Result<Self, StorageError> {
        let options = TransactionOptions {
            isolation_level: db.isolation(),
            access_mode: None,
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        };
        let begun = db.writer(WHAT)?.begin_with_options(options).await;
        let transaction = begun.map_err(StorageError::on(WHAT))?;
        Ok(Self { transaction, sql: statements(db.backend()) })
    }

    pub(super) async fn commit(self) -> Result<(), StorageError> {
        let committed = self.transaction.commit().await;
        committed.map_err(|error| StorageError::from_commit(WHAT, error))
    }

    /// Gives up. A lost connection rolls back by itself.
    pub(super) async fn rollback(self) {
        if let Err(error) = self.transaction.rollback().await {
            log::warn!("rolling back a flush failed; its connection does it later: {error}");
        }
    }

    fn statement<const N: usize>(&self, sql: &str, values: [Value; N]) -> Statement {
        Statement::from_sql_and_values(self.transaction.get_database_backend(), sql, values)
    }

    /// Runs a statement; the number of rows that it changed.
    pub(super) async fn execute<const N: usize>(
        &self,
        sql: &str,
        values: [Value; N],
    ) -> Result<u64, DbErr> {
        Ok(self.transaction.execute_raw(self.statement(sql, values)).await?.rows_affected())
    }

    pub(super) async fn query<const N: usize>(
        &self,
        sql: &str,
        values: [Value; N],
    ) -> Result<Vec<QueryResult>, DbErr> {
        self.transaction.query_all_raw(self.statement(sql, values)).await
    }

    /// Runs a statement that must change exactly `expected` rows.
    pub(super) async fn execute_exactly<const N: usize>(
        &self,
        step: &'static str,
        expected: u64,
        sql: &str,
        values: [Value; N],
    ) -> Result<(), FlushError> {
        let changed = self.execute(sql, values).await?;
        if changed == expected {
            return Ok(());
        }
        Err(FlushError::Mismatch { step, expected, changed })
    }

    async fn apply(&self, head: FlushHead, batch: &FlushBatch) -> Result<FlushReply, FlushError> {
        if batch.opens.is_empty() && batch.resolves.is_empty() && batch.free.is_empty() {
            return Ok(FlushReply::default());
        }
        let now = clock::now().0;
        let rows = self.lock_accounts(batch).await?;
        let decision = decide(rows, batch).map_err(|contradiction| FlushError::Contradiction {
            what: contradiction.to_string(),
        })?;
        self.change_accounts(&decision.changes).await?;
        self.change_leases(head.instance, head.seq, &decision.changes, now).await?;
        self.write_holds(head, batch, &decision, now).await?;
        self.write_books(head, batch, now).await?;
        Ok(FlushReply {
            verdicts: decision.verdicts,
            accounts: decision.rows.into_values().collect(),
        })
    }

    /// Step 3a.
    async fn lock_accounts(
        &self,
        batch: &FlushBatch,
    ) -> Result<BTreeMap<AccountId, AccountRow>, DbErr> {
        let mut ids: Vec<AccountId> = batch
            .opens
            .iter()
            .map(|open| open.account_id)
            .chain(batch.resolves.iter().map(|resolve| resolve.account_id))
            .chain(batch.free.iter().map(|free| free.open.account_id))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        self.lock(ids.into_iter()).await
    }

    /// Reads account rows and locks them in id order.
    pub(super) async fn lock(
        &self,
        ids: impl ExactSizeIterator<Item = AccountId>,
    ) -> Result<BTreeMap<AccountId, AccountRow>, DbErr> {
        let mut payload = Payload::with_capacity(ids.len(), 38);
        for id in ids {
            payload.row().id(id.0);
        }
        if payload.rows() == 0 {
            return Ok(BTreeMap::new());
        }
        let found = self.query(&self.sql.read_accounts, [payload.finish().into()]).await?;
        found
            .iter()
            .map(|row| rows::account(row).map(|account| (account.account_id, account)))
            .collect()
    }

    /// Steps 3b and 4: one statement, so that each account row is written once.
    pub(super) async fn change_accounts(
        &self,
        changes: &BTreeMap<AccountId, Change>,
    ) -> Result<(), FlushError> {
        let mut payload = Payload::with_capacity(changes.len(), 80);
        for (id, change) in changes {
            payload.row().id(id.0).int(change.grant).int(change.release).int(change.charge);
        }
        if payload.rows() == 0 {
            return Ok(());
        }
        let (rows, json) = (payload.rows(), payload.finish());
        self.execute_exactly("accounts", rows, &self.sql.update_accounts, [json.into()]).await
    }

    /// Step 5.
    pub(super) async fn change_leases(
        &self,
        instance: InstanceId,
        seq: i64,
        changes: &BTreeMap<AccountId, Change>,
        now: i64,
    ) -> Result<(), FlushError> {
        let mut payload = Payload::with_capacity(changes.len(), 64);
        for (id, change) in changes {
            let granted = change.grant - (change.release - change.charge);
            payload.row().id(id.0).int(granted).int(change.charge);
        }
        if payload.rows() == 0 {
            return Ok(());
        }
        let (rows, json) = (payload.rows(), payload.finish());
        let values = [json.as_str().into(), seq.into(), instance.0.into()];
        let updated = self.execute(&self.sql.update_leases, values).await?;
        if updated == rows {
            return Ok(());
        }
        let missing = rows.saturating_sub(updated);
        let values = [json.into(), seq.into(), instance.0.into(), now.into()];
        self.execute_exactly("leases", missing, &self.sql.insert_leases, values).await
    }

    /// Step 6.
    async fn write_holds(
        &self,
        head: FlushHead,
        batch: &FlushBatch,
        decision: &Decision,
        now: i64,
    ) -> Result<(), FlushError> {
        let mut opens = Payload::with_capacity(batch.opens.len() + batch.free.len(), 224);
        for (open, verdict) in batch.opens.iter().zip(&decision.verdicts) {
            if let OpenVerdict::Granted { amount } = verdict {
                hold_columns(&mut opens, open, *amount, HoldState::Open);
                opens.null().null();
            }
        }
        for free in &batch.free {
            hold_columns(&mut opens, &free.open, NanoUsd::ZERO, HoldState::Settled);
            opens.int(0).int(now);
        }
        if opens.rows() > 0 {
            let (rows, json) = (opens.rows(), opens.finish());
            let values = [json.into(), head.instance.0.into(), head.seq.into(), now.into()];
            self.execute_exactly("open", rows, &self.sql.insert_holds, values).await?;
        }
        let mut ends = Payload::with_capacity(batch.resolves.len(), 112);
        for resolve in &batch.resolves {
            let state = if resolve.is_void() { HoldState::Voided } else { HoldState::Settled };
            ends.row()
                .id(resolve.hold_id.0)
                .int(state.db_code().into())
                .int(resolve.charge.0)
                .int(resolve.amount.0)
                .id(resolve.account_id.0);
        }
        if ends.rows() == 0 {
            return Ok(());
        }
        let (rows, json) = (ends.rows(), ends.finish());
        let values = [json.into(), now.into(), head.instance.0.into()];
        self.execute_exactly("resolve", rows, &self.sql.resolve_holds, values).await
    }

    /// Step 7: what is never changed again.
    async fn write_books(
        &self,
        head: FlushHead,
        batch: &FlushBatch,
        now: i64,
    ) -> Result<(), FlushError> {
        let ends = || batch.resolves.iter().chain(batch.free.iter().map(|free| &free.resolve));
        let count = batch.resolves.len() + batch.free.len();
        let mut transfers = Payload::with_capacity(count, 144);
        let mut usage = Payload::with_capacity(count, 80);
        let mut attempts = Payload::with_capacity(count, 192);
        for end in ends() {
            if !end.is_void() {
                rows::transfers(&mut transfers, end);
                rows::usage(&mut usage, end);
            }
            if let Some(attempt) = &end.attempt {
                rows::attempt(&mut attempts, end.hold_id, attempt);
            }
        }
        self.write_transfers(head.instance, head.seq, transfers, now).await?;
        if usage.rows() > 0 {
            let (rows, json) = (usage.rows(), usage.finish());
            self.execute_exactly("usage", rows, &self.sql.insert_usage, [json.into()]).await?;
        }
        if attempts.rows() > 0 {
            let (rows, json) = (attempts.rows(), attempts.finish());
            let sql = &self.sql.insert_attempts;
            self.execute_exactly("attempts", rows, sql, [json.into()]).await?;
        }
        Ok(())
    }

    pub(super) async fn write_transfers(
        &self,
        instance: InstanceId,
        seq: i64,
        transfers: Payload,
        now: i64,
    ) -> Result<(), FlushError> {
        let rows = transfers.rows();
        if rows == 0 {
            return Ok(());
        }
        let values = [transfers.finish().into(), instance.0.into(), seq.into(), now.into()];
        self.execute_exactly("transfers", rows, &self.sql.insert_transfers, values).await
    }

    /// Finds out why the fence did not let a flush pass: the same flush was committed before and
    /// its reply was lost (then the reply is read back), or this incarnation is not live any more.
    async fn already_applied(
        &self,
        head: FlushHead,
        digest: i64,
        batch: &FlushBatch,
    ) -> Result<FlushReply, FlushError> {
        let found = self.query(&self.sql.read_instance, [head.instance.0.into()]).await?;
        let Some(row) = found.first() else {
            return Err(FlushError::Fenced);
        };
        let (state, seq, written) = rows::instance(row)?;
        if !matches!(state, 1 | 2) {
            return Err(FlushError::Fenced);
        }
        if seq != head.seq || written != digest {
            return Err(FlushError::OutOfSequence { sent: head.seq, durable: seq });
        }
        let accounts = self.lock_accounts(batch).await?;
        let mut payload = Payload::with_capacity(batch.opens.len(), 38);
        for open in &batch.opens {
            payload.row().id(open.hold_id.0);
        }
        let mut granted: BTreeMap<HoldId, NanoUsd> = BTreeMap::new();
        for row in self.query(&self.sql.read_holds, [payload.finish().into()]).await? {
            let id: Uuid = row.try_get_by_index(0)?;
            granted.insert(HoldId(id), NanoUsd(row.try_get_by_index(1)?));
        }
        let verdicts = batch
            .opens
            .iter()
            .map(|open| match (granted.get(&open.hold_id), accounts.get(&open.account_id)) {
                (Some(&amount), _) => OpenVerdict::Granted { amount },
                (None, Some(row)) if row.is_blocked() => OpenVerdict::Blocked(*row),
                (None, Some(row)) => OpenVerdict::Denied(*row),
                (None, None) => OpenVerdict::NoAccount,
            })
            .collect();
        Ok(FlushReply { verdicts, accounts: accounts.into_values().collect() })
    }
}

fn hold_columns(payload: &mut Payload, open: &HoldOpen, amount: NanoUsd, state: HoldState) {
    payload
        .row()
        .id(open.hold_id.0)
        .id(open.account_id.0)
        .id_or_null(open.key_id.map(|id| id.0))
        .id_or_null(open.face_id.map(|id| id.0))
        .int(open.price_id.0)
        .text(&open.model)
        .int(amount.0)
        .int(state.db_code().into());
}

/// Tells a repeated flush from another one with the same number (which would be a bug). Only this
/// process ever compares it, so any stable hash does.
fn digest(batch: &FlushBatch) -> i64 {
    let mut hasher = DefaultHasher::new();
    for open in &batch.opens {
        (1_u8, open.hold_id, open.amount).hash(&mut hasher);
    }
    let resolve = |tag: u8, end: &HoldResolve, hasher: &mut DefaultHasher| {
        (tag, end.hold_id, end.charge, end.overrun, end.provider_cost).hash(hasher);
    };
    for end in &batch.resolves {
        resolve(2, end, &mut hasher);
    }
    for free in &batch.free {
        resolve(3, &free.resolve, &mut hasher);
    }
    hasher.finish().cast_signed()
}
