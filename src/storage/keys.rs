//! API keys. The secret never comes here: only its hash does.

use std::collections::BTreeMap;

use entity::api_key;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Func},
};

use super::{Db, StorageError};
use crate::domain::{
    AccountId, ApiKeyHash, BudgetWindow, KeyBudget, KeyId, NanoUsd, Scopes,
    clock::{self, UnixMicros},
};

const KEY: &str = "API key";
/// Keys whose use is noted in one transaction: some milliseconds.
const USES_PER_TRANSACTION: usize = 100;

/// A key to be kept.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its public id.
    pub id: KeyId,
    /// Whose.
    pub account_id: AccountId,
    /// For people.
    pub name: String,
    /// Hash of the secret.
    pub hash: ApiKeyHash,
    /// The secret's first characters, for lists.
    pub prefix: String,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMicros>,
    /// Usernames that it may use; `None` for all.
    pub allowed_faces: Option<Vec<String>>,
    /// Models that it may use; `None` for all.
    pub allowed_models: Option<Vec<String>>,
    /// What it may spend; `None` for all that its account has.
    pub budget: Option<KeyBudget>,
    /// What it may do.
    pub scopes: Scopes,
}

/// A key as it is kept. Whether it is valid now is the caller's question: expired and revoked keys
/// are found too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its public id.
    pub id: KeyId,
    /// Whose.
    pub account_id: AccountId,
    /// For people.
    pub name: String,
    /// The secret's first characters.
    pub prefix: String,
    /// When it was made.
    pub created_at: UnixMicros,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMicros>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMicros>,
    /// Usernames that it may use; `None` for all.
    pub allowed_faces: Option<Vec<String>>,
    /// Models that it may use; `None` for all.
    pub allowed_models: Option<Vec<String>>,
    /// What it may spend; `None` for all that its account has.
    pub budget: Option<KeyBudget>,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was used last, to the minute or so.
    pub last_used_at: Option<UnixMicros>,
    /// Since when its owner wants its spending counted; `None` for all the time.
    pub spent_since: Option<UnixMicros>,
    /// What it had spent in all by then.
    pub spent_before: NanoUsd,
}

/// Keeps a new key.
///
/// # Errors
/// [`StorageError::Missing`] without such an account, [`StorageError::Conflict`] when the id or
/// the hash exists.
pub async fn insert_key(db: &Db, new: NewKey) -> Result<KeyInfo, StorageError> {
    db.run(KEY, |db| async move {
        let key = api_key::ActiveModel {
            id: Set(new.id.0),
            account_id: Set(new.account_id.0),
            name: Set(new.name),
            key_hash: Set(new.hash.0.to_vec()),
            key_prefix: Set(new.prefix),
            created_at: Set(clock::now().0),
            expires_at: Set(new.expires_at.map(|at| at.0)),
            revoked_at: Set(None),
            allowed_faces: Set(new.allowed_faces.map(json_list)),
            allowed_models: Set(new.allowed_models.map(json_list)),
            budget_nanousd: Set(new.budget.map(|budget| budget.limit.0)),
            budget_window: Set(new.budget.map(|budget| budget.window.db_code())),
            scopes: Set(stored_scopes(new.scopes)),
            ..Default::default()
        };
        let inserted =
            key.insert(db.writer(KEY)?).await.map_err(|error| {
                match StorageError::on(KEY)(error) {
                    StorageError::Missing { .. } => StorageError::Missing { what: "account" },
                    other => other,
                }
            })?;
        info_of(inserted)
    })
    .await
}

/// An account's keys in the order of their making, after `after`, at most `limit`.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn list_keys(
    db: &Db,
    account_id: AccountId,
    after: Option<KeyId>,
    limit: u32,
) -> Result<Vec<KeyInfo>, StorageError> {
    db.read(KEY, move |db| async move {
        let mut query = api_key::Entity::find().filter(api_key::COLUMN.account_id.eq(account_id.0));
        if let Some(after) = after {
            query = query.filter(api_key::COLUMN.id.gt(after.0));
        }
        let keys = query
            .order_by_asc(api_key::COLUMN.id)
            .limit(u64::from(limit))
            .all(db.reader())
            .await
            .map_err(StorageError::on(KEY))?;
        keys.into_iter().map(info_of).collect()
    })
    .await
}

