//! What an account's owner prefers.

use entity::account;
use sea_orm::{EntityTrait, QueryFilter, sea_query::Expr};

use super::{Db, StorageError};
use crate::domain::AccountId;

const ACCOUNT: &str = "account";

/// Preferences of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    /// Whether the account pays when a linked provider fails.
    pub api_fallback: bool,
    /// Model of its faces that have none of their own; `None` for the server's.
    pub default_model: Option<String>,
}

/// What of the preferences becomes another; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PreferenceChange {
    /// See [`Preferences::api_fallback`].
    pub api_fallback: Option<bool>,
    /// See [`Preferences::default_model`]; `Some(None)` for the server's.
    pub default_model: Option<Option<String>>,
}

/// An account's preferences, if it exists.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn read_preferences(db: &Db, id: AccountId) -> Result<Option<Preferences>, StorageError> {
    db.read(ACCOUNT, move |db| async move {
        let found = account::Entity::find_by_id(id.0).one(db.reader()).await;
        Ok(found.map_err(StorageError::on(ACCOUNT))?.map(preferences_of))
    })
    .await
}

/// Changes preferences; answers them afterwards, `None` without such an account.
///
/// # Errors
/// [`StorageError::Unavailable`] and the like, after which it may have been written.
pub async fn change_preferences(
    db: &Db,
    id: AccountId,
    change: PreferenceChange,
) -> Result<Option<Preferences>, StorageError> {
    db.run(ACCOUNT, move |db| async move {
        let mut update = account::Entity::update_many().filter(account::COLUMN.id.eq(id.0));
        let is_change = change != PreferenceChange::default();
        if let Some(fallback) = change.api_fallback {
            let fallback = Expr::value(i16::from(fallback));
            update = update.col_expr(account::Column::ApiFallback, fallback);
        }
        if let Some(model) = change.default_model {
            update = update.col_expr(account::Column::DefaultModel, Expr::value(model));
        }
        let writer = db.writer(ACCOUNT)?;
        if is_change {
            update.exec(writer).await.map_err(StorageError::on(ACCOUNT))?;
        }
        let found = account::Entity::find_by_id(id.0).one(writer).await;
        Ok(found.map_err(StorageError::on(ACCOUNT))?.map(preferences_of))
    })
    .await
}

fn preferences_of(account: account::Model) -> Preferences {
    Preferences { api_fallback: account.api_fallback != 0, default_model: account.default_model }
}
