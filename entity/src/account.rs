//! A customer: the owner of keys, faces and a wallet.

use sea_orm::entity::prelude::*;

/// A row of `account`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "account")]
pub struct Model {
    /// Also the id of the wallet in `ledger_account`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// For people; not unique.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// Microseconds, UTC.
    pub created_at: i64,
    /// Name of its plan; `None` is the first one of the configuration.
    #[sea_orm(column_type = "Text", nullable)]
    pub plan: Option<String>,
    /// 1: a failed call of a linked provider may be paid by the account; else 0.
    pub api_fallback: i16,
    /// Model of its faces that have none of their own; `None` for the server's.
    #[sea_orm(column_type = "Text", nullable)]
    pub default_model: Option<String>,
    /// Its credentials.
    #[sea_orm(has_many)]
    pub api_keys: HasMany<super::api_key::Entity>,
    /// Its personas.
    #[sea_orm(has_many)]
    pub faces: HasMany<super::face::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
