//! Headers of billed responses.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};

use crate::{
    domain::ledger::StoredResponse,
    flows::{RateNotes, ReplyNotes},
};

const REQUESTS_HEADERS: [&str; 3] =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
const TOKENS_HEADERS: [&str; 3] =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];

/// Writes what the notes tell; a value that is no header value is left out.
pub(super) fn write_notes(response: &mut HttpResponse, notes: &ReplyNotes) {
    let headers = response.headers_mut();
    for (name, value) in &notes.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value))
            && !headers.contains_key(&name)
        {
            headers.insert(name, value);
        }
    }
    put(headers, "x-faces-model", &notes.model.id);
    if let Some(tokens) = notes.max_tokens {
        put(headers, "x-faces-max-tokens", &tokens.to_string());
    }
    if !notes.dropped.is_empty() {
        put(headers, "x-faces-dropped-params", &notes.dropped.join(", "));
    }
    if let Some(bill) = &notes.bill {
        put(headers, "x-faces-cost-usd", &bill.charge.to_string());
        put(headers, "x-faces-balance-usd", &bill.balance.to_string());
    }
}

/// Writes what is left of the tightest rates, by OpenAI's names.
pub(super) fn write_rates(headers: &mut HeaderMap, notes: &RateNotes) {
    let rates = [(notes.requests, REQUESTS_HEADERS), (notes.tokens, TOKENS_HEADERS)];
    for (state, [limit, remaining, reset]) in rates {
        if let Some(state) = state {
            put(headers, limit, &state.limit.to_string());
            put(headers, remaining, &state.remaining.to_string());
            put(headers, reset, &reset_time(state.reset_ns));
        }
    }
}

/// A time as OpenAI writes it: `12.05s`, `17ms`.
fn reset_time(ns: u64) -> String {
    match ns.div_ceil(1_000_000) {
        0 => "0s".to_owned(),
        ms @ 1..1_000 => format!("{ms}ms"),
        ms => format!("{}.{:03}s", ms / 1_000, ms % 1_000),
    }
}

/// Gives an answer again as it was, and says so.
pub(super) fn replayed(stored: StoredResponse) -> HttpResponse {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    HttpResponse::build(status)
        .content_type(stored.content_type)
        .insert_header(("idempotency-replayed", "true"))
        .body(stored.body)
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
