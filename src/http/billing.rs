//! `/v1/billing…`.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Deserialize;

use super::{
    body, problem,
    reads::json,
    routes::{HttpState, resource},
};
use crate::{
    domain::{Access, ErrorCode},
    flows::{Failure, Invoice, UsageQuery, Wish},
};

/// Largest event of a payment provider, bytes: a payment takes a few hundred.
const WEBHOOK_BODY_BYTES_MAX: u64 = 65_536;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/v1/billing/balance", "GET").route(web::get().to(balance)))
        .service(resource("/v1/billing/topup", "POST").route(web::post().to(top_up)))
        .service(resource("/v1/billing/usage", "GET").route(web::get().to(usage)))
        .service(resource("/v1/billing/llm-costs", "GET").route(web::get().to(llm_costs)))
        .service(resource("/v1/billing/invoices", "GET").route(web::get().to(invoices)))
        .service(resource("/v1/billing/invoices/{month}", "GET").route(web::get().to(invoice)))
        .service(resource("/v1/billing/subscription", "GET").route(web::get().to(subscription)))
        .service(resource("/v1/billing/subscription/cancel", "POST").route(web::post().to(cancel)))
        .service(resource("/v1/billing/checkout", "POST").route(web::post().to(checkout)))
        .service(resource("/v1/billing/card-setup", "POST").route(web::post().to(card_setup)))
        .service(resource("/v1/billing/webhook", "POST").route(web::post().to(webhook)));
}

async fn balance(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.platform().balance(&caller).await
    };
    json(&req, read.await)
}

async fn top_up(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let added = async {
        let caller = body::caller(&req, &state.flows, Access::Admin).await?;
        let body = body::json_body(&req, payload, state.body_bytes_max).await?;
        state.flows.top_up(&caller, &body).await
    };
    json(&req, added.await)
}

async fn usage(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        let query = query::<UsageQuery>(&req)?;
        state.flows.platform().usage(&caller, query).await
    };
    json(&req, read.await)
}

async fn llm_costs(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        Ok(state.flows.llm_costs(&caller))
    };
    json(&req, read.await)
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    /// Months in the page.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn invoices(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        let ListQuery { limit, cursor } = query(&req)?;
        state.flows.platform().invoices(&caller, cursor.as_deref(), limit.as_deref()).await
    };
    json(&req, read.await)
}

#[derive(Debug, Deserialize)]
struct FormatQuery {
    /// `json` or `csv`; else the header `Accept` decides.
    format: Option<String>,
}

async fn invoice(
    req: HttpRequest,
    path: web::Path<String>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        let is_csv = wants_csv(&req)?;
        let invoice = state.flows.platform().invoice(&caller, &path).await?;
        if is_csv { csv(&invoice, &path) } else { Ok(HttpResponse::Ok().json(invoice.to_json())) }
    };
    match read.await {
        Ok(response) => response,
        Err(failure) => problem::respond(&req, &failure),
    }
}

fn wants_csv(req: &HttpRequest) -> Result<bool, Failure> {
    match query::<FormatQuery>(req)?.format.as_deref() {
        Some("csv") => Ok(true),
        Some("json") => Ok(false),
        Some(_) => Err(bad_query("format", "format must be json (the default) or csv")),
        None => {
            let accept = req.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            Ok(accept.is_some_and(|accept| accept.trim_start().starts_with("text/csv")))
        }
    }
}

fn csv(invoice: &Invoice, month: &str) -> Result<HttpResponse, Failure> {
    let text = invoice.to_csv()?;
    let mut response = HttpResponse::Ok();
    response.content_type("text/csv; charset=utf-8");
    // The month was parsed: it is digits and a dash.
    let name = format!("attachment; filename=\"invoice-{month}.csv\"");
    response.insert_header((header::CONTENT_DISPOSITION, name));
    Ok(response.body(text))
}

async fn subscription(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.platform().subscription(&caller).await
    };
    json(&req, read.await)
}

#[derive(Debug, Deserialize)]
struct CheckoutQuery {
    plan: Option<String>,
}

async fn checkout(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let asked = async {
        body::caller(&req, &state.flows, Access::Admin).await?;
        let CheckoutQuery { plan } = query(&req)?;
        state.flows.platform().sell(&Wish::Plan(plan))
    };
    json(&req, asked.await)
}

async fn card_setup(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let asked = async {
        body::caller(&req, &state.flows, Access::Admin).await?;
        state.flows.platform().sell(&Wish::Card)
    };
    json(&req, asked.await)
}

async fn cancel(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let asked = async {
        body::caller(&req, &state.flows, Access::Admin).await?;
        state.flows.platform().sell(&Wish::Cancel)
    };
    json(&req, asked.await)
}

/// Events of a payment provider: the signature is the credential.
async fn webhook(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let taken = async {
        if !state.flows.takes_webhooks() {
            return Err(Failure::new(
                ErrorCode::RouteNotFound,
                "This route is closed: the server has no FACES_WEBHOOK_SECRETS.",
            ));
        }
        let body = body::json_body(&req, payload, WEBHOOK_BODY_BYTES_MAX).await?;
        let signature = req.headers().get("faces-signature").map(|value| value.to_str());
        let signature = signature.map(Result::unwrap_or_default);
        state.flows.webhook(signature, &body).await
    };
    json(&req, taken.await)
}

fn query<T: serde::de::DeserializeOwned>(req: &HttpRequest) -> Result<T, Failure> {
    web::Query::<T>::from_query(req.query_string()).map(web::Query::into_inner).map_err(|_| {
        Failure {
            loc: vec!["query".to_owned()],
            ..Failure::new(
                ErrorCode::InvalidRequest,
                "The query can't be read: is a parameter given twice?",
            )
        }
    })
}

fn bad_query(name: &str, message: &str) -> Failure {
    Failure {
        loc: vec!["query".to_owned(), name.to_owned()],
        ..Failure::new(ErrorCode::InvalidRequest, message)
    }
}
