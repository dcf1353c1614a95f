//! Where faces stand in the space of an embedder.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `face_centroid`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(
            manager,
            // All components of a face are written together; one without statements has no vector.
            &["CREATE TABLE face_centroid (
                face_id {id} NOT NULL REFERENCES face (id) ON DELETE CASCADE,
                component TEXT NOT NULL,
                embedder TEXT NOT NULL,
                dimensions {int} NOT NULL CHECK (dimensions >= 0),
                vector {bytes} NULL CHECK ((vector IS NULL) = (dimensions = 0)),
                face_version {bigint} NOT NULL CHECK (face_version >= 1),
                source {bytes} NOT NULL,
                PRIMARY KEY (face_id, component)
            ){strict}"],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, &["DROP TABLE face_centroid"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
