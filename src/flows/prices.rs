//! The price of each model as pinned by holds.
//!
//! The price list in the database decides: a server writes what its models file says when it starts,
//! and all others follow within `cache_ttl_ms`. So of several instances none charges yesterday's
//! price, and the one that starts last with another price changes it for all.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use super::{Failure, Flows};
use crate::{
    domain::{ChargeRate, ErrorCode, PriceId},
    providers::{Catalog, Model},
    storage::{Db, StorageError, prices as storage_prices},
};

/// How often the price list is read at most, ms, however short `cache_ttl_ms` is.
const FOLLOW_MS_MIN: u64 = 100;

/// A model's price row and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) id: PriceId,
    pub(super) rate: ChargeRate,
}

/// Prices by model id, as the append-only price list has them.
#[derive(Debug)]
pub(super) struct PriceBook {
    by_model: RwLock<HashMap<String, Price>>,
}

impl PriceBook {
    /// Writes the prices of the catalog to the price list where they are new.
    pub(super) async fn load(
        db: &Db,
        catalog: &Catalog,
        markup_bps: i64,
    ) -> Result<Self, StorageError> {
        let mut by_model = HashMap::new();
        for model in catalog.listed().chain(catalog.embedding_model()) {
            let rate = ChargeRate { prices: model.prices, markup_bps };
            let id = storage_prices::sync_price(db, &model.id, rate).await?;
            by_model.insert(model.id.clone(), Price { id, rate });
        }
        Ok(Self { by_model: RwLock::new(by_model) })
    }

    /// # Errors
    /// 500 for a model that was not in the catalog at start: a bug.
    pub(super) fn of(&self, model: &Model) -> Result<Price, Failure> {
        let by_model = self.by_model.read().unwrap_or_else(PoisonError::into_inner);
        by_model.get(&model.id).copied().ok_or_else(|| {
            log::error!(target: "faces::flows", "the model {:?} has no price row", model.id);
            Failure::new(ErrorCode::Internal, super::failure::INTERNAL_MESSAGE)
        })
    }

    /// Takes over what another server has changed. Rows only become newer, so a reading that was
    /// slow changes nothing back.
    async fn read_again(&self, db: &Db) -> Result<(), StorageError> {
        let newest = storage_prices::newest_prices(db).await?;
        let mut by_model = self.by_model.write().unwrap_or_else(PoisonError::into_inner);
        for (model, id, rate) in newest {
            if let Some(price) = by_model.get_mut(&model).filter(|price| price.id < id) {
                if price.rate != rate {
                    log::info!(target: "faces::flows", "another server has changed the price of {model:?}");
                }
                *price = Price { id, rate };
            }
        }
        Ok(())
    }
}

impl Flows {
    /// Follows the price list until it is dropped. A failure is logged, and yesterday's prices go on.
    ///
    /// # Cancel safety
    /// Dropped anywhere, the prices are those of the last complete reading.
    pub async fn follow_prices(&self) {
        let platform = &self.inner.platform.inner;
        let interval = Duration::from_millis(platform.limits.cache_ttl_ms.max(FOLLOW_MS_MIN));
        loop {
            tokio::time::sleep(interval).await;
            if let Err(error) = self.inner.prices.read_again(&platform.db).await {
                let chain = crate::telemetry::chain(&error);
                log::warn!(target: "faces::flows", "the price list is not read: {chain}");
            }
        }
    }
}
