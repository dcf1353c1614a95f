//! Idempotency keys: which hold answers a key, and what its client got.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `ledger_idem`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    // State 1 in progress, 2 done. A row is written with its hold, changed or deleted with the
    // hold's end, and deleted some time after `expires_at`. Not clustered: bodies are large.
    "CREATE TABLE ledger_idem (
        account_id {id} NOT NULL,
        key TEXT NOT NULL,
        fingerprint {bytes} NOT NULL CHECK (length(fingerprint) = 32),
        hold_id {id} NOT NULL,
        state {smallint} NOT NULL CHECK (state BETWEEN 1 AND 2),
        status {int} NULL,
        content_type TEXT NULL,
        body {bytes} NULL,
        created_at {bigint} NOT NULL,
        expires_at {bigint} NOT NULL,
        PRIMARY KEY (account_id, key),
        CHECK ((status IS NULL) = (body IS NULL) AND (content_type IS NULL) = (body IS NULL)),
        CHECK (state = 2 OR body IS NULL)
    ){strict}",
    // The end of a hold and recovery find the key by it.
    "CREATE UNIQUE INDEX ledger_idem_hold ON ledger_idem (hold_id)",
    // What has expired is deleted oldest first; a request in progress never expires.
    "CREATE INDEX ledger_idem_expiry ON ledger_idem (expires_at) WHERE state = 2",
];

const DOWN: &[&str] = &["DROP TABLE ledger_idem"];

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
