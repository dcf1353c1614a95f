//! Rates of keys and accounts that differ from the server's own.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `rate_limit`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    // Of a key or of an account (its id). NULL: the server's own rate; 0: none. A row is never
    // deleted, so that servers see each change by `changed_at`.
    "CREATE TABLE rate_limit (
        subject_id {id} PRIMARY KEY NOT NULL,
        requests_per_minute {bigint} NULL CHECK (requests_per_minute >= 0),
        tokens_per_minute {bigint} NULL CHECK (tokens_per_minute >= 0),
        changed_at {bigint} NOT NULL
    ){clustered}",
    // What was changed since a server looked last.
    "CREATE INDEX rate_limit_changed ON rate_limit (changed_at)",
];

const DOWN: &[&str] = &["DROP TABLE rate_limit"];

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
