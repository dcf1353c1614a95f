//! What is wrong with a caller's request, and where.

use std::fmt::Write as _;

use crate::domain::ErrorCode;

/// The JSON type that a field should have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// A string.
    String,
    /// An integer.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// An object.
    Object,
    /// An array.
    Array,
}

/// The kind of a [`RequestError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestErrorKind {
    /// A required field is absent.
    Missing,
    /// A field has another JSON type than the given one.
    Type(JsonType),
    /// A field has the right type and a value that can't be.
    Value,
    /// The body is not JSON (or not UTF-8).
    Json,
    /// The request is well-formed and its target has no equivalent for it.
    Unsupported,
}

/// A request that can't be served as it is: place, reason and fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The way to the field, e.g. `["body", "messages", "0", "content"]`.
    pub loc: Vec<String>,
    /// What is wrong and how to put it right. Never quotes more than a short identifier.
    pub message: String,
    /// What sort of mistake it is.
    pub kind: RequestErrorKind,
}

impl RequestError {
    /// An error at `path` below the body, written like `messages[0].content` (`""`: the body).
    pub(crate) fn new(kind: RequestErrorKind, path: &str, message: impl Into<String>) -> Self {
        let mut loc = vec!["body".to_owned()];
        loc.extend(
            path.split(['.', '[', ']']).filter(|part| !part.is_empty()).map(ToOwned::to_owned),
        );
        Self { loc, message: message.into(), kind }
    }

    pub(crate) fn missing(path: &str) -> Self {
        let message = format!("the field `{path}` is required: add it");
        Self::new(RequestErrorKind::Missing, path, message)
    }

    pub(crate) fn wrong_type(path: &str, expected: JsonType) -> Self {
        let message = format!("`{path}` must be {}", expected.with_article());
        Self::new(RequestErrorKind::Type(expected), path, message)
    }

    pub(crate) fn value(path: &str, message: impl Into<String>) -> Self {
        Self::new(RequestErrorKind::Value, path, message)
    }

    pub(crate) fn unsupported(path: &str, message: impl Into<String>) -> Self {
        Self::new(RequestErrorKind::Unsupported, path, message)
    }

    pub(crate) fn json(error: &serde_json::Error) -> Self {
        let message = format!(
            "the body is not valid JSON (line {}, column {}): send one JSON object",
            error.line(),
            error.column()
        );
        Self::new(RequestErrorKind::Json, "", message)
    }

    /// The code of the error table.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self.kind {
            RequestErrorKind::Missing | RequestErrorKind::Type(_) | RequestErrorKind::Value => {
                ErrorCode::InvalidRequest
            }
            RequestErrorKind::Json => ErrorCode::InvalidJson,
            RequestErrorKind::Unsupported => ErrorCode::UnsupportedParameter,
        }
    }

    /// The `type` word of FastAPI's validation errors.
    #[must_use]
    pub const fn type_word(&self) -> &'static str {
        match self.kind {
            RequestErrorKind::Missing => "missing",
            RequestErrorKind::Type(JsonType::String) => "string_type",
            RequestErrorKind::Type(JsonType::Integer) => "int_type",
            RequestErrorKind::Type(JsonType::Number) => "float_type",
            RequestErrorKind::Type(JsonType::Bool) => "bool_type",
            RequestErrorKind::Type(JsonType::Object) => "dict_type",
            RequestErrorKind::Type(JsonType::Array) => "list_type",
            RequestErrorKind::Value | RequestErrorKind::Unsupported => "value_error",
            RequestErrorKind::Json => "json_invalid",
        }
    }

    /// OpenAI's `param`, e.g. `messages[0].content`; `None` when the whole body is meant.
    #[must_use]
    pub fn param(&self) -> Option<String> {
        let mut param = String::new();
        for part in self.loc.iter().skip(1) {
            if part.bytes().all(|byte| byte.is_ascii_digit()) {
                let _ = write!(param, "[{part}]");
            } else {
                if !param.is_empty() {
                    param.push('.');
                }
                param.push_str(part);
            }
        }
        (!param.is_empty()).then_some(param)
    }
}

impl JsonType {
    const fn with_article(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Bool => "`true` or `false`",
            Self::Object => "an object",
            Self::Array => "an array",
        }
    }
}