/// An account's keys, newest first, older than `before`, at most `limit`.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn list_newest_keys(
    db: &Db,
    account_id: AccountId,
    before: Option<KeyId>,
    limit: u32,
) -> Result<Vec<KeyInfo>, StorageError> {
    db.read(KEY, move |db| async move {
        let mut query = api_key::Entity::find().filter(api_key::COLUMN.account_id.eq(account_id.0));
        if let Some(before) = before {
            query = query.filter(api_key::COLUMN.id.lt(before.0));
        }
        let keys = query
            .order_by_desc(api_key::COLUMN.id)
            .limit(u64::from(limit))
            .all(db.reader())
            .await
            .map_err(StorageError::on(KEY))?;
        keys.into_iter().map(info_of).collect()
    })
    .await
}

/// An account's key of this id, valid or not.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_key(
    db: &Db,
    account_id: AccountId,
    id: KeyId,
) -> Result<Option<KeyInfo>, StorageError> {
    db.read(KEY, move |db| async move {
        let found = api_key::Entity::find_by_id(id.0)
            .filter(api_key::COLUMN.account_id.eq(account_id.0))
            .one(db.reader())
            .await;
        found.map_err(StorageError::on(KEY))?.map(info_of).transpose()
    })
    .await
}

/// How many keys of an account are not revoked.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn count_keys(db: &Db, account_id: AccountId) -> Result<u64, StorageError> {
    db.read(KEY, move |db| async move {
        let counted = api_key::Entity::find()
            .filter(api_key::COLUMN.account_id.eq(account_id.0))
            .filter(api_key::COLUMN.revoked_at.is_null())
            .count(db.reader())
            .await;
        counted.map_err(StorageError::on(KEY))
    })
    .await
}

/// The key with this hash, valid or not.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_key_by_hash(db: &Db, hash: ApiKeyHash) -> Result<Option<KeyInfo>, StorageError> {
    db.read(KEY, move |db| async move {
        let found = api_key::Entity::find()
            .filter(api_key::COLUMN.key_hash.eq(hash.0.to_vec()))
            .one(db.reader())
            .await
            .map_err(StorageError::on(KEY))?;
        found.map(info_of).transpose()
    })
    .await
}

/// Whose key this is, revoked or not.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn owner_of_key(db: &Db, id: KeyId) -> Result<Option<AccountId>, StorageError> {
    db.read(KEY, move |db| async move {
        let found = api_key::Entity::find_by_id(id.0).one(db.reader()).await;
        Ok(found.map_err(StorageError::on(KEY))?.map(|key| AccountId(key.account_id)))
    })
    .await
}

/// Revokes a key of this account, for good. Answers whether this call did it: `false` when the
/// account has no such key or it was revoked before.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn revoke_key(db: &Db, account_id: AccountId, id: KeyId) -> Result<bool, StorageError> {
    db.run(KEY, move |db| async move {
        let revoked_at = Expr::value(clock::now().0);
        let updated = api_key::Entity::update_many()
            .col_expr(api_key::Column::RevokedAt, revoked_at)
            .filter(api_key::COLUMN.id.eq(id.0))
            .filter(api_key::COLUMN.account_id.eq(account_id.0))
            .filter(api_key::COLUMN.revoked_at.is_null())
            .exec(db.writer(KEY)?)
            .await
            .map_err(StorageError::on(KEY))?;
        Ok(updated.rows_affected == 1)
    })
    .await
}

/// What of a key's budget becomes another; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetChange {
    /// The new limit. A key without a budget gets one, for ever unless `window` says otherwise.
    pub limit: Option<NanoUsd>,
    /// The new window.
    pub window: Option<BudgetWindow>,
}

