//! The price list. Rows are only added: a hold is settled at the price it was opened with.

use entity::ledger_price;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::Query,
};

use super::{Db, StorageError};
use crate::domain::{ChargeRate, PriceId, clock};

const PRICE: &str = "price";

/// The id of `rate` as the newest price of `model`; adds a row when the newest one differs.
///
/// Two servers that add the same price at once make two equal rows, which harms nothing.
///
/// # Errors
/// [`StorageError::Bug`] for a negative price, [`StorageError::Unavailable`].
pub async fn sync_price(db: &Db, model: &str, rate: ChargeRate) -> Result<PriceId, StorageError> {
    let (model, valid_from) = (model.to_owned(), clock::now());
    db.in_transaction(PRICE, move |tx| {
        let model = model.clone();
        Box::pin(async move {
            let newest = ledger_price::Entity::find()
                .filter(ledger_price::COLUMN.model.eq(model.clone()))
                .order_by_desc(ledger_price::COLUMN.id)
                .one(tx)
                .await
                .map_err(StorageError::on(PRICE))?;
            if let Some(newest) = newest.filter(|row| rate_of(row) == rate) {
                return Ok(PriceId(newest.id));
            }
            let row = ledger_price::ActiveModel {
                model: Set(model),
                markup_bps: Set(rate.markup_bps),
                input_pico: Set(rate.prices.input_pico),
                cache_read_pico: Set(rate.prices.cache_read_pico),
                cache_write_5m_pico: Set(rate.prices.cache_write_5m_pico),
                cache_write_1h_pico: Set(rate.prices.cache_write_1h_pico),
                output_pico: Set(rate.prices.output_pico),
                valid_from: Set(valid_from.0),
                ..Default::default()
            };
            let inserted = row.insert(tx).await.map_err(StorageError::on(PRICE))?;
            Ok(PriceId(inserted.id))
        })
    })
    .await
}

/// The newest price of each model that ever had one, with the row that says so.
///
/// # Errors
/// [`StorageError::Unavailable`].
///
/// # Cancel safety
/// It only reads; dropping the future lets it end in the background.
pub async fn newest_prices(db: &Db) -> Result<Vec<(String, PriceId, ChargeRate)>, StorageError> {
    db.read(PRICE, move |db| async move {
        // By model and not by the highest id seen: on PostgreSQL a lower one may be committed later.
        let newest = Query::select()
            .expr(ledger_price::Column::Id.max())
            .from(ledger_price::Entity)
            .group_by_col(ledger_price::Column::Model)
            .to_owned();
        let found = ledger_price::Entity::find()
            .filter(ledger_price::Column::Id.in_subquery(newest))
            .all(db.reader())
            .await
            .map_err(StorageError::on(PRICE))?;
        Ok(found
            .into_iter()
            .map(|row| (row.model.clone(), PriceId(row.id), rate_of(&row)))
            .collect())
    })
    .await
}

/// The price that a hold pinned.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub async fn find_price(db: &Db, id: PriceId) -> Result<Option<ChargeRate>, StorageError> {
    db.read(PRICE, move |db| async move {
        let found = ledger_price::Entity::find_by_id(id.0).one(db.reader()).await;
        Ok(found.map_err(StorageError::on(PRICE))?.as_ref().map(rate_of))
    })
    .await
}

fn rate_of(row: &ledger_price::Model) -> ChargeRate {
    ChargeRate {
        prices: crate::domain::TokenPrices {
            input_pico: row.input_pico,
            cache_read_pico: row.cache_read_pico,
            cache_write_5m_pico: row.cache_write_5m_pico,
            cache_write_1h_pico: row.cache_write_1h_pico,
            output_pico: row.output_pico,
        },
        markup_bps: row.markup_bps,
    }
}
