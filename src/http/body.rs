//! Reading requests: credential, content type, body within the limit.

use actix_web::{
    HttpMessage as _, HttpRequest,
    error::{PayloadError, ResponseError},
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web,
};
use bytes::Bytes;

use super::edge;
use crate::{
    domain::{Access, ErrorCode, ledger::IdemClaim},
    flows::{Caller, Failure, Flows, idempotency},
};

/// Checks the caller's credential, that it allows `access`, and for inference that it does not ask
/// too often: `x-api-key` wins over `Authorization: Bearer`, as at Anthropic, and holds no login
/// token.
///
/// # Errors
/// 401, 403, 429, 503.
pub(super) async fn caller(
    req: &HttpRequest,
    flows: &Flows,
    access: Access,
) -> Result<Caller, Failure> {
    let headers = req.headers();
    // A value that is no text is a malformed key, not a missing one.
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str());
    let api_key = text("x-api-key").map(|key| key.unwrap_or_default());
    let bearer = text("authorization").and_then(|value| value.map_or(Some(""), bearer));
    let caller = flows.platform().authenticate(api_key, bearer).await?;
    edge::trace_caller(&edge::trace(req), &caller);
    caller.permit(access)?;
    if access == Access::Chat {
        let (notes, admitted) = flows.admit(&caller);
        req.extensions_mut().insert(notes);
        admitted?;
    }
    Ok(caller)
}

/// Reads the idempotency key of a billed request with this body.
///
/// # Errors
/// 422 when it is not a key, or given twice.
pub(super) fn idempotency_claim(
    req: &HttpRequest,
    flows: &Flows,
    body: &Bytes,
) -> Result<Option<IdemClaim>, Failure> {
    let mut values = req.headers().get_all("idempotency-key");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(idempotency::unusable_key());
    }
    flows.idempotency_claim(value.as_bytes(), req.path(), body).map(Some)
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Reads a JSON body.
///
/// # Errors
/// 415 for another content type, 413 above the limit, 422 when it is empty or broke off.
pub(super) async fn json_body(
    req: &HttpRequest,
    payload: web::Payload,
    body_bytes_max: u64,
) -> Result<Bytes, Failure> {
    check_content_type(req)?;
    let limit = usize::try_from(body_bytes_max).unwrap_or(usize::MAX);
    let too_large = || {
        Failure::new(
            ErrorCode::BodyTooLarge,
            format!(
                "The request body is larger than {body_bytes_max} bytes, the most this server accepts."
            ),
        )
    };
    let announced = req.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| length > body_bytes_max)
    {
        return Err(too_large());
    }
    let read = payload.to_bytes_limited(limit).await.map_err(|_| too_large())?;
    let body = read.map_err(|error| failure_of(&error))?;
    if body.is_empty() {
        return Err(Failure {
            loc: vec!["body".to_owned()],
            validation: "missing",
            ..Failure::new(
                ErrorCode::InvalidRequest,
                "The request body is empty. Send a JSON object.",
            )
        });
    }
    Ok(body)
}

fn check_content_type(req: &HttpRequest) -> Result<(), Failure> {
    let Some(value) = req.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 5 && essence.to_ascii_lowercase().ends_with("+json"));
    if is_json {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::UnsupportedMediaType,
        "The content type must be application/json. With curl, add: -H 'Content-Type: application/json'",
    ))
}

/// What an error of actix-web itself means to the caller.
pub(super) fn failure_of(error: &actix_web::Error) -> Failure {
    if let Some(payload) = error.as_error::<PayloadError>() {
        return match payload {
            PayloadError::Overflow => {
                Failure::new(ErrorCode::BodyTooLarge, "The request body is too large.")
            }
            _ => Failure {
                loc: vec!["body".to_owned()],
                ..Failure::new(
                    ErrorCode::InvalidRequest,
                    "The request body broke off before its end.",
                )
            },
        };
    }
    let response: &dyn ResponseError = error.as_response_error();
    match response.status_code() {
        StatusCode::NOT_FOUND => Failure::new(ErrorCode::RouteNotFound, "There is no such path."),
        StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::new(ErrorCode::BodyTooLarge, "The request body is too large.")
        }
        status if status.is_client_error() => Failure::new(
            ErrorCode::InvalidRequest,
            "The request can't be read. Check its path, query and headers.",
        ),
        _ => {
            log::error!(target: "faces::http", "actix-web failed: {error}");
            Failure::new(ErrorCode::Internal, crate::flows::failure::INTERNAL_MESSAGE)
        }
    }
}
