//! Budgets of keys: the account that counts what a key spends in one window.
//!
//! Its `credits` are the budget, its `debits` and leases are moved by the flush beside the wallet's.
//! A new window is a new row, so nothing is ever set back to 0 and a hold stays with the window in
//! which it was opened.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};
use uuid::Uuid;

use super::{
    super::{Db, StorageError},
    WHAT,
    payload::Payload,
    rows,
    sql::statements,
};
use crate::domain::{
    AccountId, BudgetWindow, KeyId, NanoUsd, clock::UnixMicros, ledger::AccountRow,
};

/// Names one window of a key's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapWindow {
    /// Whose budget.
    pub key_id: KeyId,
    /// Which kind of window.
    pub window: BudgetWindow,
    /// When it began.
    pub start: UnixMicros,
}

/// The account of a key's budget in one window, made when it is missing, with `credits` moved to
/// `budget`, or as near as I1 lets them: not below `debits + leased`. Until a later call can move
/// them all the way, the account is blocked: its holds run on and nothing new is granted, so that
/// instances give back what they don't use and nobody takes it again. Nothing is written when
/// nothing changes; any number of instances may call it at once.
///
/// # Errors
/// [`StorageError::Unavailable`] and the like, after which it may have been written, too;
/// [`StorageError::ReadOnly`] when something had to be written.
///
/// # Cancel safety
/// Dropping the future does not stop it; repeating it does no harm.
pub async fn ensure_cap(
    db: &Db,
    wallet: AccountId,
    cap: CapWindow,
    budget: NanoUsd,
) -> Result<AccountRow, StorageError> {
    db.read(WHAT, move |db| async move {
        let row = match read_one(db.reader(), cap).await? {
            Some(row) => row,
            None => {
                insert(&db, wallet, cap, budget).await?;
                existing(&db, cap).await?
            }
        };
        if is_moved(&row, budget) {
            return Ok(row);
        }
        let writer = db.writer(WHAT)?;
        let sql = &statements(writer.get_database_backend()).move_cap;
        let statement = db.statement(sql, [row.account_id.0.into(), budget.0.into()]);
        writer.execute_raw(statement).await.map_err(StorageError::on(WHAT))?;
        existing(&db, cap).await
    })
    .await
}

/// Whether the account is where [`ensure_cap`] would move it.
const fn is_moved(row: &AccountRow, budget: NanoUsd) -> bool {
    let out = row.debits.0.saturating_add(row.leased.0);
    if out > budget.0 {
        row.credits.0 == out && row.is_blocked()
    } else {
        row.credits.0 == budget.0 && !row.is_blocked()
    }
}

async fn insert(
    db: &Db,
    wallet: AccountId,
    cap: CapWindow,
    budget: NanoUsd,
) -> Result<(), StorageError> {
    let writer = db.writer(WHAT)?;
    let sql = &statements(writer.get_database_backend()).insert_cap;
    let statement = db.statement(
        sql,
        [
            AccountId::generate().0.into(),
            cap.key_id.0.into(),
            wallet.0.into(),
            cap.window.db_code().into(),
            cap.start.0.into(),
            budget.0.into(),
        ],
    );
    writer.execute_raw(statement).await.map_err(StorageError::on(WHAT))?;
    Ok(())
}

async fn existing(db: &Db, cap: CapWindow) -> Result<AccountRow, StorageError> {
    let row = read_one(db.writer(WHAT)?, cap).await?;
    row.ok_or(StorageError::Bug { what: "the account of a budget", source: None })
}

async fn read_one(
    connection: &impl ConnectionTrait,
    cap: CapWindow,
) -> Result<Option<AccountRow>, StorageError> {
    Ok(read(connection, &[cap]).await?.into_values().next())
}

/// The accounts of these windows, by key; a window in which nothing was asked for yet has none.
/// At most one window of each key.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn read_caps(
    db: &Db,
    caps: Vec<CapWindow>,
) -> Result<BTreeMap<KeyId, AccountRow>, StorageError> {
    db.read(WHAT, move |db| async move { read(db.reader(), &caps).await }).await
}

async fn read(
    connection: &impl ConnectionTrait,
    caps: &[CapWindow],
) -> Result<BTreeMap<KeyId, AccountRow>, StorageError> {
    let mut batch = Payload::with_capacity(caps.len(), 3);
    for cap in caps {
        batch.row().id(cap.key_id.0).int(cap.window.db_code().into()).int(cap.start.0);
    }
    let backend = connection.get_database_backend();
    let values = [batch.json().into()];
    let statement = Statement::from_sql_and_values(backend, &statements(backend).read_caps, values);
    let found = connection.query_all_raw(statement).await.map_err(StorageError::on(WHAT))?;
    let row_of = |row: &QueryResult| {
        let mut account = rows::account(row)?;
        account.unfolded = NanoUsd(row.try_get_by_index(7)?);
        account.leases = row.try_get_by_index(8)?;
        let key: Uuid = row.try_get_by_index(9)?;
        Ok((KeyId(key), account))
    };
    found.iter().map(row_of).collect::<Result<_, DbErr>>().map_err(StorageError::on(WHAT))
}

/// What these keys have spent in all, with a budget or without: the sum of their settled holds.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn spent_by_keys(
    db: &Db,
    keys: Vec<KeyId>,
) -> Result<BTreeMap<KeyId, NanoUsd>, StorageError> {
    db.run(WHAT, move |db| async move {
        let mut batch = Payload::with_capacity(keys.len(), 1);
        for key in keys {
            batch.row().id(key.0);
        }
        let reader = db.reader();
        let sql = &statements(reader.get_database_backend()).read_spent;
        let statement = db.statement(sql, [batch.json().into()]);
        let found = reader.query_all_raw(statement).await.map_err(StorageError::on(WHAT))?;
        let spent = |row: &QueryResult| {
            let key: Uuid = row.try_get_by_index(0)?;
            Ok((KeyId(key), NanoUsd(row.try_get_by_index(1)?)))
        };
        found.iter().map(spent).collect::<Result<_, DbErr>>().map_err(StorageError::on(WHAT))
    })
    .await
}
