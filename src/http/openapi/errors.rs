//! The bodies of errors, in three dialects.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Components, Content, Ref, RefOr, Response},
};

use super::super::problem::Dialect;

/// An error of the platform's own routes.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"detail": "No face `alice` belongs to you.", "code": "face_not_found"}))]
pub struct FacesError {
    /// What is wrong and what to do about it.
    pub detail: String,
    /// A stable word for it.
    pub code: String,
}

/// A wrong field, parameter or body.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"detail": [{"type": "missing", "loc": ["body", "username"],
    "msg": "username is missing"}], "code": "invalid_request_body"}))]
pub struct ValidationError {
    /// The first fault.
    pub detail: Vec<ValidationFault>,
    /// A stable word for it.
    pub code: String,
    /// Words that a client may show, of a registration.
    #[schema(nullable = false)]
    pub messages: Option<Vec<String>>,
}

/// Where a fault is.
#[derive(Debug, ToSchema)]
pub struct ValidationFault {
    /// Its kind.
    #[schema(rename = "type")]
    pub r#type: String,
    /// The way to the field: names, and numbers for elements.
    pub loc: Vec<Value>,
    /// What is wrong.
    pub msg: String,
}

/// An error as OpenAI's SDKs read it.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"error": {"message": "Insufficient credits.", "type": "insufficient_quota",
    "param": null, "code": "insufficient_credits", "reason": "insufficient_credits", "limit": "credits"},
    "detail": "Insufficient credits."}))]
pub struct OpenAiError {
    /// The error.
    pub error: OpenAiErrorDetails,
    /// Its message again.
    pub detail: String,
}

/// OpenAI's error object.
#[derive(Debug, ToSchema)]
pub struct OpenAiErrorDetails {
    /// What is wrong and what to do about it.
    pub message: String,
    /// OpenAI's word for its kind.
    #[schema(rename = "type")]
    pub r#type: String,
    /// The wrong parameter.
    #[schema(required = true)]
    pub param: Option<String>,
    /// A stable word for it.
    pub code: String,
    /// What limits the credit, for 402.
    #[schema(nullable = false)]
    pub reason: Option<String>,
    /// Which limit that is, for 402.
    #[schema(nullable = false)]
    pub limit: Option<String>,
    /// What the credit would pay for, for 402.
    #[schema(nullable = false)]
    pub max_affordable_tokens: Option<u64>,
}

/// An error as Anthropic's SDKs read it.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"type": "error", "error": {"type": "authentication_error",
    "message": "The API key is not valid.", "details": {"error_code": "invalid_api_key"}},
    "request_id": "req_0199"}))]
pub struct AnthropicError {
    /// `error`.
    #[schema(rename = "type")]
    pub r#type: String,
    /// The error.
    pub error: AnthropicErrorDetails,
    /// The request's id.
    #[schema(required = true)]
    pub request_id: Option<String>,
}

/// Anthropic's error object.
#[derive(Debug, ToSchema)]
pub struct AnthropicErrorDetails {
    /// Anthropic's word for its kind.
    #[schema(rename = "type")]
    pub r#type: String,
    /// What is wrong and what to do about it.
    pub message: String,
    /// `error_code`, a stable word for it, and for 402 what limits the credit.
    pub details: BTreeMap<String, Value>,
}

/// Status, the name of its answers, when it comes.
const STATUSES: &[(u16, &str, &str)] = &[
    (
        400,
        "BadRequest",
        "The provider refuses the request, or it asks for what is not offered here.",
    ),
    (401, "Unauthenticated", "The credential is missing, malformed, unknown, expired or revoked."),
    (402, "PaymentRequired", "The credit or the key's budget does not pay for this."),
    (403, "Forbidden", "The credential may not do this."),
    (404, "NotFound", "There is no such thing, or it is not yours."),
    (409, "Conflict", "It exists already, or the same request is still running."),
    (413, "TooLarge", "The body is too large."),
    (415, "WrongContentType", "The body is not `application/json`."),
    (422, "Invalid", "The body, a field or a parameter is wrong."),
    (
        429,
        "TooManyRequests",
        "A limit of requests or tokens. `Retry-After` says when to come back.",
    ),
    (502, "UpstreamFailed", "The model's provider failed."),
    (503, "Unavailable", "The server can't do this right now. Try again after `Retry-After`."),
    (504, "UpstreamTimeout", "The model's provider did not answer in time."),
];

/// Adds the schemas of all error bodies.
pub(super) fn register(components: &mut Components) {
    let schemas = &mut components.schemas;
    let mut nested = Vec::new();
    for (name, schema) in [
        ("FacesError", FacesError::schema()),
        ("ValidationError", ValidationError::schema()),
        ("OpenAiError", OpenAiError::schema()),
        ("AnthropicError", AnthropicError::schema()),
    ] {
        schemas.insert(name.to_owned(), schema);
    }
    ValidationError::schemas(&mut nested);
    OpenAiError::schemas(&mut nested);
    AnthropicError::schemas(&mut nested);
    schemas.extend(nested);
}

/// The name of the shared answer.
pub(super) fn response_name(dialect: Dialect, status: u16) -> String {
    let known = STATUSES.iter().find(|(one, ..)| *one == status);
    let name = known.map_or("Failed", |(_, name, _)| *name);
    format!("{dialect:?}{name}")
}

/// Adds the shared answer of a status in a dialect.
pub(super) fn add_response(components: &mut Components, dialect: Dialect, status: u16) {
    let known = STATUSES.iter().find(|(one, ..)| *one == status);
    let mut response = Response::new(known.map_or("It failed.", |(_, _, when)| *when));
    let content = content(dialect, status == 422);
    response.content.insert("application/json".to_owned(), RefOr::T(content));
    components.responses.insert(response_name(dialect, status), RefOr::T(response));
}

/// The body of an error in a dialect; a validation error has its own form on the platform's routes.
pub(super) fn content(dialect: Dialect, is_validation: bool) -> Content {
    let name = match dialect {
        Dialect::OpenAi => "OpenAiError",
        Dialect::Anthropic => "AnthropicError",
        Dialect::Faces if is_validation => "ValidationError",
        Dialect::Faces => "FacesError",
    };
    Content::new(Some(RefOr::Ref(Ref::from_schema_name(name))))
}
