//! `/v1/compile/documents…`, their like under a face, and the compile quota.

use actix_web::{HttpRequest, HttpResponse, Resource, http::StatusCode, web};
use serde::Deserialize;

use super::{
    body,
    openapi::{Page, compile as docs},
    problem,
    reads::json,
    routes::{HttpState, resource},
};
use crate::{
    domain::{Access, ErrorCode, SourceId, compile::SourceKind},
    flows::Failure,
};

#[derive(Debug, Deserialize)]
struct ListQuery {
    /// Documents in the page, 1 to 1,000.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Of one face only: these four are one.
    model: Option<String>,
    alias: Option<String>,
    username: Option<String>,
    face: Option<String>,
}

/// What a `POST` without a body asks of a document.
#[derive(Debug, Clone, Copy)]
enum Step {
    Prepare,
    Make,
    Sync,
    Pause,
    Reset,
}

/// Registers the routes of this file.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            resource("/v1/compile/documents", "GET, POST")
                .route(web::get().to(list))
                .route(web::post().to(create)),
        )
        .service(
            resource("/v1/compile/documents/{id}", "GET, PATCH, DELETE")
                .route(web::get().to(read))
                .route(web::patch().to(update))
                .route(web::delete().to(delete)),
        )
        .service(step_route("/v1/compile/documents/{id}/prepare", Step::Prepare))
        .service(step_route("/v1/compile/documents/{id}/make", Step::Make))
        .service(step_route("/v1/compile/documents/{id}/sync", Step::Sync))
        .service(step_route("/v1/compile/documents/{id}/pause", Step::Pause))
        .service(step_route("/v1/compile/documents/{id}/reset", Step::Reset))
        .service(
            resource("/v1/faces/{face}/compile/documents", "GET, POST")
                .route(web::get().to(list_of_face))
                .route(web::post().to(create_for_face)),
        )
        .service(resource("/v1/faces/{face}/documents", "GET").route(web::get().to(list_of_face)))
        .service(
            resource("/v1/faces/{face}/documents/{id}", "GET, DELETE")
                .route(web::get().to(read_of_face))
                .route(web::delete().to(delete_of_face)),
        )
        .service(resource("/v1/faces/{face}/sync", "POST").route(web::post().to(sync_face)))
        .service(
            resource("/v1/billing/compile-quota", "GET, PATCH")
                .route(web::get().to(quota))
                .route(web::patch().to(update_quota)),
        );
}

fn step_route(path: &str, step: Step) -> Resource {
    let handler = move |req: HttpRequest, path: web::Path<String>, state: web::Data<HttpState>| async move {
        take(&req, &path, &state, step).await
    };
    resource(path, "POST").route(web::post().to(handler))
}

/// Take a document a step further
///
/// `prepare` extracts primitives, `sync` puts them into the face, `make` does both in the background
/// (202), `pause` stops after the chunk that runs, `reset` drops what was extracted.
#[utoipa::path(post, path = "/v1/compile/documents/{id}/prepare", tag = "Compile", operation_id = "prepare_document",
    params(("id" = String, Path, description = "The document's id.")),
    responses((status = 200, description = "How far it is.", body = docs::SourceProgress),
        (status = 202, description = "It has begun.", body = docs::SourceProgress),
        (status = 402, description = "The plan's quota has no room for it."),
        (status = 409, description = "Its state does not allow this."),
        (status = 422, description = "There is nothing to compile yet.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn take(req: &HttpRequest, id: &str, state: &HttpState, step: Step) -> HttpResponse {
    let kind = SourceKind::Document;
    let taken = async {
        let caller = body::caller(req, &state.flows, Access::Admin).await?;
        match step {
            Step::Prepare => state.flows.prepare_source(&caller, kind, id).await,
            Step::Make => state.flows.make_source(&caller, kind, id).await,
            Step::Sync => state.flows.sync_source(&caller, kind, id).await,
            Step::Pause => state.flows.pause_source(&caller, kind, id).await,
            Step::Reset => state.flows.reset_source(&caller, kind, id).await,
        }
    };
    match (taken.await, step) {
        (Ok(taken), Step::Make) => HttpResponse::build(StatusCode::ACCEPTED).json(taken),
        (taken, _) => json(req, taken),
    }
}

/// Hand in a text
#[utoipa::path(post, path = "/v1/compile/documents", tag = "Compile", operation_id = "create_document",
    request_body = docs::NewDocument,
    responses((status = 201, description = "The document.", body = docs::Document),
        (status = 404, description = "There is no such face.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn create(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    keep(&req, payload, &state, None).await
}

/// Hand in a text for a face
#[utoipa::path(post, path = "/v1/faces/{face}/compile/documents", tag = "Compile", operation_id = "create_document_of_face",
    params(("face" = String, Path, description = "The face's handle.", example = "alice")),
    request_body = docs::NewDocument,
    responses((status = 201, description = "The document.", body = docs::Document)),
    extensions(("x-faces-access" = json!("admin"))))]
