//! Wallets, the operator's accounts and the books.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `ledger_account`, `ledger_transfer`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(
            manager,
            &[
                "CREATE TABLE ledger_account (
                    id {id} PRIMARY KEY NOT NULL,
                    kind {smallint} NOT NULL,
                    owner_id {id} NOT NULL,
                    parent_id {id} NULL,
                    window_start {bigint} NULL,
                    credits {bigint} NOT NULL DEFAULT 0,
                    debits {bigint} NOT NULL DEFAULT 0,
                    leased {bigint} NOT NULL DEFAULT 0,
                    overdraft_limit {bigint} NOT NULL DEFAULT 0,
                    flags {int} NOT NULL DEFAULT 0,
                    recall_seq {bigint} NOT NULL DEFAULT 0,
                    version {bigint} NOT NULL DEFAULT 0,
                    UNIQUE (owner_id, kind, window_start),
                    CHECK (credits >= 0 AND debits >= 0 AND leased >= 0),
                    CHECK (kind >= 100 OR debits + leased <= credits + overdraft_limit)
                ){strict}",
                "CREATE TABLE ledger_transfer (
                    id {id} PRIMARY KEY NOT NULL,
                    kind {smallint} NOT NULL,
                    debit_account {id} NOT NULL,
                    credit_account {id} NOT NULL,
                    amount {bigint} NOT NULL CHECK (amount >= 0),
                    hold_id {id} NULL,
                    external_ref TEXT NULL UNIQUE,
                    instance_id {id} NULL,
                    flush_seq {bigint} NULL,
                    created_at {bigint} NOT NULL,
                    memo TEXT NULL
                ){strict}",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, &["DROP TABLE ledger_transfer", "DROP TABLE ledger_account"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
