//! `/v1/user/preferences`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    body,
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

async fn read(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.platform().preferences(&caller).await
    };
    json(&req, read.await)
}

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
