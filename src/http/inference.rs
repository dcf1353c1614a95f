//! `POST /v1/chat/completions`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{body, edge, headers, openapi::chat, problem, routes::HttpState, sse};
use crate::{
    domain::Access,
    flows::{Failure, Reply},
};

/// Chat with a face or a model
///
/// With `stream` the answer is a stream of events that ends with `[DONE]`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "Chat", operation_id = "create_chat_completion",
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key and body gets the first answer and is charged once.")),
    request_body = chat::ChatRequest,
    responses((status = 200, description = "The answer.", content((chat::ChatCompletion = "application/json"), (String = "text/event-stream")))),
    extensions(("x-faces-access" = json!("chat"))))]
pub(super) async fn chat(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    // Boxed: the layers around a handler would move its whole state several times.
    match Box::pin(answer(&req, payload, &state)).await {
        Ok(response) => response,
        Err(failure) => problem::respond(&req, &failure),
    }
}

async fn answer(
    req: &HttpRequest,
    payload: web::Payload,
    state: &HttpState,
) -> Result<HttpResponse, Failure> {
    let caller = body::caller(req, &state.flows, Access::Chat).await?;
    let body = body::json_body(req, payload, state.body_bytes_max).await?;
    let idem = body::idempotency_claim(req, &state.flows, &body)?;
    Ok(match state.flows.chat(&caller, body, idem, &edge::trace(req)).await? {
        Reply::Json { body, notes } => {
            let mut response = HttpResponse::Ok().content_type("application/json").body(body);
            headers::write_notes(&mut response, &notes);
            response
        }
        Reply::Replayed(stored) => headers::replayed(stored),
        Reply::Stream { session, notes } => sse::chat(req, session, &notes, state.heartbeat),
    })
}
