//! `GET /docs/`: Swagger UI, from files inside the program; it asks nothing of other hosts.

use std::sync::{Arc, LazyLock};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use utoipa_swagger_ui::{Config, serve};

use super::super::problem;
use crate::{
    domain::ErrorCode,
    flows::{Failure, failure::INTERNAL_MESSAGE},
};

/// The page may load from this server only; Swagger UI sets styles and shows images of its own.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    // Without the word `none` the page would send the document to a validator on the internet.
    let config = Config::new(["/openapi.json"]).validator_url("none").try_it_out_enabled(true);
    Arc::new(config.persist_authorization(false))
});

/// Go to the page for people
#[utoipa::path(get, path = "/docs", tag = "Operator", operation_id = "go_to_docs",
    responses((status = 308, description = "To `/docs/`.", body = String, content_type = "text/plain")),
    extensions(("x-faces-access" = json!("public"))))]
pub(super) async fn home() -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header((header::LOCATION, "/docs/"))
        .content_type("text/plain; charset=utf-8")
        .body("/docs/")
}

/// Read the page for people
///
/// The file's name is empty for the page itself.
#[utoipa::path(get, path = "/docs/{file}", tag = "Operator", operation_id = "get_docs",
    params(("file" = String, Path, description = "A file of the page.", example = "index.html")),
    responses((status = 200, description = "HTML, a style sheet, a script or an image.", body = String,
        content_type = "text/html")),
    extensions(("x-faces-access" = json!("public"))))]
pub(super) async fn file(req: HttpRequest, path: web::Path<String>) -> HttpResponse {
    match serve(&path, Arc::clone(&CONFIG)) {
        Ok(Some(file)) => HttpResponse::Ok()
            .content_type(file.content_type)
            .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(file.bytes.into_owned()),
        Ok(None) => {
            let message = "There is no such file. The page is /docs/.";
            problem::respond(&req, &Failure::new(ErrorCode::RouteNotFound, message))
        }
        Err(error) => {
            log::error!(target: "faces::http", "the page of the API can't be made: {error}");
            problem::respond(&req, &Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE))
        }
    }
}
