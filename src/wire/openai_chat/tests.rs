//! Checks and splices of chat requests.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{domain::ErrorCode, wire::RequestErrorKind};

use super::*;

const PLAIN: OpenAiEdit<'_> =
    OpenAiEdit { model: "up", system_prefix: None, include_usage: false, max_tokens: None };

fn parse(body: &str) -> Result<ChatRequest, RequestError> {
    ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes()))
}

fn sent(body: &str, edit: &OpenAiEdit<'_>) -> String {
    String::from_utf8(parse(body).unwrap().to_openai(edit).to_vec()).unwrap()
}

#[test]
fn mistakes_are_named_with_place_and_kind() {
    for (body, param, word, code) in [
        ("", None, "json_invalid", ErrorCode::InvalidJson),
        ("{", None, "json_invalid", ErrorCode::InvalidJson),
        ("{}x", None, "json_invalid", ErrorCode::InvalidJson),
        ("[]", None, "dict_type", ErrorCode::InvalidRequest),
        ("\"x\"", None, "dict_type", ErrorCode::InvalidRequest),
        ("{}", Some("model"), "missing", ErrorCode::InvalidRequest),
        (r#"{"model":1}"#, Some("model"), "string_type", ErrorCode::InvalidRequest),
        (r#"{"model":" "}"#, Some("model"), "value_error", ErrorCode::InvalidRequest),
        (r#"{"model":"a"}"#, Some("messages"), "missing", ErrorCode::InvalidRequest),
        (
            r#"{"model":"a","messages":null}"#,
            Some("messages"),
            "list_type",
            ErrorCode::InvalidRequest,
        ),
        (
            r#"{"model":"a","messages":[]}"#,
            Some("messages"),
            "value_error",
            ErrorCode::InvalidRequest,
        ),
        (
            r#"{"model":"a","messages":["x"]}"#,
            Some("messages[0]"),
            "dict_type",
            ErrorCode::InvalidRequest,
        ),
        (
            r#"{"model":"a","messages":[{}]}"#,
            Some("messages[0].role"),
            "missing",
            ErrorCode::InvalidRequest,
        ),
        (
            r#"{"model":"a","messages":[{"role":"x"}]}"#,
            Some("messages[0].role"),
            "value_error",
            ErrorCode::InvalidRequest,
        ),
        (
            r#"{"model":"a","messages":[{"role":"user"}]}"#,
            Some("messages[0].content"),
            "missing",
            ErrorCode::InvalidRequest,
        ),
        (
            r#"{"model":"a","messages":[{"role":"user","content":null}]}"#,
            Some("messages[0].content"),
            "string_type",
            ErrorCode::InvalidRequest,
        ),
        (
            r#"{"model":"a","messages":[{"role":"user","content":[{"text":"x"}]}]}"#,
            Some("messages[0].content[0].type"),
            "missing",
            ErrorCode::InvalidRequest,
        ),
        (
            r#"{"model":"a","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            Some("messages[0].content[0].text"),
            "missing",
            ErrorCode::InvalidRequest,
        ),
    ] {
        let error = parse(body).unwrap_err();
        assert_eq!(error.param().as_deref(), param, "{body}");
        assert_eq!((error.type_word(), error.code()), (word, code), "{body}");
        assert!(!error.message.is_empty(), "{body}");
    }
}

#[test]
fn settings_of_the_wrong_type_or_range_are_named() {
    let hi = r#""messages":[{"role":"user","content":"hi"}]"#;
    for (field, param, word) in [
        (r#""stream":"yes""#, "stream", "bool_type"),
        (r#""max_tokens":0"#, "max_tokens", "value_error"),
        (r#""max_tokens":-3"#, "max_tokens", "value_error"),
        (r#""max_completion_tokens":1.5"#, "max_completion_tokens", "int_type"),
        (r#""n":"2""#, "n", "int_type"),
        (r#""stream_options":true"#, "stream_options", "dict_type"),
        (r#""stream_options":{"include_usage":1}"#, "stream_options.include_usage", "bool_type"),
        (r#""model":"b""#, "model", "value_error"),
    ] {
        let error = parse(&format!(r#"{{"model":"a",{hi},{field}}}"#)).unwrap_err();
        assert_eq!(error.param().as_deref(), Some(param), "{field}");
        assert_eq!(error.type_word(), word, "{field}");
    }
    assert_eq!(parse("{").unwrap_err().kind, RequestErrorKind::Json);
    let not_utf8 = ChatRequest::parse(Bytes::from_static(b"{\"model\":\"\xff\"}")).unwrap_err();
    assert_eq!(not_utf8.kind, RequestErrorKind::Json);
}

#[test]
fn what_billing_needs_is_read() {
    let request = parse(
        r#"{"model":"a","stream":true,"stream_options":{"include_usage":true},"max_tokens":5,
        "max_completion_tokens":7,"n":2,"tools":[{"x":1}],"messages":[
        {"role":"system","content":"be \u00e9"},
        {"role":"user","content":[{"type":"text","text":"four"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAAAAAA"}},
            {"type":"file","file":{"file_data":"x"}}]},
        {"role":"assistant","content":null,"tool_calls":[]}]}"#,
    )
    .unwrap();
    assert!(request.stream() && request.include_usage() && !request.may_write_cache());
    assert_eq!((request.max_tokens(), request.n()), (Some(7), 2));
    let bound = request.input_bound();
    assert_eq!((bound.message_count, bound.image_count), (3, 1));
    // "be é" 5, "text" 4, "four" 4, null 4, [] 2, [{"x":1}] 9
    assert_eq!(bound.text_bytes, 5 + 4 + 4 + 4 + 2 + 9);
    assert_eq!(bound.file_bytes, r#"{"type":"file","file":{"file_data":"x"}}"#.len() as u64);
    assert_eq!(request.conversation_text(), "four");
}

#[test]
fn a_request_for_a_cache_write_is_noticed_even_when_it_is_escaped() {
    for mark in ["cache_control", "prompt_cache_breakpoint", r"\u0063ache_control"] {
        let body = format!(
            r#"{{"model":"a","messages":[{{"role":"user","content":"x","{mark}":{{}}}}]}}"#
        );
        assert!(parse(&body).unwrap().may_write_cache(), "{mark}");
    }
}

#[test]
fn the_conversation_text_keeps_the_newest_turns() {
    let old = "o".repeat(CONVERSATION_TEXT_BYTES_MAX);
    let body = json!({"model": "a", "messages": [
        {"role": "user", "content": old},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "newest é"},
    ]});
    let text = parse(&body.to_string()).unwrap().conversation_text();
    assert!(text.len() <= CONVERSATION_TEXT_BYTES_MAX + 2, "{}", text.len());
    assert!(text.ends_with("o\nhello\nnewest é"));
}

#[test]
fn the_persona_stands_before_the_callers_system_text() {
    let edit = OpenAiEdit { system_prefix: Some("You are \"A\"."), ..PLAIN };
    for (body, expected) in [
        (
            r#"{"model":"a","messages":[ {"role":"user","content":"hi"}]}"#,
            r#"{"model":"up","messages":[{"role":"system","content":"You are \"A\"."}, {"role":"user","content":"hi"}]}"#,
        ),
        (
            r#"{"model":"a","messages":[{"content":"Be \u0062rief","role":"developer"}]}"#,
            r#"{"model":"up","messages":[{"content":"You are \"A\".\n\nBe \u0062rief","role":"developer"}]}"#,
        ),
        (
            r#"{"model":"a","messages":[{"role":"system","content":[{"type":"text","text":"x"}]}]}"#,
            r#"{"model":"up","messages":[{"role":"system","content":[{"type":"text","text":"You are \"A\".\n\n"},{"type":"text","text":"x"}]}]}"#,
        ),
        (
            r#"{"model":"a","messages":[{"role":"system","content":[]}]}"#,
            r#"{"model":"up","messages":[{"role":"system","content":[{"type":"text","text":"You are \"A\".\n\n"}]}]}"#,
        ),
    ] {
        assert_eq!(sent(body, &edit), expected);
    }
}

#[test]
fn usage_is_asked_for_in_streams_only() {
    let edit = OpenAiEdit { include_usage: true, ..PLAIN };
    let body = |rest: &str| {
        format!(r#"{{"model":"up","messages":[{{"role":"user","content":"h"}}]{rest}}}"#)
    };
    for (given, expected) in [
        ("", ""),
        (r#","stream":true"#, r#","stream":true,"stream_options":{"include_usage":true}"#),
        (
            r#","stream":true,"stream_options":null"#,
            r#","stream":true,"stream_options":{"include_usage":true}"#,
        ),
        (
            r#","stream_options":{},"stream":true"#,
            r#","stream_options":{"include_usage":true},"stream":true"#,
        ),
        (
            r#","stream_options":{ "x":1 },"stream":true"#,
            r#","stream_options":{ "x":1 ,"include_usage":true},"stream":true"#,
        ),
        (
            r#","stream_options":{"include_usage":false},"stream":true"#,
            r#","stream_options":{"include_usage":true},"stream":true"#,
        ),
    ] {
        assert_eq!(sent(&body(given), &edit), body(expected));
    }
}

#[test]
fn the_output_limit_is_set_under_the_name_that_the_model_knows() {
    let edit = OpenAiEdit { max_tokens: Some((TokensField::MaxCompletionTokens, 9)), ..PLAIN };
    let body = |rest: &str| {
        format!(r#"{{"model":"up","messages":[{{"role":"user","content":"h"}}]{rest}}}"#)
    };
    for (given, expected) in [
        ("", r#","max_completion_tokens":9"#),
        (r#","max_completion_tokens":50"#, r#","max_completion_tokens":9"#),
        (r#","max_tokens":50"#, r#","max_completion_tokens":9"#),
        (r#","max_tokens":50,"max_completion_tokens":null"#, r#","max_completion_tokens":9"#),
    ] {
        assert_eq!(sent(&body(given), &edit), body(expected));
    }
    let first = r#"{"max_tokens":50,"model":"up","messages":[{"role":"user","content":"h"}]}"#;
    let moved =
        r#"{"model":"up","messages":[{"role":"user","content":"h"}],"max_completion_tokens":9}"#;
    assert_eq!(sent(first, &edit), moved);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ChatRequest::parse(Bytes::from(body));
    }

    #[test]
    fn a_splice_changes_nothing_but_what_it_says(
        unknown in proptest::collection::btree_map("x_[a-z]{1,6}", any_json(), 0..5),
        text in ".{0,40}", prefix in ".{1,40}", pretty in any::<bool>(), first in any::<bool>(),
    ) {
        let known = json!({"model": "a", "stream": true, "max_tokens": 3,
            "messages": [{"role": "user", "content": text, "x": unknown}]});
        let mut object = serde_json::Map::new();
        if first { object.extend(unknown.clone()); }
        object.extend(known.as_object().unwrap().clone());
        if !first { object.extend(unknown.clone()); }
        let object = Value::Object(object);
        let body = if pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() };
        let edit = OpenAiEdit {
            model: "up\"", system_prefix: Some(&prefix), include_usage: true,
            max_tokens: Some((TokensField::MaxCompletionTokens, 2)),
        };
        let got: Value = serde_json::from_str(&sent(&body, &edit)).unwrap();
        let mut expected = object;
        let fields = expected.as_object_mut().unwrap();
        fields.insert("model".into(), json!("up\""));
        fields.shift_remove("max_tokens");
        fields.insert("stream_options".into(), json!({"include_usage": true}));
        fields.insert("max_completion_tokens".into(), json!(2));
        fields["messages"].as_array_mut().unwrap()
            .insert(0, json!({"role": "system", "content": prefix}));
        prop_assert_eq!(got, expected);
    }
}
