//! What an account's owner prefers: `/v1/user/preferences`.

use serde_json::{Value, json};

use super::{Caller, Failure, Platform, fields::Fields, platform::refused};
use crate::{
    domain::ErrorCode,
    faces::DEFAULT_MODEL_CHARS_MAX,
    storage::preferences::{self, PreferenceChange, Preferences},
};

impl Platform {
    /// `GET /v1/user/preferences`.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub async fn preferences(&self, caller: &Caller) -> Result<Value, Failure> {
        let found = preferences::read_preferences(&self.inner.db, caller.account_id).await?;
        Ok(self.preferences_json(&found.ok_or_else(refused)?))
    }

    /// `PATCH /v1/user/preferences`: what is left out or `null` stays; an empty `default_model` is
    /// the server's again. Servers follow within two seconds.
    ///
    /// # Errors
    /// 422 for a wrong field or a model that is not usable here.
    pub async fn update_preferences(&self, caller: &Caller, body: &[u8]) -> Result<Value, Failure> {
        const MODEL: &str = "default_model";
        let fields = Fields::parse(body)?;
        let model = match fields.has(&[MODEL]) {
            false => None,
            true => Some(fields.required_text(MODEL, DEFAULT_MODEL_CHARS_MAX)?),
        };
        if let Some(name) = model.as_deref().filter(|name| !name.is_empty())
            && self.inner.catalog.find(name).is_none()
        {
            return Err(Failure {
                code: ErrorCode::UnsupportedModel,
                ..Failure::invalid(
                    MODEL,
                    "default_model is not a model of this server. GET /v1/models lists them.",
                )
            });
        }
        let change = PreferenceChange {
            api_fallback: fields.flag(&["api_fallback"])?,
            default_model: model.map(|name| Some(name).filter(|name| !name.is_empty())),
        };
        let changed =
            preferences::change_preferences(&self.inner.db, caller.account_id, change).await?;
        self.inner.directory.forget_faces(caller.account_id);
        Ok(self.preferences_json(&changed.ok_or_else(refused)?))
    }

    /// `default_model` tells what answers for faces without one: the account's choice, else the
    /// server's.
    fn preferences_json(&self, preferences: &Preferences) -> Value {
        let model = preferences.default_model.as_deref();
        json!({
            "api_fallback": preferences.api_fallback,
            "default_model": model.unwrap_or(&self.inner.catalog.default_model().id),
        })
    }
}
