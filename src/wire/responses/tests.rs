//! Responses requests as chat requests, and chat answers as responses, as snapshots and as refusals.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::Usage,
    wire::{RequestError, RequestErrorKind, Retelling, SseDecoder},
};

fn try_translate(body: &Value) -> Result<(Value, Vec<&'static str>, Retelling), RequestError> {
    let (asked, retelling) = to_chat(body.to_string().as_bytes())?;
    let chat = serde_json::from_slice(asked.request.body()).unwrap();
    Ok((chat, asked.dropped, retelling))
}

/// A request of a text with these further fields.
fn with(fields: Value) -> Value {
    let mut body = json!({"model": "a", "input": "Hi"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn all_settings() -> Value {
    with(json!({
        "instructions": "Be brief.", "stream": true, "store": true, "max_output_tokens": 50,
        "temperature": 0.50, "top_p": 0.9, "metadata": {"k": "v"}, "user": "u-1",
        "safety_identifier": "s-1", "prompt_cache_key": "p-1", "service_tier": "flex",
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "ship", "strict": true,
            "schema": {"type": "object", "b": 1, "a": 2}}},
        "tools": [{"type": "function", "name": "tide", "description": "High tide", "strict": true,
            "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}],
        "tool_choice": {"type": "function", "name": "tide"}, "parallel_tool_calls": false,
        "truncation": "auto", "include": ["reasoning.encrypted_content"],
        "stream_options": {"include_obfuscation": false}, "vendor": 1,
    }))
}

#[test]
fn a_request_with_all_settings() {
    let (chat, dropped, _) = try_translate(&all_settings()).unwrap();
    insta::assert_json_snapshot!(chat);
    assert_eq!(dropped, ["truncation", "include", "stream_options", "unknown fields"]);
}

#[test]
fn a_conversation_with_images_files_and_parallel_calls() {
    let call = |id: &str| {
        json!({"type": "function_call", "id": "fc", "call_id": id, "name": "tide",
            "arguments": "{\"b\": 1.50}", "status": "completed"})
    };
    let (chat, dropped, _) = try_translate(&json!({"model": "a", "input": [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "Look"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}]},
        {"type": "reasoning", "id": "rs", "summary": []},
        {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "I'll ", "annotations": []},
            {"type": "output_text", "text": "ask.", "annotations": []}]},
        call("c1"),
        call("c2"),
        {"type": "function_call_output", "call_id": "c1", "output": "14:10"},
        {"type": "function_call_output", "call_id": "c2", "output": [
            {"type": "input_text", "text": "a map"},
            {"type": "input_image", "image_url": "https://example.com/x.png"}]},
        call("c3"),
        {"role": "assistant", "content": "Wait."},
        {"type": "function_call_output", "call_id": "c3", "output": "15:00"},
        {"role": "user", "content": "Go on"},
    ]}))
    .unwrap();
    insta::assert_json_snapshot!(chat);
    assert_eq!(dropped, ["input.reasoning"]);
}

#[test]
fn what_needs_more_than_a_chat_is_refused_with_its_place() {
    let item = |item: Value| json!({"input": [item]});
    let part = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
    for (fields, param) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"background": true}), "background"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tool_choice": {"type": "file_search"}}), "tool_choice.type"),
        (item(json!({"type": "item_reference", "id": "x"})), "input[0].type"),
        (item(json!({"type": "computer_call"})), "input[0].type"),
        (part(json!({"type": "input_image", "file_id": "f"})), "input[0].content[0].file_id"),
        (
            part(json!({"type": "input_file", "file_url": "https://x"})),
            "input[0].content[0].file_url",
        ),
        (part(json!({"type": "input_audio"})), "input[0].content[0].type"),
    ] {
        let error = try_translate(&with(fields.clone())).unwrap_err();
        assert_eq!(error.kind, RequestErrorKind::Unsupported, "{fields}: {error}");
        assert_eq!(error.param().as_deref(), Some(param), "{fields}: {error}");
    }
    // What says nothing is no demand.
    let nothing = json!({"previous_response_id": null, "background": false, "store": false});
    assert!(try_translate(&with(nothing)).unwrap().1.is_empty());
}

