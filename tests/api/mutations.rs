//! Whatever bytes are sent to a route, the answer is no 5xx and comes within the bound.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    kit::{BODY_ROUTES, Stage, chat, with},
    support::{
        http::{End, Request},
        models::ANTHROPIC_MODEL,
        replies::{anthropic, openai},
        server::TestServer,
    },
};

/// Mutated requests per test: seconds on one core, and another choice each time.
const CASES: u32 = 600;

/// A well-formed body of each route, in the order of the routes.
fn seed(path: &str) -> Value {
    if path == "/v1/responses" {
        return responses_seed();
    }
    if path.contains("anthropic") || path.contains("messages") {
        // Of the two routes with faces one is relayed, and one is translated.
        let model = if path == "/v1/messages" { "alice" } else { ANTHROPIC_MODEL };
        return json!({"model": model, "max_tokens": 16, "system": [{"type": "text", "text": "s"}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi",
                "cache_control": {"type": "ephemeral"}}]}, {"role": "assistant", "content": "yes"}],
            "tools": [{"name": "t", "input_schema": {"type": "object"}}], "stream": false});
    }
    if path.ends_with("primitives") {
        return json!({"primitives": [{"component": "alpha", "text": "a", "weight": 1.5}]});
    }
    if path.ends_with("topup") {
        return json!({"amount_usd": 12.5, "payment_ref": "a payment"});
    }
    if path.starts_with("/v1/faces") {
        return json!({"username": "mutant", "name": "M", "basic_facts": {"age": {"value": 3}},
            "default_tools": ["t"], "default_model": "sandbox", "formula": null});
    }
    let model = format!("alice@{ANTHROPIC_MODEL}");
    with(
        chat(&model),
        &json!({"temperature": 0.5, "stop": ["x"], "n": 1, "stream": false,
        "stream_options": null, "response_format": {"type": "json_schema", "json_schema":
            {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto", "reasoning_effort": "low",
        "messages": [{"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
                "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "r"},
            {"role": "user", "content": "and?"}]}),
    )
}

fn responses_seed() -> Value {
    json!({"model": "alice", "instructions": "s", "stream": false, "max_output_tokens": 16,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "tool_choice": "auto", "reasoning": {"effort": "low"}, "metadata": {"k": "v"},
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "r"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "yes"}]}]})
}

/// Values that tend to break readers.
pub(crate) fn nasty() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|float| json!(float)),
        ".{0,20}".prop_map(Value::from),
        "[a-z@/{}\\[\\]]{0,40}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[[[[[[[]]]]]]]])),
        Just(json!({"type": "text"})),
        Just(json!("\u{0}\u{feff}\u{202e}")),
        Just(json!(u64::MAX)),
        Just(json!(-1)),
        Just(json!("x".repeat(20_000))),
        Just(Value::Array(vec![Value::Null; 300])),
    ]
}

/// The number of places in a value at which something can be changed.
pub(crate) fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        _ => 0_usize,
    }
}

/// Puts `new` at place `at` (counted in order); `None` removes a field or an element.
pub(crate) fn mutate(value: &mut Value, at: &mut usize, new: Option<&Value>) {
    match value {
        Value::Array(items) => {
            let mut index = 0;
            while index < items.len() {
                if *at == 0 {
                    match new {
                        Some(new) => items[index] = new.clone(),
                        None => drop(items.remove(index)),
                    }
                    *at = usize::MAX;
                    return;
                }
                *at -= 1;
                mutate(&mut items[index], at, new);
                if *at == usize::MAX {
                    return;
                }
                index += 1;
            }
        }
        Value::Object(fields) => {
            for name in fields.keys().cloned().collect::<Vec<_>>() {
                if *at == 0 {
                    match new {
                        Some(new) => drop(fields.insert(name, new.clone())),
                        None => drop(fields.remove(&name)),
                    }
                    *at = usize::MAX;
                    return;
                }
                *at -= 1;
                if let Some(inner) = fields.get_mut(&name) {
                    mutate(inner, at, new);
                }
                if *at == usize::MAX {
                    return;
                }
            }
        }
        _ => {}
    }
}

