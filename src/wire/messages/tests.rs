//! Messages requests as chat requests, and chat answers as messages, as snapshots and as refusals.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::*;
use crate::wire::{RequestError, RequestErrorKind, SseDecoder, anthropic::MessagesRequest};

const REASONER: MessagesTarget = MessagesTarget { takes_effort: true };
const PLAIN: MessagesTarget = MessagesTarget { takes_effort: false };

fn try_translate(
    body: &Value,
    target: MessagesTarget,
) -> Result<(Value, Vec<&'static str>), RequestError> {
    let request = MessagesRequest::parse_lenient(Bytes::from(body.to_string()))?;
    let asked = to_chat(&request, target)?;
    Ok((serde_json::from_slice(asked.request.body()).unwrap(), asked.dropped))
}

/// A request with one user turn and these further fields.
fn with(fields: Value) -> Value {
    let mut body = json!({"model": "a", "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[test]
fn a_request_with_all_settings() {
    let (body, dropped) = try_translate(
        &with(json!({
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Be kind."}],
            "stream": true, "temperature": 0.50, "top_p": 0.9, "top_k": 40,
            "stop_sequences": ["END", "STOP"], "metadata": {"user_id": "u-1"},
            "service_tier": "standard_only", "thinking": {"type": "enabled", "budget_tokens": 6000},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "b": 1, "a": 2}}},
            "tools": [{"name": "tide", "description": "High tide", "strict": true,
                "input_schema": {"type": "object", "properties": {"z": {}, "a": {}}}},
                {"type": "custom", "name": "plain", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "tool", "name": "tide", "disable_parallel_tool_use": true},
            "vendor": 1,
        })),
        REASONER,
    )
    .unwrap();
    insta::assert_json_snapshot!(body);
    assert_eq!(dropped, ["top_k", "unknown fields", "cache_control"]);
}

#[test]
fn a_conversation_with_images_documents_and_parallel_calls() {
    let (body, dropped) = try_translate(
        &json!({"model": "a", "max_tokens": 9, "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}},
                {"type": "document", "title": "a.pdf",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "s"},
                {"type": "text", "text": "I'll "}, {"type": "text", "text": "ask."},
                {"type": "tool_use", "id": "t1", "name": "tide", "input": {"b": 1.50, "a": "x"}},
                {"type": "tool_use", "id": "t2", "name": "moon", "input": {}}]},
            {"role": "user", "content": [
                {"type": "text", "text": "Go on"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [
                    {"type": "text", "text": "one"}, {"type": "text", "text": "two"},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/t1.png"}}]},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": "no moon"}]},
            {"role": "system", "content": "Be rude now."},
            {"role": "assistant", "content": "Prefill"},
        ]}),
        PLAIN,
    )
    .unwrap();
    insta::assert_json_snapshot!(body);
    assert_eq!(dropped, ["messages.content.thinking"]);
    let input = body["messages"][1]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(input, r#"{"b":1.5,"a":"x"}"#, "as it was written");
}

#[test]
fn thinking_is_an_effort_where_the_model_has_one() {
    for (fields, effort) in [
        (json!({"thinking": {"type": "adaptive"}}), json!("medium")),
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
            json!("xhigh"),
        ),
        (json!({"output_config": {"effort": "low"}}), json!("low")),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), json!("low")),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 32000}}), json!("high")),
        (json!({"thinking": {"type": "disabled"}}), Value::Null),
        (json!({}), Value::Null),
    ] {
        let (body, _) = try_translate(&with(fields.clone()), REASONER).unwrap();
        assert_eq!(body["reasoning_effort"], effort, "{fields}");
        let (body, dropped) = try_translate(&with(fields.clone()), PLAIN).unwrap();
        assert_eq!(body["reasoning_effort"], Value::Null, "{fields}");
        assert_eq!(dropped.contains(&"thinking"), !effort.is_null(), "{fields}");
    }
}

#[test]
fn what_chat_can_not_say_is_refused_with_its_place() {
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    for (fields, param) in [
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"stop_sequences": ["a", "b", "c", "d", "e"]}), "stop_sequences"),
        (json!({"mcp_servers": [{}]}), "mcp_servers"),
        (json!({"container": "c"}), "container"),
        (
            json!({"tools": [{"type": "web_search_20260318", "name": "web_search"}]}),
            "tools[0].type",
        ),
        (
            block(json!({"type": "image", "source": {"type": "file", "file_id": "f"}})),
            "messages[0].content[0].source.type",
        ),
        (block(json!({"type": "server_tool_use"})), "messages[0].content[0].type"),
    ] {
        let error = try_translate(&with(fields.clone()), PLAIN).unwrap_err();
        assert_eq!(error.kind, RequestErrorKind::Unsupported, "{fields}: {error}");
        assert_eq!(error.param().as_deref(), Some(param), "{fields}: {error}");
    }
}

