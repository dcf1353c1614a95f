//! From a `model` string to a face and the model that answers.

use std::sync::Arc;

use super::{Caller, Failure, Flows, directory::LoadedFace};
use crate::{
    domain::{ErrorCode, FaceName, ModelSelector},
    providers::Model,
    wire::UpstreamFormat,
};

/// What a request is answered by.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The persona to inject; `None` for a bare model.
    pub(super) face: Option<LoadedFace>,
    /// The model of the catalog.
    pub(super) model: Arc<Model>,
}

impl Target {
    /// The persona for a conversation, whose text is only asked for where it makes a difference.
    pub(super) fn persona(&self, conversation: impl FnOnce() -> String) -> Option<Arc<str>> {
        let face = self.face.as_ref()?;
        if face.persona.is_static() {
            return Some(face.persona.compose(""));
        }
        Some(face.persona.compose(&conversation()))
    }
}

impl Flows {
    /// Resolves `face`, `face@llm`, `(formula)@llm` or `llm` for a caller: an own face first, then
    /// the catalog.
    ///
    /// # Errors
    /// 404 `model_not_found` or `face_not_found`, 422 for an unusable `@llm` and for what is no
    /// formula, 403 when the key does not allow a face or the model, 503 when the database can't
    /// be asked.
    pub(super) async fn resolve(&self, caller: &Caller, model: &str) -> Result<Target, Failure> {
        match ModelSelector::split(model) {
            ModelSelector::Composite { formula, llm } => {
                let Some(llm) = llm else {
                    return Err(Failure::invalid(
                        "model",
                        "Combined faces have no model of their own: name one after an @, as in `(a | b)@model`. GET /v1/models lists them.",
                    ));
                };
                let composite = self.inner.platform.composite(caller, formula);
                let face = Box::pin(composite).await?;
                let model = self.usable_override(llm)?;
                permit_model(caller, &model)?;
                Ok(Target { face: Some(face), model })
            }
            ModelSelector::FaceWithModel { face, llm } => {
                let loaded =
                    self.own_face(caller, face).await?.ok_or_else(|| face_not_found(face))?;
                let model = self.usable_override(llm)?;
                permit_model(caller, &model)?;
                Ok(Target { face: Some(loaded), model })
            }
            ModelSelector::FaceOrModel(name) => {
                if let Some(loaded) = self.own_face(caller, name).await? {
                    let model = self.default_for(&loaded)?;
                    permit_model(caller, &model)?;
                    return Ok(Target { face: Some(loaded), model });
                }
                let model =
                    self.inner.providers.catalog().find(name).ok_or_else(|| self.unknown(name))?;
                permit_model(caller, &model)?;
                Ok(Target { face: None, model })
            }
        }
    }

    /// Resolves the `model` of a native proxy: a model of the catalog whose provider speaks the
    /// route's format.
    ///
    /// # Errors
    /// 404 `model_not_found` when there is none, 403 when the key does not allow it.
    pub(super) fn resolve_native(
        &self,
        caller: &Caller,
        model: &str,
        format: UpstreamFormat,
    ) -> Result<Arc<Model>, Failure> {
        let found = self.inner.providers.catalog().find(model);
        let Some(found) = found.filter(|found| found.provider.format == format) else {
            if let Some(reason) = self.inner.providers.catalog().unusable_reason(model) {
                log::info!(target: "faces::flows", "model {model:?} is not usable: {reason}");
            }
            return Err(Failure {
                loc: vec!["body".to_owned(), "model".to_owned()],
                ..Failure::new(
                    ErrorCode::ModelNotFound,
                    format!(
                        "The model `{}` is not available on this route. GET /v1/models lists what is; this route forwards native requests and takes no username.",
                        shown(model)
                    ),
                )
            });
        };
        permit_model(caller, &found)?;
        Ok(found)
    }

    async fn own_face(&self, caller: &Caller, name: &str) -> Result<Option<LoadedFace>, Failure> {
        let Ok(username) = FaceName::parse(name) else { return Ok(None) };
        let Some(face) =
            self.inner.platform.inner.directory.face(caller.account_id, &username).await?
        else {
            return Ok(None);
        };
        permit_face(caller, &username)?;
        Ok(Some(face))
    }

