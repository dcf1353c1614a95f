//! Translated requests, as snapshots and as refusals.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::wire::RequestErrorKind;

use super::*;

const TARGET: AnthropicTarget<'_> = AnthropicTarget {
    model: "claude-sonnet-4-6",
    max_tokens: 4_096,
    system_prefix: Some("You are Alice."),
    accepts_sampling: true,
    adaptive_thinking: true,
    native_structured_output: true,
    accepts_forced_tool_choice: true,
    accepts_mid_system: false,
};

const OLD: AnthropicTarget<'_> =
    AnthropicTarget { adaptive_thinking: false, native_structured_output: false, ..TARGET };

fn try_translate(body: &Value, target: &AnthropicTarget<'_>) -> Result<Translated, RequestError> {
    request_to_anthropic(&ChatRequest::parse(Bytes::from(body.to_string())).unwrap(), target)
}

#[track_caller]
fn translate(body: &Value, target: &AnthropicTarget<'_>) -> (Value, Translated) {
    let translated = try_translate(body, target).unwrap();
    (serde_json::from_slice(&translated.body).unwrap(), translated)
}

/// A request with one user turn and these further fields.
fn with(fields: Value) -> Value {
    let mut body = json!({"model": "a", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn weather_tool() -> Value {
    json!({"type": "function", "function": {"name": "weather", "description": "Tells it.", "strict": true,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}})
}

fn call(id: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}})
}

#[test]
fn a_text_request() {
    let (body, translated) = translate(
        &with(
            json!({"temperature": 1.7, "stop": ["END", " ", "\n"], "user": "u-1", "service_tier": "default",
            "stream": true, "seed": 1, "presence_penalty": 0, "vendor_extension": true}),
        ),
        &TARGET,
    );
    insta::assert_json_snapshot!(body);
    assert_eq!(translated.dropped, ["seed", "unknown fields"]);
}

#[test]
fn a_conversation_of_many_turns() {
    let (body, _) = translate(
        &json!({"model": "a", "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": ""}]},
            {"role": "user", "content": "One"},
            {"role": "user", "content": [{"type": "text", "text": "Two", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}]},
            {"role": "assistant", "content": "Three"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "Four"}]},
            {"role": "assistant", "content": ""},
            {"role": "system", "content": "Now be rude."},
            {"role": "user", "content": "Five", "name": "bob"},
        ]}),
        &TARGET,
    );
    insta::assert_json_snapshot!(body);
}

#[test]
fn tools_and_their_results() {
    let (body, translated) = translate(
        &json!({"model": "a", "tools": [weather_tool(), {"type": "function", "function": {"name": "now"}}],
            "tool_choice": "required", "parallel_tool_calls": false, "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "reasoning_content": "unsigned", "tool_calls": [
                call("call_1", "{\"city\":\"Paris\",\"n\":1.50}"), call("functions.weather:1", "")]},
            {"role": "tool", "tool_call_id": "functions.weather:1", "content": [{"type": "text", "text": "rain"}]},
            {"role": "tool", "tool_call_id": "call_1", "content": ""},
            {"role": "user", "content": "And?"},
        ]}),
        &TARGET,
    );
    insta::assert_json_snapshot!(body);
    // Numbers of arguments are not rewritten.
    assert!(std::str::from_utf8(&translated.body).unwrap().contains("\"n\":1.50"));
}

#[test]
fn images_and_files() {
    let (body, _) = translate(
        &json!({"model": "a", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "Look:"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0=", "detail": "high"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,/9j/"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        ]}]}),
        &TARGET,
    );
    insta::assert_json_snapshot!(body);
}

fn person_format() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "description": "A person.", "schema": {
        "$schema": "x", "type": "object", "$defs": {"name": {"type": "string", "minLength": 1}},
        "properties": {
            "name": {"$ref": "#/$defs/name", "description": "Full"},
            "minimum": {"type": "integer", "minimum": 0},
            "pets": {"type": "array", "minItems": 3, "items": {"oneOf": [{"$ref": "#/$defs/name"}, {"type": "object", "properties": {}}]}},
        },
        "required": ["name"], "additionalProperties": true}}})
}

