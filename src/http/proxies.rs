//! The native proxies.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{body, edge, headers, openapi::chat, problem, routes::HttpState, sse};
use crate::{
    domain::Access,
    flows::{Failure, NativeParts, Reply, proxy_stream::ProxySession},
};

/// Chat by OpenAI's own API
///
/// The body travels on to the provider of the model; only what billing needs is read.
#[utoipa::path(post, path = "/v1/openai/chat/completions", tag = "Proxies", operation_id = "proxy_chat_completion",
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key and body gets the first answer and is charged once.")),
    request_body = chat::ChatRequest,
    responses((status = 200, description = "The answer of the provider.", content((chat::ChatCompletion = "application/json"), (String = "text/event-stream")))),
    extensions(("x-faces-access" = json!("chat"))))]
pub(super) async fn openai(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let answered = async {
        let caller = body::caller(&req, &state.flows, Access::Chat).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        let parts = NativeParts {
            idem: body::idempotency_claim(&req, &state.flows, &body)?,
            ..parts(&req)
        };
        state.flows.proxy_openai(&caller, body, parts, &edge::trace(&req)).await
    };
    // Boxed: the layers around a handler would move its whole state several times.
    render(&req, Box::pin(answered).await, &state)
}

/// Chat by Anthropic's own API
///
/// The body travels on to the provider of the model; only what billing needs is read.
#[utoipa::path(post, path = "/v1/anthropic/messages", tag = "Proxies", operation_id = "proxy_message",
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key and body gets the first answer and is charged once.")),
    request_body = chat::MessagesRequest,
    responses((status = 200, description = "The answer of the provider.", content((chat::Message = "application/json"), (String = "text/event-stream")))),
    extensions(("x-faces-access" = json!("chat"))))]
pub(super) async fn anthropic(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let answered = async {
        let caller = body::caller(&req, &state.flows, Access::Chat).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        let parts = NativeParts {
            idem: body::idempotency_claim(&req, &state.flows, &body)?,
            ..parts(&req)
        };
        state.flows.proxy_anthropic(&caller, body, parts, &edge::trace(&req)).await
    };
    // Boxed: the layers around a handler would move its whole state several times.
    render(&req, Box::pin(answered).await, &state)
}

/// Count the tokens of a request
///
/// Nothing is charged.
#[utoipa::path(post, path = "/v1/anthropic/messages/count_tokens", tag = "Proxies", operation_id = "proxy_count_tokens",
    request_body = chat::MessagesRequest,
    responses((status = 200, description = "The count.", body = chat::TokenCount)),
    extensions(("x-faces-access" = json!("chat"))))]
pub(super) async fn count_tokens(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let answered = async {
        let caller = body::caller(&req, &state.flows, Access::Chat).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.count_tokens(&caller, body, parts(&req), &edge::trace(&req)).await
    };
    match answered.await {
        Ok(body) => HttpResponse::Ok().content_type("application/json").body(body),
        Err(failure) => problem::respond(&req, &failure),
    }
}

pub(super) fn render(
    req: &HttpRequest,
    answered: Result<Reply<ProxySession>, Failure>,
    state: &HttpState,
) -> HttpResponse {
    match answered {
        Ok(Reply::Json { body, notes }) => {
            let mut response = HttpResponse::Ok().content_type("application/json").body(body);
            headers::write_notes(&mut response, &notes);
            response
        }
        Ok(Reply::Replayed(stored)) => headers::replayed(stored),
        Ok(Reply::Stream { session, notes }) => sse::native(req, session, &notes, state.heartbeat),
        Err(failure) => problem::respond(req, &failure),
    }
}

/// Headers whose values are text; which of them travel on is decided in `providers`.
pub(super) fn parts(req: &HttpRequest) -> NativeParts {
    let headers = req
        .headers()
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let query = Some(req.query_string()).filter(|query| !query.is_empty()).map(str::to_owned);
    NativeParts { headers, query, idem: None }
}
