//! Accounts, their wallets, and the money that comes in.
//!
//! Money that goes out (holds, charges) is the ledger's. Coming in is one transaction: an immutable
//! transfer and the wallet's `credits`, which only grow. I1 can't be broken by it.

use entity::{account, ledger_account, ledger_transfer};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use super::{Db, StorageError, ledger};
use crate::domain::{
    AccountId, NanoUsd, TransferId,
    clock::{self, UnixMicros},
    ledger::{AccountKind, AccountRow, FLAG_FROZEN, TransferKind},
};

const ACCOUNT: &str = "account";
const REFERENCE: &str = "a different top-up with this reference";
const BALANCE: &str = "the amount";

/// Where the first credit of an account comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditSource {
    /// Paid for.
    Cash,
    /// A gift of the operator.
    Promo,
}

/// An account to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// Made by the caller, so that a repeat is seen as one.
    pub id: AccountId,
    /// For people.
    pub name: String,
    /// First credit, 0 for none.
    pub credit: NanoUsd,
    /// Where it comes from.
    pub credit_source: CreditSource,
}

/// An account and its wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// Its id.
    pub id: AccountId,
    /// For people.
    pub name: String,
    /// The wallet's counters.
    pub row: AccountRow,
    /// What running requests reserve. The rest of `row.leased` is kept by servers for the next ones.
    pub held: NanoUsd,
    /// When it was made.
    pub created_at: UnixMicros,
}

impl AccountInfo {
    /// What a new request can use: what neither was spent nor is reserved, at least 0.
    #[must_use]
    pub fn available(&self) -> NanoUsd {
        let free = self.row.spendable().0.saturating_sub(self.held.0);
        NanoUsd(Ord::max(free, 0))
    }
}

/// What a top-up did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopUp {
    /// The wallet afterwards.
    pub row: AccountRow,
    /// Whether this reference had been booked before (then nothing was booked now).
    pub repeated: bool,
}

/// Makes an account, its wallet and the transfer of its first credit.
///
/// # Errors
/// [`StorageError::Conflict`] when the id exists, [`StorageError::OutOfRange`] for a negative
/// credit.
///
/// # Cancel safety
/// Dropping the future does not undo or stop it; a repeat with the same id answers `Conflict`.
pub async fn create_account(db: &Db, new: NewAccount) -> Result<AccountInfo, StorageError> {
    if new.credit.is_negative() {
        return Err(StorageError::OutOfRange { what: BALANCE });
    }
    let created_at = clock::now();
    db.in_transaction(ACCOUNT, move |tx| {
        let new = new.clone();
        Box::pin(async move { insert_account(tx, new, created_at).await })
    })
    .await
}

/// Makes them in a transaction of the caller's.
pub(super) async fn insert_account(
    tx: &DatabaseTransaction,
    new: NewAccount,
    created_at: UnixMicros,
) -> Result<AccountInfo, StorageError> {
    let account = account::ActiveModel {
        id: Set(new.id.0),
        name: Set(new.name.clone()),
        created_at: Set(created_at.0),
        ..Default::default()
    };
    account.insert(tx).await.map_err(StorageError::on(ACCOUNT))?;
    let wallet = ledger_account::ActiveModel {
        id: Set(new.id.0),
        kind: Set(AccountKind::Wallet.db_code()),
        owner_id: Set(new.id.0),
        credits: Set(0),
        debits: Set(0),
        leased: Set(0),
        overdraft_limit: Set(0),
        flags: Set(0),
        recall_seq: Set(0),
        version: Set(0),
        ..Default::default()
    };
    wallet.insert(tx).await.map_err(StorageError::on(ACCOUNT))?;
    let row = if new.credit == NanoUsd::ZERO {
        existing(tx, new.id).await?
    } else {
        let (kind, source) = match new.credit_source {
            CreditSource::Cash => (TransferKind::TopUp, AccountKind::CashClearing),
            CreditSource::Promo => (TransferKind::Promo, AccountKind::Promo),
        };
        let transfer = incoming(kind, source, new.id, new.credit, None, created_at);
        transfer.insert(tx).await.map_err(StorageError::on(ACCOUNT))?;
        add_credits(tx, new.id, new.credit).await?
    };
    Ok(AccountInfo { id: new.id, name: new.name, row, held: NanoUsd::ZERO, created_at })
}