#[test]
fn structured_output_natively() {
    let (body, translated) = translate(
        &with(json!({"response_format": person_format(), "reasoning_effort": "high"})),
        &TARGET,
    );
    insta::assert_json_snapshot!(body);
    assert!(!translated.unwrap_tool);
}

#[test]
fn structured_output_by_a_forced_tool() {
    let (body, translated) = translate(&with(json!({"response_format": person_format()})), &OLD);
    assert!(translated.unwrap_tool);
    assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "structured_output"}));
    assert_eq!(body["tools"][0]["input_schema"]["additionalProperties"], false);
    assert!(body.get("output_config").is_none());

    // Where a call can't be forced, the system text asks for it.
    let unforced = AnthropicTarget { accepts_forced_tool_choice: false, ..OLD };
    let (body, translated) =
        translate(&with(json!({"response_format": person_format()})), &unforced);
    assert!(translated.unwrap_tool);
    assert_eq!(body["tool_choice"], json!({"type": "auto"}));
    assert!(body["system"][1]["text"].as_str().unwrap().contains("structured_output"));

    let (body, _) = translate(
        &with(json!({"response_format": person_format(), "tools": [weather_tool()]})),
        &OLD,
    );
    assert_eq!(body["tool_choice"], json!({"type": "any"}));
    let (body, _) = translate(&with(json!({"response_format": {"type": "json_object"}})), &OLD);
    assert!(body["system"][1]["text"].as_str().unwrap().contains("JSON object"));
}

#[test]
fn tool_choices() {
    let choice = |choice: Value, target: &AnthropicTarget<'_>| {
        let other = json!({"type": "function", "function": {"name": "now", "parameters": {"properties": {}}}});
        let body = with(json!({"tools": [weather_tool(), other], "tool_choice": choice}));
        let (body, translated) = translate(&body, target);
        let names: Vec<String> = body["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect();
        (body["tool_choice"].clone(), names.join(","), translated.dropped)
    };
    let both = "weather,now".to_owned();
    assert_eq!(choice(json!("auto"), &TARGET), (json!({"type": "auto"}), both.clone(), vec![]));
    assert_eq!(choice(json!("none"), &TARGET), (json!({"type": "none"}), both.clone(), vec![]));
    let named = json!({"type": "function", "function": {"name": "now"}});
    assert_eq!(
        choice(named.clone(), &TARGET),
        (json!({"type": "tool", "name": "now"}), both.clone(), vec![])
    );
    let allowed =
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}});
    assert_eq!(choice(allowed, &TARGET), (json!({"type": "any"}), "now".to_owned(), vec![]));
    let newest = AnthropicTarget { accepts_forced_tool_choice: false, ..TARGET };
    assert_eq!(
        choice(json!("required"), &newest),
        (json!({"type": "auto"}), both, vec!["tool_choice"])
    );
}

#[test]
fn reasoning_by_effort_or_by_budget() {
    let (body, translated) =
        translate(&with(json!({"reasoning_effort": "minimal", "temperature": 0.5})), &TARGET);
    assert_eq!(
        (&body["thinking"], &body["output_config"]),
        (&json!({"type": "adaptive"}), &json!({"effort": "low"}))
    );
    assert_eq!(translated.dropped, ["temperature"]);
    let (body, _) = translate(&with(json!({"reasoning_effort": "max"})), &OLD);
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 4_095}));
    let short = AnthropicTarget { max_tokens: 1_000, ..OLD };
    let (body, translated) = translate(&with(json!({"reasoning_effort": "low"})), &short);
    assert_eq!((body.get("thinking"), &*translated.dropped), (None, &["reasoning_effort"][..]));
    let (body, _) = translate(&with(json!({"reasoning_effort": "none"})), &TARGET);
    assert!(body.get("thinking").is_none());
    // In the middle of tool use, a budget needs signed thinking in the history.
    let history = |thinking: Value| {
        json!({"model": "a", "reasoning_effort": "low", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "thinking_blocks": [thinking], "tool_calls": [call("c", "{}")]},
        {"role": "tool", "tool_call_id": "c", "content": "y"}]})
    };
    let (body, _) =
        translate(&history(json!({"type": "thinking", "thinking": "t", "signature": ""})), &OLD);
    assert!(body.get("thinking").is_none());
    let signed = json!({"type": "thinking", "thinking": "t", "signature": "s"});
    let (body, _) = translate(&history(signed.clone()), &OLD);
    assert_eq!(
        (&body["thinking"]["type"], &body["messages"][1]["content"][0]),
        (&json!("enabled"), &signed)
    );
}

