//! What every row starts from: a server whose providers are scripted, an account with 10 USD and
//! a key, and the face `alice`.

use serde_json::{Value, json};

use crate::support::{
    PERSONA_CANARY, PROMPT_CANARY, REPLY_CANARY,
    ledger::{BASIS_PROVIDER, FINISH_COMPLETE, SETTLED},
    models::{self, KEY_VARIABLES},
    replies::{anthropic, openai},
    server::{Account, Builder, TestServer},
    upstream::{Exchange, Recorded, Upstream},
};

/// Input tokens that the scripted upstreams report.
pub(crate) const INPUT: i64 = 20;
/// Output tokens that the scripted upstreams report.
pub(crate) const OUTPUT: i64 = 5;
/// Credit of the account, nano-USD.
pub(crate) const CREDIT_NANOUSD: i64 = 10_000_000_000;

/// What the scripted upstreams say, in pieces.
pub(crate) const PIECES: [&str; 3] = ["Two ships ", "passed — ", REPLY_CANARY];

/// What the scripted upstreams say.
pub(crate) fn reply() -> String {
    PIECES.concat()
}

/// A server with its upstream. The server is dropped first: its checks come before the script's.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) server: TestServer,
    pub(crate) account: Account,
    pub(crate) upstream: Upstream,
}

impl Stage {
    /// Upstreams of both formats that answer text, streamed and not.
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self::with(text_exchanges(), TestServer::builder())
    }

    /// A script and settings of the test's own.
    #[track_caller]
    pub(crate) fn with(script: impl IntoIterator<Item = Exchange>, builder: Builder) -> Self {
        let upstream = Upstream::start(script);
        let server = builder.with_upstream(&upstream).start();
        let account = server.account();
        server.alice(&account);
        Self { server, account, upstream }
    }

    /// The OpenAI SDK's `base_url`.
    pub(crate) fn openai_url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// The Anthropic SDK's `base_url`.
    pub(crate) fn anthropic_url(&self) -> String {
        format!("{}/v1/anthropic", self.server.url())
    }

    /// Asserts that exactly `count` requests were charged, each with the provider's usage and at
    /// the price of the scripted models, and that nothing else left the account.
    #[track_caller]
    pub(crate) fn assert_charged(&self, count: usize) {
        let ledger = self.server.ledger();
        let cost = models::charge_nanousd(INPUT, OUTPUT);
        let rows = ledger.wait_resolved(&self.account, count);
        for row in &rows {
            assert_eq!((row.state, row.cost), (SETTLED, Some(cost)), "{row:?}");
            assert_eq!((row.input, row.output), (INPUT, OUTPUT), "{row:?}");
            let how = (row.basis, row.finish);
            assert_eq!(how, (Some(BASIS_PROVIDER), Some(FINISH_COMPLETE)), "{row:?}");
        }
        let charged = cost * i64::try_from(count).expect("a small number");
        let wallet = ledger.wallet(&self.account);
        assert_eq!(wallet.balance(), CREDIT_NANOUSD - charged, "{wallet:?}");
    }

    /// Asserts that the platform's key of `variable` went upstream and the client's went nowhere.
    #[track_caller]
    pub(crate) fn assert_platform_key(&self, request: &Recorded, variable: &str) {
        assert!(KEY_VARIABLES.contains(&variable), "{variable} is a key of the kit");
        let key = models::provider_key(variable);
        let bearer = format!("Bearer {key}");
        let sent = match request.path.as_str() {
            anthropic::PATH => request.header("x-api-key") == Some(&key),
            _ => request.header("authorization") == Some(&bearer),
        };
        assert!(sent, "the platform's key {variable} is not in {:?}", request.headers);
        assert!(!request.has(&self.account.key), "the client's key went upstream");
        let query = request.query.as_deref().unwrap_or_default();
        assert!(!query.contains(&self.account.key), "the client's key went upstream");
    }
}

/// Text from both formats, any number of times.
pub(crate) fn text_exchanges() -> [Exchange; 4] {
    let (input, output) = (INPUT.unsigned_abs(), OUTPUT.unsigned_abs());
    [
        openai::json_exchange(&reply(), input, output).streaming(false).any_times(),
        openai::stream_exchange(&PIECES, input, output).streaming(true).any_times(),
        anthropic::json_exchange(&reply(), input, output).streaming(false).any_times(),
        anthropic::stream_exchange(&PIECES, input, output).streaming(true).any_times(),
    ]
}

/// What a user says; it carries the canary.
pub(crate) fn prompt() -> String {
    format!("How many ships? {PROMPT_CANARY}")
}

/// Parameters of a chat with one user message.
pub(crate) fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt()}]})
}

/// As [`chat`], with a system message of the caller's own.
pub(crate) fn chat_with_system(model: &str, system: &str) -> Value {
    json!({"model": model, "messages": [
        {"role": "system", "content": system}, {"role": "user", "content": prompt()}]})
}

/// Adds `stream_options.include_usage`.
pub(crate) fn with_usage(mut params: Value) -> Value {
    params["stream_options"] = json!({"include_usage": true});
    params
}

/// The system prompt that arrived upstream, whichever the format.
#[track_caller]
pub(crate) fn system_of(request: &Recorded) -> String {
    let body = request.json();
    if request.path == anthropic::PATH {
        return text_of(&body["system"]);
    }
    let first = &body["messages"][0];
    assert_eq!(first["role"], "system", "the first message: {body}");
    text_of(&first["content"])
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n\n")
        }
        _ => String::new(),
    }
}

/// Asserts that `system` is alice's persona, and after it the caller's own text.
#[track_caller]
pub(crate) fn assert_persona(system: &str, caller: Option<&str>) {
    assert!(system.contains("Alice Example"), "the face's name: {system}");
    let fact = format!("lighthouse keeper {PERSONA_CANARY}");
    assert!(system.contains(&fact), "the fact: {system}");
    assert!(system.contains("Alice counts ships"), "the primitive: {system}");
    if let Some(caller) = caller {
        let before = system.strip_suffix(&format!("\n\n{caller}"));
        let before = before.unwrap_or_else(|| panic!("the caller's text is not last: {system}"));
        assert!(before.contains(&fact), "the persona stands first: {system}");
        assert!(!before.contains(caller), "the caller's text stands once: {system}");
    }
}
