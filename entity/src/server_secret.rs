//! A secret that all instances of a server share.

use sea_orm::entity::prelude::*;

/// A row of `server_secret`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "server_secret")]
pub struct Model {
    /// What it is for.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub name: String,
    /// 32 random bytes.
    pub secret: Vec<u8>,
    /// Microseconds, UTC.
    pub created_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
