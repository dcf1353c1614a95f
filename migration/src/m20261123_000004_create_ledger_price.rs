//! The append-only price list.

use sea_orm_migration::prelude::*;

use crate::ddl;

/// `ledger_price`.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(
            manager,
            &[
                "CREATE TABLE ledger_price (
                    id {bigserial},
                    model TEXT NOT NULL,
                    markup_bps {bigint} NOT NULL CHECK (markup_bps >= 0),
                    input_pico {bigint} NOT NULL CHECK (input_pico >= 0),
                    cache_read_pico {bigint} NOT NULL CHECK (cache_read_pico >= 0),
                    cache_write_5m_pico {bigint} NOT NULL CHECK (cache_write_5m_pico >= 0),
                    cache_write_1h_pico {bigint} NOT NULL CHECK (cache_write_1h_pico >= 0),
                    output_pico {bigint} NOT NULL CHECK (output_pico >= 0),
                    valid_from {bigint} NOT NULL
                ){strict}",
                "CREATE INDEX ledger_price_model ON ledger_price (model, id)",
            ],
        )
        .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, &["DROP TABLE ledger_price"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
