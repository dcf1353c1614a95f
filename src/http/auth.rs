//! `/auth/…` and `/v1/auth/…`: register, log in, refresh, another password, who am I.

use std::future::Future;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::Value;

use super::{
    body,
    openapi::identity as docs,
    peer,
    reads::json,
    routes::{HttpState, resource},
};
use crate::{domain::Access, flows::Failure};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/auth/register-email", "POST").route(web::post().to(register)))
        .service(resource("/auth/login", "POST").route(web::post().to(login)))
        .service(resource("/auth/refresh", "POST").route(web::post().to(refresh)))
        .service(resource("/auth/password", "POST").route(web::post().to(change_password)))
        .service(resource("/v1/auth/register", "POST").route(web::post().to(register)))
        .service(resource("/v1/auth/login", "POST").route(web::post().to(login)))
        .service(resource("/v1/auth/refresh", "POST").route(web::post().to(refresh)))
        .service(resource("/v1/auth/password", "POST").route(web::post().to(change_password)))
        .service(resource("/v1/auth/me", "GET").route(web::get().to(me)));
}

/// Register
#[utoipa::path(post, path = "/v1/auth/register", tag = "Identity", operation_id = "register",
    request_body = docs::Registration,
    responses((status = 200, description = "The account is made and logged in.", body = docs::LoggedIn),
        (status = 403, description = "This server takes no new accounts."),
        (status = 429, description = "Too many attempts."), (status = 503, description = "The server can't do this right now.")),
    extensions(("x-faces-access" = json!("public"))))]
async fn register(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let address = peer::client_address(&req, &state.trusted_proxies);
    let platform = state.flows.platform();
    let registered =
        with_body(
            &req,
            payload,
            &state,
            |body| async move { platform.register(address, &body).await },
        );
    private(json(&req, registered.await))
}

/// Log in
#[utoipa::path(post, path = "/v1/auth/login", tag = "Identity", operation_id = "log_in",
    request_body = docs::Login,
    responses((status = 200, description = "The token.", body = docs::LoggedIn),
        (status = 401, description = "The address or the password is wrong."),
        (status = 429, description = "Too many attempts."), (status = 503, description = "The server can't do this right now.")),
    extensions(("x-faces-access" = json!("public"))))]
async fn login(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let address = peer::client_address(&req, &state.trusted_proxies);
    let platform = state.flows.platform();
    let logged_in =
        with_body(
            &req,
            payload,
            &state,
            |body| async move { platform.login(address, &body).await },
        );
    private(json(&req, logged_in.await))
}

/// Get a new token
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "Identity", operation_id = "refresh_login",
    responses((status = 200, description = "The token.", body = docs::LoggedIn)),
    extensions(("x-faces-access" = json!("user"))))]
async fn refresh(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let refreshed = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        state.flows.platform().refresh(&caller).await
    };
    private(json(&req, refreshed.await))
}

/// Change the password
///
/// Ends all login tokens; the answer has a new one. API keys stay.
#[utoipa::path(post, path = "/v1/auth/password", tag = "Identity", operation_id = "change_password",
    request_body = docs::PasswordChange,
    responses((status = 200, description = "The new token.", body = docs::LoggedIn),
        (status = 429, description = "Too many attempts.")),
    extensions(("x-faces-access" = json!("user"))))]
async fn change_password(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let address = peer::client_address(&req, &state.trusted_proxies);
    let changed = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        let body = body::json_body(&req, payload, state.login_body_bytes_max).await?;
        state.flows.platform().change_password(&caller, address, &body).await
    };
    private(json(&req, changed.await))
}

/// Read who is logged in
#[utoipa::path(get, path = "/v1/auth/me", tag = "Identity", operation_id = "get_me",
    responses((status = 200, description = "The user.", body = docs::User)),
    extensions(("x-faces-access" = json!("user"))))]
async fn me(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        state.flows.platform().me(&caller).await
    };
    json(&req, read.await)
}

/// Reads a small body from somebody unknown and hands it on.
async fn with_body<F: Future<Output = Result<Value, Failure>>>(
    req: &HttpRequest,
    payload: web::Payload,
    state: &HttpState,
    use_case: impl FnOnce(Bytes) -> F,
) -> Result<Value, Failure> {
    let body = body::json_body(req, payload, state.login_body_bytes_max).await?;
    use_case(body).await
}

/// What holds a credential must not be kept by anybody on its way (RFC 6749, section 5.1).
pub(super) fn private(mut response: HttpResponse) -> HttpResponse {
    use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
