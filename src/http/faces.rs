//! `/v1/faces…`.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Deserialize;

use super::{
    body,
    openapi::{Page, faces as docs},
    problem,
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

/// Create a face
#[utoipa::path(post, path = "/v1/faces", tag = "Faces", operation_id = "create_face",
    request_body = docs::NewFace,
    responses((status = 201, description = "The face.", body = docs::Face),
        (status = 409, description = "The handle is taken.")),
    extensions(("x-faces-access" = json!("admin"))))]
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

/// List the faces
#[utoipa::path(get, path = "/v1/faces", tag = "Faces", operation_id = "list_faces",
    params(Page),
    responses((status = 200, description = "A page of faces, oldest first.", body = docs::FacePage)),
    extensions(("x-faces-access" = json!("read"))))]
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

/// Read a face
#[utoipa::path(get, path = "/v1/faces/{face}", tag = "Faces", operation_id = "get_face",
    params(("face" = String, Path, description = "The face's handle.", example = "alice")),
    responses((status = 200, description = "The face.", body = docs::Face)),
    extensions(("x-faces-access" = json!("read"))))]
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

/// Change a face
///
/// Facts are merged key by key; what is left out stays.
#[utoipa::path(patch, path = "/v1/faces/{face}", tag = "Faces", operation_id = "update_face",
    params(("face" = String, Path, description = "The face's handle.", example = "alice")),
    request_body = docs::FaceChange,
    responses((status = 200, description = "The face.", body = docs::Face),
        (status = 409, description = "Others keep changing it at the same time.")),
    extensions(("x-faces-access" = json!("admin"))))]
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

/// Delete a face
///
/// With its primitives and texts.
#[utoipa::path(delete, path = "/v1/faces/{face}", tag = "Faces", operation_id = "delete_face",
    params(("face" = String, Path, description = "The face's handle.", example = "alice")),
    responses((status = 200, description = "It is gone.", body = docs::FaceDeleted)),
    extensions(("x-faces-access" = json!("admin"))))]
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

/// Replace a face's primitives
///
/// All of them or, when one is wrong, none.
#[utoipa::path(put, path = "/v1/faces/{face}/primitives", tag = "Faces", operation_id = "replace_primitives",
    params(("face" = String, Path, description = "The face's handle.", example = "alice")),
    request_body = docs::Primitives,
    responses((status = 200, description = "The face.", body = docs::Face)),
    extensions(("x-faces-access" = json!("admin"))))]
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

/// Read what was compiled and asked of each face
#[utoipa::path(get, path = "/v1/faces/stats", tag = "Faces", operation_id = "get_face_stats",
    responses((status = 200, description = "The numbers by face.", body = BTreeMap<String, docs::FaceStats>)),
    extensions(("x-faces-access" = json!("read"))))]
async fn stats(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let told = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.platform().face_stats(&caller).await
    };
    json(&req, told.await)
}

/// List the keys of facts
#[utoipa::path(get, path = "/v1/faces/attributes", tag = "Faces", operation_id = "list_attributes",
    responses((status = 200, description = "The accepted keys by category.", body = docs::AttributeList)),
    extensions(("x-faces-access" = json!("public"))))]
pub(super) async fn attributes() -> HttpResponse {
    HttpResponse::Ok().json(personas::attributes())
}