#[test]
fn mistakes_are_named() {
    let content = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    for (fields, param) in [
        (json!({"system": 1}), "system"),
        (json!({"system": [{"type": "image"}]}), "system[0].type"),
        (json!({"thinking": 1}), "thinking"),
        (json!({"tools": [{"input_schema": {}}]}), "tools[0].name"),
        (json!({"tools": [{"name": "x"}]}), "tools[0].input_schema"),
        (json!({"messages": [{"role": "bob", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (content(json!(1)), "messages[0].content"),
        (content(json!([{"type": "text"}])), "messages[0].content[0].text"),
        (content(json!([{"type": "text", "text": 1}])), "messages[0].content[0].text"),
        (content(json!([{"type": "tool_result"}])), "messages[0].content[0].tool_use_id"),
        (content(json!([{}])), "messages[0].content[0].type"),
    ] {
        let error = try_translate(&with(fields.clone()), PLAIN).unwrap_err();
        assert_eq!(error.param().as_deref(), Some(param), "{fields}: {error}");
    }
}

fn usage() -> Usage {
    Usage {
        input_uncached: 7,
        cache_read: 2,
        cache_write_5m: 1,
        output_text: 4,
        ..Usage::default()
    }
}

#[test]
fn a_whole_answer() {
    let call = |id: Value, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "tide", "arguments": arguments}});
    let body = json!({"id": "chatcmpl-01X", "created": 5, "choices": [{
        "message": {"role": "assistant", "content": "Let me see.", "reasoning_content": "Hm.",
            "tool_calls": [call(json!("c1"), r#"{"harbour":"Kiel"}"#), call(Value::Null, "not json")]},
        "finish_reason": "stop"}]});
    let told = message("alice", body.to_string().as_bytes(), &usage()).unwrap();
    insta::assert_json_snapshot!(serde_json::from_slice::<Value>(&told).unwrap());
}

#[test]
fn the_end_is_told_in_the_formats_own_words() {
    for (finish, message_fields, expected) in [
        ("stop", json!({"content": "x"}), "end_turn"),
        ("length", json!({"content": "x"}), "max_tokens"),
        ("content_filter", json!({"content": "x"}), "refusal"),
        ("stop", json!({"content": null, "refusal": "no"}), "refusal"),
        ("eos", json!({"content": "x"}), "end_turn"),
    ] {
        let body =
            json!({"id": "x", "choices": [{"message": message_fields, "finish_reason": finish}]});
        let told = message("a", body.to_string().as_bytes(), &usage()).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["stop_reason"], expected, "{body}");
    }
    for broken in [json!({}), json!({"choices": []}), json!({"choices": [{}]}), json!([])] {
        assert!(message("a", broken.to_string().as_bytes(), &usage()).is_err(), "{broken}");
    }
}

/// Chunks of these deltas, a finish, and the usage.
fn chunks(deltas: &[Value], finish: &str) -> Vec<Value> {
    let chunk = |choices: Value| json!({"id": "chatcmpl-01X", "created": 5, "model": "alice", "choices": choices});
    let mut chunks: Vec<Value> = deltas
        .iter()
        .map(|delta| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])))
        .collect();
    chunks.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": finish}])));
    let mut last = chunk(json!([]));
    last["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
        "cost_usd": 0.5, "balance_usd": 9.5});
    chunks.push(last);
    chunks
}

fn told(chunks: &[Value]) -> Vec<Value> {
    let mut teller = MessagesTeller::new("alice");
    let mut out = BytesMut::new();
    for chunk in chunks {
        teller.chunk(chunk.to_string().as_bytes(), &mut out);
    }
    teller.end(&mut out);
    events(out)
}

fn events(out: BytesMut) -> Vec<Value> {
    let mut decoder = SseDecoder::new(1 << 20);
    decoder.push(out.freeze());
    let mut events = Vec::new();
    while let Some(record) = decoder.next().unwrap() {
        let event: Value = serde_json::from_slice(&record.data.unwrap()).unwrap();
        assert_eq!(event["type"].as_str().unwrap().as_bytes(), record.event.unwrap());
        events.push(event);
    }
    events
}

fn piece(index: u64, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
}

fn begun(index: u64, id: &str, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "id": id, "type": "function",
        "function": {"name": "tide", "arguments": arguments}}]})
}

#[test]
fn a_stream_of_thought_text_and_calls() {
    let deltas = [
        json!({"role": "assistant", "content": "", "refusal": null}),
        json!({"reasoning_content": "Hm"}),
        json!({"content": "Grü\"ße\n"}),
        json!({"content": "!"}),
        begun(0, "c0", ""),
        piece(0, "{\"a\""),
        piece(0, ":1}"),
        begun(1, "c1", "{}"),
    ];
    insta::assert_json_snapshot!(told(&chunks(&deltas, "tool_calls")));
}