#[test]
fn sampling_is_left_out_for_models_that_refuse_it() {
    let newest = AnthropicTarget { accepts_sampling: false, ..TARGET };
    let (body, translated) = translate(&with(json!({"temperature": 1, "top_p": 0.5})), &newest);
    assert!(body.get("temperature").is_none() && body.get("top_p").is_none());
    assert_eq!(translated.dropped, ["temperature", "top_p"]);
    let (body, translated) = translate(&with(json!({"temperature": 0.25, "top_p": 0.5})), &TARGET);
    assert_eq!((&body["temperature"], body.get("top_p")), (&json!(0.25), None));
    assert_eq!(translated.dropped, ["top_p"]);
}

#[test]
fn a_later_system_message_stays_one_where_the_model_allows_it() {
    let body = json!({"model": "a", "messages": [
        {"role": "user", "content": "One"}, {"role": "system", "content": "S"}, {"role": "user", "content": "Two"}]});
    let modern = AnthropicTarget { accepts_mid_system: true, ..TARGET };
    let (kept, _) = translate(&body, &modern);
    assert_eq!(
        kept["messages"][1],
        json!({"role": "system", "content": [{"type": "text", "text": "S"}]})
    );
    let (folded, _) = translate(&body, &TARGET);
    assert_eq!(folded["messages"].as_array().unwrap().len(), 1);
    assert_eq!(folded["messages"][0]["content"][1]["text"], "<system>\nS\n</system>");
}

#[test]
fn the_first_turn_is_the_users() {
    let body = json!({"model": "a", "messages": [
        {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Hi"}]});
    let (body, _) = translate(&body, &TARGET);
    let roles: Vec<&Value> =
        body["messages"].as_array().unwrap().iter().map(|it| &it["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
}

#[test]
fn what_can_not_be_said_is_refused_with_its_place() {
    use RequestErrorKind::{Missing, Unsupported, Value as Wrong};
    let one =
        |content: Value| json!({"model": "a", "messages": [{"role": "user", "content": content}]});
    let calls = |arguments: &str| {
        json!({"model": "a", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "tool_calls": [call("c", arguments)]},
        {"role": "tool", "tool_call_id": "c", "content": "y"}]})
    };
    let recursive = json!({"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"a": {"$ref": "#"}}}}});
    for (body, param, kind) in [
        (with(json!({"n": 2})), "n", Unsupported),
        (with(json!({"modalities": ["text", "audio"]})), "modalities", Unsupported),
        (with(json!({"functions": []})), "functions", Unsupported),
        (
            with(json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]})),
            "tools[0].type",
            Unsupported,
        ),
        (with(json!({"tools": [{"type": "function"}]})), "tools[0].function", Missing),
        (with(json!({"tool_choice": "required"})), "tool_choice", Wrong),
        (with(json!({"temperature": 3})), "temperature", Wrong),
        (
            with(json!({"response_format": recursive})),
            "response_format.json_schema.schema",
            Unsupported,
        ),
        (
            one(json!([{"type": "input_audio", "input_audio": {}}])),
            "messages[0].content[0]",
            Unsupported,
        ),
        (one(json!([{"type": "video", "video": {}}])), "messages[0].content[0]", Unsupported),
        (
            one(json!([{"type": "file", "file": {"file_id": "f"}}])),
            "messages[0].content[0].file.file_id",
            Unsupported,
        ),
        (
            one(json!([{"type": "image_url", "image_url": {"url": "data:image/bmp;base64,x"}}])),
            "messages[0].content[0].image_url.url",
            Wrong,
        ),
        (one(json!("  ")), "messages[0].content", Wrong),
        (
            json!({"model": "a", "messages": [{"role": "system", "content": "x"}]}),
            "messages",
            Wrong,
        ),
        (calls("{\"a\":"), "messages[1].tool_calls[0].function.arguments", Wrong),
        (calls("[1]"), "messages[1].tool_calls[0].function.arguments", Wrong),
        (
            json!({"model": "a", "messages": [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "c", "content": "y"}]}),
            "messages[1].tool_call_id",
            Wrong,
        ),
        (
            json!({"model": "a", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call("c", "{}")]}, {"role": "user", "content": "z"}]}),
            "messages[1].tool_calls[0]",
            Wrong,
        ),
    ] {
        let error = try_translate(&body, &TARGET).unwrap_err();
        assert_eq!((error.param().as_deref(), error.kind), (Some(param), kind), "{body}: {error}");
    }
}