#[test]
fn mistakes_are_named() {
    for (fields, param) in [
        (json!({"input": null}), "input"),
        (json!({"input": 1}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": [{"content": "x"}]}), "input[0].role"),
        (json!({"input": [{"role": "bob", "content": "x"}]}), "input[0].role"),
        (json!({"input": [{"role": "user"}]}), "input[0].content"),
        (json!({"input": [{"type": "function_call", "call_id": "c"}]}), "input[0].name"),
        (json!({"input": [{"type": "function_call_output", "output": "x"}]}), "input[0].call_id"),
        (json!({"instructions": 1}), "instructions"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"stream": 1}), "stream"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema", "name": "n"}}}), "text.format.schema"),
        (json!({"tools": [{"name": "x"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tool_choice": "perhaps"}), "tool_choice"),
    ] {
        let error = try_translate(&with(fields.clone())).unwrap_err();
        assert_eq!(error.param().as_deref(), Some(param), "{fields}: {error}");
    }
}

#[test]
fn a_choice_without_tools_is_left_out() {
    let (chat, _, _) =
        try_translate(&with(json!({"tool_choice": "auto", "parallel_tool_calls": true}))).unwrap();
    assert_eq!(chat.get("tool_choice").or_else(|| chat.get("parallel_tool_calls")), None);
    let allowed = json!({"tools": [{"type": "function", "name": "a"}, {"type": "function", "name": "b"}],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}});
    let (chat, _, _) = try_translate(&with(allowed)).unwrap();
    insta::assert_json_snapshot!(chat["tool_choice"]);
}

fn usage() -> Usage {
    Usage { input_uncached: 7, cache_read: 2, output_text: 4, reasoning: 3, ..Usage::default() }
}

#[test]
fn a_whole_answer() {
    let (_, _, retelling) = try_translate(&all_settings()).unwrap();
    let body = json!({"id": "chatcmpl-01X", "created": 5, "choices": [{
        "message": {"role": "assistant", "content": "Let me see.", "reasoning_content": "Hm.",
            "annotations": [{"type": "url_citation", "url_citation": {"url": "https://x", "title": "X",
                "start_index": 0, "end_index": 3}}],
            "tool_calls": [{"id": "c1", "type": "function",
                "function": {"name": "tide", "arguments": "{\"harbour\":\"Kiel\"}"}}]},
        "finish_reason": "tool_calls"}]});
    let told = retelling.whole(body.to_string().as_bytes(), &usage()).unwrap();
    insta::assert_json_snapshot!(serde_json::from_slice::<Value>(&told).unwrap());
}

#[test]
fn an_end_that_was_not_natural_is_incomplete() {
    let (_, _, retelling) = try_translate(&with(json!({}))).unwrap();
    for (finish, status, reason) in [
        ("stop", "completed", Value::Null),
        ("length", "incomplete", json!("max_output_tokens")),
        ("content_filter", "incomplete", json!("content_filter")),
    ] {
        let body =
            json!({"id": "x", "choices": [{"message": {"content": "x"}, "finish_reason": finish}]});
        let told = retelling.whole(body.to_string().as_bytes(), &usage()).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(
            (&told["status"], &told["output"][0]["status"]),
            (&json!(status), &json!(status))
        );
        assert_eq!(told["incomplete_details"]["reason"], reason, "{told}");
    }
    assert!(retelling.whole(b"{}", &usage()).is_err());
}

/// Chunks of these deltas, a finish, and the usage.
fn chunks(deltas: &[Value], finish: &str) -> Vec<Value> {
    let chunk = |choices: Value| json!({"id": "chatcmpl-01X", "created": 5, "model": "a", "choices": choices});
    let mut chunks: Vec<Value> = deltas
        .iter()
        .map(|delta| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])))
        .collect();
    chunks.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": finish}])));
    let mut last = chunk(json!([]));
    last["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 2}, "cost_usd": 0.5, "balance_usd": 9.5});
    chunks.push(last);
    chunks
}

fn told(chunks: &[Value]) -> Vec<Value> {
    let (_, _, retelling) = try_translate(&with(json!({}))).unwrap();
    let mut teller = retelling.teller();
    let mut out = BytesMut::new();
    for chunk in chunks {
        out.extend_from_slice(&teller.chunk(chunk.to_string().as_bytes()));
    }
    out.extend_from_slice(&teller.end());
    events(out)
}

/// The events, numbered without a gap.
fn events(out: BytesMut) -> Vec<Value> {
    let mut decoder = SseDecoder::new(1 << 20);
    decoder.push(out.freeze());
    let mut events: Vec<Value> = Vec::new();
    while let Some(record) = decoder.next().unwrap() {
        let event: Value = serde_json::from_slice(&record.data.unwrap()).unwrap();
        assert_eq!(event["type"].as_str().unwrap().as_bytes(), record.event.unwrap());
        assert_eq!(event["sequence_number"], events.len(), "{event}");
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

#[test]
fn calls_may_be_open_side_by_side() {
    let deltas = [
        begun(0, "c0", "{\"a\":"),
        begun(1, "c1", "{\"b\":"),
        json!({"content": "meanwhile"}),
        piece(0, "1}"),
        piece(1, "2}"),
        json!({"refusal": "no"}),
    ];
    let events = told(&chunks(&deltas, "tool_calls"));
    let response = &events.last().unwrap()["response"];
    let shown: Vec<&Value> = response["output"].as_array().unwrap().iter().collect();
    assert_eq!(shown[0]["arguments"], r#"{"a":1}"#);
    assert_eq!(shown[1]["arguments"], r#"{"b":2}"#);
    assert_eq!(shown[2]["content"][0]["text"], "meanwhile");
    assert_eq!(shown[2]["content"][1]["refusal"], "no");
    // What the deltas say together is what the end repeats.
    for (place, item) in shown.iter().enumerate().take(2) {
        let pieces: String = events
            .iter()
            .filter(|event| event["type"] == "response.function_call_arguments.delta")
            .filter(|event| event["output_index"] == place)
            .filter_map(|event| event["delta"].as_str())
            .collect();
        assert_eq!(item["arguments"], pieces);
    }
    let added = events.iter().filter(|event| event["type"] == "response.output_item.added").count();
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done").count();
    assert_eq!((added, done), (3, 3));
}

#[test]
fn calls_of_one_index_or_none_stay_apart() {
    let deltas = [
        begun(0, "c0", "{\"a\":1}"),
        begun(0, "c1", ""),
        piece(0, "{\"b\":2}"),
        json!({"tool_calls": [{"id": "c2", "function": {"name": "ebb", "arguments": "{}"}}]}),
    ];
    let events = told(&chunks(&deltas, "tool_calls"));
    let output = &events.last().unwrap()["response"]["output"];
    let shown = |at: usize| {
        let of = |name: &str| output[at][name].as_str().unwrap_or_default().to_owned();
        [of("call_id"), of("name"), of("arguments")].join(" ")
    };
    assert_eq!(
        [shown(0), shown(1), shown(2)],
        ["c0 tide {\"a\":1}", "c1 tide {\"b\":2}", "c2 ebb {}"]
    );
}

#[test]
fn a_failure_is_told_twice_and_nothing_follows() {
    let (_, _, retelling) = try_translate(&with(json!({}))).unwrap();
    let mut teller = retelling.teller();
    let chunks = chunks(&[json!({"content": "begun"})], "stop");
    let mut out = BytesMut::from(&teller.chunk(chunks[0].to_string().as_bytes())[..]);
    let error = crate::wire::errors::ErrorBody::new(
        crate::domain::ErrorCode::UpstreamFailed,
        "It broke off.",
    );
    out.extend_from_slice(&teller.failed(&error));
    for more in
        [teller.failed(&error), teller.chunk(chunks[1].to_string().as_bytes()), teller.end()]
    {
        assert!(more.is_empty());
    }
    let events = events(out);
    let [.., first, second] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        (&first["type"], &first["error"]["code"]),
        (&json!("error"), &json!("upstream_error"))
    );
    assert_eq!(first["message"], "It broke off.");
    assert_eq!(
        (&second["type"], &second["response"]["status"]),
        (&json!("response.failed"), &json!("failed"))
    );
    assert_eq!(second["response"]["output"][0]["content"][0]["text"], "begun");
}

#[test]
fn an_answer_whose_credit_ran_out_says_so_at_its_end() {
    let mut chunks = chunks(&[json!({"content": "begun"})], "length");
    chunks[1]["choices"][0]["error"] =
        json!({"code": "credit_exhausted", "message": "It ran out."});
    let events = told(&chunks);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    let response = &last["response"];
    assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(response["incomplete_details"]["error"]["code"], "credit_exhausted");
    assert_eq!(response["usage"]["total_tokens"], 14);
    assert_eq!(response["usage"]["cost_usd"], 0.5);
}
