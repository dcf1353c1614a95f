//! `/v1/messages` and `/v1/responses`: the official SDKs with a face, on providers of both formats.

use serde_json::{Value, json};

use crate::{
    driver::{self, Call, Report},
    install,
    stage::{self, INPUT, OUTPUT, Stage, reply},
    support::{
        models::{ANTHROPIC_MODEL, OPENAI_MODEL},
        replies::{anthropic, openai},
        server::TestServer,
        upstream::{Exchange, Step},
    },
};

const INPUT_TOKENS: u64 = INPUT.unsigned_abs();
const OUTPUT_TOKENS: u64 = OUTPUT.unsigned_abs();
const PIECES: [&str; 2] = ["{\"city\":", "\"Kiel\"}"];

fn faces() -> [String; 2] {
    [format!("alice@{OPENAI_MODEL}"), format!("alice@{ANTHROPIC_MODEL}")]
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}})
}

fn message(model: &str) -> Value {
    json!({"model": model, "max_tokens": 64, "system": "Be brief.",
        "messages": [{"role": "user", "content": stage::prompt()}]})
}

fn response(model: &str) -> Value {
    json!({"model": model, "instructions": "Be brief.", "input": stage::prompt()})
}

fn tool_exchanges() -> [Exchange; 4] {
    let call = openai::tool_completion("weather", &PIECES.concat(), INPUT_TOKENS, OUTPUT_TOKENS);
    let city = json!({"city": "Kiel"});
    let tool_use = anthropic::tool_completion("weather", &city, INPUT_TOKENS, OUTPUT_TOKENS);
    let gpt = openai::tool_stream("weather", &PIECES, INPUT_TOKENS, OUTPUT_TOKENS);
    let claude = anthropic::tool_stream("weather", &PIECES, INPUT_TOKENS, OUTPUT_TOKENS);
    [
        Exchange::json(200, &call).path(openai::PATH).streaming(false).any_times(),
        Exchange::sse(gpt).path(openai::PATH).streaming(true).any_times(),
        Exchange::json(200, &tool_use).path(anthropic::PATH).streaming(false).any_times(),
        Exchange::sse(claude).path(anthropic::PATH).streaming(true).any_times(),
    ]
}

/// An upstream of either format that breaks off in mid-answer.
fn broken(path: &str) -> Exchange {
    let mut records = match path {
        openai::PATH => openai::stream(&stage::PIECES, INPUT_TOKENS, OUTPUT_TOKENS),
        _ => anthropic::stream(&stage::PIECES, INPUT_TOKENS, OUTPUT_TOKENS),
    };
    records.truncate(4);
    Exchange::sse(records).then(Step::Fin).path(path).any_times()
}

#[test]
fn the_anthropic_sdk_talks_to_a_face_on_any_model() {
    let Some(sdks) = install::anthropic() else { return };
    let stage = Stage::new();
    let mut calls = Vec::new();
    for model in faces() {
        let name = |how: &str| format!("{model} {how}");
        calls.push(Call::message(&name("json"), message(&model)));
        calls.push(Call::message(&name("stream"), message(&model)).streamed());
        calls.push(Call::message(&name("bearer"), message(&model)).bearer().streamed());
        calls.push(Call::message(&name("async"), message(&model)).streamed().asynchronous());
    }
    for report in driver::run(sdks, &stage.server.url(), &stage.account.key, &calls) {
        for model in faces() {
            for how in ["json", "stream", "bearer", "async"] {
                let name = format!("{model} {how}");
                report.assert(&name, "/content", reply());
                report.assert(&name, "/stop_reason", "end_turn");
                report.assert(&name, "/model", model.as_str());
                report.assert(&name, "/usage/input_tokens", INPUT);
                report.assert(&name, "/usage/output_tokens", OUTPUT);
            }
            report.assert(&format!("{model} stream"), "/streamed", reply());
        }
    }
    for request in stage.upstream.requests() {
        stage::assert_persona(&stage::system_of(&request), Some("Be brief."));
        assert!(!request.has(&stage.account.key), "the client's key went upstream");
    }
    stage.assert_charged(calls.len() * sdks.len());
}

