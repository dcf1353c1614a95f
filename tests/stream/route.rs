//! The ways through the server: two upstream formats, each on `/v1/chat/completions`, `/v1/messages`,
//! `/v1/responses` and its native proxy; and what a client sees at the end of each.

use serde_json::{Value, json};

use crate::support::{
    PROMPT_CANARY,
    http::{Answer, End, Event, Request},
    ledger::Row,
    models::{ANTHROPIC_MODEL, OPENAI_MODEL},
    replies::{anthropic, openai},
    server::{Account, Builder, TestServer},
    upstream::{Exchange, Upstream},
};

/// Input tokens that the scripted upstreams report.
pub(crate) const INPUT: u64 = 20;
/// Output tokens that the scripted upstreams report.
pub(crate) const OUTPUT: u64 = 9;
/// Credit of a test's account, nano-USD.
pub(crate) const CREDIT_NANOUSD: i64 = 10_000_000_000;

/// What the upstreams say: multi-byte characters and escapes, so that cuts and splits fall inside.
pub(crate) const PIECES: [&str; 4] =
    ["Grüße ", "aus 日本 🗼\n", "\"quoted\", {braces}\u{2028}", " end"];

/// A way through the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    ChatOpenAi,
    ChatAnthropic,
    ProxyOpenAi,
    ProxyAnthropic,
    MessagesOpenAi,
    MessagesAnthropic,
    ResponsesOpenAi,
    ResponsesAnthropic,
}

impl Route {
    pub(crate) const ALL: [Self; 8] = [
        Self::ChatOpenAi,
        Self::ChatAnthropic,
        Self::ProxyOpenAi,
        Self::ProxyAnthropic,
        Self::MessagesOpenAi,
        Self::MessagesAnthropic,
        Self::ResponsesOpenAi,
        Self::ResponsesAnthropic,
    ];

    /// Whether the upstream speaks Anthropic's format.
    pub(crate) fn upstream_is_anthropic(self) -> bool {
        matches!(
            self,
            Self::ChatAnthropic
                | Self::ProxyAnthropic
                | Self::MessagesAnthropic
                | Self::ResponsesAnthropic
        )
    }

    /// Whether the client is told in Anthropic's format.
    pub(crate) fn tells_anthropic(self) -> bool {
        matches!(self, Self::ProxyAnthropic | Self::MessagesOpenAi | Self::MessagesAnthropic)
    }

    /// Whether the client is told in the Responses format.
    pub(crate) fn tells_responses(self) -> bool {
        matches!(self, Self::ResponsesOpenAi | Self::ResponsesAnthropic)
    }

    /// Whether the bytes are relayed rather than translated.
    pub(crate) fn is_proxy(self) -> bool {
        matches!(self, Self::ProxyOpenAi | Self::ProxyAnthropic | Self::MessagesAnthropic)
    }

