//! `/v1/faces/diff` and `/v1/faces/{face}/neighbors`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    body, edge,
    openapi::similar as docs,
    reads::json,
    routes::{HttpState, resource},
};
use crate::{
    domain::Access,
    flows::{
        Failure,
        similar::{NeighbourQuery, wrong_query},
    },
};

#[derive(Debug, Deserialize)]
struct DiffQuery {
    /// Usernames with commas between them.
    faces: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NeighboursQuery {
    k: Option<String>,
    component: Option<String>,
    direction: Option<String>,
}

/// Before `/v1/faces/{face}`, which would take `diff` for a username.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/v1/faces/diff", "GET").route(web::get().to(diff)))
        .service(resource("/v1/faces/{face}/neighbors", "GET").route(web::get().to(neighbours)));
}

/// Compare faces
///
/// Pair by pair, by component. Where the server compares by a model's embeddings, those that are
/// missing are paid by the account, once for each state of a face.
#[utoipa::path(get, path = "/v1/faces/diff", tag = "Faces", operation_id = "diff_faces",
    params(("faces" = String, Query, description = "Handles with commas between them.", example = "alice,bob")),
    responses((status = 200, description = "The pairs.", body = docs::FaceDiff),
        (status = 404, description = "One of the faces is not there, or not yours."),
        (status = 402, description = "The embeddings that are missing cost more than the account or the key's budget has."),
        (status = 403, description = "The key may not use one of the faces; or embeddings are missing and it lacks `v1:chat`, or may not use their model."),
        (status = 429, description = "Too many requests, here or at the provider of embeddings."),
        (status = 502, description = "The provider of embeddings failed."),
        (status = 503, description = "More is to be made than one request may (ask again after `Retry-After`), or the server is busy."),
        (status = 504, description = "The provider of embeddings did not answer in time.")),
    extensions(("x-faces-access" = json!("read"))))]
async fn diff(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let compared = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        let query: DiffQuery = query(&req)?;
        let faces = query.faces.ok_or_else(|| Failure {
            validation: "missing",
            ..wrong_query("faces", "faces is missing: /v1/faces/diff?faces=alice,bob")
        })?;
        state.flows.diff_faces(&caller, &faces, &edge::trace(&req)).await
    };
    json(&req, compared.await)
}

/// Find a face's neighbors
///
/// The account's other faces by their similarity to this one. Where the server compares by a model's
/// embeddings, those that are missing are paid by the account, once for each state of a face.
#[utoipa::path(get, path = "/v1/faces/{face}/neighbors", tag = "Faces", operation_id = "list_neighbors",
    params(("face" = String, Path, description = "The face's handle.", example = "alice"),
        ("k" = Option<u32>, Query, description = "How many."),
        ("component" = Option<String>, Query, description = "What is compared: `face` (the default), `beta`, `delta` or `epsilon`."),
        ("direction" = Option<String>, Query, description = "`nearest` (the default) or `furthest`.")),
    responses((status = 200, description = "The neighbors.", body = docs::FaceNeighbors),
        (status = 402, description = "The embeddings that are missing cost more than the account or the key's budget has."),
        (status = 403, description = "The key may not use one of the faces; or embeddings are missing and it lacks `v1:chat`, or may not use their model."),
        (status = 429, description = "Too many requests, here or at the provider of embeddings."),
        (status = 502, description = "The provider of embeddings failed."),
        (status = 503, description = "More is to be made than one request may (ask again after `Retry-After`), or the server is busy."),
        (status = 504, description = "The provider of embeddings did not answer in time.")),
    extensions(("x-faces-access" = json!("read"))))]
async fn neighbours(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let found = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        let query: NeighboursQuery = query(&req)?;
        let query = NeighbourQuery::parse(
            query.k.as_deref(),
            query.component.as_deref(),
            query.direction.as_deref(),
        )?;
        state.flows.face_neighbours(&caller, &path, query, &edge::trace(&req)).await
    };
    json(&req, found.await)
}

fn query<T: DeserializeOwned>(req: &HttpRequest) -> Result<T, Failure> {
    web::Query::<T>::from_query(req.query_string())
        .map(web::Query::into_inner)
        .map_err(|_| wrong_query("query", "The query can't be read."))
}
