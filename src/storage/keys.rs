//! API keys. The secret never comes here: only its hash does.

use entity::api_key;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};

use super::{Db, StorageError};
use crate::domain::{
    AccountId, ApiKeyHash, KeyId,
    clock::{self, UnixMicros},
};

const KEY: &str = "API key";

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
    db.run(KEY, move |db| async move {
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

/// The key with this hash, valid or not.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_key_by_hash(db: &Db, hash: ApiKeyHash) -> Result<Option<KeyInfo>, StorageError> {
    db.run(KEY, move |db| async move {
        let found = api_key::Entity::find()
            .filter(api_key::COLUMN.key_hash.eq(hash.0.to_vec()))
            .one(db.reader())
            .await
            .map_err(StorageError::on(KEY))?;
        found.map(info_of).transpose()
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

fn info_of(key: api_key::Model) -> Result<KeyInfo, StorageError> {
    Ok(KeyInfo {
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
