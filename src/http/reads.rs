//! Routes that only read: probes, models, account.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::{
    EdgeState, body,
    openapi::{account, chat},
    problem,
    problem::Dialect,
    routes::HttpState,
};
use crate::{
    domain::{Access, ErrorCode},
    flows::{Failure, models::card},
    wire::models,
};

/// Ask whether the server lives
#[utoipa::path(get, path = "/healthz", tag = "Operator", operation_id = "get_health",
    responses((status = 200, description = "It does.", body = account::Health)),
    extensions(("x-faces-access" = json!("public"))))]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// Ask whether the server can work
#[utoipa::path(get, path = "/readyz", tag = "Operator", operation_id = "get_readiness",
    responses((status = 200, description = "It can.", body = account::Ready),
        (status = 503, description = "It is stopping, or its database is away.")),
    extensions(("x-faces-access" = json!("public"))))]
pub(super) async fn readyz(
    req: HttpRequest,
    state: web::Data<HttpState>,
    edge: web::Data<EdgeState>,
) -> HttpResponse {
    if !edge.is_ready() {
        return problem::respond(
            &req,
            &Failure::new(ErrorCode::ShuttingDown, "The server is shutting down."),
        );
    }
    match state.flows.ready().await {
        Ok(()) => HttpResponse::Ok().json(json!({"status": "ready"})),
        Err(failure) => problem::respond(&req, &failure),
    }
}

/// List the models
///
/// Anthropic's form is used below `/v1/anthropic` and with the header `anthropic-version`.
#[utoipa::path(get, path = "/v1/models", tag = "Models", operation_id = "list_models",
    responses((status = 200, description = "All models that the key may use.", body = chat::ModelList)),
    extensions(("x-faces-access" = json!("any"))))]
pub(super) async fn models(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let caller = match body::caller(&req, &state.flows, Access::Any).await {
        Ok(caller) => caller,
        Err(failure) => return problem::respond(&req, &failure),
    };
    let models_found = state.flows.platform().models(&caller);
    let cards: Vec<_> = models_found.iter().map(|model| card(model)).collect();
    let body = match Dialect::of(&req) {
        Dialect::Anthropic => models::anthropic_list(&cards),
        Dialect::OpenAi | Dialect::Faces => models::openai_list(&cards),
    };
    json_bytes(body)
}

/// Read a model
#[utoipa::path(get, path = "/v1/models/{model}", tag = "Models", operation_id = "get_model",
    params(("model" = String, Path, description = "A model's id.", example = "sandbox")),
    responses((status = 200, description = "The model.", body = chat::Model)),
    extensions(("x-faces-access" = json!("any"))))]
pub(super) async fn model(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let found = match body::caller(&req, &state.flows, Access::Any).await {
        Ok(caller) => state.flows.platform().model(&caller, &path),
        Err(failure) => Err(failure),
    };
    match found {
        Ok(found) => json_bytes(match Dialect::of(&req) {
            Dialect::Anthropic => models::anthropic_single(&card(&found)),
            Dialect::OpenAi | Dialect::Faces => models::openai_single(&card(&found)),
        }),
        Err(failure) => problem::respond(&req, &failure),
    }
}

/// Read the account's state
#[utoipa::path(get, path = "/v1/account/state", tag = "Account", operation_id = "get_account_state",
    responses((status = 200, description = "The state.", body = account::AccountState)),
    extensions(("x-faces-access" = json!("read"))))]
pub(super) async fn account_state(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        state
            .flows
            .platform()
            .account_state(&body::caller(&req, &state.flows, Access::Read).await?)
            .await
    };
    json(&req, read.await)
}

/// A use case's value or its failure.
pub(super) fn json(req: &HttpRequest, read: Result<Value, Failure>) -> HttpResponse {
    match read {
        Ok(value) => HttpResponse::Ok().json(value),
        Err(failure) => problem::respond(req, &failure),
    }
}

/// A 422 that names a parameter of the query.
pub(super) fn bad_query(name: &str, message: &str) -> Failure {
    Failure {
        loc: vec!["query".to_owned(), name.to_owned()],
        ..Failure::new(ErrorCode::InvalidRequest, message)
    }
}

fn json_bytes(body: bytes::Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(body)
}
