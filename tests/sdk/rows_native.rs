//! Rows 8 and 9: the transparent proxies, and the official SDKs on both families of paths.

use serde_json::{Value, json};

use crate::{
    driver::{self, Call},
    install,
    stage::{self, INPUT, OUTPUT, Stage, reply},
    support::{
        PROMPT_CANARY,
        http::{End, Fetched, Request},
        models::{ANTHROPIC_MODEL, ANTHROPIC_UPSTREAM_ID, OPENAI_MODEL, OPENAI_UPSTREAM_ID},
        replies::{anthropic, openai},
        server::TestServer,
        upstream::{Exchange, Recorded},
    },
};

const INPUT_TOKENS: u64 = INPUT.unsigned_abs();
const OUTPUT_TOKENS: u64 = OUTPUT.unsigned_abs();

/// A native request with fields that nobody knows, in an order and spacing of its own.
fn native_body(model: &str, stream: bool) -> String {
    format!(
        "{{ \"x_first\":[1.0 ,2e3], \"model\":\"{model}\",\n\"max_tokens\": 64, \"stream\":{stream}, \
         \"messages\":[ {{\"role\":\"user\",\"content\":\"{PROMPT_CANARY} \\u00e9\"}} ],\"x_last\":null }}"
    )
}

#[track_caller]
fn send_native(stage: &Stage, path: &str, body: &str, headers: &[(&str, &str)]) -> Fetched {
    let mut request = Request::new("POST", path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.body(body).fetch(stage.server.address());
    assert_eq!((answer.status, answer.end), (200, End::Clean), "{path}: {}", answer.text());
    answer
}

/// Everything but the model (and the usage that is asked for) must be what the client sent.
#[track_caller]
fn assert_untouched(request: &Recorded, sent: &str, upstream_id: &str) {
    let mut expected: Value = serde_json::from_str(sent).expect("the client's JSON");
    expected["model"] = json!(upstream_id);
    let mut arrived = request.json();
    if request.path == openai::PATH
        && let Some(fields) = arrived.as_object_mut()
    {
        fields.remove("stream_options");
    }
    assert_eq!(arrived, expected);
    let text = String::from_utf8_lossy(&request.body);
    assert!(text.contains("\"x_first\":[1.0 ,2e3]"), "numbers keep their spelling: {text}");
}

#[test]
fn row_08_native_requests_are_forwarded_transparently_and_billed_openai() {
    let stage = Stage::new();
    let key = stage.account.key.clone();
    let bearer = format!("Bearer {key}");
    let path = "/v1/openai/chat/completions";
    for (number, stream) in [false, true].into_iter().enumerate() {
        let body = native_body(OPENAI_MODEL, stream);
        let answer = send_native(&stage, path, &body, &[("authorization", &bearer)]);
        let request = stage.upstream.wait_requests(number + 1).remove(number);
        assert_eq!(request.path, openai::PATH);
        assert_untouched(&request, &body, OPENAI_UPSTREAM_ID);
        stage.assert_platform_key(&request, "SCRIPTED_OPENAI_KEY");
        if stream {
            assert_eq!(request.json()["stream_options"]["include_usage"], true);
            // The usage chunk was asked for by the server alone: all the rest is byte for byte.
            let records = openai::stream(&stage::PIECES, INPUT_TOKENS, OUTPUT_TOKENS);
            let shown = records.iter().filter(|record| !record.contains("\"choices\":[],"));
            let expected: String = shown.cloned().collect();
            assert_eq!(without_comments(&answer.text()), expected);
        } else {
            let expected = openai::completion(&reply(), INPUT_TOKENS, OUTPUT_TOKENS);
            assert_eq!(answer.text(), expected.to_string());
        }
    }
    stage.assert_charged(2);
}

#[test]
fn row_08_native_requests_are_forwarded_transparently_and_billed_anthropic() {
    let stage = Stage::new();
    let key = stage.account.key.clone();
    let headers = [
        ("x-api-key", key.as_str()),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "one-2026-01-01,two-2026-02-02"),
    ];
    let mut count = 0;
    for path in ["/v1/anthropic/messages", "/v1/anthropic/v1/messages?beta=true"] {
        for stream in [false, true] {
            let body = native_body(ANTHROPIC_MODEL, stream);
            let answer = send_native(&stage, path, &body, &headers);
            count += 1;
            let request = stage.upstream.wait_requests(count).remove(count - 1);
            assert_eq!(request.path, anthropic::PATH);
            assert_untouched(&request, &body, ANTHROPIC_UPSTREAM_ID);
            stage.assert_platform_key(&request, "SCRIPTED_ANTHROPIC_KEY");
            assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
            assert_eq!(request.header("anthropic-beta"), Some("one-2026-01-01,two-2026-02-02"));
            let expected = if stream {
                anthropic::stream(&stage::PIECES, INPUT_TOKENS, OUTPUT_TOKENS).concat()
            } else {
                anthropic::completion(&reply(), INPUT_TOKENS, OUTPUT_TOKENS).to_string()
            };
            let text = if stream { without_comments(&answer.text()) } else { answer.text() };
            assert_eq!(text, expected, "{path}");
        }
    }
    stage.assert_charged(4);
}