#[test]
fn the_openai_sdk_has_responses_of_a_face_on_any_model() {
    let Some(sdks) = install::openai() else { return };
    let stage = Stage::new();
    let mut calls = Vec::new();
    for model in faces() {
        let name = |how: &str| format!("{model} {how}");
        calls.push(Call::response(&name("json"), response(&model)));
        calls.push(Call::response(&name("stream"), response(&model)).streamed());
        calls.push(Call::response(&name("async"), response(&model)).streamed().asynchronous());
        calls.push(Call::accumulated(&name("helper"), response(&model)));
    }
    for report in driver::run(sdks, &stage.openai_url(), &stage.account.key, &calls) {
        for model in faces() {
            for how in ["json", "stream", "async", "helper"] {
                let name = format!("{model} {how}");
                report.assert(&name, "/content", reply());
                report.assert(&name, "/status", "completed");
                report.assert(&name, "/object", "response");
                report.assert(&name, "/model", model.as_str());
                report.assert(&name, "/usage/input_tokens", INPUT);
                report.assert(&name, "/usage/output_tokens", OUTPUT);
            }
            for how in ["stream", "async"] {
                report.assert(&format!("{model} {how}"), "/streamed", reply());
                report.assert(&format!("{model} {how}"), "/gapless", true);
            }
        }
    }
    for request in stage.upstream.requests() {
        stage::assert_persona(&stage::system_of(&request), Some("Be brief."));
    }
    stage.assert_charged(calls.len() * sdks.len());
}

#[test]
fn tools_work_through_both_sdks_in_both_formats() {
    let (Some(openai_sdks), Some(anthropic_sdks)) = (install::openai(), install::anthropic())
    else {
        return;
    };
    let stage = Stage::with(tool_exchanges(), TestServer::builder());
    let mut messages = Vec::new();
    let mut responses = Vec::new();
    for model in faces() {
        let streamed = format!("{model} streamed");
        let mut params = message(&model);
        params["tools"] = json!([{"name": "weather", "input_schema": schema()}]);
        messages.push(Call::message(&model, params.clone()));
        messages.push(Call::message(&streamed, params).streamed());
        let mut params = response(&model);
        params["tools"] = json!([{"type": "function", "name": "weather", "parameters": schema(), "strict": false}]);
        responses.push(Call::response(&model, params.clone()));
        responses.push(Call::response(&streamed, params.clone()).streamed());
        responses.push(Call::accumulated(&format!("{model} helper"), params));
    }
    let city = json!({"city": "Kiel"});
    for report in driver::run(anthropic_sdks, &stage.server.url(), &stage.account.key, &messages) {
        for model in faces() {
            for name in [model.clone(), format!("{model} streamed")] {
                report.assert(&name, "/stop_reason", "tool_use");
                report.assert(&name, "/tool_calls/0/name", "weather");
                report.assert(&name, "/tool_calls/0/input", city.clone());
            }
        }
    }
    for report in driver::run(openai_sdks, &stage.openai_url(), &stage.account.key, &responses) {
        for model in faces() {
            for how in ["", " streamed", " helper"] {
                let name = format!("{model}{how}");
                report.assert(&name, "/tool_calls/0/name", "weather");
                let seen = &report.success(&name)["tool_calls"];
                assert_eq!(seen.as_array().map(Vec::len), Some(1), "{seen}");
                let text = seen[0]["arguments"].as_str().unwrap_or_default();
                let read: Value = serde_json::from_str(text).expect("arguments are JSON");
                assert_eq!(read, city, "{} {name}", report.sdk);
            }
            report.assert(&format!("{model} streamed"), "/arguments", PIECES.concat());
        }
    }
    let count = messages.len() * anthropic_sdks.len() + responses.len() * openai_sdks.len();
    stage.assert_charged(count);
}

/// An exception, whatever its class: the SDK does not take the answer for a whole one.
#[track_caller]
fn assert_raised(report: &Report, name: &str) {
    let error = report.failure(name);
    assert!(error["message"].is_string(), "{} {name}: {error}", report.sdk);
}

#[test]
fn an_answer_that_breaks_off_raises_in_both_sdks() {
    let (Some(openai_sdks), Some(anthropic_sdks)) = (install::openai(), install::anthropic())
    else {
        return;
    };
    let stage = Stage::with([broken(openai::PATH), broken(anthropic::PATH)], TestServer::builder());
    let messages = faces().map(|model| Call::message(&model, message(&model)).streamed());
    for report in driver::run(anthropic_sdks, &stage.server.url(), &stage.account.key, &messages) {
        for model in faces() {
            assert_raised(&report, &model);
        }
    }
    let responses = faces().map(|model| Call::response(&model, response(&model)).streamed());
    for report in driver::run(openai_sdks, &stage.openai_url(), &stage.account.key, &responses) {
        for model in faces() {
            assert_raised(&report, &model);
            assert_eq!(report.failure(&model)["is_api_error"], true, "{}", report.sdk);
            assert_eq!(report.failure(&model)["code"], "upstream_error", "{}", report.sdk);
        }
    }
}
