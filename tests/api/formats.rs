//! `POST /v1/messages` and `POST /v1/responses`: a face and a model in each of the two formats, on a
//! provider of either; with the persona in the format's own place and the bill of any chat.

use serde_json::{Value, json};

use crate::{
    kit::{Dialect, Stage, error_of, prompt},
    support::{
        PERSONA_CANARY,
        http::{Fetched, Request},
        ledger::SETTLED,
        models::{self, ANTHROPIC_MODEL, ANTHROPIC_UPSTREAM_ID, OPENAI_MODEL, OPENAI_UPSTREAM_ID},
        replies::{anthropic, openai},
        upstream::Exchange,
    },
};

const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const INPUT: u64 = 20;
const OUTPUT: u64 = 5;

fn replies() -> [Exchange; 4] {
    [
        openai::json_exchange("Aye.", INPUT, OUTPUT).streaming(false).any_times(),
        openai::stream_exchange(&["A", "ye."], INPUT, OUTPUT).streaming(true).any_times(),
        anthropic::json_exchange("Aye.", INPUT, OUTPUT).streaming(false).any_times(),
        anthropic::stream_exchange(&["A", "ye."], INPUT, OUTPUT).streaming(true).any_times(),
    ]
}

/// Every way of naming who answers, and the provider's name of the model.
fn targets() -> [(String, &'static str, bool); 5] {
    [
        ("alice".to_owned(), OPENAI_UPSTREAM_ID, true),
        (format!("alice@{OPENAI_MODEL}"), OPENAI_UPSTREAM_ID, true),
        (format!("alice@{ANTHROPIC_MODEL}"), ANTHROPIC_UPSTREAM_ID, true),
        (OPENAI_MODEL.to_owned(), OPENAI_UPSTREAM_ID, false),
        (ANTHROPIC_MODEL.to_owned(), ANTHROPIC_UPSTREAM_ID, false),
    ]
}

fn message(model: &str, fields: &Value) -> Value {
    let body = json!({"model": model, "max_tokens": 64, "system": "Be brief.",
        "messages": [{"role": "user", "content": prompt()}]});
    crate::kit::with(body, fields)
}

fn response(model: &str, fields: &Value) -> Value {
    let body = json!({"model": model, "instructions": "Be brief.", "input": prompt()});
    crate::kit::with(body, fields)
}

/// The system text that arrived last, in either format.
#[track_caller]
fn system_that_arrived(stage: &Stage) -> String {
    let request = stage.upstream.requests().pop().expect("a request");
    let body = request.json();
    let system = match request.path.as_str() {
        anthropic::PATH => &body["system"],
        _ => &body["messages"][0]["content"],
    };
    match system {
        Value::String(text) => text.clone(),
        blocks => {
            let texts = blocks.as_array().expect("blocks").iter();
            texts.filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n\n")
        }
    }
}

#[track_caller]
fn assert_system(stage: &Stage, has_persona: bool) {
    let system = system_that_arrived(stage);
    if has_persona {
        let persona = system.strip_suffix("\n\nBe brief.").expect("the caller's own text is last");
        assert!(persona.contains("Alice Example") && persona.contains(PERSONA_CANARY), "{system}");
    } else {
        assert_eq!(system, "Be brief.");
    }
}

/// The data of an event stream.
fn events(answer: &Fetched) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

/// What stands at `pointer` in the events of this type, put together.
fn joined(events: &[Value], kind: &str, pointer: &str) -> String {
    let mine = events.iter().filter(|event| event["type"] == kind);
    mine.filter_map(|event| event.pointer(pointer)?.as_str()).collect()
}

#[track_caller]
fn assert_bill(stage: &Stage, count: usize) {
    let cost = models::charge_nanousd(INPUT.cast_signed(), OUTPUT.cast_signed());
    let rows = stage.server.ledger().wait_resolved(&stage.account, count);
    for row in &rows {
        assert_eq!((row.state, row.cost), (SETTLED, Some(cost)), "{row:?}");
    }
    assert_eq!(rows.len(), count);
}

#[test]
fn a_message_is_answered_by_any_face_and_any_model() {
    let stage = Stage::new(replies());
    for (model, upstream, has_persona) in targets() {
        let answer = stage.post(MESSAGES, &message(&model, &json!({})));
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert!(answer.header("x-faces-cost-usd").is_some(), "{model}");
        assert!(answer.header("x-faces-model").is_some() && answer.header("request-id").is_some());
        let body = answer.json();
        assert_eq!((&body["type"], &body["model"]), (&json!("message"), &json!(model)));
        assert_eq!(body["content"], json!([{"type": "text", "text": "Aye."}]), "{model}");
        assert_eq!(
            (&body["stop_reason"], &body["role"]),
            (&json!("end_turn"), &json!("assistant"))
        );
        assert_eq!(body["usage"]["input_tokens"], INPUT, "{model}");
        assert_eq!(body["usage"]["output_tokens"], OUTPUT, "{model}");
        assert!(body["id"].as_str().is_some_and(|id| id.starts_with("msg_")), "{body}");
        assert_system(&stage, has_persona);
        let sent = stage.upstream.requests().pop().expect("a request").json();
        assert_eq!(sent["model"], upstream);
        let streamed = stage.post(MESSAGES, &message(&model, &json!({"stream": true})));
        assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
        let events = events(&streamed);
        assert_eq!(events[0]["message"]["model"], model.as_str(), "{events:?}");
        assert_eq!(joined(&events, "content_block_delta", "/delta/text"), "Aye.", "{model}");
        let delta = events.iter().find(|event| event["type"] == "message_delta");
        let delta = delta.expect("message_delta");
        assert_eq!(delta["delta"]["stop_reason"], "end_turn", "{delta}");
        assert_eq!(delta["usage"]["output_tokens"], OUTPUT, "{delta}");
        assert_eq!(events.last().expect("events")["type"], "message_stop");
        assert_system(&stage, has_persona);
    }
    assert_bill(&stage, 2 * targets().len());
}

#[test]
fn a_response_is_answered_by_any_face_and_any_model() {
    let stage = Stage::new(replies());
    for (model, upstream, has_persona) in targets() {
        let answer = stage.post(RESPONSES, &response(&model, &json!({"store": true})));
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert!(answer.header("x-faces-cost-usd").is_some(), "{model}");
        let body = answer.json();
        assert_eq!((&body["object"], &body["model"]), (&json!("response"), &json!(model)));
        assert_eq!((&body["status"], &body["store"]), (&json!("completed"), &json!(false)));
        assert_eq!(body["output"][0]["content"][0]["text"], "Aye.", "{model}");
        assert_eq!(body["output"][0]["content"][0]["type"], "output_text", "{model}");
        assert_eq!(body["instructions"], "Be brief.", "never the persona");
        assert_eq!(body["usage"]["total_tokens"], INPUT + OUTPUT, "{model}");
        assert!(!answer.text().contains(PERSONA_CANARY));
        assert_system(&stage, has_persona);
        let sent = stage.upstream.requests().pop().expect("a request").json();
        assert_eq!(sent["model"], upstream);
        let streamed = stage.post(RESPONSES, &response(&model, &json!({"stream": true})));
        let events = events(&streamed);
        let first: Vec<&Value> = events.iter().take(2).map(|event| &event["type"]).collect();
        assert_eq!(first, ["response.created", "response.in_progress"]);
        assert_eq!(joined(&events, "response.output_text.delta", "/delta"), "Aye.", "{model}");
        let last = events.last().expect("events");
        assert_eq!(last["type"], "response.completed", "{last}");
        assert_eq!(last["response"]["output"][0]["content"][0]["text"], "Aye.");
        assert_eq!(last["response"]["usage"]["input_tokens"], INPUT);
        assert!(last["response"]["usage"]["cost_usd"].is_number(), "{last}");
    }
    assert_bill(&stage, 2 * targets().len());
}

#[test]
fn on_a_claude_model_a_message_is_relayed_as_it_is() {
    let stage = Stage::new(replies());
    let body = format!(
        "{{ \"x_first\":[1.0 ,2e3], \"model\":\"alice@{ANTHROPIC_MODEL}\", \"system\": [ {{\"type\":\"text\",\
         \"text\":\"Be brief.\",\"cache_control\":{{\"type\":\"ephemeral\"}} }} ],\n\"messages\":[ \
         {{\"role\":\"user\",\"content\":{}}} ],\"thinking\":{{\"type\":\"adaptive\"}} }}",
        json!(prompt())
    );
    let request = Request::new("POST", "/v1/messages?beta=true")
        .header("content-type", "application/json")
        .header("anthropic-version", "2023-06-01")
        .header("anthropic-beta", "one-2026-01-01")
        .body(body.clone().into_bytes());
    let answer = stage.fetch(&request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let arrived = stage.upstream.only_request();
    assert_eq!(arrived.query.as_deref(), Some("beta=true"));
    assert_eq!(arrived.header("anthropic-beta"), Some("one-2026-01-01"));
    let text = String::from_utf8_lossy(&arrived.body);
    assert!(text.contains("\"x_first\":[1.0 ,2e3]"), "numbers keep their spelling: {text}");
    let mut sent = arrived.json();
    let persona = sent["system"].as_array_mut().expect("blocks").remove(0);
    assert!(persona["text"].as_str().is_some_and(|text| text.contains(PERSONA_CANARY)));
    let mut expected: Value = serde_json::from_str(&body).expect("JSON");
    expected["model"] = json!(ANTHROPIC_UPSTREAM_ID);
    expected["max_tokens"] = json!(4_096);
    assert_eq!(sent, expected, "an omitted limit is 4096, the rest is the client's");
    // All but the name of the model is the provider's own answer.
    let mut told = anthropic::completion("Aye.", INPUT, OUTPUT);
    told["model"] = json!(format!("alice@{ANTHROPIC_MODEL}"));
    assert_eq!(answer.text(), told.to_string());
}

#[test]
fn tools_of_a_message_reach_a_gpt_and_its_calls_come_back() {
    let arguments = ["{\"harbour\":", "\"Kiel\"}"];
    let stage = Stage::new([
        Exchange::json(200, &openai::tool_completion("tide", &arguments.concat(), INPUT, OUTPUT))
            .streaming(false),
        Exchange::sse(openai::tool_stream("tide", &arguments, INPUT, OUTPUT)).streaming(true),
    ]);
    let model = format!("alice@{OPENAI_MODEL}");
    let fields = json!({
        "messages": [
            {"role": "user", "content": prompt()},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "t1", "name": "tide", "input": {"harbour": "Husum"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "14:10"},
                {"type": "text", "text": "And in Kiel?"}]}],
        "tools": [{"name": "tide", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"}, "top_k": 5});
    let answer = stage.post(MESSAGES, &message(&model, &fields));
    assert_eq!(answer.header("x-faces-dropped-params"), Some("top_k"), "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["stop_reason"], "tool_use");
    let call =
        json!({"type": "tool_use", "id": "call_1", "name": "tide", "input": {"harbour": "Kiel"}});
    assert_eq!(body["content"], json!([call]));
    let sent = stage.upstream.only_request().json();
    let roles: Vec<&Value> =
        sent["messages"].as_array().expect("a list").iter().map(|it| &it["role"]).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
    assert_eq!((&sent["tool_choice"], &sent["max_tokens"]), (&json!("required"), &json!(64)));
    let streamed =
        stage.post(MESSAGES, &crate::kit::with(message(&model, &fields), &json!({"stream": true})));
    let events = events(&streamed);
    let begun =
        events.iter().find(|event| event["type"] == "content_block_start").expect("a block");
    assert_eq!(begun["content_block"]["name"], "tide");
    let input = joined(&events, "content_block_delta", "/delta/partial_json");
    assert_eq!(input, arguments.concat());
    assert_bill(&stage, 2);
}

#[test]
fn tools_of_a_response_reach_claude_and_its_calls_come_back() {
    let call = anthropic::tool_completion("tide", &json!({"harbour": "Kiel"}), INPUT, OUTPUT);
    let pieces = ["{\"harbour\":", "\"Kiel\"}"];
    let stage = Stage::new([
        Exchange::json(200, &call).streaming(false),
        Exchange::sse(anthropic::tool_stream("tide", &pieces, INPUT, OUTPUT)).streaming(true),
    ]);
    let model = format!("alice@{ANTHROPIC_MODEL}");
    let fields = json!({
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": prompt()}]},
            {"type": "function_call", "call_id": "c1", "name": "tide", "arguments": "{\"harbour\":\"Husum\"}"},
            {"type": "function_call_output", "call_id": "c1", "output": "14:10"},
            {"role": "user", "content": "And in Kiel?"}],
        "tools": [{"type": "function", "name": "tide", "parameters": {"type": "object"}}]});
    let body = stage.post(RESPONSES, &response(&model, &fields)).json();
    let called = &body["output"][0];
    assert_eq!((&called["type"], &called["call_id"]), (&json!("function_call"), &json!("toolu_1")));
    let read: Value =
        serde_json::from_str(called["arguments"].as_str().expect("text")).expect("JSON");
    assert_eq!(read, json!({"harbour": "Kiel"}));
    let sent = stage.upstream.only_request().json();
    assert_eq!(sent["messages"][1]["content"][0]["type"], "tool_use", "{sent}");
    assert_eq!(sent["messages"][2]["content"][0]["type"], "tool_result", "{sent}");
    let streamed = stage
        .post(RESPONSES, &crate::kit::with(response(&model, &fields), &json!({"stream": true})));
    let events = events(&streamed);
    let pieces = joined(&events, "response.function_call_arguments.delta", "/delta");
    assert_eq!(pieces, "{\"harbour\":\"Kiel\"}");
    let done = events.iter().find(|event| event["type"] == "response.function_call_arguments.done");
    assert_eq!(done.expect("done")["arguments"], pieces.as_str());
    assert_bill(&stage, 2);
}

#[test]
fn what_a_target_has_no_equivalent_for_is_400_in_the_routes_dialect_and_free() {
    let stage = Stage::new([]);
    let gpt = format!("alice@{OPENAI_MODEL}");
    let server_tool = json!({"tools": [{"type": "web_search_20260318", "name": "web_search"}]});
    let answer = stage.post(MESSAGES, &message(&gpt, &server_tool));
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = error_of(&answer, Dialect::Anthropic);
    assert_eq!(
        (error.code.as_str(), error.whole["error"]["type"].as_str()),
        ("unsupported_parameter", Some("invalid_request_error"))
    );
    for (fields, param) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"background": true}), "background"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type"),
    ] {
        let answer = stage.post(RESPONSES, &response("alice", &fields));
        assert_eq!(answer.status, 400, "{}", answer.text());
        let error = error_of(&answer, Dialect::OpenAi);
        assert_eq!(
            (error.code.as_str(), &error.details["param"]),
            ("unsupported_parameter", &json!(param))
        );
    }
    // Nobody of that name, in each dialect.
    let nobody = stage.post(MESSAGES, &message("nobody", &json!({})));
    assert_eq!(
        (nobody.status, error_of(&nobody, Dialect::Anthropic).code.as_str()),
        (404, "model_not_found")
    );
    let nobody = stage.post(RESPONSES, &response("nobody@gpt", &json!({})));
    assert_eq!(
        (nobody.status, error_of(&nobody, Dialect::OpenAi).code.as_str()),
        (404, "face_not_found")
    );
    assert!(stage.server.ledger().holds(&stage.account).is_empty());
}

#[test]
fn the_tokens_of_a_face_are_counted_by_its_provider_for_nothing() {
    let counting =
        Exchange::json(200, &json!({"input_tokens": 11})).path("/v1/messages/count_tokens");
    let stage = Stage::new([counting]);
    let mut body = message(&format!("alice@{ANTHROPIC_MODEL}"), &json!({}));
    body.as_object_mut().expect("an object").remove("max_tokens");
    let answer = stage.post("/v1/messages/count_tokens", &body);
    assert_eq!(answer.json(), json!({"input_tokens": 11}));
    assert_system_of_count(&stage);
    body["model"] = json!("alice");
    let refused = stage.post("/v1/messages/count_tokens", &body);
    assert_eq!(
        (refused.status, error_of(&refused, Dialect::Anthropic).code.as_str()),
        (400, "unsupported_parameter")
    );
    assert!(stage.server.ledger().holds(&stage.account).is_empty());
}

#[track_caller]
fn assert_system_of_count(stage: &Stage) {
    let sent = stage.upstream.only_request().json();
    let system = sent["system"].as_str().expect("text");
    assert!(system.contains(PERSONA_CANARY) && system.ends_with("\n\nBe brief."), "{system}");
}
