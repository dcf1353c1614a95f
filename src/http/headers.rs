//! Headers of billed responses.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};

use crate::{domain::ledger::StoredResponse, flows::ReplyNotes};

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