async fn create_for_face(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    keep(&req, payload, &state, Some(&path)).await
}

async fn keep(
    req: &HttpRequest,
    payload: web::Payload,
    state: &HttpState,
    face: Option<&str>,
) -> HttpResponse {
    let created = async {
        let caller = body::caller(req, &state.flows, Access::Admin).await?;
        let body = body::json_body(req, payload, state.body_bytes_max).await?;
        state.flows.create_document(&caller, face, &body).await
    };
    match created.await {
        Ok(document) => HttpResponse::build(StatusCode::CREATED).json(document),
        Err(failure) => problem::respond(req, &failure),
    }
}

/// List the documents
#[utoipa::path(get, path = "/v1/compile/documents", tag = "Compile", operation_id = "list_documents",
    params(Page, ("alias" = Option<String>, Query, description = "Of one face; `model`, `username` and `face` are other names.")),
    responses((status = 200, description = "A page of documents.", body = docs::DocumentPage),
        (status = 404, description = "There is no such face.")),
    extensions(("x-faces-access" = json!("read"))))]
async fn list(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    page(&req, &state, None).await
}

/// List the documents of a face
#[utoipa::path(get, path = "/v1/faces/{face}/documents", tag = "Compile", operation_id = "list_documents_of_face",
    params(Page, ("face" = String, Path, description = "The face's handle.", example = "alice")),
    responses((status = 200, description = "A page of documents.", body = docs::DocumentPage)),
    extensions(("x-faces-access" = json!("read"))))]
async fn list_of_face(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    page(&req, &state, Some(&path)).await
}

async fn page(req: &HttpRequest, state: &HttpState, face: Option<&str>) -> HttpResponse {
    let listed = async {
        let caller = body::caller(req, &state.flows, Access::Read).await?;
        let query = web::Query::<ListQuery>::from_query(req.query_string())
            .map_err(|_| bad_query("query", "The query can't be read."))?
            .into_inner();
        let limit = match &query.limit {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|_| bad_query("limit", "limit must be a whole number"))?)
            }
        };
        let after = match &query.cursor {
            None => None,
            Some(text) => Some(text.parse::<SourceId>().map_err(|_| {
                bad_query("cursor", "cursor must be the next_cursor of the page before")
            })?),
        };
        let named = query.model.or(query.alias).or(query.username).or(query.face);
        let face = face.or(named.as_deref());
        state.flows.list_documents(&caller, face, after, limit).await
    };
    json(req, listed.await)
}

/// Read a document
#[utoipa::path(get, path = "/v1/compile/documents/{id}", tag = "Compile", operation_id = "get_document",
    params(("id" = String, Path, description = "The document's id.")),
    responses((status = 200, description = "The document.", body = docs::Document)),
    extensions(("x-faces-access" = json!("read"))))]
async fn read(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.read_document(&caller, None, &path).await
    };
    json(&req, read.await)
}

