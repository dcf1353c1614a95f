//! The models that can be used in an override.

use super::{Caller, Failure, Platform};
use crate::{domain::ErrorCode, providers::Model, wire::models::ModelCard};

impl Platform {
    /// Every usable model that the key may use, in the catalog's order.
    #[must_use]
    pub fn models(&self, caller: &Caller) -> Vec<ModelCard> {
        self.inner
            .catalog
            .listed()
            .filter(|model| may_use(caller, model))
            .map(|model| card(model))
            .collect()
    }

    /// One usable model, by id or alias.
    ///
    /// # Errors
    /// 404 `model_not_found`.
    pub fn model(&self, caller: &Caller, id: &str) -> Result<ModelCard, Failure> {
        let found = self.inner.catalog.find(id).filter(|model| may_use(caller, model));
        found.map(|model| card(&model)).ok_or_else(|| {
            Failure::new(ErrorCode::ModelNotFound, "No such model. GET /v1/models lists every usable one.")
        })
    }
}

fn may_use(caller: &Caller, model: &Model) -> bool {
    caller
        .allowed_models
        .as_ref()
        .is_none_or(|allowed| allowed.iter().any(|one| *one == model.id || model.aliases.contains(one)))
}

fn card(model: &Model) -> ModelCard {
    ModelCard {
        id: model.id.clone(),
        display_name: model.display_name.clone(),
        provider: model.provider.name.to_string(),
        created_at: model.created_at,
    }
}
