//! Customers and their credentials.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `account`, `api_key`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(
            manager,
            &[
                "CREATE TABLE account (
                    id {id} PRIMARY KEY NOT NULL,
                    name TEXT NOT NULL,
                    created_at {bigint} NOT NULL
                ){strict}",
                "CREATE TABLE api_key (
                    id {id} PRIMARY KEY NOT NULL,
                    account_id {id} NOT NULL REFERENCES account (id),
                    name TEXT NOT NULL,
                    key_hash {bytes} NOT NULL UNIQUE CHECK (length(key_hash) = 32),
                    key_prefix TEXT NOT NULL,
                    created_at {bigint} NOT NULL,
                    expires_at {bigint} NULL,
                    revoked_at {bigint} NULL,
                    allowed_faces TEXT NULL,
                    allowed_models TEXT NULL
                ){strict}",
                "CREATE INDEX api_key_account_id ON api_key (account_id, id)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, &["DROP TABLE api_key", "DROP TABLE account"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