/// Read a document of a face
#[utoipa::path(get, path = "/v1/faces/{face}/documents/{id}", tag = "Compile", operation_id = "get_document_of_face",
    params(("face" = String, Path, description = "The face's handle.", example = "alice"), ("id" = String, Path, description = "The document's id.")),
    responses((status = 200, description = "The document.", body = docs::Document)),
    extensions(("x-faces-access" = json!("read"))))]
async fn read_of_face(
    req: HttpRequest,
    path: web::Path<(String, String)>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.read_document(&caller, Some(&path.0), &path.1).await
    };
    json(&req, read.await)
}

/// Change a document
#[utoipa::path(patch, path = "/v1/compile/documents/{id}", tag = "Compile", operation_id = "update_document",
    params(("id" = String, Path, description = "The document's id.")),
    request_body = docs::DocumentChange,
    responses((status = 200, description = "The document.", body = docs::Document),
        (status = 409, description = "Its state does not allow this.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn update(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let updated = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.update_document(&caller, &path, &body).await
    };
    json(&req, updated.await)
}

/// Delete a document
///
/// With the primitives that came from it alone.
#[utoipa::path(delete, path = "/v1/compile/documents/{id}", tag = "Compile", operation_id = "delete_document",
    params(("id" = String, Path, description = "The document's id.")),
    responses((status = 200, description = "It is gone.", body = docs::DocumentDeleted),
        (status = 409, description = "Its state does not allow this.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn delete(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let deleted = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        state.flows.delete_source(&caller, SourceKind::Document, None, &path).await
    };
    json(&req, deleted.await)
}

/// Delete a document of a face
#[utoipa::path(delete, path = "/v1/faces/{face}/documents/{id}", tag = "Compile", operation_id = "delete_document_of_face",
    params(("face" = String, Path, description = "The face's handle.", example = "alice"), ("id" = String, Path, description = "The document's id.")),
    responses((status = 200, description = "It is gone.", body = docs::DocumentDeleted),
        (status = 409, description = "Its state does not allow this.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn delete_of_face(
    req: HttpRequest,
    path: web::Path<(String, String)>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let deleted = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let kind = SourceKind::Document;
        state.flows.delete_source(&caller, kind, Some(&path.0), &path.1).await
    };
    json(&req, deleted.await)
}

/// Make all documents of a face
///
/// What fits into the quota.
#[utoipa::path(post, path = "/v1/faces/{face}/sync", tag = "Compile", operation_id = "sync_face",
    params(("face" = String, Path, description = "The face's handle.", example = "alice")),
    responses((status = 200, description = "What was begun.", body = docs::FaceSync),
        (status = 402, description = "The plan's quota has no room for it."),
        (status = 422, description = "There is nothing to compile yet.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn sync_face(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let synced = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        state.flows.sync_face(&caller, &path).await
    };
    json(&req, synced.await)
}

/// Read how much may be compiled
#[utoipa::path(get, path = "/v1/billing/compile-quota", tag = "Compile", operation_id = "get_compile_quota",
    responses((status = 200, description = "The quota.", body = docs::CompileQuota)),
    extensions(("x-faces-access" = json!("read"))))]
async fn quota(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.compile_quota(&caller).await
    };
    json(&req, read.await)
}

/// Switch the overflow to credits
#[utoipa::path(patch, path = "/v1/billing/compile-quota", tag = "Compile", operation_id = "update_compile_quota",
    request_body = docs::CompileQuotaChange,
    responses((status = 200, description = "The quota.", body = docs::CompileQuota)),
    extensions(("x-faces-access" = json!("admin"))))]
async fn update_quota(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let updated = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.update_compile_quota(&caller, &body).await
    };
    json(&req, updated.await)
}

fn bad_query(name: &str, message: &str) -> Failure {
    Failure {
        loc: vec!["query".to_owned(), name.to_owned()],
        ..Failure::new(ErrorCode::InvalidRequest, message)
    }
}