/// Changes a key's budget, or removes it (`None`). Answers the key afterwards, `None` when there is
/// none; a change without a limit changes nothing of a key without a budget.
///
/// Servers learn of it when they read the key again, within their `cache_ttl_ms`.
///
/// # Errors
/// [`StorageError::OutOfRange`] for a limit below 0, [`StorageError::Unavailable`].
pub async fn change_budget(
    db: &Db,
    id: KeyId,
    change: Option<BudgetChange>,
) -> Result<Option<KeyInfo>, StorageError> {
    if change.and_then(|change| change.limit).is_some_and(NanoUsd::is_negative) {
        return Err(StorageError::OutOfRange { what: "a budget" });
    }
    db.run(KEY, move |db| async move {
        let mut update = api_key::Entity::update_many().filter(api_key::COLUMN.id.eq(id.0));
        let (limit, window) = (api_key::Column::BudgetNanousd, api_key::Column::BudgetWindow);
        update = match change {
            None => update
                .col_expr(limit, Expr::value(None::<i64>))
                .col_expr(window, Expr::value(None::<i16>)),
            Some(BudgetChange { limit: new_limit, window: new_window }) => {
                update = match new_limit {
                    Some(new) => update.col_expr(limit, Expr::value(new.0)),
                    None => update.filter(api_key::COLUMN.budget_nanousd.is_not_null()),
                };
                let kept = Func::coalesce([
                    Expr::col(window),
                    Expr::value(BudgetWindow::Forever.db_code()),
                ]);
                update.col_expr(
                    window,
                    match new_window {
                        Some(new) => Expr::value(new.db_code()),
                        None => kept.into(),
                    },
                )
            }
        };
        let writer = db.writer(KEY)?;
        update.exec(writer).await.map_err(StorageError::on(KEY))?;
        let found = api_key::Entity::find_by_id(id.0).one(writer).await;
        found.map_err(StorageError::on(KEY))?.map(info_of).transpose()
    })
    .await
}

/// What of a key becomes another; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyChange {
    /// For people.
    pub name: Option<String>,
    /// Usernames that it may use; `Some(None)` for all.
    pub allowed_faces: Option<Option<Vec<String>>>,
    /// Models that it may use; `Some(None)` for all.
    pub allowed_models: Option<Option<Vec<String>>>,
    /// What it may spend; `Some(None)` for all that its account has.
    pub budget: Option<Option<KeyBudget>>,
    /// What it may do.
    pub scopes: Option<Scopes>,
    /// Since when its spending counts, and what it had spent in all by then.
    pub spent: Option<(UnixMicros, NanoUsd)>,
}

/// Changes a key of this account, all at once. Answers the key afterwards, `None` when the account
/// has no such key.
///
/// Servers learn of it when they read the key again, within their `cache_ttl_ms`.
///
/// # Errors
/// [`StorageError::OutOfRange`] for a limit below 0, [`StorageError::Unavailable`].
pub async fn change_key(
    db: &Db,
    account_id: AccountId,
    id: KeyId,
    change: KeyChange,
) -> Result<Option<KeyInfo>, StorageError> {
    if change.budget.flatten().is_some_and(|budget| budget.limit.is_negative()) {
        return Err(StorageError::OutOfRange { what: "a budget" });
    }
    db.run(KEY, move |db| async move {
        use api_key::Column;
        let mut values: Vec<(Column, Expr)> = Vec::new();
        if let Some(name) = change.name {
            values.push((Column::Name, Expr::value(name)));
        }
        if let Some(faces) = change.allowed_faces {
            values.push((Column::AllowedFaces, Expr::value(faces.map(json_list))));
        }
        if let Some(models) = change.allowed_models {
            values.push((Column::AllowedModels, Expr::value(models.map(json_list))));
        }
        if let Some(budget) = change.budget {
            let (limit, window) =
                (budget.map(|budget| budget.limit.0), budget.map(|budget| budget.window.db_code()));
            values.push((Column::BudgetNanousd, Expr::value(limit)));
            values.push((Column::BudgetWindow, Expr::value(window)));
        }
        if let Some(scopes) = change.scopes {
            values.push((Column::Scopes, Expr::value(stored_scopes(scopes))));
        }
        if let Some((since, before)) = change.spent {
            values.push((Column::SpentSince, Expr::value(since.0)));
            values.push((Column::SpentBefore, Expr::value(before.0)));
        }
        let own = |id: KeyId| {
            Condition::all()
                .add(api_key::COLUMN.id.eq(id.0))
                .add(api_key::COLUMN.account_id.eq(account_id.0))
        };
        let writer = db.writer(KEY)?;
        if !values.is_empty() {
            let mut update = api_key::Entity::update_many().filter(own(id));
            for (column, value) in values {
                update = update.col_expr(column, value);
            }
            update.exec(writer).await.map_err(StorageError::on(KEY))?;
        }
        let found = api_key::Entity::find().filter(own(id)).one(writer).await;
        found.map_err(StorageError::on(KEY))?.map(info_of).transpose()
    })
    .await
}