/// What each block of a stream held, in order: calls as their input.
fn blocks(events: &[Value]) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = None;
    for event in events {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((open, index), (None, Some(blocks.len() as u64)), "{event}");
                open = index;
                blocks.push(String::new());
            }
            "content_block_delta" => {
                assert_eq!(index, open, "{event}");
                let pieces = ["text", "thinking", "partial_json"];
                let piece = pieces.iter().find_map(|name| event["delta"][name].as_str());
                blocks.last_mut().unwrap().push_str(piece.unwrap());
            }
            "content_block_stop" => assert_eq!(open.take(), index, "{event}"),
            _ => assert_eq!(open, None, "{event}"),
        }
    }
    blocks
}

#[test]
fn blocks_never_overlap_however_calls_do() {
    let deltas = [
        begun(0, "c0", "{\"a\":"),
        begun(1, "c1", "{\"b\":"),
        json!({"content": "meanwhile"}),
        piece(0, "1}"),
        piece(1, "2}"),
        begun(2, "c2", "{}"),
    ];
    let events = told(&chunks(&deltas, "tool_calls"));
    assert_eq!(blocks(&events), [r#"{"a":1}"#, r#"{"b":2}"#, "{}", "meanwhile"]);
    // A name that comes late, no id, and no name at all.
    let deltas = [
        json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"name": "late"}}]}),
        json!({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
    ];
    let events = told(&chunks(&deltas, "stop"));
    assert_eq!(blocks(&events), ["{}"]);
    let begun = events.iter().find(|event| event["type"] == "content_block_start").unwrap();
    assert_eq!(begun["content_block"]["id"], "call_msg_01X_0");
    let delta = events.iter().find(|event| event["type"] == "message_delta").unwrap();
    assert_eq!(delta["delta"]["stop_reason"], "tool_use");
}

#[test]
fn calls_of_one_index_or_none_stay_apart() {
    let whole = |id: Value, arguments: &str| {
        json!({"id": id, "type": "function",
        "function": {"name": "tide", "arguments": arguments}})
    };
    for (deltas, expected) in [
        // All at once, without an index.
        (
            vec![
                json!({"tool_calls": [whole(json!("c0"), "{\"a\":1}"), whole(json!("c1"), "{\"b\":2}")]}),
            ],
            vec![r#"{"a":1}"#, r#"{"b":2}"#],
        ),
        // One after the other, of one index.
        (
            vec![begun(0, "c0", ""), piece(0, "{}"), begun(0, "c1", ""), piece(0, "{\"b\":2}")],
            vec!["{}", r#"{"b":2}"#],
        ),
        // Without ids.
        (
            vec![
                json!({"tool_calls": [whole(Value::Null, "{\"a\":1}")]}),
                json!({"tool_calls": [whole(json!(""), "{\"b\":2}")]}),
            ],
            vec![r#"{"a":1}"#, r#"{"b":2}"#],
        ),
        // Name and id again with each piece, or a new id each time: one call.
        (
            vec![
                begun(0, "c0", "{\"a\":"),
                begun(0, "c0", "{\"b\":"),
                begun(0, "c0", "1}}"),
                begun(0, "c0", ""),
            ],
            vec![r#"{"a":{"b":1}}"#],
        ),
        (
            vec![
                begun(0, "c0", "{"),
                json!({"tool_calls": [{"index": 0, "id": "c9", "function": {"arguments": "}"}}]}),
            ],
            vec!["{}"],
        ),
    ] {
        let events = told(&chunks(&deltas, "tool_calls"));
        assert_eq!(blocks(&events), expected, "{deltas:?}");
    }
}

#[test]
fn a_failure_ends_the_stream_and_nothing_follows() {
    let mut teller = MessagesTeller::new("alice");
    let mut out = BytesMut::new();
    let chunks = chunks(&[json!({"content": "begun"})], "stop");
    teller.chunk(chunks[0].to_string().as_bytes(), &mut out);
    let error = crate::wire::errors::ErrorBody::new(
        crate::domain::ErrorCode::UpstreamFailed,
        "It broke off.",
    );
    teller.failed(&error, &mut out);
    teller.failed(&error, &mut out);
    teller.chunk(chunks[1].to_string().as_bytes(), &mut out);
    teller.end(&mut out);
    let events = events(out);
    let names: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let expected = ["message_start", "ping", "content_block_start", "content_block_delta", "error"];
    assert_eq!(names, expected);
    assert_eq!(events[4]["error"]["message"], "It broke off.");
}

#[test]
fn an_answer_whose_credit_ran_out_says_so_at_its_end() {
    let mut chunks = chunks(&[json!({"content": "begun"})], "length");
    chunks[1]["choices"][0]["error"] =
        json!({"code": "credit_exhausted", "message": "It ran out."});
    let events = told(&chunks);
    let delta = &events[events.len() - 2];
    assert_eq!(delta["delta"]["stop_reason"], "max_tokens");
    assert_eq!(delta["error"]["details"]["error_code"], "credit_exhausted");
    assert_eq!(delta["usage"]["input_tokens"], 7);
    assert_eq!(delta["usage"]["cost_usd"], 0.5);
}