    /// A body of chat's fields as this route has them.
    pub(crate) fn adapt(self, mut body: Value) -> Value {
        if self.tells_responses()
            && let Some(fields) = body.as_object_mut()
        {
            for (chat, own) in [("messages", "input"), ("max_tokens", "max_output_tokens")] {
                if let Some(value) = fields.remove(chat) {
                    fields.insert(own.to_owned(), value);
                }
            }
        }
        body
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::ChatOpenAi | Self::ChatAnthropic => "/v1/chat/completions",
            Self::ProxyOpenAi => "/v1/openai/chat/completions",
            Self::ProxyAnthropic => "/v1/anthropic/messages",
            Self::MessagesOpenAi | Self::MessagesAnthropic => "/v1/messages",
            Self::ResponsesOpenAi | Self::ResponsesAnthropic => "/v1/responses",
        }
    }

    fn model(self) -> String {
        match self {
            Self::ChatOpenAi | Self::MessagesOpenAi | Self::ResponsesOpenAi => {
                format!("alice@{OPENAI_MODEL}")
            }
            Self::ChatAnthropic | Self::MessagesAnthropic | Self::ResponsesAnthropic => {
                format!("alice@{ANTHROPIC_MODEL}")
            }
            Self::ProxyOpenAi => OPENAI_MODEL.to_owned(),
            Self::ProxyAnthropic => ANTHROPIC_MODEL.to_owned(),
        }
    }

    /// A request whose prompt carries `marker`, for the script to match.
    pub(crate) fn request(self, key: &str, marker: &str, stream: bool) -> Request {
        let content = format!("{PROMPT_CANARY} {marker}");
        let mut body = json!({"model": self.model(), "stream": stream, "max_tokens": 256,
            "messages": [{"role": "user", "content": content}]});
        if stream && self == Self::ProxyOpenAi {
            // Then every record of the upstream is shown.
            body["stream_options"] = json!({"include_usage": true});
        }
        self.sign(Request::post(self.path(), &self.adapt(body)), key)
    }

    /// Adds the credential where the route's clients put it.
    pub(crate) fn sign(self, request: Request, key: &str) -> Request {
        if self.tells_anthropic() {
            return request.header("x-api-key", key).header("anthropic-version", "2023-06-01");
        }
        request.bearer(key)
    }

    /// The records of a whole stream of [`PIECES`].
    pub(crate) fn records(self) -> Vec<String> {
        if self.upstream_is_anthropic() {
            anthropic::stream(&PIECES, INPUT, OUTPUT)
        } else {
            openai::stream(&PIECES, INPUT, OUTPUT)
        }
    }

    /// The records up to the first delta of text, inclusive.
    pub(crate) fn opening(self) -> Vec<String> {
        let mut records = self.records();
        let first = records.iter().position(|record| record.contains("Grüße"));
        records.truncate(first.expect("a first delta") + 1);
        records
    }

    /// The records after [`Route::opening`].
    pub(crate) fn closing(self) -> Vec<String> {
        self.records().split_off(self.opening().len())
    }

    /// One record of text.
    pub(crate) fn text_delta(self, text: &str) -> String {
        if self.upstream_is_anthropic() {
            anthropic::text_delta(text)
        } else {
            openai::text_delta(text)
        }
    }

    /// An error event of the upstream.
    pub(crate) fn error_record(self, kind: &str) -> String {
        if self.upstream_is_anthropic() {
            anthropic::error_record(kind, "scripted failure")
        } else {
            openai::error_record(kind, "scripted failure")
        }
    }

    /// An error body of the upstream.
    pub(crate) fn error_body(self, kind: &str) -> Value {
        if self.upstream_is_anthropic() {
            anthropic::error(kind, "scripted failure")
        } else {
            openai::error(kind, "scripted failure", None)
        }
    }

    /// A whole JSON answer of the upstream.
    pub(crate) fn completion(self, text: &str) -> Value {
        if self.upstream_is_anthropic() {
            anthropic::completion(text, INPUT, OUTPUT)
        } else {
            openai::completion(text, INPUT, OUTPUT)
        }
    }

    /// How many of [`Route::records`] make a complete stream.
    pub(crate) fn complete_at(self) -> usize {
        let last = if self.upstream_is_anthropic() {
            "event: message_stop"
        } else {
            "\"finish_reason\":\"stop\""
        };
        let records = self.records();
        records.iter().position(|record| record.contains(last)).expect("a last record") + 1
    }
}

/// A server with its upstream. The server is dropped first: its checks come before the script's.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) server: TestServer,
    pub(crate) account: Account,
    pub(crate) upstream: Upstream,
}

impl Stage {
    /// A script on a server with the usual settings.
    #[track_caller]
    pub(crate) fn new(script: impl IntoIterator<Item = Exchange>) -> Self {
        Self::with(script, TestServer::builder())
    }

    /// A script on a server with settings of the test's own.
    #[track_caller]
    pub(crate) fn with(script: impl IntoIterator<Item = Exchange>, builder: Builder) -> Self {
        let upstream = Upstream::start(script);
        let server = builder.with_upstream(&upstream).start();
        let account = server.account();
        server.alice(&account);
        Self { server, account, upstream }
    }

    /// Sends a request and waits for the head of its answer.
    #[track_caller]
    pub(crate) fn open(&self, route: Route, marker: &str, stream: bool) -> Answer {
        let request = route.request(&self.account.key, marker, stream);
        request.send(self.server.address()).answer()
    }

    /// Sends a streaming request and reads it to its end.
    #[track_caller]
    pub(crate) fn stream(&self, route: Route, marker: &str) -> Outcome {
        Outcome::read(self.open(route, marker, true))
    }

