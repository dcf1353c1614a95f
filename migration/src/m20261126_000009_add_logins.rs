//! People who log in, what they prefer, and what their keys may do.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `account_login`, `server_secret`, preferences of `account`, and scopes, last use and a restarted
/// budget of `api_key`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    "ALTER TABLE account ADD COLUMN api_fallback {smallint} NOT NULL DEFAULT 0
        CHECK (api_fallback IN (0, 1))",
    "ALTER TABLE account ADD COLUMN default_model TEXT NULL",
    // An account without a row here can't log in. The address is kept in lowercase.
    "CREATE TABLE account_login (
        account_id {id} PRIMARY KEY NOT NULL REFERENCES account (id),
        email TEXT NOT NULL UNIQUE,
        username TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        token_epoch {bigint} NOT NULL CHECK (token_epoch >= 0),
        created_at {bigint} NOT NULL,
        password_set_at {bigint} NOT NULL
    ){strict}",
    // What all instances must know and nobody else.
    "CREATE TABLE server_secret (
        name TEXT PRIMARY KEY NOT NULL,
        secret {bytes} NOT NULL CHECK (length(secret) = 32),
        created_at {bigint} NOT NULL
    ){strict}",
    // JSON list of scopes; without one the key may do everything that a key can.
    "ALTER TABLE api_key ADD COLUMN scopes TEXT NULL",
    "ALTER TABLE api_key ADD COLUMN last_used_at {bigint} NULL",
    // When its owner had what it spent counted from 0 again.
    "ALTER TABLE api_key ADD COLUMN spent_since {bigint} NULL",
    // What it had spent in all by then.
    "ALTER TABLE api_key ADD COLUMN spent_before {bigint} NOT NULL DEFAULT 0
        CHECK (spent_before >= 0)",
];

const DOWN: &[&str] = &[
    "ALTER TABLE api_key DROP COLUMN spent_before",
    "ALTER TABLE api_key DROP COLUMN spent_since",
    "ALTER TABLE api_key DROP COLUMN last_used_at",
    "ALTER TABLE api_key DROP COLUMN scopes",
    "DROP TABLE server_secret",
    "DROP TABLE account_login",
    "ALTER TABLE account DROP COLUMN default_model",
    "ALTER TABLE account DROP COLUMN api_fallback",
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