/// Books money that came in, once per `reference` whatever is repeated. The reference is the
/// payment's own id; it is unique in the whole database, so that one payment can't credit two
/// accounts.
///
/// # Errors
/// [`StorageError::Missing`] without such an account; [`StorageError::Conflict`] when `reference`
/// was booked with another amount or for another account; [`StorageError::OutOfRange`] when
/// `amount` is not positive or the balance would leave `i64`.
///
/// # Cancel safety
/// Dropping the future does not stop it; repeat it with the same reference.
pub async fn top_up(
    db: &Db,
    id: AccountId,
    amount: NanoUsd,
    reference: &str,
) -> Result<TopUp, StorageError> {
    if amount <= NanoUsd::ZERO {
        return Err(StorageError::OutOfRange { what: BALANCE });
    }
    let (reference, created_at) = (reference.to_owned(), clock::now());
    db.in_transaction("top-up", move |tx| {
        let reference = reference.clone();
        Box::pin(async move { book_top_up(tx, id, amount, reference, created_at).await })
    })
    .await
}

/// [`top_up`] in a transaction of the caller's.
pub(super) async fn book_top_up(
    tx: &DatabaseTransaction,
    id: AccountId,
    amount: NanoUsd,
    reference: String,
    created_at: UnixMicros,
) -> Result<TopUp, StorageError> {
    let what = "top-up";
    wallet(tx, id).await?.ok_or(StorageError::Missing { what: ACCOUNT })?;
    let (kind, source) = (TransferKind::TopUp, AccountKind::CashClearing);
    let transfer = incoming(kind, source, id, amount, Some(reference.clone()), created_at);
    // The insertion decides: a concurrent one with the same reference is waited for.
    let external_ref = ledger_transfer::Column::ExternalRef;
    let on_conflict = OnConflict::column(external_ref)
        .target_and_where(Expr::col(external_ref).is_not_null())
        .do_nothing()
        .to_owned();
    let inserted = ledger_transfer::Entity::insert(transfer)
        .on_conflict(on_conflict)
        .exec_without_returning(tx)
        .await
        .map_err(StorageError::on(what))?;
    if inserted == 1 {
        return Ok(TopUp { row: add_credits(tx, id, amount).await?, repeated: false });
    }
    let booked = ledger_transfer::Entity::find()
        .filter(ledger_transfer::COLUMN.external_ref.eq(reference))
        .one(tx)
        .await
        .map_err(StorageError::on(what))?
        .ok_or(StorageError::Bug { what, source: None })?;
    let same =
        booked.credit_account == id.0 && booked.amount == amount.0 && booked.kind == kind.db_code();
    if !same {
        return Err(StorageError::Conflict { what: REFERENCE });
    }
    let row = wallet(tx, id).await?.ok_or(StorageError::Missing { what: ACCOUNT })?;
    Ok(TopUp { row, repeated: true })
}

/// The accounts in the order of their making, after `after`, at most `limit`.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn list_accounts(
    db: &Db,
    after: Option<AccountId>,
    limit: u32,
) -> Result<Vec<AccountInfo>, StorageError> {
    db.read(ACCOUNT, move |db| async move {
        let mut query = account::Entity::find();
        if let Some(after) = after {
            query = query.filter(account::COLUMN.id.gt(after.0));
        }
        let accounts = query
            .order_by_asc(account::COLUMN.id)
            .limit(u64::from(limit))
            .all(db.reader())
            .await
            .map_err(StorageError::on(ACCOUNT))?;
        with_wallets(&db, accounts).await
    })
    .await
}

/// One account, if it exists.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_account(db: &Db, id: AccountId) -> Result<Option<AccountInfo>, StorageError> {
    db.read(ACCOUNT, move |db| async move {
        let found = account::Entity::find_by_id(id.0).one(db.reader()).await;
        let found = found.map_err(StorageError::on(ACCOUNT))?;
        Ok(with_wallets(&db, found.into_iter().collect()).await?.pop())
    })
    .await
}

/// The name of an account's plan, when it was given one.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn read_plan(db: &Db, id: AccountId) -> Result<Option<String>, StorageError> {
    db.read(ACCOUNT, move |db| async move {
        let found = account::Entity::find_by_id(id.0).one(db.reader()).await;
        Ok(found.map_err(StorageError::on(ACCOUNT))?.and_then(|account| account.plan))
    })
    .await
}

/// Gives an account a plan, or takes it away.
///
/// # Errors
/// [`StorageError::Missing`] without such an account.
pub async fn set_plan(db: &Db, id: AccountId, plan: Option<String>) -> Result<(), StorageError> {
    db.run(ACCOUNT, move |db| async move {
        let changed = account::Entity::update_many()
            .col_expr(account::Column::Plan, Expr::value(plan))
            .filter(account::COLUMN.id.eq(id.0))
            .exec(db.writer(ACCOUNT)?)
            .await
            .map_err(StorageError::on(ACCOUNT))?;
        match changed.rows_affected {
            0 => Err(StorageError::Missing { what: ACCOUNT }),
            _ => Ok(()),
        }
    })
    .await
}

/// How many accounts there are.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn count_accounts(db: &Db) -> Result<u64, StorageError> {
    db.read(ACCOUNT, |db| async move {
        account::Entity::find().count(db.reader()).await.map_err(StorageError::on(ACCOUNT))
    })
    .await
}

