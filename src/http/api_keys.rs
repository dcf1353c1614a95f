//! `/v1/auth/api-keys…` and `/v1/api-keys…`, for logins only.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Deserialize;

use super::{
    auth::private,
    body,
    openapi::{Page, identity as docs},
    problem,
    reads::{bad_query, json},
    routes::{HttpState, resource},
};
use crate::{
    domain::{Access, KeyId},
    flows::Failure,
};

#[derive(Debug, Deserialize)]
struct ListQuery {
    /// Keys in the page, 1 to 1,000.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            resource("/v1/auth/api-keys", "GET, POST")
                .route(web::get().to(list))
                .route(web::post().to(create)),
        )
        .service(
            resource("/v1/auth/api-keys/{key}", "GET, PATCH, DELETE")
                .route(web::get().to(read))
                .route(web::patch().to(update))
                .route(web::delete().to(revoke)),
        )
        .service(
            resource("/v1/api-keys", "GET, POST")
                .route(web::get().to(list))
                .route(web::post().to(create)),
        )
        .service(
            resource("/v1/api-keys/{key}", "GET, PATCH, DELETE")
                .route(web::get().to(read))
                .route(web::patch().to(update))
                .route(web::delete().to(revoke)),
        );
}

/// Create a key
#[utoipa::path(post, path = "/v1/auth/api-keys", tag = "Keys", operation_id = "create_key",
    request_body = docs::KeyTerms,
    responses((status = 201, description = "The key, shown this once.", body = docs::ApiKey)),
    extensions(("x-faces-access" = json!("user"))))]
async fn create(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let created = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.platform().create_user_key(&caller, &body).await
    };
    match created.await {
        Ok(key) => private(HttpResponse::build(StatusCode::CREATED).json(key)),
        Err(failure) => problem::respond(&req, &failure),
    }
}

/// List the keys
#[utoipa::path(get, path = "/v1/auth/api-keys", tag = "Keys", operation_id = "list_keys",
    params(Page),
    responses((status = 200, description = "A page of keys, newest first.", body = docs::KeyPage)),
    extensions(("x-faces-access" = json!("user"))))]
async fn list(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let listed = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        let (before, limit) = page_of(&req)?;
        state.flows.platform().list_user_keys(&caller, before, limit).await
    };
    json(&req, listed.await)
}

fn page_of(req: &HttpRequest) -> Result<(Option<KeyId>, Option<u32>), Failure> {
    let query = web::Query::<ListQuery>::from_query(req.query_string())
        .map_err(|_| bad_query("query", "The query can't be read."))?;
    let limit = query.limit.as_deref().map(str::parse).transpose();
    let limit = limit.map_err(|_| bad_query("limit", "limit must be a whole number"))?;
    let before = query.cursor.as_deref().map(str::parse).transpose();
    let before = before
        .map_err(|_| bad_query("cursor", "cursor must be the next_cursor of the page before"))?;
    Ok((before, limit))
}

/// Read a key
#[utoipa::path(get, path = "/v1/auth/api-keys/{key}", tag = "Keys", operation_id = "get_key",
    params(("key" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "The key.", body = docs::ApiKey)),
    extensions(("x-faces-access" = json!("user"))))]
async fn read(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        state.flows.platform().read_user_key(&caller, &path).await
    };
    json(&req, read.await)
}

/// Change a key
///
/// What is left out stays. Servers follow within two seconds.
#[utoipa::path(patch, path = "/v1/auth/api-keys/{key}", tag = "Keys", operation_id = "update_key",
    params(("key" = String, Path, description = "The key's id.")),
    request_body = docs::KeyTerms,
    responses((status = 200, description = "The key.", body = docs::ApiKey)),
    extensions(("x-faces-access" = json!("user"))))]
async fn update(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let updated = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.platform().update_user_key(&caller, &path, &body).await
    };
    json(&req, updated.await)
}

/// Revoke a key
///
/// It stays in the list.
#[utoipa::path(delete, path = "/v1/auth/api-keys/{key}", tag = "Keys", operation_id = "revoke_key",
    params(("key" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "It is revoked.", body = docs::KeyRevoked)),
    extensions(("x-faces-access" = json!("user"))))]
async fn revoke(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let revoked = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        state.flows.platform().revoke_user_key(&caller, &path).await
    };
    json(&req, revoked.await)
}
