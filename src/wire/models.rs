//! The list of models, in OpenAI's and in Anthropic's form.
//!
//! Both SDKs ask the same path `GET /v1/models`; Anthropic's sends `anthropic-version`.

use bytes::Bytes;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A model as it is listed.
#[derive(Debug, Clone, Copy)]
pub struct ModelCard<'a> {
    /// The name that requests use.
    pub id: &'a str,
    /// A name for people.
    pub display_name: &'a str,
    /// The provider's name: OpenAI's `owned_by` and the extra field `provider`.
    pub provider: &'a str,
    /// When the model appeared, seconds since the Unix epoch.
    pub created_at: i64,
}

fn openai_object(model: &ModelCard<'_>) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": model.created_at,
        "owned_by": model.provider,
        "provider": model.provider,
    })
}

fn anthropic_object(model: &ModelCard<'_>) -> Value {
    let created_at = OffsetDateTime::from_unix_timestamp(model.created_at)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned());
    json!({
        "id": model.id,
        "type": "model",
        "display_name": model.display_name,
        "created_at": created_at,
    })
}

/// `{"object":"list","data":[…]}`.
#[must_use]
pub fn openai_list(models: &[ModelCard<'_>]) -> Bytes {
    let data: Vec<Value> = models.iter().map(openai_object).collect();
    Bytes::from(json!({ "object": "list", "data": data }).to_string())
}

/// One model in OpenAI's form.
#[must_use]
pub fn openai_single(model: &ModelCard<'_>) -> Bytes {
    Bytes::from(openai_object(model).to_string())
}

/// `{"data":[…],"has_more":false,"first_id":…,"last_id":…}`: all models are one page.
#[must_use]
pub fn anthropic_list(models: &[ModelCard<'_>]) -> Bytes {
    let data: Vec<Value> = models.iter().map(anthropic_object).collect();
    let body = json!({
        "data": data,
        "has_more": false,
        "first_id": models.first().map(|model| model.id),
        "last_id": models.last().map(|model| model.id),
    });
    Bytes::from(body.to_string())
}

/// One model in Anthropic's form.
#[must_use]
pub fn anthropic_single(model: &ModelCard<'_>) -> Bytes {
    Bytes::from(anthropic_object(model).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODELS: [ModelCard<'_>; 2] = [
        ModelCard { id: "gpt-4o", display_name: "GPT-4o", provider: "openai", created_at: 0 },
        ModelCard {
            id: "claude-haiku-4-5",
            display_name: "Claude Haiku 4.5",
            provider: "anthropic",
            created_at: 1_760_572_800,
        },
    ];

    #[test]
    fn the_openai_list_names_the_provider() {
        insta::assert_snapshot!(
            std::str::from_utf8(&openai_list(&MODELS)).unwrap(),
            @r#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":0,"owned_by":"openai","provider":"openai"},{"id":"claude-haiku-4-5","object":"model","created":1760572800,"owned_by":"anthropic","provider":"anthropic"}]}"#
        );
    }

    #[test]
    fn the_anthropic_list_is_one_page_with_rfc_3339_dates() {
        insta::assert_snapshot!(
            std::str::from_utf8(&anthropic_list(&MODELS)).unwrap(),
            @r#"{"data":[{"id":"gpt-4o","type":"model","display_name":"GPT-4o","created_at":"1970-01-01T00:00:00Z"},{"id":"claude-haiku-4-5","type":"model","display_name":"Claude Haiku 4.5","created_at":"2025-10-16T00:00:00Z"}],"has_more":false,"first_id":"gpt-4o","last_id":"claude-haiku-4-5"}"#
        );
        let none = anthropic_list(&[]);
        assert_eq!(none, r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#);
    }

    #[test]
    fn a_single_model_is_the_bare_object() {
        assert_eq!(openai_single(&MODELS[0]), openai_object(&MODELS[0]).to_string());
        assert_eq!(anthropic_single(&MODELS[1]), anthropic_object(&MODELS[1]).to_string());
    }
}
