//! One statement of a persona's knowledge, memory or style.

use sea_orm::entity::prelude::*;

/// A row of `face_primitive`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "face_primitive")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub face_id: Uuid,
    /// Position in the import, from 0.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    /// `alpha`, `beta`, `delta` or `epsilon`.
    #[sea_orm(column_type = "Text")]
    pub component: String,
    /// The statement.
    #[sea_orm(column_type = "Text")]
    pub text: String,
    /// Weight in the ranking.
    pub weight: f64,
    /// The face.
    #[sea_orm(belongs_to, from = "face_id", to = "id")]
    pub face: BelongsTo<super::face::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
