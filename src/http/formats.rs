//! `POST /v1/messages` and `POST /v1/responses`: faces in the two other formats.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    body, edge, headers,
    openapi::chat,
    problem, proxies,
    routes::{HttpState, resource},
    sse,
};
use crate::{
    domain::Access,
    flows::{
        Failure, NativeParts, Reply,
        formats::{MessagesReply, RetoldReply},
    },
};

/// The routes of this module.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/v1/messages", "POST").route(web::post().to(messages)))
        .service(resource("/v1/messages/count_tokens", "POST").route(web::post().to(count_tokens)))
        .service(resource("/v1/responses", "POST").route(web::post().to(responses)));
}

/// Talk to a face or a model in Anthropic's format
///
/// With `stream` the answer is a stream of events.
#[utoipa::path(post, path = "/v1/messages", tag = "Chat", operation_id = "create_message",
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key and body gets the first answer and is charged once.")),
    request_body = chat::MessagesRequest,
    responses((status = 200, description = "The answer.", content((chat::Message = "application/json"), (String = "text/event-stream")))),
    extensions(("x-faces-access" = json!("chat"))))]
async fn messages(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let answered = async {
        let caller = body::caller(&req, &state.flows, Access::Chat).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        let parts = NativeParts {
            idem: body::idempotency_claim(&req, &state.flows, &body)?,
            ..proxies::parts(&req)
        };
        state.flows.messages(&caller, body, parts, &edge::trace(&req)).await
    };
    // Boxed: the layers around a handler would move its whole state several times.
    match Box::pin(answered).await {
        Ok(MessagesReply::Native(reply)) => proxies::render(&req, Ok(reply), &state),
        Ok(MessagesReply::Retold(reply)) => render(&req, Ok(reply), &state),
        Err(failure) => problem::respond(&req, &failure),
    }
}

/// Count the tokens of a request in Anthropic's format
///
/// Nothing is charged.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "Chat", operation_id = "count_message_tokens",
    request_body = chat::MessagesRequest,
    responses((status = 200, description = "The count.", body = chat::TokenCount)),
    extensions(("x-faces-access" = json!("chat"))))]
async fn count_tokens(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let answered = async {
        let caller = body::caller(&req, &state.flows, Access::Chat).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        let (parts, trace) = (proxies::parts(&req), edge::trace(&req));
        state.flows.count_message_tokens(&caller, body, parts, &trace).await
    };
    match Box::pin(answered).await {
        Ok(body) => HttpResponse::Ok().content_type("application/json").body(body),
        Err(failure) => problem::respond(&req, &failure),
    }
}

/// Talk to a face or a model in the Responses format
///
/// With `stream` the answer is a stream of events.
#[utoipa::path(post, path = "/v1/responses", tag = "Chat", operation_id = "create_response",
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key and body gets the first answer and is charged once.")),
    request_body = chat::ResponsesRequest,
    responses((status = 200, description = "The answer.", content((chat::ResponseObject = "application/json"), (String = "text/event-stream")))),
    extensions(("x-faces-access" = json!("chat"))))]
async fn responses(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let answered = async {
        let caller = body::caller(&req, &state.flows, Access::Chat).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        let idem = body::idempotency_claim(&req, &state.flows, &body)?;
        state.flows.responses(&caller, body, idem, &edge::trace(&req)).await
    };
    // Boxed: the layers around a handler would move its whole state several times.
    render(&req, Box::pin(answered).await, &state)
}

fn render(
    req: &HttpRequest,
    answered: Result<RetoldReply, Failure>,
    state: &HttpState,
) -> HttpResponse {
    let RetoldReply { reply, retelling } = match answered {
        Ok(answered) => answered,
        Err(failure) => return problem::respond(req, &failure),
    };
    match reply {
        Reply::Json { body, notes } => {
            let mut response = HttpResponse::Ok().content_type("application/json").body(body);
            headers::write_notes(&mut response, &notes);
            response
        }
        Reply::Replayed(stored) => headers::replayed(stored),
        Reply::Stream { session, notes } => {
            sse::retold(req, session, retelling.teller(), &notes, state.heartbeat)
        }
    }
}
