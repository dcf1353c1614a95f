//! The bodies of our errors in three dialects, and the events that end a stream.
//!
//! Pure renderers over the one table of codes ([`ErrorCode::row`]); `http` picks the dialect by
//! route. The words of a message are the caller's.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::domain::{ErrorCode, NanoUsd, Usage};

/// An error to render.
#[derive(Debug, Clone, Copy)]
pub struct ErrorBody<'a> {
    /// Row of the table: decides the `type` and `code` words.
    pub code: ErrorCode,
    /// What is wrong and how to put it right.
    pub message: &'a str,
    /// The parameter to blame (OpenAI's `param`).
    pub param: Option<&'a str>,
    /// The request's id (Anthropic's `request_id`).
    pub request_id: Option<&'a str>,
    /// Further fields of the error, such as `reason`, `limit`, `max_affordable_tokens`.
    pub extra: &'a [(&'a str, Value)],
}

impl<'a> ErrorBody<'a> {
    /// An error with nothing but its code and message.
    #[must_use]
    pub const fn new(code: ErrorCode, message: &'a str) -> Self {
        Self { code, message, param: None, request_id: None, extra: &[] }
    }

    /// OpenAI's error object.
    pub(crate) fn openai_object(&self) -> Map<String, Value> {
        let mut error = Map::new();
        error.insert("message".to_owned(), json!(self.message));
        error.insert("type".to_owned(), json!(self.code.row().openai_type));
        error.insert("param".to_owned(), json!(self.param));
        error.insert("code".to_owned(), json!(self.code.as_str()));
        self.add_extra(&mut error);
        error
    }

    /// Anthropic's error object; extra fields and our code stand in its `details`.
    pub(crate) fn anthropic_object(&self) -> Value {
        let mut details = Map::new();
        details.insert("error_code".to_owned(), json!(self.code.as_str()));
        self.add_extra(&mut details);
        json!({
            "type": self.code.row().anthropic_type,
            "message": self.message,
            "details": details,
        })
    }

    fn add_extra(&self, object: &mut Map<String, Value>) {
        for (key, value) in self.extra {
            object.entry((*key).to_owned()).or_insert_with(|| value.clone());
        }
    }
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// OpenAI's body with a `detail` string beside it, for readers of the Faces API:
/// `{"error":{"message","type","param","code",…},"detail":"…"}`.
#[must_use]
pub fn openai_error_json(error: &ErrorBody<'_>) -> Bytes {
    bytes(&json!({ "error": error.openai_object(), "detail": error.message }))
}

/// Anthropic's body: `{"type":"error","error":{"type","message",…},"request_id":"…"}`.
#[must_use]
pub fn anthropic_error_json(error: &ErrorBody<'_>) -> Bytes {
    bytes(&json!({
        "type": "error",
        "error": error.anthropic_object(),
        "request_id": error.request_id,
    }))
}

/// The body of the platform routes: `{"detail":"…","code":"…",…}`.
#[must_use]
pub fn faces_error_json(error: &ErrorBody<'_>) -> Bytes {
    let mut body = Map::new();
    body.insert("detail".to_owned(), json!(error.message));
    body.insert("code".to_owned(), json!(error.code.as_str()));
    error.add_extra(&mut body);
    bytes(&Value::Object(body))
}

/// FastAPI's list form of a validation error, for the platform routes:
/// `{"detail":[{"type","loc":["body",…],"msg"}],"code":"…",…}`.
#[must_use]
pub fn faces_validation_json(
    loc: &[String],
    type_word: &str,
    message: &str,
    code: ErrorCode,
    extra: &[(&str, Value)],
) -> Bytes {
    let mut body = json!({
        "detail": [{ "type": type_word, "loc": location(loc), "msg": message }],
        "code": code.as_str(),
    });
    for (key, value) in extra {
        body[*key] = value.clone();
    }
    bytes(&body)
}

/// The place of a mistake as FastAPI writes it: indexes are numbers.
fn location(loc: &[String]) -> Vec<Value> {
    let is_index = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    loc.iter()
        .map(|part| match part.parse::<u64>() {
            Ok(index) if is_index(part) => json!(index),
            _ => json!(part),
        })
        .collect()
}

/// OpenAI's usage object, for an error that tells what a finished request used.
#[must_use]
pub fn openai_usage(usage: &Usage) -> Value {
    serde_json::from_str(&super::usage::openai_object(usage, &[])).unwrap_or_default()
}

/// Anthropic's usage object, for the same.
#[must_use]
pub fn anthropic_usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input_uncached,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write_5m.saturating_add(usage.cache_write_1h),
        "output_tokens": usage.output_total(),
    })
}

/// An amount of money for an error. Fifteen digits are shown exactly: no request costs more.
#[must_use]
pub fn money(amount: NanoUsd) -> Value {
    serde_json::from_str(amount.to_json_number().get()).unwrap_or_default()
}

/// The record that tells an OpenAI client that its stream failed: `data: {"error":{…}}`. SDKs
/// raise an error on it; `[DONE]` must not follow as if all were well.
#[must_use]
pub fn openai_error_event(error: &ErrorBody<'_>) -> Bytes {
    let mut out = bytes::BytesMut::new();
    super::sse::encode_data(&openai_error_data(error), &mut out);
    out.freeze()
}

/// The JSON text of [`openai_error_event`], without the SSE frame.
#[must_use]
pub fn openai_error_data(error: &ErrorBody<'_>) -> Bytes {
    bytes(&json!({ "error": error.openai_object() }))
}

/// The record that tells an Anthropic client that its stream failed: `event: error`.
#[must_use]
pub fn anthropic_error_event(error: &ErrorBody<'_>) -> Bytes {
    let mut out = bytes::BytesMut::new();
    super::sse::encode_event("error", &anthropic_error_json(error), &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests;
