//! Usage by one thing at a time.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::ddl;

/// `usage_margin`, filled from `usage_daily`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    // What `usage_daily` adds up to by key (kind 1), face (2) or model (3) alone. Where it is not by
    // keys or faces their id is 0, where it is not by models that is empty.
    "CREATE TABLE usage_margin (
        account_id {id} NOT NULL,
        kind {smallint} NOT NULL CHECK (kind BETWEEN 1 AND 3),
        day {int} NOT NULL,
        key_id {id} NOT NULL,
        face_id {id} NOT NULL,
        model TEXT NOT NULL,
        requests {bigint} NOT NULL CHECK (requests > 0),
        input_tokens {bigint} NOT NULL,
        cached_tokens {bigint} NOT NULL,
        output_tokens {bigint} NOT NULL,
        provider_cost {bigint} NOT NULL CHECK (provider_cost >= 0),
        cost {bigint} NOT NULL CHECK (cost >= provider_cost),
        PRIMARY KEY (account_id, kind, day, key_id, face_id, model)
    ){clustered}",
];

const DOWN: &[&str] = &["DROP TABLE usage_margin"];

/// Kind, key, face and model of a margin's rows.
const MARGINS: [&str; 3] =
    ["1, day, key_id, {nil}, ''", "2, day, {nil}, face_id, ''", "3, day, {nil}, {nil}, model"];
const GROUPS: [&str; 3] = ["key_id", "face_id", "model"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, UP).await?;
        let connection = manager.get_connection();
        let sqlite = connection.get_database_backend() == DbBackend::Sqlite;
        let nil =
            if sqlite { "zeroblob(16)" } else { "'00000000-0000-0000-0000-000000000000'::uuid" };
        for (margin, group) in MARGINS.iter().zip(GROUPS) {
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
