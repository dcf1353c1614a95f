//! What leases that outlive a request need: a hold's cap, and the leases of an account.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `ledger_hold.cap_account_id` and the indexes that go with it.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    // The key's budget that the hold reserves too.
    "ALTER TABLE ledger_hold ADD COLUMN cap_account_id {id} NULL",
    // A flush sums what the leases of its accounts have not folded.
    "CREATE INDEX ledger_lease_account ON ledger_lease (account_id) WHERE state = 1",
    // What an account's running requests hold.
    "DROP INDEX ledger_hold_open",
    "CREATE INDEX ledger_hold_open ON ledger_hold (instance_id, account_id) WHERE state = 1",
    // A window of a key's budget is one row.
    "CREATE UNIQUE INDEX ledger_account_cap ON ledger_account (owner_id, window_start)
        WHERE kind = 2",
];

const DOWN: &[&str] = &[
    "DROP INDEX ledger_account_cap",
    "DROP INDEX ledger_hold_open",
    "CREATE INDEX ledger_hold_open ON ledger_hold (instance_id) WHERE state = 1",
    "DROP INDEX ledger_lease_account",
    "ALTER TABLE ledger_hold DROP COLUMN cap_account_id",
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
