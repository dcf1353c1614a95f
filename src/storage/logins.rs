//! How people log in: address, username, password hash, and the epoch of their login tokens.
//!
//! A password never comes here, only its hash does.

use entity::{account, account_login, server_secret};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};

use super::{
    Db, StorageError,
    accounts::{NewAccount, insert_account},
};
use crate::domain::{
    AccountId, EmailAddress, Username,
    clock::{self, UnixMicros},
};

const LOGIN: &str = "login";
const SECRET: &str = "server secret";

/// A login to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLogin {
    /// Unique on the server.
    pub email: EmailAddress,
    /// Unique on the server.
    pub username: Username,
    /// argon2id, with salt and parameters.
    pub password_hash: String,
}

/// How an account is logged in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginInfo {
    /// Whose.
    pub account_id: AccountId,
    /// In lowercase.
    pub email: String,
    /// A slug.
    pub username: String,
    /// argon2id, with salt and parameters.
    pub password_hash: String,
    /// Login tokens of another epoch are over.
    pub token_epoch: i64,
    /// When it was made.
    pub created_at: UnixMicros,
}

/// Makes an account with its wallet, first credit and login, all or nothing.
///
/// # Errors
/// [`StorageError::Conflict`] when the address or the username is taken ([`find_login_by_email`]
/// tells which), or the id exists; [`StorageError::OutOfRange`] for a negative credit.
///
/// # Cancel safety
/// Dropping the future does not undo or stop it; a repeat answers `Conflict`.
pub async fn register(
    db: &Db,
    account: NewAccount,
    login: NewLogin,
) -> Result<LoginInfo, StorageError> {
    if account.credit.is_negative() {
        return Err(StorageError::OutOfRange { what: "the amount" });
    }
    let created_at = clock::now();
    db.in_transaction(LOGIN, move |tx| {
        let (account, login) = (account.clone(), login.clone());
        Box::pin(async move {
            let account = insert_account(tx, account, created_at).await?;
            insert_login(tx, account.id, login, created_at).await
        })
    })
    .await
}

async fn insert_login(
    tx: &DatabaseTransaction,
    account_id: AccountId,
    login: NewLogin,
    created_at: UnixMicros,
) -> Result<LoginInfo, StorageError> {
    let login = account_login::ActiveModel {
        account_id: Set(account_id.0),
        email: Set(login.email.as_str().to_owned()),
        username: Set(login.username.as_str().to_owned()),
        password_hash: Set(login.password_hash),
        token_epoch: Set(0),
        created_at: Set(created_at.0),
        password_set_at: Set(created_at.0),
    };
    let inserted = login.insert(tx).await;
    inserted.map(info_of).map_err(|error| match StorageError::on(LOGIN)(error) {
        StorageError::Missing { .. } => StorageError::Missing { what: "account" },
        other => other,
    })
}

/// The login with this address.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_login_by_email(
    db: &Db,
    email: &EmailAddress,
) -> Result<Option<LoginInfo>, StorageError> {
    let email = email.as_str().to_owned();
    db.read(LOGIN, move |db| async move {
        let found = account_login::Entity::find()
            .filter(account_login::COLUMN.email.eq(email))
            .one(db.reader())
            .await;
        Ok(found.map_err(StorageError::on(LOGIN))?.map(info_of))
    })
    .await
}

/// Whether somebody has this username.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn is_username_taken(db: &Db, username: &Username) -> Result<bool, StorageError> {
    let username = username.as_str().to_owned();
    db.read(LOGIN, move |db| async move {
        let found = account_login::Entity::find()
            .filter(account_login::COLUMN.username.eq(username))
            .one(db.reader())
            .await;
        Ok(found.map_err(StorageError::on(LOGIN))?.is_some())
    })
    .await
}

/// The login of an account, if it has one.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_login(db: &Db, id: AccountId) -> Result<Option<LoginInfo>, StorageError> {
    db.read(LOGIN, move |db| async move {
        let found = account_login::Entity::find_by_id(id.0).one(db.reader()).await;
        Ok(found.map_err(StorageError::on(LOGIN))?.map(info_of))
    })
    .await
}

/// Gives an account another password and ends its login tokens; with `new`, one that had no login
/// gets it. Answers the login afterwards.
///
/// # Errors
/// [`StorageError::Missing`] without such an account, or when it has no login and none is given;
/// [`StorageError::Conflict`] when the address or the username of `new` is taken.
pub async fn set_password(
    db: &Db,
    id: AccountId,
    password_hash: String,
    new: Option<(EmailAddress, Username)>,
) -> Result<LoginInfo, StorageError> {
    let now = clock::now();
    db.in_transaction(LOGIN, move |tx| {
        let (password_hash, new) = (password_hash.clone(), new.clone());
        Box::pin(async move {
            if let Some(login) = write_password(tx, id, &password_hash, None, now).await? {
                return Ok(login);
            }
            let account = account::Entity::find_by_id(id.0).one(tx).await;
            if account.map_err(StorageError::on(LOGIN))?.is_none() {
                return Err(StorageError::Missing { what: "account" });
            }
            let (email, username) = new.ok_or(StorageError::Missing { what: LOGIN })?;
            insert_login(tx, id, NewLogin { email, username, password_hash }, now).await
        })
    })
    .await
}

