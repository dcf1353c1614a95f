//! Rows 5 to 7: the stream's form, conversations, the list of models.

use serde_json::{Value, json};

use crate::{
    driver::{self, Call},
    install,
    stage::{self, Stage, reply},
    support::{
        http::{End, Event, Request},
        models::{ANTHROPIC_MODEL, FREE_INPUT_MODEL, OPENAI_MODEL},
        server::TestServer,
    },
};

#[test]
fn row_05_stream_true_is_a_standard_event_stream_ended_by_done() {
    let Some(sdks) = install::openai() else { return };
    let builder = TestServer::builder().env("FACES_SANDBOX_DELTA_INTERVAL_MS", "0");
    let stage = Stage::with(stage::text_exchanges(), builder);
    let models = [OPENAI_MODEL, ANTHROPIC_MODEL, "sandbox"];
    let mut calls = Vec::new();
    for model in models {
        let params = stage::with_usage(stage::chat(&format!("alice@{model}")));
        calls.push(Call::chat(model, params.clone()).streamed());
        calls.push(Call::chat(&format!("{model} async"), params).streamed().asynchronous());
    }
    for report in driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for model in models {
            for name in [model.to_owned(), format!("{model} async")] {
                report.assert(&name, "/finish_reason", "stop");
                let seen = report.success(&name);
                assert!(seen["usage"]["completion_tokens"].as_u64() > Some(0), "{name}: {seen}");
                if model == "sandbox" {
                    let text = seen["content"].as_str().unwrap_or_default();
                    assert!(text.contains("Alice"), "the sandbox names the face: {text}");
                } else {
                    report.assert(&name, "/content", reply());
                }
            }
        }
    }
    for model in models {
        assert_standard_stream(&stage, &format!("alice@{model}"));
    }
}

/// Reads the bytes: `data:` records and comments, the terminator last, nothing after it.
#[track_caller]
fn assert_standard_stream(stage: &Stage, model: &str) {
    let mut body = stage::chat(model);
    body["stream"] = json!(true);
    let request = Request::post("/v1/chat/completions", &body).bearer(&stage.account.key);
    let answer = request.send(stage.server.address()).answer();
    let kind = answer.header("content-type").unwrap_or_default().to_owned();
    assert!(kind.starts_with("text/event-stream"), "{model}: {kind}");
    assert_eq!(answer.header("content-length"), None, "{model}");
    let whole = answer.fetch();
    assert_eq!((whole.status, whole.end), (200, End::Clean), "{model}");
    let text = whole.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{model}: {text}");
    assert_eq!(text.matches("[DONE]").count(), 1, "{model}: {text}");
    for line in text.lines().filter(|line| !line.is_empty()) {
        assert!(line.starts_with("data: ") || line.starts_with(':'), "{model}: {line}");
    }
    for event in text.split("\n\n").filter_map(|record| record.strip_prefix("data: {")) {
        let chunk: Value = serde_json::from_str(&format!("{{{event}")).expect("JSON");
        assert_eq!(chunk["object"], "chat.completion.chunk", "{model}: {chunk}");
        assert_eq!(chunk["model"], model, "{model}: {chunk}");
        assert!(chunk["id"].is_string() && chunk["created"].is_i64(), "{model}: {chunk}");
        assert!(chunk.get("usage").is_none(), "usage was not asked for: {chunk}");
        assert_eq!(chunk["choices"].as_array().map(Vec::len), Some(1), "{model}: {chunk}");
    }
}

#[test]
fn row_06_the_client_sends_the_whole_history_and_the_server_keeps_none() {
    let Some(sdks) = install::openai() else { return };
    let stage = Stage::new();
    let history = json!([
        {"role": "user", "content": format!("FIRST-TURN {}", stage::prompt())},
        {"role": "assistant", "content": "One ship."},
        {"role": "user", "content": format!("SECOND-TURN {}", stage::prompt())},
    ]);
    let calls = |model: &str| {
        let long = json!({"model": model, "messages": history});
        [
            Call::chat(&format!("{model} long"), long.clone()),
            Call::chat(&format!("{model} long streamed"), long).streamed(),
            Call::chat(&format!("{model} fresh"), stage::chat(model)),
        ]
    };
    let anthropic = format!("alice@{ANTHROPIC_MODEL}");
    let calls = [calls("alice"), calls(&anthropic)].concat();
    for report in driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for model in ["alice", &anthropic] {
            for name in ["long", "long streamed", "fresh"] {
                report.assert(&format!("{model} {name}"), "/content", reply());
            }
        }
    }
    let (mut long, mut fresh) = (0, 0);
    for request in stage.upstream.requests() {
        let body = request.json();
        let turns: Vec<&Value> = body["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .filter(|message| message["role"] != "system")
            .collect();
        if request.has("FIRST-TURN") {
            long += 1;
            let roles: Vec<_> = turns.iter().map(|turn| turn["role"].as_str()).collect();
            assert_eq!(roles, [Some("user"), Some("assistant"), Some("user")], "{body}");
            assert!(turns[2].to_string().contains("SECOND-TURN"), "{body}");
        } else {
            fresh += 1;
            assert_eq!(turns.len(), 1, "an earlier turn came back: {body}");
        }
    }
    assert_eq!((long, fresh), (4 * sdks.len(), 2 * sdks.len()));
    stage.assert_charged(6 * sdks.len());
}

