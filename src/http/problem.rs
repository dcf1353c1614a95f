//! The one renderer of errors, in the dialect of the route.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    flows::{Failure, failure::Details},
    wire::{
        Teller,
        errors::{self, ErrorBody},
    },
};

/// Whose clients a route serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"detail": …}`.
    Faces,
    /// `{"error": {…}, "detail": "…"}`.
    OpenAi,
    /// `{"type": "error", "error": {…}}`.
    Anthropic,
}

impl Dialect {
    /// The dialect of a path, for matched and unmatched routes alike.
    #[must_use]
    pub fn of(req: &HttpRequest) -> Self {
        let path = req.path();
        if path.starts_with("/v1/models") && req.headers().contains_key("anthropic-version") {
            return Self::Anthropic;
        }
        Self::of_path(path)
    }

    /// The dialect of a path alone.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        if ["/v1/anthropic", "/v1/messages"].iter().any(|prefix| path.starts_with(prefix)) {
            return Self::Anthropic;
        }
        let openai = ["/v1/chat", "/v1/openai", "/v1/models", "/v1/responses"];
        if openai.iter().any(|prefix| path.starts_with(prefix)) {
            Self::OpenAi
        } else {
            Self::Faces
        }
    }
}

/// Renders a failure for the route of `req`.
#[must_use]
pub fn respond(req: &HttpRequest, failure: &Failure) -> HttpResponse {
    super::edge::trace_error(req, failure.code);
    render(Dialect::of(req), failure, super::edge::request_id(req).as_deref())
}

/// Renders a failure in a dialect.
#[must_use]
pub fn render(dialect: Dialect, failure: &Failure, request_id: Option<&str>) -> HttpResponse {
    let row = failure.code.row();
    let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response.content_type("application/json");
    for (name, value) in &failure.headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    if let Some(retry_after_ms) = failure.retry_after_ms {
        let seconds = retry_after_ms.div_ceil(1_000).max(1);
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    if row.status == 401 {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    // An SDK must not try again what can't succeed: 402 and 409 would else be retried by some.
    if failure.funds.is_some() || row.status == 409 {
        let retry = if failure.retry_after_ms.is_some() { "true" } else { "false" };
        response.insert_header(("x-should-retry", retry));
    }
    response.body(body(dialect, failure, request_id))
}

/// The body of a failure.
#[must_use]
pub fn body(dialect: Dialect, failure: &Failure, request_id: Option<&str>) -> Bytes {
    let extra = extra(dialect, failure);
    let param = param(failure);
    let error = ErrorBody {
        code: failure.code,
        message: &failure.message,
        param: param.as_deref(),
        request_id,
        extra: &extra,
    };
    match dialect {
        Dialect::OpenAi => errors::openai_error_json(&error),
        Dialect::Anthropic => errors::anthropic_error_json(&error),
        Dialect::Faces if failure.code.row().status == 422 => errors::faces_validation_json(
            &failure.loc,
            failure.validation,
            &failure.message,
            failure.code,
            &extra,
        ),
        Dialect::Faces => errors::faces_error_json(&error),
    }
}

/// The event that tells the client of a running stream that it failed.
#[must_use]
pub fn stream_event(dialect: Dialect, failure: &Failure, request_id: Option<&str>) -> Bytes {
    let extra = extra(dialect, failure);
    let error = ErrorBody {
        code: failure.code,
        message: &failure.message,
        param: None,
        request_id,
        extra: &extra,
    };
    match dialect {
        Dialect::Anthropic => errors::anthropic_error_event(&error),
        Dialect::OpenAi | Dialect::Faces => errors::openai_error_event(&error),
    }
}

/// The events that tell it where a chat stream is told in another format.
#[must_use]
pub fn retold_events(
    dialect: Dialect,
    failure: &Failure,
    request_id: &str,
    teller: &mut Teller,
) -> Bytes {
    let extra = extra(dialect, failure);
    teller.failed(&ErrorBody {
        code: failure.code,
        message: &failure.message,
        param: None,
        request_id: Some(request_id),
        extra: &extra,
    })
}

/// The data of that event for a chat stream, without the SSE frame.
#[must_use]
pub fn chat_stream_data(failure: &Failure) -> Bytes {
    let extra = extra(Dialect::OpenAi, failure);
    let error = ErrorBody {
        code: failure.code,
        message: &failure.message,
        param: None,
        request_id: None,
        extra: &extra,
    };
    errors::openai_error_data(&error)
}

fn extra(dialect: Dialect, failure: &Failure) -> Vec<(&'static str, Value)> {
    let mut extra = Vec::new();
    if let Some(funds) = &failure.funds {
        extra.push(("reason", json!(funds.reason.as_str())));
        extra.push(("limit", json!(funds.reason.limit())));
        if let Some(tokens) = funds.max_affordable_tokens {
            extra.push(("max_affordable_tokens", json!(tokens)));
        }
        if let Some(resets_at) = funds.resets_at {
            extra.push(("resets_at", json!(resets_at.seconds())));
        }
    }
    match failure.details.as_deref() {
        Some(Details::Finished(finished)) => {
            let usage = match dialect {
                Dialect::Anthropic => errors::anthropic_usage(&finished.usage),
                Dialect::OpenAi | Dialect::Faces => errors::openai_usage(&finished.usage),
            };
            extra.push(("usage", usage));
            extra.push(("cost_usd", errors::money(finished.cost)));
        }
        Some(Details::Messages(messages)) => extra.push(("messages", json!(messages))),
        Some(Details::NoPayer(plan)) => {
            extra.push(("needs_oauth", json!(false)));
            extra.push(("needs_credits", json!(true)));
            extra.push(("plan", json!(plan)));
        }
        None => {}
    }
    if let Some(code) = &failure.upstream_code {
        extra.push(("upstream_code", json!(code)));
    }
    extra
}

/// OpenAI's `param`: the path of the wrong field, without the leading `body`.
fn param(failure: &Failure) -> Option<String> {
    let mut parts = failure.loc.iter().skip(1);
    let mut param = parts.next()?.clone();
    for part in parts {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            param.push_str(&format!("[{part}]"));
        } else {
            param.push('.');
            param.push_str(part);
        }
    }
    Some(param)
}

#[cfg(test)]
mod tests;