#[test]
fn references_that_multiply_are_refused_early() {
    let mut defs = serde_json::Map::new();
    defs.insert("d0".to_owned(), json!({"type": "string"}));
    for level in 1..40 {
        let below = json!({"$ref": format!("#/$defs/d{}", level - 1)});
        defs.insert(format!("d{level}"), json!({"anyOf": [below, below]}));
    }
    let schema =
        json!({"type": "object", "$defs": defs, "properties": {"x": {"$ref": "#/$defs/d39"}}});
    let format = json!({"type": "json_schema", "json_schema": {"schema": schema}});
    let error = try_translate(&with(json!({"response_format": format})), &TARGET).unwrap_err();
    assert_eq!(error.kind, RequestErrorKind::Unsupported);
}

/// A request that uses everything, for a property that breaks pieces of it.
fn rich() -> Value {
    json!({"model": "a", "stop": ["x"], "temperature": 0.5, "reasoning_effort": "low", "user": "u",
        "tools": [weather_tool()], "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": person_format(), "service_tier": "auto", "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "T"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
        {"role": "assistant", "content": "C", "tool_calls": [call("c", "{}"), call("d", "")]},
        {"role": "tool", "tool_call_id": "d", "content": "r"},
        {"role": "system", "content": "mid"},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "r"}]},
        {"role": "user", "content": "end"}]})
}

/// Puts `with` in the place of the node number `at`, counted depth first.
fn replace_node(value: &mut Value, at: &mut usize, with: &Value) {
    if *at == 0 {
        *value = with.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(list) => list.iter_mut().for_each(|it| replace_node(it, at, with)),
        Value::Object(map) => map.values_mut().for_each(|it| replace_node(it, at, with)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn a_broken_request_is_refused_or_translated_into_a_legal_one(
        at in 0_usize..130,
        with in prop_oneof![
            Just(json!(null)), Just(json!("")), Just(json!("text")), Just(json!("user")), Just(json!("assistant")),
            Just(json!("system")), Just(json!(-1)), Just(json!([])), Just(json!({})), Just(json!([{}])),
            Just(json!({"type": "text", "text": "x"})), Just(json!({"$ref": "#"})), Just(json!("\u{0}{")),
        ],
        modern in any::<bool>(), mid in any::<bool>(),
    ) {
        let mut body = rich();
        replace_node(&mut body, &mut { at }, &with);
        let Ok(request) = ChatRequest::parse(Bytes::from(body.to_string())) else { return Ok(()) };
        let base = if modern { TARGET } else { OLD };
        let target = AnthropicTarget { accepts_mid_system: mid, ..base };
        let Ok(translated) = request_to_anthropic(&request, &target) else { return Ok(()) };
        let out: Value = serde_json::from_slice(&translated.body).unwrap();
        let messages = out["messages"].as_array().unwrap();
        prop_assert_eq!(&messages[0]["role"], "user");
        for pair in messages.windows(2) {
            prop_assert!(pair[0]["role"] != pair[1]["role"], "same roles are merged");
        }
        for message in messages {
            let blocks = message["content"].as_array().unwrap();
            prop_assert!(!blocks.is_empty());
            let results: Vec<bool> = blocks.iter().map(|it| it["type"] == "tool_result").collect();
            prop_assert!(results.is_sorted_by(|a, b| a >= b), "results stand first: {message}");
            for block in blocks.iter().filter(|it| it["type"] == "text") {
                prop_assert!(!block["text"].as_str().unwrap().trim().is_empty());
            }
        }
        let count = |message: &Value, kind: &str| {
            message["content"].as_array().unwrap().iter().filter(|it| it["type"] == kind).count()
        };
        for (index, message) in messages.iter().enumerate() {
            let results = messages.get(index + 1).map_or(0, |next| count(next, "tool_result"));
            prop_assert_eq!(count(message, "tool_use"), results, "results follow their calls");
        }
    }
}