/// A wallet's counters, if it exists.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn read_account_row(db: &Db, id: AccountId) -> Result<Option<AccountRow>, StorageError> {
    db.read(ACCOUNT, move |db| async move { wallet(db.reader(), id).await }).await
}

/// Reads counters of wallets and caps, in one statement; those that do not exist are left out.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn read_account_rows(
    db: &Db,
    ids: Vec<AccountId>,
) -> Result<Vec<AccountRow>, StorageError> {
    db.read(ACCOUNT, move |db| async move {
        let rows = ledger::read_rows(db.reader(), ids).await?;
        Ok(rows.into_values().map(|(row, _)| row).collect())
    })
    .await
}

/// Freezes or unfreezes an account: a frozen one may not spend. Answers the wallet afterwards;
/// repeating it changes nothing.
///
/// # Errors
/// [`StorageError::Missing`] without such an account.
pub async fn set_frozen(db: &Db, id: AccountId, frozen: bool) -> Result<AccountRow, StorageError> {
    db.in_transaction(ACCOUNT, move |tx| {
        Box::pin(async move {
            let flags = Expr::col(ledger_account::Column::Flags);
            let flags = match frozen {
                true => flags.bit_or(FLAG_FROZEN),
                false => flags.bit_and(!FLAG_FROZEN),
            };
            update_wallet(id)
                .col_expr(ledger_account::Column::Flags, flags)
                .exec(tx)
                .await
                .map_err(StorageError::on(ACCOUNT))?;
            existing(tx, id).await
        })
    })
    .await
}

/// `UPDATE` of one wallet; operator accounts are never touched.
fn update_wallet(id: AccountId) -> sea_orm::UpdateMany<ledger_account::Entity> {
    let version = Expr::col(ledger_account::Column::Version).add(1_i64);
    ledger_account::Entity::update_many()
        .col_expr(ledger_account::Column::Version, version)
        .filter(ledger_account::COLUMN.id.eq(id.0))
        .filter(ledger_account::COLUMN.kind.eq(AccountKind::Wallet.db_code()))
}

async fn add_credits(
    tx: &DatabaseTransaction,
    id: AccountId,
    amount: NanoUsd,
) -> Result<AccountRow, StorageError> {
    let credits = Expr::col(ledger_account::Column::Credits).add(amount.0);
    let updated =
        update_wallet(id)
            .col_expr(ledger_account::Column::Credits, credits)
            // The sum must stay in i64, also with the overdraft that I1 adds to it.
            .filter(Expr::col(ledger_account::Column::OverdraftLimit).lte(
                Expr::val(i64::MAX - amount.0).sub(Expr::col(ledger_account::Column::Credits)),
            ))
            .exec(tx)
            .await
            .map_err(StorageError::on(ACCOUNT))?;
    let row = existing(tx, id).await?;
    match updated.rows_affected {
        0 => Err(StorageError::OutOfRange { what: BALANCE }),
        _ => Ok(row),
    }
}

async fn existing(tx: &DatabaseTransaction, id: AccountId) -> Result<AccountRow, StorageError> {
    wallet(tx, id).await?.ok_or(StorageError::Missing { what: ACCOUNT })
}

fn incoming(
    kind: TransferKind,
    source: AccountKind,
    wallet: AccountId,
    amount: NanoUsd,
    external_ref: Option<String>,
    created_at: UnixMicros,
) -> ledger_transfer::ActiveModel {
    let source = source.operator_id().unwrap_or(wallet);
    ledger_transfer::ActiveModel {
        id: Set(TransferId::generate().0),
        kind: Set(kind.db_code()),
        debit_account: Set(source.0),
        credit_account: Set(wallet.0),
        amount: Set(amount.0),
        external_ref: Set(external_ref),
        created_at: Set(created_at.0),
        ..Default::default()
    }
}

async fn wallet(
    connection: &impl ConnectionTrait,
    id: AccountId,
) -> Result<Option<AccountRow>, StorageError> {
    Ok(ledger::read_rows(connection, [id]).await?.remove(&id).map(|(row, _)| row))
}

async fn with_wallets(
    db: &Db,
    accounts: Vec<account::Model>,
) -> Result<Vec<AccountInfo>, StorageError> {
    let ids = accounts.iter().map(|account| AccountId(account.id));
    let mut wallets = ledger::read_rows(db.reader(), ids).await?;
    accounts
        .into_iter()
        .map(|account| {
            let id = AccountId(account.id);
            let (row, held) = wallets
                .remove(&id)
                .ok_or(StorageError::Bug { what: "an account without a wallet", source: None })?;
            Ok(AccountInfo {
                id,
                name: account.name,
                row,
                held,
                created_at: UnixMicros(account.created_at),
            })
        })
        .collect()
}
