//! The OpenAPI document: `GET /openapi.json`, and `GET /docs/` for people.
//!
//! What a route takes and answers stands at its handler (`#[utoipa::path]`). The types in here are
//! the shapes of bodies, for the document only: nothing is parsed or written through them. Their
//! doc comments are its descriptions. `finish` adds what follows from a rule: second paths of a
//! route, security, and the errors of each route's dialect.
//!
//! `tests/api/openapi.rs` compares the document with the routes and with real answers;
//! `tests/api/matrix.rs` compares each `x-faces-access` with what the route does.

pub mod account;
pub mod billing;
pub mod chat;
pub mod compile;
pub mod errors;
pub mod faces;
mod finish;
pub mod identity;
pub mod page;
mod parameters;
pub mod similar;
pub mod threads;

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use finish::Finish;
pub(super) use parameters::Page;
use utoipa::OpenApi;

use super::{
    problem,
    routes::{HttpState, resource},
};
use crate::{
    domain::ErrorCode,
    flows::{Failure, failure::INTERNAL_MESSAGE},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Faces API",
        description = "Personas behind OpenAI-compatible and Anthropic-compatible endpoints, paid for with \
            prepaid credits.\n\nEvery operation says in `x-faces-access` what it asks of a credential: `public` \
            nothing, `any` a valid one, `chat`, `read` and `admin` the scopes `v1:chat`, `v1:read` and \
            `v1:admin` (a key without scopes and a login have all three), `user` a login token, `operator` \
            the server's own key.\n\nWhat belongs to another account is answered exactly like what does not \
            exist. Money is in USD."
    ),
    modifiers(&Finish),
    paths(
        super::inference::chat,
        super::formats::messages,
        super::formats::count_tokens,
        super::formats::responses,
        super::proxies::openai,
        super::proxies::anthropic,
        super::proxies::count_tokens,
        super::reads::models,
        super::reads::model,
        super::faces::list,
        super::faces::create,
        super::faces::attributes,
        super::faces::read,
        super::faces::update,
        super::faces::delete,
        super::faces::replace_primitives,
        super::faces::stats,
        super::similar::diff,
        super::similar::neighbours,
        super::compile::list,
        super::compile::create,
        super::compile::read,
        super::compile::update,
        super::compile::delete,
        super::compile::take,
        super::compile::list_of_face,
        super::compile::create_for_face,
        super::compile::read_of_face,
        super::compile::delete_of_face,
        super::compile::sync_face,
        super::compile::quota,
        super::compile::update_quota,
        super::sources::list,
        super::sources::create,
        super::sources::read,
        super::sources::update,
        super::sources::delete,
        super::sources::take,
        super::sources::list_of_face,
        super::sources::create_for_face,
        super::sources::send_message,
        super::sources::replace_messages,
        super::sources::upload,
        super::billing::balance,
        super::billing::top_up,
        super::billing::usage,
        super::billing::llm_costs,
        super::billing::invoices,
        super::billing::invoice,
        super::billing::subscription,
        super::billing::checkout,
        super::billing::card_setup,
        super::billing::cancel,
        super::billing::webhook,
        super::api_keys::list,
        super::api_keys::create,
        super::api_keys::read,
        super::api_keys::update,
        super::api_keys::revoke,
        super::auth::register,
        super::auth::login,
        super::auth::refresh,
        super::auth::change_password,
        super::auth::me,
        super::preferences::read,
        super::preferences::update,
        super::reads::account_state,
        super::reads::healthz,
        super::reads::readyz,
        super::operator::metrics,
        super::operator::audit,
        document,
        page::home,
        page::file,
    ),
    tags(
        (name = "Chat", description = "Talk to a face or a model, as JSON or as a stream of events."),
        (name = "Proxies", description = "A provider's own API, passed through and billed."),
        (name = "Models", description = "The models that can be used."),
        (name = "Faces", description = "Personas: make, change, compare."),
        (name = "Compile", description = "Make a persona from texts and interviews."),
        (name = "Keys", description = "API keys with budgets, limits and scopes."),
        (name = "Identity", description = "Register and log in."),
        (name = "Billing", description = "Credits, usage and statements."),
        (name = "Account", description = "The account itself."),
        (name = "Operator", description = "For those who run the server.")
    )
)]
struct Document;

/// The document's bytes, built at the first request for it.
static DOCUMENT: LazyLock<Option<Bytes>> = LazyLock::new(|| {
    let json = Document::openapi().to_json();
    json.inspect_err(|error| {
        log::error!(target: "faces::http", "the OpenAPI document can't be written: {error}");
    })
    .ok()
    .map(Bytes::from)
});

/// The routes of this module.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/openapi.json", "GET").route(web::get().to(document)))
        .service(resource("/docs", "GET").route(web::get().to(page::home)))
        .service(resource("/docs/{file:.*}", "GET").route(web::get().to(page::file)));
}

/// Read this document
#[utoipa::path(get, path = "/openapi.json", tag = "Operator", operation_id = "get_openapi",
    responses((status = 200, description = "The OpenAPI document.", body = serde_json::Value)),
    extensions(("x-faces-access" = json!("public"))))]
async fn document(req: HttpRequest, _state: web::Data<HttpState>) -> HttpResponse {
    match &*DOCUMENT {
        Some(bytes) => HttpResponse::Ok().content_type("application/json").body(bytes.clone()),
        None => problem::respond(&req, &Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE)),
    }
}
