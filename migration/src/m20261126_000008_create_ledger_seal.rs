//! How far the books were audited, and what they added up to until there.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// The `ledger_seal…` tables.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    // One row: holds, transfers and usage with an id below `cut_id` were audited and don't change.
    "CREATE TABLE ledger_seal (
        id {smallint} PRIMARY KEY NOT NULL CHECK (id = 1),
        cut_id {id} NOT NULL,
        sealed_at {bigint} NOT NULL,
        holds_settled {bigint} NOT NULL CHECK (holds_settled >= 0),
        holds_voided {bigint} NOT NULL CHECK (holds_voided >= 0),
        holds_recovered {bigint} NOT NULL CHECK (holds_recovered >= 0),
        transfers {bigint} NOT NULL CHECK (transfers >= 0),
        usage_rows {bigint} NOT NULL CHECK (usage_rows >= 0)
    ){clustered}",
    // Transfers below the cut to and from an account; of a key's budget, what its holds cost.
    "CREATE TABLE ledger_seal_account (
        account_id {id} PRIMARY KEY NOT NULL,
        credited {bigint} NOT NULL,
        debited {bigint} NOT NULL,
        costs {bigint} NOT NULL
    ){clustered}",
    // What an instance's holds below the cut cost an account.
    "CREATE TABLE ledger_seal_lease (
        instance_id {id} NOT NULL,
        account_id {id} NOT NULL,
        cost {bigint} NOT NULL,
        PRIMARY KEY (instance_id, account_id)
    ){clustered}",
];

const DOWN: &[&str] =
    &["DROP TABLE ledger_seal_lease", "DROP TABLE ledger_seal_account", "DROP TABLE ledger_seal"];

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
