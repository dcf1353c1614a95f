//! `/v1/faces…`.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Deserialize;

use super::{
    body, problem,
    reads::{bad_query, json},
    routes::{HttpState, resource},
};
use crate::{
    domain::{Access, FaceId},
    flows::personas,
};

#[derive(Debug, Deserialize)]
struct ListQuery {
    /// Faces in the page, 1 to 1,000.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

pub(super) async fn create(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let created = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.platform().create_face(&caller, &body).await
    };
    match created.await {
        Ok(face) => HttpResponse::build(StatusCode::CREATED).json(face),
        Err(failure) => problem::respond(&req, &failure),
    }
}

pub(super) async fn list(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let listed = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        let query = web::Query::<ListQuery>::from_query(req.query_string())
            .map_err(|_| bad_query("query", "The query can't be read."))?;
        let limit = match &query.limit {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|_| bad_query("limit", "limit must be a whole number"))?)
            }
        };
        let after = match &query.cursor {
            None => None,
            Some(text) => Some(text.parse::<FaceId>().map_err(|_| {
                bad_query("cursor", "cursor must be the next_cursor of the page before")
            })?),
        };
        state.flows.platform().list_faces(&caller, after, limit).await
    };
    json(&req, listed.await)
}

pub(super) async fn read(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.platform().read_face(&caller, &path).await
    };
    json(&req, read.await)
}

pub(super) async fn update(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let updated = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.platform().update_face(&caller, &path, &body).await
    };
    json(&req, updated.await)
}

pub(super) async fn delete(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let deleted = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        state.flows.platform().delete_face(&caller, &path).await
    };
    json(&req, deleted.await)
}

pub(super) async fn replace_primitives(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let replaced = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.platform().replace_primitives(&caller, &path, &body).await
    };
    json(&req, replaced.await)
}

/// Registers what must stand before `/v1/faces/{face}`.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(resource("/v1/faces/stats", "GET").route(web::get().to(stats)));
}

async fn stats(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let told = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.platform().face_stats(&caller).await
    };
    json(&req, told.await)
}

/// The accepted `basic_facts` keys; needs no credential.
pub(super) async fn attributes() -> HttpResponse {
    HttpResponse::Ok().json(personas::attributes())
}
