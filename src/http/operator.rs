//! Routes of the operator: `Authorization: Bearer FACES_ADMIN_KEY`.

use actix_web::{HttpRequest, HttpResponse, http::header::AUTHORIZATION, web};
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{openapi::account, problem, routes::HttpState};
use crate::{
    domain::ErrorCode,
    flows::{Audit, AuditMode, Failure, failure::INTERNAL_MESSAGE},
    telemetry::metrics,
};

/// Read the metrics
#[utoipa::path(get, path = "/metrics", tag = "Operator", operation_id = "get_metrics",
    responses((status = 200, description = "In the text format of OpenMetrics.", body = String,
        content_type = "application/openmetrics-text")),
    extensions(("x-faces-access" = json!("operator"))))]
pub(super) async fn metrics(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    if let Err(failure) = check_operator(&req, &state) {
        return problem::respond(&req, &failure);
    }
    match metrics::exposition() {
        Ok(text) => HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(text),
        Err(_) => problem::respond(&req, &Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE)),
    }
}

#[derive(Debug, Deserialize)]
struct AuditQuery {
    mode: Option<String>,
}

/// Audit the books
///
/// 200 only when the books are right, 500 with the report when they aren't.
#[utoipa::path(get, path = "/v1/admin/audit", tag = "Operator", operation_id = "get_audit",
    params(("mode" = Option<String>, Query, description = "`full` (the default) or `incremental`.")),
    responses((status = 200, description = "The books are right.", body = account::AuditReport),
        (status = 500, description = "They are not.", body = account::AuditReport)),
    extensions(("x-faces-access" = json!("operator"))))]
pub(super) async fn audit(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    if let Err(failure) = check_operator(&req, &state) {
        return problem::respond(&req, &failure);
    }
    let audited = async {
        let mode = audit_mode(req.query_string())?;
        state.flows.platform().audit(mode).await
    };
    match audited.await {
        Ok(Audit { clean: true, report }) => HttpResponse::Ok().json(report),
        Ok(Audit { clean: false, report }) => HttpResponse::InternalServerError().json(report),
        Err(failure) => problem::respond(&req, &failure),
    }
}

fn audit_mode(query: &str) -> Result<AuditMode, Failure> {
    let query = web::Query::<AuditQuery>::from_query(query).ok();
    match query.map(|query| query.0.mode).as_ref().map(|mode| mode.as_deref()) {
        Some(None | Some("full")) => Ok(AuditMode::Full),
        Some(Some("incremental")) => Ok(AuditMode::Incremental),
        Some(Some(_)) | None => Err(Failure {
            loc: vec!["query".to_owned(), "mode".to_owned()],
            ..Failure::new(
                ErrorCode::InvalidRequest,
                "mode must be full (the default) or incremental, once.",
            )
        }),
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
