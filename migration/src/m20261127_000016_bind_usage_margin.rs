//! No mark of usage without its margins.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::ddl;

/// `usage_mark.margin_cut_id`, and `usage_margin` filled anew.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    // The holds with an id below it are in `usage_margin`: always those that are in `usage_daily`. A
    // server that knows nothing of margins moves `cut_id` alone, which the database refuses, so what
    // it would have added stays in the tail. On PostgreSQL this statement waits for one that is
    // adding, and keeps others out until the margins are filled.
    "ALTER TABLE usage_mark ADD COLUMN margin_cut_id {id} NULL CHECK (margin_cut_id = cut_id)",
    "UPDATE usage_mark SET margin_cut_id = cut_id",
    "DELETE FROM usage_margin",
];

const DOWN: &[&str] = &["ALTER TABLE usage_mark DROP COLUMN margin_cut_id"];

/// Kind, key, face and model of a margin's rows, and what they are grouped by.
const MARGINS: [(&str, &str); 3] = [
    ("1, day, key_id, {nil}, ''", "key_id"),
    ("2, day, {nil}, face_id, ''", "face_id"),
    ("3, day, {nil}, {nil}, model", "model"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, UP).await?;
        let connection = manager.get_connection();
        let sqlite = connection.get_database_backend() == DbBackend::Sqlite;
        let nil =
            if sqlite { "zeroblob(16)" } else { "'00000000-0000-0000-0000-000000000000'::uuid" };
        for (margin, group) in MARGINS {
            let fill = format!(
                "INSERT INTO usage_margin SELECT account_id, {margin}, SUM(requests),
                    SUM(input_tokens), SUM(cached_tokens), SUM(output_tokens), SUM(provider_cost),
                    SUM(cost)
                FROM usage_daily GROUP BY account_id, day, {group}"
            );
            connection.execute_unprepared(&fill.replace("{nil}", nil)).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, DOWN).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