/// Gives a login another password and ends its tokens, if they are of this `epoch` still: then
/// nobody has set a password since it was read.
///
/// # Errors
/// [`StorageError::Stale`] when somebody has, or the login is gone.
pub async fn replace_password(
    db: &Db,
    id: AccountId,
    password_hash: String,
    epoch: i64,
) -> Result<LoginInfo, StorageError> {
    let now = clock::now();
    db.in_transaction(LOGIN, move |tx| {
        let password_hash = password_hash.clone();
        Box::pin(async move {
            let written = write_password(tx, id, &password_hash, Some(epoch), now).await?;
            written.ok_or(StorageError::Stale { what: LOGIN })
        })
    })
    .await
}

/// The login afterwards; `None` when there is none (of this epoch).
async fn write_password(
    tx: &DatabaseTransaction,
    id: AccountId,
    password_hash: &str,
    epoch: Option<i64>,
    now: UnixMicros,
) -> Result<Option<LoginInfo>, StorageError> {
    let next = Expr::col(account_login::Column::TokenEpoch).add(1_i64);
    let mut update = account_login::Entity::update_many()
        .col_expr(account_login::Column::PasswordHash, Expr::value(password_hash))
        .col_expr(account_login::Column::PasswordSetAt, Expr::value(now.0))
        .col_expr(account_login::Column::TokenEpoch, next)
        .filter(account_login::COLUMN.account_id.eq(id.0));
    if let Some(epoch) = epoch {
        update = update.filter(account_login::COLUMN.token_epoch.eq(epoch));
    }
    let updated = update.exec(tx).await.map_err(StorageError::on(LOGIN))?;
    if updated.rows_affected == 0 {
        return Ok(None);
    }
    let found = account_login::Entity::find_by_id(id.0).one(tx).await;
    Ok(found.map_err(StorageError::on(LOGIN))?.map(info_of))
}

/// Puts another hash of the same password in the place of `old`; its tokens stay. Answers whether
/// `old` was still there.
///
/// # Errors
/// [`StorageError::Unavailable`] and the like, after which it may have been written.
pub async fn renew_hash(
    db: &Db,
    id: AccountId,
    old: String,
    new: String,
) -> Result<bool, StorageError> {
    db.run(LOGIN, move |db| async move {
        let renewed = account_login::Entity::update_many()
            .col_expr(account_login::Column::PasswordHash, Expr::value(new))
            .filter(account_login::COLUMN.account_id.eq(id.0))
            .filter(account_login::COLUMN.password_hash.eq(old))
            .exec(db.writer(LOGIN)?)
            .await
            .map_err(StorageError::on(LOGIN))?;
        Ok(renewed.rows_affected == 1)
    })
    .await
}

/// The secret of this name, the same for every server on the database: `fresh` when there was none.
///
/// # Errors
/// [`StorageError::Unavailable`] and the like, after which it may have been kept.
pub async fn shared_secret(
    db: &Db,
    name: &'static str,
    fresh: [u8; 32],
) -> Result<Vec<u8>, StorageError> {
    db.run(SECRET, move |db| async move {
        let found = server_secret::Entity::find_by_id(name).one(db.reader()).await;
        if let Some(found) = found.map_err(StorageError::on(SECRET))? {
            return Ok(found.secret);
        }
        let secret = server_secret::ActiveModel {
            name: Set(name.to_owned()),
            secret: Set(fresh.to_vec()),
            created_at: Set(clock::now().0),
        };
        let writer = db.writer(SECRET)?;
        // Servers may start at once: the first one's secret stays.
        let first = OnConflict::column(server_secret::Column::Name).do_nothing().to_owned();
        server_secret::Entity::insert(secret)
            .on_conflict(first)
            .exec_without_returning(writer)
            .await
            .map_err(StorageError::on(SECRET))?;
        let found = server_secret::Entity::find_by_id(name).one(writer).await;
        let found = found.map_err(StorageError::on(SECRET))?;
        found.map(|found| found.secret).ok_or(StorageError::Bug { what: SECRET, source: None })
    })
    .await
}

fn info_of(login: account_login::Model) -> LoginInfo {
    LoginInfo {
        account_id: AccountId(login.account_id),
        email: login.email,
        username: login.username,
        password_hash: login.password_hash,
        token_epoch: login.token_epoch,
        created_at: UnixMicros(login.created_at),
    }
}
