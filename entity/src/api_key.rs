//! A credential. The secret itself is nowhere: only its SHA-256 is kept.

use sea_orm::entity::prelude::*;

/// A row of `api_key`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    /// Public id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose.
    pub account_id: Uuid,
    /// For people.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// SHA-256 of the whole key, 32 bytes.
    #[sea_orm(unique)]
    pub key_hash: Vec<u8>,
    /// The first characters, for lists.
    #[sea_orm(column_type = "Text")]
    pub key_prefix: String,
    /// Microseconds, UTC.
    pub created_at: i64,
    /// Microseconds, UTC; `None` never expires.
    pub expires_at: Option<i64>,
    /// Microseconds, UTC; `None` while it is valid.
    pub revoked_at: Option<i64>,
    /// JSON list of usernames; `None` allows every face.
    #[sea_orm(column_type = "Text", nullable)]
    pub allowed_faces: Option<String>,
    /// JSON list of model ids; `None` allows every model.
    #[sea_orm(column_type = "Text", nullable)]
    pub allowed_models: Option<String>,
    /// Most nano-USD that a window may cost; `None` for no budget.
    pub budget_nanousd: Option<i64>,
    /// 1 none, 2 daily, 3 weekly, 4 monthly; set with the budget.
    pub budget_window: Option<i16>,
    /// JSON list of scopes; `None` is `["v1:*"]`.
    #[sea_orm(column_type = "Text", nullable)]
    pub scopes: Option<String>,
    /// Microseconds, UTC, to the minute or so; `None` while it was never used.
    pub last_used_at: Option<i64>,
    /// Microseconds, UTC: what it spent is counted from here; `None` for all the time.
    pub spent_since: Option<i64>,
    /// Nano-USD that it had spent in all by then.
    pub spent_before: i64,
    /// The owner.
    #[sea_orm(belongs_to, from = "account_id", to = "id")]
    pub account: BelongsTo<super::account::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
