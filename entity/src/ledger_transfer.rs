//! An immutable line of the books.

use sea_orm::entity::prelude::*;

/// A row of `ledger_transfer`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ledger_transfer")]
pub struct Model {
    /// Time-ordered; the hold's id for everything that a hold causes, so that with `kind` it proves
    /// that no hold is charged twice.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// 1 charge, 2 top-up, 3 promo, 4 overrun, 5 provider cost.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: i16,
    /// Where the money comes from.
    pub debit_account: Uuid,
    /// Where it goes to.
    pub credit_account: Uuid,
    /// Nano-USD, not negative.
    pub amount: i64,
    /// The hold that it settles.
    pub hold_id: Option<Uuid>,
    /// The payment's own id: makes a top-up idempotent.
    #[sea_orm(column_type = "Text", nullable, unique)]
    pub external_ref: Option<String>,
    /// The instance that wrote it.
    pub instance_id: Option<Uuid>,
    /// In which flush.
    pub flush_seq: Option<i64>,
    /// Microseconds, UTC.
    pub created_at: i64,
    /// For people.
    #[sea_orm(column_type = "Text", nullable)]
    pub memo: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
