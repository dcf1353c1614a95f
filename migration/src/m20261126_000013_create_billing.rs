//! What was used by day, and what a payment provider told.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::ddl;

/// `usage_daily`, `usage_mark`, `billing_event`, `account.plan` and the index of what came in.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &[&str] = &[
    // What an account's settled holds add up to on a day (UTC, counted from 1970-01-01), by key,
    // face and model. Without a key or a face their id is 0: a column of a primary key is not NULL.
    "CREATE TABLE usage_daily (
        account_id {id} NOT NULL,
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
        PRIMARY KEY (account_id, day, key_id, face_id, model)
    ){clustered}",
    // One row: the holds with an id below `cut_id` are in `usage_daily`, all others are not.
    "CREATE TABLE usage_mark (
        id {smallint} PRIMARY KEY NOT NULL CHECK (id = 1),
        cut_id {id} NOT NULL,
        rolled_at {bigint} NOT NULL
    ){clustered}",
    // Events of a payment provider that named a payment, by its own id of the event.
    "CREATE TABLE billing_event (
        event_id TEXT PRIMARY KEY NOT NULL,
        kind TEXT NOT NULL,
        payment_ref TEXT NOT NULL,
        account_id {id} NULL,
        amount {bigint} NOT NULL,
        outcome TEXT NOT NULL,
        received_at {bigint} NOT NULL
    ){strict}",
    // A customer claims a payment by its reference.
    "CREATE INDEX billing_event_payment ON billing_event (payment_ref)",
    // What came into a wallet, among millions of charges (which are not in it).
    "CREATE INDEX ledger_transfer_incoming ON ledger_transfer (credit_account, id)
        WHERE kind IN (2, 3)",
    // The name of a configured plan; NULL: the first one.
    "ALTER TABLE account ADD COLUMN plan TEXT NULL",
];

const DOWN: &[&str] = &[
    "ALTER TABLE account DROP COLUMN plan",
    "DROP INDEX ledger_transfer_incoming",
    "DROP TABLE billing_event",
    "DROP TABLE usage_mark",
    "DROP TABLE usage_daily",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, UP).await?;
        let connection = manager.get_connection();
        let sqlite = connection.get_database_backend() == DbBackend::Sqlite;
        let id = if sqlite { "zeroblob(16)" } else { "'00000000-0000-0000-0000-000000000000'" };
        let insert = format!("INSERT INTO usage_mark (id, cut_id, rolled_at) VALUES (1, {id}, 0)");
        connection.execute_unprepared(&insert).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, DOWN).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
