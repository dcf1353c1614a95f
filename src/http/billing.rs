//! `/v1/billing…`.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Deserialize;

use super::{
    body,
    openapi::{account, billing as docs},
    problem,
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

/// Read the balance
#[utoipa::path(get, path = "/v1/billing/balance", tag = "Billing", operation_id = "get_balance",
    responses((status = 200, description = "The credit.", body = account::Balance)),
    extensions(("x-faces-access" = json!("read"))))]
async fn balance(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.platform().balance(&caller).await
    };
    json(&req, read.await)
}

/// Book a payment as credit
///
/// A payment is one that a signed event told of, unless this server believes references.
#[utoipa::path(post, path = "/v1/billing/topup", tag = "Billing", operation_id = "top_up",
    request_body = docs::TopUp,
    responses((status = 200, description = "The credit is there.", body = docs::ToppedUp),
        (status = 409, description = "The reference was booked with another amount or account.")),
    extensions(("x-faces-access" = json!("admin"))))]
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

/// Add up what was used
#[utoipa::path(get, path = "/v1/billing/usage", tag = "Billing", operation_id = "get_usage",
    params(docs::UsageQuery),
    responses((status = 200, description = "The sums by group.", body = docs::Usage)),
    extensions(("x-faces-access" = json!("read"))))]
async fn usage(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        let query = query::<UsageQuery>(&req)?;
        state.flows.platform().usage(&caller, query).await
    };
    json(&req, read.await)
}

/// List what models cost
#[utoipa::path(get, path = "/v1/billing/llm-costs", tag = "Billing", operation_id = "list_llm_costs",
    responses((status = 200, description = "The prices of the usable models.", body = docs::LlmCosts)),
    extensions(("x-faces-access" = json!("read"))))]
async fn llm_costs(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let read = async {
        let caller = body::caller(&req, &state.flows, Access::Read).await?;
        state.flows.llm_costs(&caller)
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

/// List the monthly statements
#[utoipa::path(get, path = "/v1/billing/invoices", tag = "Billing", operation_id = "list_invoices",
    params(("limit" = Option<u32>, Query, description = "Months in the page."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.")),
    responses((status = 200, description = "A page of statements, newest first.", body = docs::InvoicePage)),
    extensions(("x-faces-access" = json!("read"))))]
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

/// Read a month's statement
#[utoipa::path(get, path = "/v1/billing/invoices/{month}", tag = "Billing", operation_id = "get_invoice",
    params(("month" = String, Path, description = "Year and month.", example = "2026-11"),
        ("format" = Option<String>, Query, description = "`json` (the default) or `csv`; else `Accept` decides.")),
    responses((status = 200, description = "The statement.", content(
        (docs::Invoice = "application/json"), (String = "text/csv")))),
    extensions(("x-faces-access" = json!("read"))))]
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

/// Read the plan
#[utoipa::path(get, path = "/v1/billing/subscription", tag = "Billing", operation_id = "get_subscription",
    responses((status = 200, description = "The plan, and those that there are.", body = docs::Subscription)),
    extensions(("x-faces-access" = json!("read"))))]
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

/// Buy a plan
///
/// Never works: this server sells nothing. Its operator puts accounts on plans.
#[utoipa::path(post, path = "/v1/billing/checkout", tag = "Billing", operation_id = "checkout",
    params(("plan" = Option<String>, Query, description = "The plan's name.")),
    responses((status = 400, description = "Plans are not sold here.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn checkout(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let asked = async {
        body::caller(&req, &state.flows, Access::Admin).await?;
        let CheckoutQuery { plan } = query(&req)?;
        state.flows.platform().sell(&Wish::Plan(plan))
    };
    json(&req, asked.await)
}

/// Leave a card
///
/// Never works: this server keeps no cards.
#[utoipa::path(post, path = "/v1/billing/card-setup", tag = "Billing", operation_id = "set_up_card",
    responses((status = 400, description = "Cards are not kept here.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn card_setup(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let asked = async {
        body::caller(&req, &state.flows, Access::Admin).await?;
        state.flows.platform().sell(&Wish::Card)
    };
    json(&req, asked.await)
}

/// Cancel a subscription
///
/// Never works: there is none that could be canceled.
#[utoipa::path(post, path = "/v1/billing/subscription/cancel", tag = "Billing", operation_id = "cancel_subscription",
    responses((status = 400, description = "There is no subscription.")),
    extensions(("x-faces-access" = json!("admin"))))]
async fn cancel(req: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let asked = async {
        body::caller(&req, &state.flows, Access::Admin).await?;
        state.flows.platform().sell(&Wish::Cancel)
    };
    json(&req, asked.await)
}

/// Tell of a payment
///
/// For payment providers. The header `Faces-Signature: t=SECONDS,v1=HMAC` is the credential; the
/// HMAC-SHA256 is over the time, a point and the body.
#[utoipa::path(post, path = "/v1/billing/webhook", tag = "Billing", operation_id = "tell_payment",
    params(("Faces-Signature" = String, Header, description = "`t=SECONDS,v1=HEX_HMAC_SHA256`.")),
    request_body = docs::PaymentEvent,
    responses((status = 200, description = "The event is booked, or was before.", body = docs::EventTaken),
        (status = 401, description = "The signature is missing, wrong or old."),
        (status = 404, description = "This server takes no events."),
        (status = 409, description = "Another event has this id, or the payment was booked otherwise.")),
    extensions(("x-faces-access" = json!("signed"))))]
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
