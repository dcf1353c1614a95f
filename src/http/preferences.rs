//! `/v1/user/preferences`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    body,
    openapi::identity as docs,
    reads::json,
    routes::{HttpState, resource},
};
use crate::domain::Access;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(
        resource("/v1/user/preferences", "GET, PATCH")
            .route(web::get().to(read))
            .route(web::patch().to(update)),
    );
}

/// Read the preferences
#[utoipa::path(get, path = "/v1/user/preferences", tag = "Account", operation_id = "get_preferences",
    responses((status = 200, description = "The preferences.", body = docs::Preferences)),
    extensions(("x-faces-access" = json!("read"))))]
async fn read(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.platform().preferences(&caller).await
    };
    json(&req, read.await)
}

/// Change the preferences
#[utoipa::path(patch, path = "/v1/user/preferences", tag = "Account", operation_id = "update_preferences",
    request_body = docs::Preferences,
    responses((status = 200, description = "The preferences.", body = docs::Preferences)),
    extensions(("x-faces-access" = json!("admin"))))]
async fn update(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let updated = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.platform().update_preferences(&caller, &body).await
    };
    json(&req, updated.await)
}
