//! The price list: rows are only ever added, and a hold pins the row it was opened with.

use sea_orm::entity::prelude::*;

/// A row of `ledger_price`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ledger_price")]
pub struct Model {
    /// Grows; the newest row of a model is the valid one.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The catalog's model id.
    #[sea_orm(column_type = "Text")]
    pub model: String,
    /// Markup in basis points of the provider's cost.
    pub markup_bps: i64,
    /// Pico-USD per uncached input token.
    pub input_pico: i64,
    /// Pico-USD per input token read from a cache.
    pub cache_read_pico: i64,
    /// Pico-USD per input token written to a 5-minute cache.
    pub cache_write_5m_pico: i64,
    /// Pico-USD per input token written to a 1-hour cache.
    pub cache_write_1h_pico: i64,
    /// Pico-USD per output token.
    pub output_pico: i64,
    /// Microseconds, UTC.
    pub valid_from: i64,
}

impl ActiveModelBehavior for ActiveModel {}
