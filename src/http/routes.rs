//! The one table of routes.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, Resource, middleware::from_fn, web};
use ipnet::IpNet;
use secrecy::SecretString;

use super::{
    api_keys, auth, billing, compile, edge, faces, formats, inference, openapi, operator,
    preferences, problem, proxies, reads, similar, sources,
};
use crate::{
    domain::ErrorCode,
    flows::{Failure, Flows},
};

/// What handlers share, one clone per worker.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// The use cases.
    pub flows: Flows,
    /// Largest request body, bytes.
    pub body_bytes_max: u64,
    /// Largest body of a login, bytes.
    pub login_body_bytes_max: u64,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Largest file of an upload, bytes.
    pub upload_bytes_max: u64,
    /// Interval of SSE heartbeats.
    pub heartbeat: Duration,
    /// Key of the operator's routes; without one they are closed.
    pub admin_key: Option<SecretString>,
}

/// Registers every route, the 404 and the 405s, and the edge around them.
pub(super) fn configure(config: &mut web::ServiceConfig, state: HttpState) {
    config.app_data(web::Data::new(state)).service(
        web::scope("")
            .wrap(from_fn(edge::edge))
            .service(resource("/healthz", "GET").route(web::get().to(reads::healthz)))
            .service(resource("/metrics", "GET").route(web::get().to(operator::metrics)))
            .service(resource("/v1/admin/audit", "GET").route(web::get().to(operator::audit)))
            .service(resource("/readyz", "GET").route(web::get().to(reads::readyz)))
            .service(
                resource("/v1/chat/completions", "POST").route(web::post().to(inference::chat)),
            )
            .service(
                resource("/v1/openai/chat/completions", "POST")
                    .route(web::post().to(proxies::openai)),
            )
            .service(
                resource("/v1/anthropic/messages", "POST")
                    .route(web::post().to(proxies::anthropic)),
            )
            .service(
                resource("/v1/anthropic/v1/messages", "POST")
                    .route(web::post().to(proxies::anthropic)),
            )
            .service(
                resource("/v1/anthropic/messages/count_tokens", "POST")
                    .route(web::post().to(proxies::count_tokens)),
            )
            .service(
                resource("/v1/anthropic/v1/messages/count_tokens", "POST")
                    .route(web::post().to(proxies::count_tokens)),
            )
            .service(resource("/v1/models", "GET").route(web::get().to(reads::models)))
            .service(resource("/v1/models/{model:.+}", "GET").route(web::get().to(reads::model)))
            .service(resource("/v1/openai/models", "GET").route(web::get().to(reads::models)))
            .service(resource("/v1/anthropic/v1/models", "GET").route(web::get().to(reads::models)))
            .service(
                resource("/v1/account/state", "GET").route(web::get().to(reads::account_state)),
            )
            .service(
                resource("/v1/faces", "GET, POST")
                    .route(web::get().to(faces::list))
                    .route(web::post().to(faces::create)),
            )
            .service(
                resource("/v1/faces/attributes", "GET").route(web::get().to(faces::attributes)),
            )
            .configure(similar::routes)
            .configure(faces::routes)
            .service(
                resource("/v1/faces/{face}", "GET, PATCH, DELETE")
                    .route(web::get().to(faces::read))
                    .route(web::patch().to(faces::update))
                    .route(web::delete().to(faces::delete)),
            )
            .service(
                resource("/v1/faces/{face}/primitives", "PUT")
                    .route(web::put().to(faces::replace_primitives)),
            )
            .configure(api_keys::routes)
            .configure(auth::routes)
            .configure(billing::routes)
            .configure(compile::routes)
            .configure(formats::routes)
            .configure(preferences::routes)
            .configure(openapi::routes)
            .configure(sources::routes)
            .default_service(web::route().to(no_route)),
    );
}

/// A path whose other methods answer 405 in the route's dialect, with the methods it `allow`s.
pub(super) fn resource(path: &str, allow: &'static str) -> Resource {
    let other = move |req: HttpRequest| async move { no_method(&req, allow) };
    web::resource(path).default_service(web::route().to(other))
}

async fn no_route(req: HttpRequest) -> HttpResponse {
    let failure = Failure::new(
        ErrorCode::RouteNotFound,
        "There is no such path. README.md lists the routes; an SDK's base URL ends in /v1 (OpenAI) or /v1/anthropic (Anthropic).",
    );
    problem::respond(&req, &failure)
}

fn no_method(req: &HttpRequest, allow: &str) -> HttpResponse {
    let failure = Failure {
        // RFC 9110, section 15.5.6: a 405 must say what is allowed.
        headers: vec![("allow".to_owned(), allow.to_owned())],
        ..Failure::new(
            ErrorCode::MethodNotAllowed,
            format!("This path does not take the method {}; it takes {allow}.", req.method()),
        )
    };
    problem::respond(req, &failure)
}
