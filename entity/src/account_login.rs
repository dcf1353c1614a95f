//! How a person logs in to an account. Accounts made by an administrator may have none.

use sea_orm::entity::prelude::*;

/// A row of `account_login`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "account_login")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: Uuid,
    /// In lowercase.
    #[sea_orm(column_type = "Text", unique)]
    pub email: String,
    /// Lowercase letters, digits and dashes.
    #[sea_orm(column_type = "Text", unique)]
    pub username: String,
    /// argon2id, with its salt and parameters (PHC string).
    #[sea_orm(column_type = "Text")]
    pub password_hash: String,
    /// Login tokens of another epoch are over.
    pub token_epoch: i64,
    /// Microseconds, UTC.
    pub created_at: i64,
    /// Microseconds, UTC.
    pub password_set_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