/// Heartbeats are the server's own; everything else must be the upstream's bytes.
fn without_comments(text: &str) -> String {
    let records = text.split_inclusive("\n\n");
    records.filter(|record| !record.starts_with(": keep-alive")).collect()
}

#[test]
fn row_09_the_official_openai_sdk_works_on_v1_and_on_the_native_proxy() {
    let Some(sdks) = install::openai() else { return };
    let stage = Stage::new();
    let params = stage::chat(OPENAI_MODEL);
    let calls = [
        Call::chat("json", params.clone()),
        Call::chat("stream", stage::with_usage(params.clone())).streamed(),
        Call::chat("async json", params.clone()).asynchronous(),
        Call::chat("async stream", params).streamed().asynchronous(),
    ];
    let mut count = 0;
    for base in ["/v1", "/v1/openai"] {
        let url = format!("{}{base}", stage.server.url());
        for report in driver::run(sdks, &url, &stage.account.key, &calls) {
            count += calls.len();
            for name in ["json", "stream", "async json", "async stream"] {
                report.assert(name, "/content", reply());
                report.assert(name, "/finish_reason", "stop");
            }
            report.assert("stream", "/usage/prompt_tokens", INPUT);
            report.assert("json", "/usage/completion_tokens", OUTPUT);
            let echoed = if base == "/v1" { OPENAI_MODEL } else { openai::MODEL };
            report.assert("json", "/model", echoed);
        }
    }
    stage.assert_charged(count);
}

#[test]
fn row_09_the_official_anthropic_sdk_works_with_either_header() {
    let Some(sdks) = install::anthropic() else { return };
    let counted = json!({"input_tokens": 11});
    let counting = Exchange::json(200, &counted).path("/v1/messages/count_tokens").any_times();
    let script = stage::text_exchanges().into_iter().chain([counting]);
    let stage = Stage::with(script, TestServer::builder());
    let params = json!({"model": ANTHROPIC_MODEL, "max_tokens": 64,
        "messages": [{"role": "user", "content": stage::prompt()}]});
    let mut question = params.clone();
    if let Some(fields) = question.as_object_mut() {
        fields.remove("max_tokens");
    }
    let calls = [
        Call::message("json", params.clone()),
        Call::message("stream", params.clone()).streamed(),
        Call::message("bearer json", params.clone()).bearer(),
        Call::message("bearer stream", params.clone()).bearer().streamed(),
        Call::message("async", params).streamed().asynchronous(),
        Call::count("count", question),
    ];
    let reports = driver::run(sdks, &stage.anthropic_url(), &stage.account.key, &calls);
    for report in &reports {
        for name in ["json", "stream", "bearer json", "bearer stream", "async"] {
            report.assert(name, "/content", reply());
            report.assert(name, "/stop_reason", "end_turn");
            report.assert(name, "/model", anthropic::MODEL);
            report.assert(name, "/usage/input_tokens", INPUT);
            report.assert(name, "/usage/output_tokens", OUTPUT);
        }
        report.assert("stream", "/streamed", reply());
        report.assert("count", "/input_tokens", 11);
    }
    for request in stage.upstream.requests() {
        assert!(request.header("anthropic-version").is_some(), "{:?}", request.headers);
        assert!(!request.has(&stage.account.key), "the client's key went upstream");
    }
    let billed = stage.upstream.requests().iter().filter(|r| r.path == anthropic::PATH).count();
    assert_eq!(billed, 5 * sdks.len());
    let ledger = stage.server.ledger();
    let rows = ledger.holds(&stage.account);
    let charged = rows.iter().filter(|row| row.cost.is_some_and(|cost| cost > 0)).count();
    assert_eq!(charged, billed, "counting tokens is free");
}

