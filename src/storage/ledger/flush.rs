//! The flush: one transaction that opens and resolves everything that waited.
//!
//! Order matters and is the lock order of every writer of the books: instance row, accounts by id,
//! leases, holds, then the rows that nobody updates. See `ARCHITECTURE.md`, chapter on the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait as _, Value,
};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    FlushError, WHAT,
    decide::{Books, Decision, decide},
    idem::{self, KeyWrites},
    payload::Payload,
    rows,
    sql::{Statements, statements},
    writes::Writes,
};
use crate::domain::{
    AccountId, HoldId, InstanceId, NanoUsd, clock,
    ledger::{
        AccountRow, ExtendVerdict, FlushBatch, FlushReply, HoldExtend, HoldOpen, HoldResolve,
        LeaseRow, OpenVerdict,
    },
};

/// Who flushes, and which of its flushes this is.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlushHead {
    pub(super) instance: InstanceId,
    pub(super) seq: i64,
    pub(super) ttl_ms: i64,
}

/// Applies a batch, or finds that it was applied. (On SQLite `sqlite_flush` comes first; a batch
/// that its fence stops comes here to find out why.)
pub(super) async fn flush(
    db: &Db,
    head: FlushHead,
    batch: &FlushBatch,
) -> Result<FlushReply, FlushError> {
    let digest = digest(batch);
    let tx = Tx::begin(db).await?;
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
        if batch.is_empty() {
            return Ok(FlushReply::default());
        }
        let now = clock::now().0;
        let books = self.books(head.instance, batch, now).await?;
        let decision = decide(books, batch).map_err(|contradiction| FlushError::Contradiction {
            what: contradiction.to_string(),
        })?;
        self.write(head, Writes::new(batch, &decision, now), now).await?;
        Ok(reply(decision))
    }

    /// Locks what the batch needs, and reads this instance's leases on it and the idempotency keys
    /// that are taken.
    async fn books(&self, me: InstanceId, batch: &FlushBatch, now: i64) -> Result<Books, DbErr> {
        let mut rows = self.lock(ids(batch.row_ids())).await?;
        let lease_ids = ids(batch.lease_ids());
        if lease_ids.row_count() == 0 {
            return Ok(Books { rows, ..Books::default() });
        }
        let mut leases = no_leases(batch);
        let values = [lease_ids.json().into(), me.0.into()];
        for row in self.query(&self.sql.read_leases, values).await? {
            note_leases(rows::lease(&row)?, &mut rows, &mut leases);
        }
        let wanted = idem::wanted(batch);
        let mut claims = idem::Claims::new();
        if wanted.row_count() > 0 {
            let values = [wanted.json().into(), now.into()];
            for row in self.query(&self.sql.read_claims, values).await? {
                claims.extend([idem::claim_of(&row)?]);
            }
        }
        Ok(Books { rows, leases, claims })
    }

    /// Step 3a: reads account rows and locks them in id order.
    pub(super) async fn lock(
        &self,
        ids: Payload,
    ) -> Result<BTreeMap<AccountId, AccountRow>, DbErr> {
        if ids.row_count() == 0 {
            return Ok(BTreeMap::new());
        }
        let found = self.query(&self.sql.read_accounts, [ids.json().into()]).await?;
        found
            .iter()
            .map(|row| rows::account(row).map(|account| (account.account_id, account)))
            .collect()
    }

    /// Steps 3b and 4.
    pub(super) async fn write_accounts(&self, accounts: Payload) -> Result<(), FlushError> {
        if accounts.row_count() == 0 {
            return Ok(());
        }
        let sql = &self.sql.update_accounts;
        self.execute_exactly("accounts", accounts.row_count(), sql, [accounts.json().into()]).await
    }

    /// Step 5: updates the leases that are there, inserts the others.
    pub(super) async fn write_leases(
        &self,
        instance: InstanceId,
        seq: i64,
        leases: Payload,
        now: i64,
    ) -> Result<(), FlushError> {
        if leases.row_count() == 0 {
            return Ok(());
        }
        let values = [leases.json().into(), seq.into(), instance.0.into()];
        let updated = self.execute(&self.sql.update_leases, values).await?;
        if updated == leases.row_count() {
            return Ok(());
        }
        let missing = leases.row_count().saturating_sub(updated);
        let values = [leases.json().into(), seq.into(), instance.0.into(), now.into()];
        self.execute_exactly("leases", missing, &self.sql.insert_leases, values).await
    }

    async fn write(&self, head: FlushHead, writes: Writes, now: i64) -> Result<(), FlushError> {
        let Writes {
            accounts,
            leases,
            holds,
            extends,
            checkpoints,
            ends,
            transfers,
            usage,
            attempts,
            keys,
        } = writes;
        self.write_accounts(accounts).await?;
        self.write_leases(head.instance, head.seq, leases, now).await?;
        if holds.row_count() > 0 {
            let values = [holds.json().into(), head.instance.0.into(), head.seq.into(), now.into()];
            self.execute_exactly("open", holds.row_count(), &self.sql.insert_holds, values).await?;
        }
        let me = head.instance.0;
        if extends.row_count() > 0 {
            let values = [extends.json().into(), me.into()];
            self.execute_exactly("extend", extends.row_count(), &self.sql.extend_holds, values)
                .await?;
        }
        if checkpoints.row_count() > 0 {
            let (sql, values) =
                (&self.sql.checkpoint_holds, [checkpoints.json().into(), me.into()]);
            self.execute_exactly("checkpoint", checkpoints.row_count(), sql, values).await?;
        }
        if ends.row_count() > 0 {
            let values = [ends.json().into(), now.into(), head.instance.0.into()];
            self.execute_exactly("resolve", ends.row_count(), &self.sql.resolve_holds, values)
                .await?;
        }
        self.write_transfers(head.instance, head.seq, transfers, now).await?;
        if usage.row_count() > 0 {
            let sql = &self.sql.write_usage;
            self.execute_exactly("usage", usage.row_count(), sql, [usage.json().into()]).await?;
        }
        if attempts.row_count() > 0 {
            let sql = &self.sql.insert_attempts;
            self.execute_exactly("attempts", attempts.row_count(), sql, [attempts.json().into()])
                .await?;
        }
        self.write_keys(keys, now).await
    }

    /// Step 8: what was freed first, because it may be claimed again.
    async fn write_keys(&self, keys: KeyWrites, now: i64) -> Result<(), FlushError> {
        let KeyWrites { freed, claimed, finished } = keys;
        if freed.row_count() > 0 {
            let sql = &self.sql.free_keys;
            self.execute_exactly("free keys", freed.row_count(), sql, [freed.json().into()])
                .await?;
        }
        if claimed.row_count() > 0 {
            let (sql, values) = (&self.sql.claim_keys, [claimed.json().into(), now.into()]);
            self.execute_exactly("claim keys", claimed.row_count(), sql, values).await?;
        }
        for part in finished {
            let sql = &self.sql.finish_keys;
            self.execute_exactly("finish keys", part.row_count(), sql, [part.json().into()])
                .await?;
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
        if transfers.row_count() == 0 {
            return Ok(());
        }
        let values = [transfers.json().into(), instance.0.into(), seq.into(), now.into()];
        self.execute_exactly("transfers", transfers.row_count(), &self.sql.insert_transfers, values)
            .await
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
        let books = self.books(head.instance, batch, clock::now().0).await?;
        let mut payload = Payload::with_capacity(batch.opens.len() + batch.extends.len(), 1);
        let opens = batch.opens.iter().map(|open| open.hold_id);
        for id in opens.chain(batch.extends.iter().map(|extend| extend.hold_id)) {
            payload.row().id(id.0);
        }
        let mut amounts: BTreeMap<HoldId, NanoUsd> = BTreeMap::new();
        for row in self.query(&self.sql.read_holds, [payload.json().into()]).await? {
            let id: Uuid = row.try_get_by_index(0)?;
            amounts.insert(HoldId(id), NanoUsd(row.try_get_by_index(1)?));
        }
        Ok(read_back(batch, books, &amounts))
    }
}