#[test]
fn row_07_models_lists_every_model_usable_in_an_override() {
    let (Some(openai), Some(anthropic)) = (install::openai(), install::anthropic()) else { return };
    let builder = TestServer::builder().env("FACES_SANDBOX_DELTA_INTERVAL_MS", "0");
    let stage = Stage::with(stage::text_exchanges(), builder);
    let expected = [
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-5.4",
        "gpt-5-nano",
        "claude-sonnet-4-6",
        "claude-haiku-4-5",
        "accounts/fireworks/models/llama-v3p1-8b-instruct",
        "sandbox",
        OPENAI_MODEL,
        ANTHROPIC_MODEL,
        FREE_INPUT_MODEL,
    ];
    let mut calls = vec![
        Call::models("list"),
        Call::model("one", "gpt-4o-mini"),
        Call::model("missing", "no-such-model"),
    ];
    let key = &stage.account.key;
    for report in driver::run(openai, &stage.openai_url(), key, &calls) {
        let listed = ids(report.success("list"));
        for model in expected {
            assert!(listed.contains(&model.to_owned()), "{}: {model}: {listed:?}", report.sdk);
        }
        assert!(!listed.contains(&"alice".to_owned()), "a face is no model: {listed:?}");
        report.assert("one", "/id", "gpt-4o-mini");
        report.assert("one", "/object", "model");
        assert_eq!(report.failure("missing")["class"], "NotFoundError", "{}", report.sdk);
    }
    for report in driver::run(anthropic, &stage.server.url(), key, &[Call::models("list")]) {
        let listed = ids(report.success("list"));
        assert!(listed.contains(&"claude-sonnet-4-6".to_owned()), "{}: {listed:?}", report.sdk);
        report.assert("list", "/models/0/type", "model");
    }
    calls = expected.map(|model| Call::chat(model, stage::chat(&format!("alice@{model}")))).into();
    for report in driver::run(&openai[2..], &stage.openai_url(), key, &calls) {
        for model in expected {
            report.assert(model, "/finish_reason", "stop");
        }
    }
    assert_only_usable_models_are_listed();
}

fn ids(report: &Value) -> Vec<String> {
    let models = report["models"].as_array().expect("a list of models");
    models.iter().filter_map(|model| model["id"].as_str().map(str::to_owned)).collect()
}

/// Without a provider's key there is only the sandbox, and an override to a listed-elsewhere model
/// is refused.
fn assert_only_usable_models_are_listed() {
    let server = TestServer::builder().start();
    let account = server.account();
    server.face(&account, &crate::support::server::alice(None));
    let list = Request::get("/v1/models").bearer(&account.key).fetch(server.address()).json();
    let listed: Vec<_> = list["data"].as_array().expect("data").iter().collect();
    assert_eq!(listed.len(), 1, "{list}");
    assert_eq!(listed[0]["id"], "sandbox", "{list}");
    let unusable = stage::chat("alice@gpt-4o-mini");
    let request = Request::post("/v1/chat/completions", &unusable).bearer(&account.key);
    assert_eq!(request.fetch(server.address()).status, 422);
}

#[test]
fn a_stream_of_the_sandbox_needs_no_network_and_shows_the_persona() {
    let server = TestServer::builder().start();
    let account = server.account();
    server.face(&account, &crate::support::server::alice(None));
    let mut body = stage::chat("alice");
    body["stream"] = json!(true);
    let request = Request::post("/v1/chat/completions", &body).bearer(&account.key);
    let mut events = request.send(server.address()).answer().events();
    let (mut text, mut last) = (String::new(), None);
    while let Some(event) = events.next_message() {
        if let Some(chunk) = event.json() {
            text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        }
        last = Some(event);
    }
    let done = Event::Message { event: String::new(), data: "[DONE]".to_owned() };
    assert_eq!(last, Some(done), "{text}");
    assert!(text.contains("Alice") && text.to_lowercase().contains("sandbox"), "{text}");
}
