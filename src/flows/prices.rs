//! The price of each model as pinned by holds.

use std::collections::HashMap;

use super::Failure;
use crate::{
    domain::{ChargeRate, ErrorCode, PriceId},
    providers::{Catalog, Model},
    storage::{Db, StorageError, prices as storage_prices},
};

/// A model's price row and what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Price {
    pub(super) id: PriceId,
    pub(super) rate: ChargeRate,
}

/// Prices by model id, written to the append-only price list at start.
#[derive(Debug)]
pub(super) struct PriceBook {
    by_model: HashMap<String, Price>,
}

impl PriceBook {
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
        Ok(Self { by_model })
    }

    /// # Errors
    /// 500 for a model that was not in the catalog at start: a bug.
    pub(super) fn of(&self, model: &Model) -> Result<Price, Failure> {
        self.by_model.get(&model.id).copied().ok_or_else(|| {
            log::error!(target: "faces::flows", "the model {:?} has no price row", model.id);
            Failure::new(ErrorCode::Internal, super::failure::INTERNAL_MESSAGE)
        })
    }
}