/// The reply of a flush that was committed before, from what it left in the books. A denial is told
/// with the rows of now.
pub(super) fn read_back(
    batch: &FlushBatch,
    books: Books,
    amounts: &BTreeMap<HoldId, NanoUsd>,
) -> FlushReply {
    let open = |open: &HoldOpen| {
        if let Some(&amount) = amounts.get(&open.hold_id) {
            // What was affordable then is not known any more; the hold itself was.
            return OpenVerdict::Granted { amount, affordable: amount.max(open.funds_min) };
        }
        let claim = open.idem.as_ref().map(|claim| (open.account_id, claim.key.clone()));
        if claim.is_some_and(|claim| books.claims.contains_key(&claim)) {
            return OpenVerdict::Claimed;
        }
        let rows = || open.legs.iter().map(|leg| books.rows.get(&leg.account_id));
        if let Some(row) = rows().flatten().find(|row| row.is_blocked()) {
            return OpenVerdict::Blocked(*row);
        }
        if rows().any(|row| row.is_none()) {
            return OpenVerdict::NoAccount;
        }
        match rows().flatten().min_by_key(|row| row.available()) {
            Some(&row) => OpenVerdict::Denied { row, is_recalled: false },
            None => OpenVerdict::NoAccount,
        }
    };
    let extend = |extend: &HoldExtend| match amounts.get(&extend.hold_id) {
        Some(&amount) if amount > extend.from => ExtendVerdict::Granted { amount },
        Some(_) | None => ExtendVerdict::Denied { is_recalled: false },
    };
    FlushReply {
        opens: batch.opens.iter().map(open).collect(),
        extends: batch.extends.iter().map(extend).collect(),
        accounts: books.rows.values().copied().collect(),
        leases: books.leases.values().copied().collect(),
    }
}

