//! The models that can be used in an override.

use std::sync::Arc;

use super::{Caller, Failure, Platform};
use crate::{domain::ErrorCode, providers::Model, wire::models::ModelCard};

impl Platform {
    /// Every usable model that the key may use, in the catalog's order.
    #[must_use]
    pub fn models(&self, caller: &Caller) -> Vec<Arc<Model>> {
        self.inner.catalog.listed().filter(|model| may_use(caller, model)).map(Arc::clone).collect()
    }

    /// One usable model, by id or alias.
    ///
    /// # Errors
    /// 404 `model_not_found`.
    pub fn model(&self, caller: &Caller, id: &str) -> Result<Arc<Model>, Failure> {
        let found = self.inner.catalog.find(id).filter(|model| may_use(caller, model));
        found.ok_or_else(|| {
            Failure::new(
                ErrorCode::ModelNotFound,
                "No such model. GET /v1/models lists every usable one.",
            )
        })
    }
}

fn may_use(caller: &Caller, model: &Model) -> bool {
    caller.allowed_models.as_ref().is_none_or(|allowed| {
        allowed.iter().any(|one| *one == model.id || model.aliases.contains(one))
    })
}

/// How a model is listed.
#[must_use]
pub fn card(model: &Model) -> ModelCard<'_> {
    ModelCard {
        id: &model.id,
        display_name: &model.display_name,
        provider: &model.provider.name,
        created_at: model.created_at,
    }
}