fn stage() -> Stage {
    let script = [
        openai::json_exchange("ok", 1, 1).streaming(false).any_times(),
        openai::stream_exchange(&["ok"], 1, 1).streaming(true).any_times(),
        anthropic::json_exchange("ok", 1, 1).streaming(false).any_times(),
        anthropic::stream_exchange(&["ok"], 1, 1).streaming(true).any_times(),
        // count_tokens
        crate::support::upstream::Exchange::json(200, &json!({"input_tokens": 1})).any_times(),
    ];
    Stage::with(script, TestServer::builder().env("FACES_TOPUP", "trusted"), "10")
}

fn run(strategy: impl Strategy<Value = (usize, Vec<u8>)>) {
    let stage = stage();
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&strategy, |(route, body)| {
        let route = &BODY_ROUTES[route];
        let answer = stage.fetch(
            &Request::new(route.method, route.path)
                .header("content-type", "application/json")
                .body(body),
        );
        prop_assert!(answer.status < 500, "{}: {} {}", route.path, answer.status, answer.text());
        prop_assert_eq!(answer.end, End::Clean);
        prop_assert!(answer.header("x-request-id").is_some());
        if answer.status >= 400 {
            crate::kit::error_of(&answer, route.dialect);
        }
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    assert_eq!(stage.get("/v1/models").status, 200, "it still serves");
}

#[test]
fn random_bytes_are_never_the_servers_fault() {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        ".{0,200}".prop_map(String::into_bytes),
        "[\\[\\]{}\",:0-9a-z.\\\\-]{0,200}".prop_map(String::into_bytes),
    ];
    run((0..BODY_ROUTES.len(), bytes));
}

#[test]
fn mutated_requests_are_never_the_servers_fault() {
    let strategy = (
        0..BODY_ROUTES.len(),
        proptest::collection::vec((any::<usize>(), proptest::option::of(nasty())), 1..4),
    );
    run(strategy.prop_map(|(route, changes)| {
        let mut body = seed(BODY_ROUTES[route].path);
        for (at, new) in changes {
            let mut at = at % places(&body);
            mutate(&mut body, &mut at, new.as_ref());
        }
        (route, body.to_string().into_bytes())
    }));
}

#[test]
fn damaged_texts_are_never_the_servers_fault() {
    let damage = (any::<usize>(), any::<u8>(), 0..4_usize);
    let strategy = (0..BODY_ROUTES.len(), proptest::collection::vec(damage, 1..6));
    run(strategy.prop_map(|(route, damages)| {
        let mut body = seed(BODY_ROUTES[route].path).to_string().into_bytes();
        for (at, byte, kind) in damages {
            let at = at % body.len().max(1);
            match kind {
                0 => body.truncate(at),
                1 => body.insert(at, byte),
                2 if at < body.len() => drop(body.remove(at)),
                _ => {
                    if let Some(place) = body.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
        (route, body)
    }));
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let stage = stage();
    for route in &BODY_ROUTES {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for depth in [100, 1_000, 100_000] {
                let inner = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let seed = seed(route.path);
                let mut bodies = vec![inner.clone()];
                for field in seed.as_object().unwrap().keys() {
                    let mut body = seed.clone();
                    body[field] = json!("INNER");
                    bodies.push(body.to_string().replace("\"INNER\"", &inner));
                }
                // A field that nobody knows travels on as it is.
                bodies.push(seed.to_string().replacen('{', &format!("{{\"unknown\":{inner},"), 1));
                for body in bodies {
                    let request = Request::new(route.method, route.path)
                        .header("content-type", "application/json")
                        .body(body.into_bytes());
                    let answer = stage.fetch(&request);
                    assert!(answer.status < 500, "{} {depth}: {}", route.path, answer.text());
                }
            }
        }
    }
}