/// The answer to a batch that was written.
pub(super) fn reply(decision: Decision) -> FlushReply {
    FlushReply {
        opens: decision.opens,
        extends: decision.extends,
        accounts: decision.books.rows.into_values().collect(),
        leases: decision.books.leases.into_values().collect(),
    }
}

/// Empty leases for all accounts of a batch, so that a reply names each of them.
pub(super) fn no_leases(batch: &FlushBatch) -> BTreeMap<AccountId, LeaseRow> {
    let none = |account_id| {
        let (granted, posted, folded) = (NanoUsd::ZERO, NanoUsd::ZERO, NanoUsd::ZERO);
        (account_id, LeaseRow { account_id, granted, posted, folded })
    };
    batch.lease_ids().map(none).collect()
}

/// Notes what the leases of one account are.
pub(super) fn note_leases(
    found: rows::Leases,
    rows: &mut BTreeMap<AccountId, AccountRow>,
    leases: &mut BTreeMap<AccountId, LeaseRow>,
) {
    let id = found.mine.account_id;
    leases.insert(id, found.mine);
    if let Some(row) = rows.get_mut(&id) {
        row.unfolded = found.unfolded;
        row.leases = found.count;
    }
}

/// Rows with what their leases say, and what open holds reserve, in one statement and without a
/// lock; operator accounts have none.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub(in crate::storage) async fn read_rows(
    connection: &impl ConnectionTrait,
    accounts: impl IntoIterator<Item = AccountId>,
) -> Result<BTreeMap<AccountId, (AccountRow, NanoUsd)>, StorageError> {
    let backend = connection.get_database_backend();
    let values = [ids(accounts).json().into()];
    let statement = Statement::from_sql_and_values(backend, &statements(backend).read_rows, values);
    let found = connection.query_all_raw(statement).await.map_err(StorageError::on(WHAT))?;
    let read = |row: &QueryResult| {
        let mut account = rows::account(row)?;
        account.unfolded = NanoUsd(row.try_get_by_index(7)?);
        account.leases = row.try_get_by_index(8)?;
        Ok((account.account_id, (account, NanoUsd(row.try_get_by_index(9)?))))
    };
    found.iter().map(read).collect::<Result<_, DbErr>>().map_err(StorageError::on(WHAT))
}

/// Accounts to be read, in id order (the lock order).
pub(super) fn ids(accounts: impl IntoIterator<Item = AccountId>) -> Payload {
    let sorted: BTreeSet<AccountId> = accounts.into_iter().collect();
    let mut payload = Payload::with_capacity(sorted.len(), 1);
    for id in sorted {
        payload.row().id(id.0);
    }
    payload
}

/// Tells a repeated flush from another one with the same number (which would be a bug). Only this
/// process ever compares it, so any stable hash does.
pub(super) fn digest(batch: &FlushBatch) -> i64 {
    let mut hasher = DefaultHasher::new();
    for open in &batch.opens {
        (1_u8, open.hold_id, open.amount).hash(&mut hasher);
        if let Some(claim) = &open.idem {
            (7_u8, claim).hash(&mut hasher);
        }
    }
    let resolve = |tag: u8, end: &HoldResolve, hasher: &mut DefaultHasher| {
        (tag, end.hold_id, end.charge, end.overrun, end.provider_cost).hash(hasher);
        if let Some(idem) = &end.idem {
            (8_u8, idem).hash(hasher);
        }
    };
    for end in &batch.resolves {
        resolve(2, end, &mut hasher);
    }
    for free in &batch.free {
        resolve(3, &free.resolve, &mut hasher);
    }
    for extend in &batch.extends {
        (4_u8, extend.hold_id, extend.from, extend.to).hash(&mut hasher);
    }
    for point in &batch.checkpoints {
        (5_u8, point.hold_id, point.cost).hash(&mut hasher);
    }
    for lease in &batch.leases {
        (6_u8, lease.account_id, lease.give_back, lease.fold).hash(&mut hasher);
    }
    hasher.finish().cast_signed()
}