/// Notes when keys were used; an earlier time than the one that is kept changes nothing.
///
/// # Errors
/// [`StorageError::Unavailable`] and the like; a part may have been written.
pub async fn note_uses(db: &Db, uses: BTreeMap<KeyId, UnixMicros>) -> Result<(), StorageError> {
    let uses: Vec<(KeyId, UnixMicros)> = uses.into_iter().collect();
    // Each chunk is a transaction: the ledger's writes wait for it on SQLite. In the order of the
    // ids, so that two servers never wait for each other.
    for chunk in uses.chunks(USES_PER_TRANSACTION) {
        let chunk = chunk.to_vec();
        let noted = db.in_transaction(KEY, move |tx| {
            let chunk = chunk.clone();
            Box::pin(async move {
                for (id, used_at) in chunk {
                    let before = Condition::any()
                        .add(api_key::COLUMN.last_used_at.is_null())
                        .add(api_key::COLUMN.last_used_at.lt(used_at.0));
                    api_key::Entity::update_many()
                        .col_expr(api_key::Column::LastUsedAt, Expr::value(used_at.0))
                        .filter(api_key::COLUMN.id.eq(id.0))
                        .filter(before)
                        .exec(tx)
                        .await
                        .map_err(StorageError::on(KEY))?;
                }
                Ok(())
            })
        });
        noted.await?;
    }
    Ok(())
}

fn stored_scopes(scopes: Scopes) -> Option<String> {
    let words = || scopes.words().into_iter().map(str::to_owned).collect();
    (scopes != Scopes::KEY).then(|| json_list(words()))
}

/// Scopes as they are kept. A word of a newer version gives nothing here.
fn read_scopes(text: Option<&str>) -> Result<Scopes, StorageError> {
    let Some(text) = text else { return Ok(Scopes::KEY) };
    let words = read_json_list(text)?;
    let known = words.iter().map(String::as_str).filter(|word| Scopes::WORDS.contains(word));
    Ok(Scopes::parse(known).unwrap_or(Scopes::NONE))
}

fn info_of(key: api_key::Model) -> Result<KeyInfo, StorageError> {
    let budget = match (key.budget_nanousd, key.budget_window) {
        (Some(limit), Some(code)) => {
            let what = "a budget's window in the database";
            let window = BudgetWindow::from_db_code(code);
            let window = window.ok_or(StorageError::Bug { what, source: None })?;
            Some(KeyBudget { limit: NanoUsd(limit), window })
        }
        _ => None,
    };
    Ok(KeyInfo {
        budget,
        scopes: read_scopes(key.scopes.as_deref())?,
        last_used_at: key.last_used_at.map(UnixMicros),
        spent_since: key.spent_since.map(UnixMicros),
        spent_before: NanoUsd(key.spent_before),
        id: KeyId(key.id),
        account_id: AccountId(key.account_id),
        name: key.name,
        prefix: key.key_prefix,
        created_at: UnixMicros(key.created_at),
        expires_at: key.expires_at.map(UnixMicros),
        revoked_at: key.revoked_at.map(UnixMicros),
        allowed_faces: key.allowed_faces.map(|text| read_json_list(&text)).transpose()?,
        allowed_models: key.allowed_models.map(|text| read_json_list(&text)).transpose()?,
    })
}

/// A JSON list of texts, as kept in a text column.
pub(super) fn json_list(texts: Vec<String>) -> String {
    serde_json::Value::from(texts).to_string()
}

/// Inverse of [`json_list`].
pub(super) fn read_json_list(text: &str) -> Result<Vec<String>, StorageError> {
    serde_json::from_str(text)
        .map_err(|_| StorageError::Bug { what: "a JSON list in the database", source: None })
}
