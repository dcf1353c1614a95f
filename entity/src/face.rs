//! A persona.

use sea_orm::entity::prelude::*;

/// A row of `face`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "face")]
pub struct Model {
    /// Time-ordered, so it is the order of creation too.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose.
    pub account_id: Uuid,
    /// Unique within its account.
    #[sea_orm(column_type = "Text")]
    pub username: String,
    /// For people.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// JSON object of normalised facts.
    #[sea_orm(column_type = "Text")]
    pub facts: String,
    /// Model that answers when the request names none.
    #[sea_orm(column_type = "Text", nullable)]
    pub default_model: Option<String>,
    /// JSON list of tool names.
    #[sea_orm(column_type = "Text")]
    pub default_tools: String,
    /// Boolean formula of a composed face.
    #[sea_orm(column_type = "Text", nullable)]
    pub formula: Option<String>,
    /// For people.
    #[sea_orm(column_type = "Text", nullable)]
    pub description: Option<String>,
    /// Text that follows the profile in prompts.
    #[sea_orm(column_type = "Text", nullable)]
    pub profile_addendum: Option<String>,
    /// Grows by one with each change of the face or its primitives.
    pub version: i64,
    /// JSON object of primitives by component; `None` before the first import.
    #[sea_orm(column_type = "Text", nullable)]
    pub component_counts: Option<String>,
    /// Microseconds, UTC.
    pub created_at: i64,
    /// Microseconds, UTC.
    pub updated_at: i64,
    /// The owner.
    #[sea_orm(belongs_to, from = "account_id", to = "id")]
    pub account: BelongsTo<super::account::Entity>,
    /// What it knows and how it speaks.
    #[sea_orm(has_many)]
    pub primitives: HasMany<super::face_primitive::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