    /// The model that is named after an `@`, or of an internal call.
    pub(super) fn usable_override(&self, llm: &str) -> Result<Arc<Model>, Failure> {
        if let Some(model) = self.inner.providers.catalog().find(llm) {
            return Ok(model);
        }
        if let Some(reason) = self.inner.providers.catalog().unusable_reason(llm) {
            log::warn!(target: "faces::flows", "the override {llm:?} is not usable: {reason}");
        }
        let mut failure = Failure::invalid(
            "model",
            format!(
                "The model `{}` after the @ is not supported here. GET /v1/models lists every model that is.",
                shown(llm)
            ),
        );
        failure.code = ErrorCode::UnsupportedModel;
        Err(failure)
    }

    /// The face's own default, else its account's, else the server's.
    fn default_for(&self, face: &LoadedFace) -> Result<Arc<Model>, Failure> {
        let catalog = self.inner.providers.catalog();
        let (name, whose, change) = match (&face.default_model, &face.account_model) {
            (Some(name), _) => (name, "this face", "PATCH /v1/faces/{face}"),
            (None, Some(name)) => (name, "your account", "PATCH /v1/user/preferences"),
            (None, None) => return Ok(Arc::clone(catalog.default_model())),
        };
        catalog.find(name).ok_or_else(|| {
            if let Some(reason) = catalog.unusable_reason(name) {
                log::warn!(target: "faces::flows", "default_model {name:?} is not usable: {reason}");
            }
            let mut failure = Failure::invalid(
                "model",
                format!(
                    "The default_model `{}` of {whose} is not usable here. Name another after an @ (GET /v1/models lists them) or change it with {change}.",
                    shown(name)
                ),
            );
            failure.code = ErrorCode::UnsupportedModel;
            failure
        })
    }

    fn unknown(&self, name: &str) -> Failure {
        if let Some(reason) = self.inner.providers.catalog().unusable_reason(name) {
            log::info!(target: "faces::flows", "model {name:?} is not usable: {reason}");
        }
        Failure {
            loc: vec!["body".to_owned(), "model".to_owned()],
            ..Failure::new(
                ErrorCode::ModelNotFound,
                format!(
                    "`{}` is neither a face of yours (GET /v1/faces lists them) nor a model of this server (GET /v1/models lists them).",
                    shown(name)
                ),
            )
        }
    }
}

/// 404 that does not tell a foreign face from a missing one.
pub(super) fn face_not_found(name: &str) -> Failure {
    Failure {
        loc: vec!["body".to_owned(), "model".to_owned()],
        ..Failure::new(
            ErrorCode::FaceNotFound,
            format!("The face `{}` was not found or is not owned by you.", shown(name)),
        )
    }
}

/// 403 when the key has a list of faces and this one is not on it.
pub(super) fn permit_face(caller: &Caller, username: &FaceName) -> Result<(), Failure> {
    let Some(allowed) = &caller.allowed_faces else { return Ok(()) };
    if allowed.iter().any(|one| one == username.as_str()) {
        return Ok(());
    }
    // The word `model` must not stand in this text: a client sorts 403s by such words.
    Err(Failure::new(
        ErrorCode::FaceNotAllowed,
        format!("This API key is not permitted to use the face `{username}`."),
    ))
}

/// 403 when the key has a list of models and this one is not on it.
pub(super) fn permit_model(caller: &Caller, model: &Model) -> Result<(), Failure> {
    let Some(allowed) = &caller.allowed_models else { return Ok(()) };
    let permitted = allowed.iter().any(|one| *one == model.id || model.aliases.contains(one));
    if permitted {
        return Ok(());
    }
    // The word `face` must not stand in this text: a client sorts 403s by such words.
    Err(Failure::new(
        ErrorCode::ModelNotAllowed,
        format!("This API key is not permitted to use the model `{}`.", model.id),
    ))
}

/// What a caller sent, short enough to be echoed.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 100;
    if name.chars().count() <= CHARS_MAX {
        return name.to_owned();
    }
    name.chars().take(CHARS_MAX).chain(['…']).collect()
}
