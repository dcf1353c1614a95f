//! The flush: one transaction that opens and resolves everything that waited.
//!
//! Order matters and is the lock order of every writer of the books: instance row, accounts by id,
//! leases, holds, then the rows that nobody updates. See `ARCHITECTURE.md`, chapter on money.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};
use uuid::Uuid;

use super::{
    FlushError,
    decide::{Decision, decide},
    payload::Payload,
    rows,
    sql::{Statements, statements},
};
use crate::domain::{
    AccountId, HoldId, InstanceId, NanoUsd, clock,
    ledger::{
        AccountRow, FlushBatch, FlushReply, HoldOpen, HoldResolve, HoldState, OpenVerdict,
    },
};

/// Who flushes, and which of its flushes this is.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlushHead {
    pub(super) instance: InstanceId,
    pub(super) seq: i64,
    pub(super) ttl_ms: i64,
}

/// Begins a transaction that will write (`BEGIN IMMEDIATE` on SQLite: a later upgrade would fail
/// at once, whatever the busy timeout).
pub(super) async fn begin(connection: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    connection
        .begin_with_options(TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        })
        .await
}

/// Applies a batch, or finds that it was applied.
pub(super) async fn flush(
    connection: &DatabaseConnection,
    head: FlushHead,
    batch: &FlushBatch,
) -> Result<FlushReply, FlushError> {
    let tx = Tx::begin(connection).await?;
    let digest = digest(batch);
    let fenced = tx
        .execute(
            &tx.sql.fence,
            [
                head.seq.into(),
                digest.into(),
                (head.ttl_ms.saturating_mul(1_000)).into(),
                head.instance.0.into(),
            ],
        )
        .await?;
    if fenced != 1 {
        let reply = tx.already_applied(head, digest, batch).await;
        tx.transaction.rollback().await?;
        return reply;
    }
    let reply = tx.apply(head, batch).await;
    match reply {
        Ok(reply) => {
            tx.transaction.commit().await?;
            Ok(reply)
        }
        Err(error) => {
            // The first error is the one to tell; a lost connection rolls back by itself.
            drop(tx.transaction.rollback().await);
            Err(error)
        }
    }
}

/// A writing transaction with its statements.
pub(super) struct Tx {
    pub(super) transaction: DatabaseTransaction,
    pub(super) sql: &'static Statements,
}

impl Tx {
    pub(super) async fn begin(connection: &DatabaseConnection) -> Result<Self, DbErr> {
        let transaction = begin(connection).await?;
        let sql = statements(transaction.get_database_backend());
        Ok(Self { transaction, sql })
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
    async fn execute_exactly<const N: usize>(
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
        self.change_accounts(&decision).await?;
        self.change_leases(head, &decision, now).await?;
        self.write_holds(head, batch, &decision, now).await?;
        self.write_books(batch, now).await?;
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
        let mut payload = Payload::with_capacity(ids.len(), 38);
        for id in &ids {
            payload.row().id(id.0);
        }
        let found = self.query(&self.sql.read_accounts, [payload.finish().into()]).await?;
        found
            .iter()
            .map(|row| rows::account(row).map(|account| (account.account_id, account)))
            .collect()
    }

    /// Steps 3b and 4: one statement, so that each account row is written once.
    async fn change_accounts(&self, decision: &Decision) -> Result<(), FlushError> {
        let mut payload = Payload::with_capacity(decision.changes.len(), 80);
        for (id, change) in &decision.changes {
            payload.row().id(id.0).int(change.grant).int(change.release).int(change.charge);
        }
        if payload.rows() == 0 {
            return Ok(());
        }
        let (rows, json) = (payload.rows(), payload.finish());
        self.execute_exactly("accounts", rows, &self.sql.update_accounts, [json.into()]).await
    }

    /// Step 5.
    async fn change_leases(
        &self,
        head: FlushHead,
        decision: &Decision,
        now: i64,
    ) -> Result<(), FlushError> {
        let mut payload = Payload::with_capacity(decision.changes.len(), 64);
        for (id, change) in &decision.changes {
            let granted = change.grant - (change.release - change.charge);
            payload.row().id(id.0).int(granted).int(change.charge);
        }
        if payload.rows() == 0 {
            return Ok(());
        }
        let (rows, json) = (payload.rows(), payload.finish());
        let (seq, instance) = (head.seq, head.instance.0);
        let updated = self
            .execute(
                &self.sql.update_leases,
                [json.as_str().into(), seq.into(), instance.into()],
            )
            .await?;
        if updated == rows {
            return Ok(());
        }
        let missing = rows.saturating_sub(updated);
        self.execute_exactly(
            "leases",
            missing,
            &self.sql.insert_leases,
            [json.into(), seq.into(), instance.into(), now.into()],
        )
        .await
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
            let values =
                [json.into(), head.instance.0.into(), head.seq.into(), now.into()];
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
    async fn write_books(&self, batch: &FlushBatch, now: i64) -> Result<(), FlushError> {
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
        for (step, payload, sql) in [
            ("transfers", transfers, &self.sql.insert_transfers),
            ("usage", usage, &self.sql.insert_usage),
            ("attempts", attempts, &self.sql.insert_attempts),
        ] {
            let rows = payload.rows();
            if rows == 0 {
                continue;
            }
            let json: Value = payload.finish().into();
            if step == "transfers" {
                self.execute_exactly(step, rows, sql, [json, now.into()]).await?;
            } else {
                self.execute_exactly(step, rows, sql, [json]).await?;
            }
        }
        Ok(())
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