#[test]
fn row_09_tools_work_through_both_sdks_and_both_upstream_formats() {
    let (Some(openai_sdks), Some(anthropic_sdks)) = (install::openai(), install::anthropic())
    else {
        return;
    };
    let pieces = ["{\"city\":", "\"Kiel\"}"];
    let arguments = json!({"city": "Kiel"});
    let spelled = "{\"city\":\"Kiel\"}";
    let tool = openai::tool_completion("weather", spelled, INPUT_TOKENS, OUTPUT_TOKENS);
    let tool_use = anthropic::tool_completion("weather", &arguments, INPUT_TOKENS, OUTPUT_TOKENS);
    let openai_stream = openai::tool_stream("weather", &pieces, INPUT_TOKENS, OUTPUT_TOKENS);
    let claude_stream = anthropic::tool_stream("weather", &pieces, INPUT_TOKENS, OUTPUT_TOKENS);
    let script = [
        Exchange::json(200, &tool).path(openai::PATH).streaming(false).any_times(),
        Exchange::sse(openai_stream).path(openai::PATH).streaming(true).any_times(),
        Exchange::json(200, &tool_use).path(anthropic::PATH).streaming(false).any_times(),
        Exchange::sse(claude_stream).path(anthropic::PATH).streaming(true).any_times(),
    ];
    let stage = Stage::with(script, TestServer::builder());
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let mut calls = Vec::new();
    for model in [OPENAI_MODEL, ANTHROPIC_MODEL] {
        let mut params = stage::chat(&format!("alice@{model}"));
        params["tools"] = json!([{"type": "function",
            "function": {"name": "weather", "description": "Weather", "parameters": schema}}]);
        calls.push(Call::chat(model, params.clone()));
        calls.push(Call::chat(&format!("{model} streamed"), params).streamed());
    }
    for report in driver::run(openai_sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for model in [OPENAI_MODEL, ANTHROPIC_MODEL] {
            for name in [model.to_owned(), format!("{model} streamed")] {
                report.assert(&name, "/finish_reason", "tool_calls");
                report.assert(&name, "/tool_calls/0/name", "weather");
                let seen = &report.success(&name)["tool_calls"];
                assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
                let text = seen[0]["arguments"].as_str().unwrap_or_default();
                let read: Value = serde_json::from_str(text).expect("arguments are JSON");
                assert_eq!(read, arguments, "{} {name}", report.sdk);
            }
        }
    }
    let params = json!({"model": ANTHROPIC_MODEL, "max_tokens": 64,
        "messages": [{"role": "user", "content": stage::prompt()}],
        "tools": [{"name": "weather", "input_schema": schema}]});
    let calls = [Call::message("json", params.clone()), Call::message("stream", params).streamed()];
    for report in driver::run(anthropic_sdks, &stage.anthropic_url(), &stage.account.key, &calls) {
        for name in ["json", "stream"] {
            report.assert(name, "/stop_reason", "tool_use");
            report.assert(name, "/tool_calls/0/input", arguments.clone());
        }
    }
    stage.assert_charged(4 * openai_sdks.len() + 2 * anthropic_sdks.len());
}
