//! Budgets of keys: the limit on the key, the kind of window on the account that keeps count.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `api_key.budget_…`, `ledger_account.cap_window` and the indexes that go with them.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    "ALTER TABLE api_key ADD COLUMN budget_nanousd {bigint} NULL CHECK (budget_nanousd >= 0)",
    // 1 none, 2 daily, 3 weekly, 4 monthly.
    "ALTER TABLE api_key ADD COLUMN budget_window {smallint} NULL
        CHECK (budget_window BETWEEN 1 AND 4)",
    // A day, a week and a month may begin at the same moment and are counted apart.
    "ALTER TABLE ledger_account ADD COLUMN cap_window {smallint} NULL",
    "DROP INDEX ledger_account_cap",
    "CREATE UNIQUE INDEX ledger_account_cap
        ON ledger_account (owner_id, cap_window, window_start) WHERE kind = 2",
    // What a key has spent, without reading the table.
    "CREATE INDEX ledger_hold_key ON ledger_hold (key_id, cost) WHERE cost > 0",
];

const DOWN: &[&str] = &[
    "DROP INDEX ledger_hold_key",
    "DROP INDEX ledger_account_cap",
    "ALTER TABLE ledger_account DROP COLUMN cap_window",
    "CREATE UNIQUE INDEX ledger_account_cap ON ledger_account (owner_id, window_start)
        WHERE kind = 2",
    "ALTER TABLE api_key DROP COLUMN budget_window",
    "ALTER TABLE api_key DROP COLUMN budget_nanousd",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, DOWN).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
