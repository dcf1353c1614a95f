//! Whole responses of both formats.

use serde_json::json;

use crate::domain::{ErrorCode, UsageBasis};

use super::*;

fn options() -> CompletionOptions<'static> {
    CompletionOptions {
        model_echo: "alice",
        created: 7,
        fallback_id: "chatcmpl-fallback".to_owned(),
        context_tokens_max: 1_000,
        unwrap_tool: true,
    }
}

fn read_text(format: UpstreamFormat, body: &str) -> Result<Completion, UpstreamFault> {
    read(format, &Bytes::copy_from_slice(body.as_bytes()), &options())
}

const OPENAI: &str = r#"{"id":"c-1", "object":"chat.completion","created":5,"model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10},"x":1.50}"#;

#[test]
fn an_openai_body_passes_with_the_clients_model() {
    let completion = read_text(UpstreamFormat::OpenAiChat, OPENAI).unwrap();
    assert_eq!(completion.body, OPENAI.replace("gpt-x", "alice"));
    let (usage, basis) = completion.meter.usage_reading(0);
    assert_eq!((usage.input_total(), usage.output_total(), basis), (9, 1, UsageBasis::Provider));
    assert_eq!(completion.meter.finish_reason(), Some(FinishReason::Stop));
}

#[test]
fn an_openai_body_without_an_id_gets_one() {
    for told in ["", "\"id\":null,", "\"id\":\"\","] {
        let body = OPENAI.replace("\"id\":\"c-1\",", told);
        let completion = read_text(UpstreamFormat::OpenAiChat, &body).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&completion.body).unwrap();
        assert_eq!(read["id"], "chatcmpl-fallback", "{told}");
    }
}

#[test]
fn a_body_cut_anywhere_is_a_fault() {
    let anthropic = r#"{"id":"msg_1","type":"message","content":[],"stop_reason":"end_turn"}"#;
    for (format, body) in
        [(UpstreamFormat::OpenAiChat, OPENAI), (UpstreamFormat::AnthropicMessages, anthropic)]
    {
        assert!(read_text(format, body).is_ok());
        for end in 0..body.len() {
            assert!(read_text(format, &body[..end]).is_err(), "cut at byte {end}");
        }
    }
}

#[test]
fn an_anthropic_message_becomes_a_chat_completion() {
    let body = json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "See é "},
            {"type": "text", "text": "this", "citations": [{"type": "web", "url": "https://e.org", "title": "E"}]},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1.5, "a": [2]}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 0, "output_tokens": 30},
    });
    let completion = read_text(UpstreamFormat::AnthropicMessages, &body.to_string()).unwrap();
    let body: Value = serde_json::from_slice(&completion.body).unwrap();
    insta::assert_json_snapshot!(body);
    assert_eq!(completion.meter.upstream_id(), Some("msg_01"));
}

#[test]
fn stop_reasons_are_told_in_openais_words() {
    for (told, content, expected) in [
        ("end_turn", json!([]), "stop"),
        ("stop_sequence", json!([]), "stop"),
        ("pause_turn", json!([]), "stop"),
        ("max_tokens", json!([]), "length"),
        ("model_context_window_exceeded", json!([]), "length"),
        ("refusal", json!([]), "content_filter"),
        (
            "tool_use",
            json!([{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
            "tool_calls",
        ),
        (
            "end_turn",
            json!([{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
            "tool_calls",
        ),
        (
            "tool_use",
            json!([{"type": "tool_use", "id": "t", "name": "structured_output", "input": {"a": 1}}]),
            "stop",
        ),
    ] {
        let body =
            json!({"id": "msg_1", "type": "message", "content": content, "stop_reason": told});
        let completion = read_text(UpstreamFormat::AnthropicMessages, &body.to_string()).unwrap();
        let body: Value = serde_json::from_slice(&completion.body).unwrap();
        assert_eq!(body["choices"][0]["finish_reason"], expected, "{told}");
    }
}

#[test]
fn an_error_under_status_200_is_no_success() {
    for (format, body, code) in [
        (
            UpstreamFormat::OpenAiChat,
            r#"{"error":{"message":"m","type":"server_error"}}"#,
            ErrorCode::UpstreamFailed,
        ),
        (
            UpstreamFormat::OpenAiChat,
            r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#,
            ErrorCode::ContextLengthExceeded,
        ),
        (
            UpstreamFormat::AnthropicMessages,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#,
            ErrorCode::UpstreamRateLimited,
        ),
        (UpstreamFormat::OpenAiChat, r#"{"detail":"x"}"#, ErrorCode::UpstreamFailed),
        (UpstreamFormat::OpenAiChat, "<html>", ErrorCode::UpstreamFailed),
    ] {
        assert_eq!(read_text(format, body).unwrap_err().code(), code, "{body}");
    }
}
