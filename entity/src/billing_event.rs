//! What a payment provider told about a payment.

use sea_orm::entity::prelude::*;

/// A row of `billing_event`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "billing_event")]
pub struct Model {
    /// The provider's id of the event: it is taken once.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub event_id: String,
    /// `payment.succeeded` or `payment.refunded`.
    #[sea_orm(column_type = "Text")]
    pub kind: String,
    /// The payment's own id; becomes the reference of its top-up.
    #[sea_orm(column_type = "Text")]
    pub payment_ref: String,
    /// Whose payment it is, when the provider said it.
    pub account_id: Option<Uuid>,
    /// Nano-USD.
    pub amount: i64,
    /// `booked`, `unclaimed` or `noted`.
    #[sea_orm(column_type = "Text")]
    pub outcome: String,
    /// Microseconds, UTC.
    pub received_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
