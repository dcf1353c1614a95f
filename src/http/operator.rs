//! Routes of the operator: `Authorization: Bearer FACES_ADMIN_KEY`.

use actix_web::{HttpRequest, HttpResponse, http::header::AUTHORIZATION, web};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::{problem, routes::HttpState};
use crate::{
    domain::ErrorCode,
    flows::{Audit, Failure, failure::INTERNAL_MESSAGE},
    telemetry::metrics,
};

/// `GET /metrics`.
pub(super) async fn metrics(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    if let Err(failure) = check_operator(&req, &state) {
        return problem::respond(&req, &failure);
    }
    match metrics::exposition() {
        Ok(text) => HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(text),
        Err(_) => problem::respond(&req, &Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE)),
    }
}

/// `GET /v1/admin/audit`: 200 only when the books are right, 500 with the report when they aren't.
pub(super) async fn audit(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    if let Err(failure) = check_operator(&req, &state) {
        return problem::respond(&req, &failure);
    }
    match state.flows.platform().audit().await {
        Ok(Audit { clean: true, report }) => HttpResponse::Ok().json(report),
        Ok(Audit { clean: false, report }) => HttpResponse::InternalServerError().json(report),
        Err(failure) => problem::respond(&req, &failure),
    }
}

/// Whether the request holds the operator's key. What is compared are digests, so the time says
/// nothing about the key.
fn check_operator(req: &HttpRequest, state: &HttpState) -> Result<(), Failure> {
    let Some(key) = &state.admin_key else {
        return Err(Failure::new(
            ErrorCode::RouteNotFound,
            "This route is closed: the server has no FACES_ADMIN_KEY.",
        ));
    };
    let given = req.headers().get(AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let token = given.strip_prefix(b"Bearer ").unwrap_or_default();
    if Sha256::digest(token) == Sha256::digest(key.expose_secret().as_bytes()) {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::Unauthenticated,
        "This route wants Authorization: Bearer and the server's FACES_ADMIN_KEY.",
    ))
}