    /// Waits until all of the account's `count` holds are resolved, and asserts that what left the
    /// wallet is exactly what stands on the rows at `charged`.
    #[track_caller]
    pub(crate) fn assert_books(&self, count: usize, charged: impl Fn(usize) -> bool) -> Vec<Row> {
        let ledger = self.server.ledger();
        let rows = ledger.wait_resolved(&self.account, count);
        let mine = rows.iter().enumerate().filter(|(number, _)| charged(*number));
        let cost: i64 = mine.map(|(_, row)| row.cost.unwrap_or(0)).sum();
        let wallet = ledger.wallet(&self.account);
        assert_eq!(wallet.balance(), CREDIT_NANOUSD - cost, "{wallet:?}: {rows:#?}");
        rows
    }
}

/// What a client saw of a streaming request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// HTTP status.
    pub(crate) status: u16,
    /// All text deltas.
    pub(crate) text: String,
    /// `finish_reason`, `stop_reason`, or the status of a finished response.
    pub(crate) finish: Option<String>,
    /// Whether `[DONE]`, `message_stop` or a finished response came.
    pub(crate) done: bool,
    /// An error event, or the body of an error.
    pub(crate) error: Option<Value>,
    /// How the body ended.
    pub(crate) end: Option<End>,
    /// Comments.
    pub(crate) comments: usize,
}

impl Outcome {
    /// Reads an answer to its end.
    #[track_caller]
    pub(crate) fn read(answer: Answer) -> Self {
        let mut outcome = Self { status: answer.status, ..Self::default() };
        if answer.status != 200 {
            let whole = answer.fetch();
            outcome.error = Some(whole.json());
            outcome.end = Some(whole.end);
            return outcome;
        }
        let mut events = answer.events();
        while let Some(event) = events.next_event() {
            outcome.take(&event);
        }
        outcome.end = events.end();
        outcome
    }

    /// Takes one event into account.
    #[track_caller]
    pub(crate) fn take(&mut self, event: &Event) {
        let Event::Message { data, .. } = event else {
            self.comments += 1;
            return;
        };
        if data == "[DONE]" {
            self.done = true;
            return;
        }
        // `retry` alone has no data; only a proxy relays such records.
        if data.is_empty() {
            return;
        }
        let value = event.json().expect("an event of JSON");
        if value.get("error").is_some_and(|error| !error.is_null()) {
            self.error = Some(value);
            return;
        }
        let (text, finish) = match value["type"].as_str() {
            Some("response.output_text.delta") => (&value["delta"], &Value::Null),
            Some("response.completed" | "response.incomplete") => {
                self.done = true;
                (&Value::Null, &value["response"]["status"])
            }
            Some(kind) => {
                self.done |= kind == "message_stop";
                (&value["delta"]["text"], &value["delta"]["stop_reason"])
            }
            None => {
                let choice = &value["choices"][0];
                (&choice["delta"]["content"], &choice["finish_reason"])
            }
        };
        self.text.push_str(text.as_str().unwrap_or_default());
        if let Some(finish) = finish.as_str() {
            self.finish = Some(finish.to_owned());
        }
    }

    /// Asserts a whole and successful stream of [`PIECES`].
    #[track_caller]
    pub(crate) fn assert_whole(&self, what: &str) {
        self.assert_ended_well(what);
        assert_eq!(self.text, PIECES.concat(), "{what}");
        assert!(self.done, "{what}: no terminal event: {self:?}");
    }

    /// Asserts an end without an error.
    #[track_caller]
    pub(crate) fn assert_ended_well(&self, what: &str) {
        assert_eq!(self.status, 200, "{what}: {self:?}");
        assert_eq!((&self.error, self.end), (&None, Some(End::Clean)), "{what}: {self:?}");
        assert!(self.finish.is_some(), "{what}: no finish: {self:?}");
    }

    /// Asserts that no client can take this for a success: an error status, an error event or a
    /// broken connection, and no terminal event.
    #[track_caller]
    pub(crate) fn assert_failed(&self, what: &str) {
        let told = self.status >= 400 || self.error.is_some() || self.end != Some(End::Clean);
        assert!(told, "{what}: a cut stream looks whole: {self:?}");
        assert!(!self.done, "{what}: a terminal event ends a cut stream: {self:?}");
        assert!(PIECES.concat().starts_with(&self.text), "{what}: text was invented: {self:?}");
    }
}
