//! What an owner says about a face: for people, and for its prompts.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `face.description` and `face.profile_addendum`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(
            manager,
            &[
                "ALTER TABLE face ADD COLUMN description TEXT NULL",
                "ALTER TABLE face ADD COLUMN profile_addendum TEXT NULL",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(
            manager,
            &[
                "ALTER TABLE face DROP COLUMN profile_addendum",
                "ALTER TABLE face DROP COLUMN description",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
