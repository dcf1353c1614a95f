//! A wallet, the budget of a key in one window, or an account of the operator. Counters only grow; money is nano-USD.

use sea_orm::entity::prelude::*;

/// A row of `ledger_account`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ledger_account")]
pub struct Model {
    /// A wallet has the id of its `account`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// 1 wallet, 2 a key's budget; from 100 on the operator's accounts.
    pub kind: i16,
    /// Whose: an account's, or the key's of a budget.
    pub owner_id: Uuid,
    /// The wallet that a cap belongs to.
    pub parent_id: Option<Uuid>,
    /// Start of a cap's window, microseconds.
    pub window_start: Option<i64>,
    /// All that ever came in; of a budget, its limit.
    pub credits: i64,
    /// All that was ever charged.
    pub debits: i64,
    /// Held by running requests.
    pub leased: i64,
    /// How far `debits + leased` may exceed `credits`.
    pub overdraft_limit: i64,
    /// 1 frozen, 2 closed.
    pub flags: i32,
    /// Asks instances to return what they retain.
    pub recall_seq: i64,
    /// Grows with each administrative change.
    pub version: i64,
    /// Kind of a cap's window, as `api_key.budget_window`.
    pub cap_window: Option<i16>,
}

impl ActiveModelBehavior for ActiveModel {}
