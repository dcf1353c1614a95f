//! What the tests of this binary share: a server with an account, requests, and the three shapes
//! of an error.

use serde_json::{Value, json};

use crate::support::{
    PROMPT_CANARY,
    http::{Fetched, Request},
    models::{ANTHROPIC_MODEL, OPENAI_MODEL},
    server::{Account, Builder, TestServer},
    upstream::{Exchange, Upstream},
};

/// Credit of the account, nano-USD.
pub(crate) const CREDIT_NANOUSD: i64 = 10_000_000_000;

/// Nano-USD as the exact decimal number of USD that the command line takes.
pub(crate) fn usd(nanousd: i64) -> String {
    format!("{}.{:09}", nanousd / 1_000_000_000, nanousd % 1_000_000_000)
}

/// A server, an account with 10 USD and the face `alice`, and the scripted upstream. The server
/// is dropped first: its checks come before the script's.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) server: TestServer,
    pub(crate) account: Account,
    pub(crate) upstream: Upstream,
}

impl Stage {
    #[track_caller]
    pub(crate) fn new(script: impl IntoIterator<Item = Exchange>) -> Self {
        Self::with(script, TestServer::builder(), "10")
    }

    /// With settings of the test's own and this credit in USD.
    #[track_caller]
    pub(crate) fn with(
        script: impl IntoIterator<Item = Exchange>,
        builder: Builder,
        credit_usd: &str,
    ) -> Self {
        let upstream = Upstream::start(script);
        let server = builder.with_upstream(&upstream).start();
        let account = server.account_with_usd(credit_usd);
        server.alice(&account);
        Self { server, account, upstream }
    }

    /// Sends with the account's key and reads the whole answer.
    #[track_caller]
    pub(crate) fn fetch(&self, request: &Request) -> Fetched {
        request.clone().bearer(&self.account.key).fetch(self.server.address())
    }

    /// `POST` of JSON with the account's key.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Fetched {
        self.fetch(&Request::post(path, body))
    }

    /// `GET` with the account's key.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Fetched {
        self.fetch(&Request::get(path))
    }

    /// `METHOD` of JSON with the account's key.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Fetched {
        self.fetch(&json_request(method, path, body))
    }

    /// What `GET /v1/billing/balance` tells, nano-USD.
    #[track_caller]
    pub(crate) fn balance(&self) -> i64 {
        balance(&self.server, &self.account)
    }
}

/// `METHOD` with a JSON body.
pub(crate) fn json_request(method: &str, path: &str, body: &Value) -> Request {
    Request::new(method, path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
}

/// What `GET /v1/billing/balance` tells an account, nano-USD.
#[track_caller]
pub(crate) fn balance(server: &TestServer, account: &Account) -> i64 {
    let answer = Request::get("/v1/billing/balance").bearer(&account.key).fetch(server.address());
    assert_eq!(answer.status, 200, "{}", answer.text());
    nanousd(&answer.json()["balance_usd"])
}

/// A JSON number or text of USD as nano-USD, digit by digit.
#[track_caller]
pub(crate) fn nanousd(usd: &Value) -> i64 {
    let text = usd.as_str().map_or_else(|| usd.to_string(), str::to_owned);
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.as_str()), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    assert!(fraction.len() <= 9, "finer than a nano-USD: {text}");
    let padded = format!("{whole}{fraction:0<9}");
    sign * padded.parse::<i64>().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A chat with one user message, which carries the canary.
pub(crate) fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt()}]})
}

/// What a user says.
pub(crate) fn prompt() -> String {
    format!("How many ships? {PROMPT_CANARY}")
}

/// Adds fields to a body.
pub(crate) fn with(mut body: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().expect("an object of fields") {
        body[name] = value.clone();
    }
    body
}

/// A family of routes, by who reads its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Faces,
    OpenAi,
    Anthropic,
}

/// A route that takes a JSON body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyRoute {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) dialect: Dialect,
}

const fn route(method: &'static str, path: &'static str, dialect: Dialect) -> BodyRoute {
    BodyRoute { method, path, dialect }
}

