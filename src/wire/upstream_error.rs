//! Errors of upstreams, read into our table of codes.

use serde_json::value::RawValue;

use crate::domain::ErrorCode;

use super::{
    UpstreamFormat,
    raw::{self, RawObject},
};

/// Most characters kept of an upstream's message.
pub const UPSTREAM_MESSAGE_CHARS_MAX: usize = 1_000;

/// An upstream's error, ready to be told to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamErrorInfo {
    /// Our code, which decides the client's status.
    pub code: ErrorCode,
    /// The provider's message, bounded; for a failure of the platform's own key a text of ours.
    pub message: String,
    /// The parameter that the provider blames.
    pub param: Option<String>,
    /// The provider's own code or type word (for the log and for OpenAI's `code`).
    pub upstream_code: Option<String>,
}

/// Reads the body of a response whose status is not 2xx. Any body will do: HTML, text, nothing.
#[must_use]
pub fn read_upstream_error(format: UpstreamFormat, status: u16, body: &[u8]) -> UpstreamErrorInfo {
    let text = String::from_utf8_lossy(body);
    let object = RawObject::parse(text.trim()).unwrap_or_default();
    let inner = object.get("error").map(RawValue::get);
    let parts = match inner {
        Some(inner) => ErrorParts::read(inner, Some(&object)),
        None => ErrorParts::of_object(&object, None),
    };
    info(format, Some(status), parts)
}

/// Reads an error that came inside a stream or a body of status 200. `error` is the value of the
/// field `error`, or the object that is the error itself.
pub(crate) fn read_error_event(format: UpstreamFormat, error: &str) -> super::UpstreamFault {
    let parts = ErrorParts::read(error, None);
    let hint = parts.status.or_else(|| parts.kind.as_deref().and_then(status_of_word));
    let info = info(format, hint, parts);
    super::UpstreamFault::ErrorEvent { code: info.code, message: info.message, status_hint: hint }
}

#[derive(Debug, Default)]
struct ErrorParts {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
    /// A numeric `code` or `status`.
    status: Option<u16>,
}

impl ErrorParts {
    fn read(error: &str, outer: Option<&RawObject<'_>>) -> Self {
        match RawObject::parse(error) {
            Ok(object) => Self::of_object(&object, outer),
            Err(_) => Self { message: serde_json::from_str(error).ok(), ..Self::default() },
        }
    }

    fn of_object(object: &RawObject<'_>, outer: Option<&RawObject<'_>>) -> Self {
        let word = |key: &str| object.text(key).map(|text| bounded(&text, 200));
        let message = object
            .text("message")
            .or_else(|| object.text("detail"))
            .or_else(|| outer.and_then(|outer| outer.text("message")));
        let number = |key: &str| object.get(key).and_then(|value| value.get().parse().ok());
        Self {
            message: message.map(|text| bounded(&text, UPSTREAM_MESSAGE_CHARS_MAX)),
            kind: word("type"),
            code: word("code"),
            param: word("param"),
            status: number("code").or_else(|| number("status")),
        }
    }
}

/// The table of `code`s by status and words.
fn info(format: UpstreamFormat, status: Option<u16>, parts: ErrorParts) -> UpstreamErrorInfo {
    let code = classify(status, &parts);
    let message = match code {
        // What the provider says about the platform's key is none of the client's business.
        ErrorCode::UpstreamAuth => {
            "the provider does not accept this server's credentials: tell the operator".to_owned()
        }
        _ => parts.message.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| {
            let name = match format {
                UpstreamFormat::OpenAiChat => "OpenAI-format",
                UpstreamFormat::AnthropicMessages => "Anthropic-format",
            };
            match status {
                Some(status) => format!("the {name} provider answered with status {status}"),
                None => format!("the {name} provider reported an error without a message"),
            }
        }),
    };
    UpstreamErrorInfo {
        code,
        message,
        param: parts.param,
        upstream_code: parts.code.or(parts.kind),
    }
}

fn classify(status: Option<u16>, parts: &ErrorParts) -> ErrorCode {
    let has =
        |word: &str| parts.code.as_deref() == Some(word) || parts.kind.as_deref() == Some(word);
    if is_context_length(parts) && !matches!(status, Some(401 | 403 | 429 | 500..)) {
        return ErrorCode::ContextLengthExceeded;
    }
    if has("insufficient_quota") || has("billing_error") {
        return ErrorCode::UpstreamRateLimited;
    }
    if has("invalid_api_key") || has("authentication_error") {
        return ErrorCode::UpstreamAuth;
    }
    match status {
        Some(401 | 403 | 407) => ErrorCode::UpstreamAuth,
        Some(402 | 429) => ErrorCode::UpstreamRateLimited,
        Some(404) => ErrorCode::ModelNotFound,
        Some(408 | 504) => ErrorCode::UpstreamTimeout,
        Some(413) => ErrorCode::BodyTooLarge,
        Some(503 | 529) => ErrorCode::UpstreamOverloaded,
        Some(400 | 405..=428 | 430..=499) => ErrorCode::UpstreamInvalidRequest,
        _ => ErrorCode::UpstreamFailed,
    }
}

/// The status that a type or code word stands for.
fn status_of_word(word: &str) -> Option<u16> {
    Some(match word {
        "invalid_request_error" | "BadRequestError" => 400,
        "authentication_error" => 401,
        "billing_error" | "insufficient_quota" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "requests" | "tokens" => 429,
        "api_error" | "server_error" | "InternalServerError" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}

/// Sources: OpenAI's code `context_length_exceeded`; Anthropic's "prompt is too long: N tokens >
/// M maximum"; vLLM's and Fireworks' "maximum context length".
fn is_context_length(parts: &ErrorParts) -> bool {
    if parts.code.as_deref() == Some("context_length_exceeded") {
        return true;
    }
    let Some(message) = &parts.message else { return false };
    let message = message.to_ascii_lowercase();
    [
        "prompt is too long",
        "maximum context length",
        "context length exceeded",
        "context_length_exceeded",
        "exceed context limit",
        "exceeds the context window",
    ]
    .into_iter()
    .any(|sign| message.contains(sign))
}

/// The first `chars_max` characters, control characters made blanks.
pub(crate) fn bounded(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// The error of an OpenAI-format record or body, if it is one: a field `error` that is not null,
/// or (vLLM) `"object":"error"`.
pub(crate) fn openai_error_of(object: &RawObject<'_>, text: &str) -> Option<super::UpstreamFault> {
    if let Some(error) = object.get("error") {
        return Some(read_error_event(UpstreamFormat::OpenAiChat, error.get()));
    }
    let is_error = object.get("object").and_then(raw::text).as_deref() == Some("error");
    is_error.then(|| read_error_event(UpstreamFormat::OpenAiChat, text))
}

#[cfg(test)]
mod tests;
