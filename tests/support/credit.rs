//! Requests with one price, for tests of the last credit.

use serde_json::json;

use super::{
    PROMPT_CANARY,
    http::Request,
    models::{self, FREE_INPUT_MODEL, FREE_INPUT_OUTPUT_NANOUSD},
    server::Account,
};

/// What each request asks for at most and gets: with free input, hold and charge are the same.
pub(crate) const OUTPUT_TOKENS: u32 = 100;

/// Price of one request, nano-USD: 100 tokens at 10 USD per million and 5 % markup.
pub(crate) fn price_nanousd() -> i64 {
    models::with_markup(i64::from(OUTPUT_TOKENS) * FREE_INPUT_OUTPUT_NANOUSD)
}

/// Credit for exactly this many requests, USD.
pub(crate) fn usd_for(requests: usize) -> String {
    models::usd(price_nanousd() * i64::try_from(requests).expect("a small number"))
}

/// One request.
pub(crate) fn request(account: &Account, stream: bool) -> Request {
    let body = json!({"model": FREE_INPUT_MODEL, "max_tokens": OUTPUT_TOKENS, "stream": stream,
        "messages": [{"role": "user", "content": PROMPT_CANARY}]});
    Request::post("/v1/chat/completions", &body).bearer(&account.key)
}
