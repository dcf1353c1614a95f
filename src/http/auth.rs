//! `/auth/…` and `/v1/auth/…`: register, log in, refresh, who am I.

use std::future::Future;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::Value;

use super::{
    body, peer,
    reads::json,
    routes::{HttpState, resource},
};
use crate::{domain::Access, flows::Failure};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/auth/register-email", "POST").route(web::post().to(register)))
        .service(resource("/auth/login", "POST").route(web::post().to(login)))
        .service(resource("/auth/refresh", "POST").route(web::post().to(refresh)))
        .service(resource("/v1/auth/register", "POST").route(web::post().to(register)))
        .service(resource("/v1/auth/login", "POST").route(web::post().to(login)))
        .service(resource("/v1/auth/refresh", "POST").route(web::post().to(refresh)))
        .service(resource("/v1/auth/me", "GET").route(web::get().to(me)));
}

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

async fn refresh(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let refreshed = async {
        let caller = body::caller(&req, &state.flows, Access::User).await?;
        state.flows.platform().refresh(&caller).await
    };
    private(json(&req, refreshed.await))
}

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
