//! Personas and what they are made of.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `face`, `face_primitive`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(
            manager,
            &[
                "CREATE TABLE face (
                    id {id} PRIMARY KEY NOT NULL,
                    account_id {id} NOT NULL REFERENCES account (id),
                    username TEXT NOT NULL,
                    name TEXT NOT NULL,
                    facts TEXT NOT NULL,
                    default_model TEXT NULL,
                    default_tools TEXT NOT NULL,
                    formula TEXT NULL,
                    version {bigint} NOT NULL CHECK (version >= 1),
                    component_counts TEXT NULL,
                    created_at {bigint} NOT NULL,
                    updated_at {bigint} NOT NULL,
                    UNIQUE (account_id, username)
                ){strict}",
                "CREATE INDEX face_account_id ON face (account_id, id)",
                "CREATE TABLE face_primitive (
                    face_id {id} NOT NULL REFERENCES face (id) ON DELETE CASCADE,
                    position {bigint} NOT NULL,
                    component TEXT NOT NULL,
                    text TEXT NOT NULL,
                    weight {double} NOT NULL,
                    PRIMARY KEY (face_id, position)
                ){strict}",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, &["DROP TABLE face_primitive", "DROP TABLE face"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