/// Every route that takes a JSON body.
pub(crate) const BODY_ROUTES: [BodyRoute; 13] = [
    route("POST", "/v1/chat/completions", Dialect::OpenAi),
    route("POST", "/v1/messages", Dialect::Anthropic),
    route("POST", "/v1/messages/count_tokens", Dialect::Anthropic),
    route("POST", "/v1/responses", Dialect::OpenAi),
    route("POST", "/v1/openai/chat/completions", Dialect::OpenAi),
    route("POST", "/v1/anthropic/messages", Dialect::Anthropic),
    route("POST", "/v1/anthropic/v1/messages", Dialect::Anthropic),
    route("POST", "/v1/anthropic/messages/count_tokens", Dialect::Anthropic),
    route("POST", "/v1/anthropic/v1/messages/count_tokens", Dialect::Anthropic),
    route("POST", "/v1/faces", Dialect::Faces),
    route("PATCH", "/v1/faces/alice", Dialect::Faces),
    route("PUT", "/v1/faces/alice/primitives", Dialect::Faces),
    route("POST", "/v1/billing/topup", Dialect::Faces),
];

/// A well-formed request to each billed route.
pub(crate) fn billed_requests() -> [(&'static str, Value); 9] {
    let native = with(chat(ANTHROPIC_MODEL), &json!({"max_tokens": 100}));
    let claude = format!("alice@{ANTHROPIC_MODEL}");
    let response = json!({"model": "alice", "input": prompt()});
    [
        ("/v1/messages", with(chat("alice"), &json!({"max_tokens": 100}))),
        ("/v1/messages", with(native.clone(), &json!({"model": claude, "stream": true}))),
        ("/v1/responses", response.clone()),
        ("/v1/responses", with(response, &json!({"stream": true}))),
        ("/v1/chat/completions", chat("alice")),
        ("/v1/chat/completions", with(chat("alice"), &json!({"stream": true}))),
        ("/v1/openai/chat/completions", chat(OPENAI_MODEL)),
        ("/v1/anthropic/messages", native.clone()),
        ("/v1/anthropic/v1/messages", with(native, &json!({"stream": true}))),
    ]
}

/// An error as its dialect tells it, checked for its shape.
#[derive(Debug)]
pub(crate) struct ErrorAnswer {
    pub(crate) message: String,
    pub(crate) code: String,
    /// The object with `reason`, `limit` and the like.
    pub(crate) details: Value,
    pub(crate) whole: Value,
}

/// Reads an error and checks what each error must have in that dialect.
#[track_caller]
pub(crate) fn error_of(answer: &Fetched, dialect: Dialect) -> ErrorAnswer {
    let body = answer.json();
    let text =
        |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {body}")).to_owned();
    assert!(answer.status >= 400, "not an error: {} {body}", answer.status);
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("application/json"), "{body}");
    let request_id = answer.header("x-request-id").expect("x-request-id").to_owned();
    assert!(request_id.starts_with("req_"), "{request_id}");
    let (message, code, details) = match dialect {
        Dialect::OpenAi => {
            let error = &body["error"];
            let message = text(&error["message"]);
            assert_eq!(body["detail"], json!(message), "both readers are served: {body}");
            assert!(error["type"].is_string(), "{body}");
            assert!(error.get("param").is_some(), "param is there, if null: {body}");
            (message, text(&error["code"]), error.clone())
        }
        Dialect::Anthropic => {
            assert_eq!(body["type"], "error", "{body}");
            assert_eq!(body["request_id"], json!(request_id), "{body}");
            assert_eq!(answer.header("request-id"), Some(request_id.as_str()));
            let error = &body["error"];
            assert!(error["type"].is_string(), "{body}");
            let details = error["details"].clone();
            (text(&error["message"]), text(&details["error_code"]), details)
        }
        Dialect::Faces if answer.status == 422 => {
            let entry = &body["detail"][0];
            assert!(entry["loc"].is_array() && entry["type"].is_string(), "{body}");
            (text(&entry["msg"]), text(&body["code"]), entry.clone())
        }
        Dialect::Faces => (text(&body["detail"]), text(&body["code"]), body.clone()),
    };
    assert!(!message.is_empty(), "{body}");
    ErrorAnswer { message, code, details, whole: body }
}
