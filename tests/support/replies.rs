//! What real providers answer, made short: OpenAI chat completions and Anthropic messages, as JSON
//! and as event streams, with text, tools, usage and errors. Field names and order as the two
//! formats have them (fields that may be absent are present).

/// OpenAI's format.
pub(crate) mod openai {
    use serde_json::{Value, json};

    use crate::support::upstream::Exchange;

    /// Path of the endpoint below the provider's base URL (`…/v1`).
    pub(crate) const PATH: &str = "/v1/chat/completions";
    /// The model that the scripted provider claims to be.
    pub(crate) const MODEL: &str = "upstream-openai-2026-01-01";

    fn usage(input: u64, output: u64) -> Value {
        json!({
            "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        })
    }

    /// A JSON answer of text.
    pub(crate) fn completion(text: &str, input: u64, output: u64) -> Value {
        json!({
            "id": "chatcmpl-scripted", "object": "chat.completion", "created": 1_790_000_000,
            "model": MODEL,
            "choices": [{"index": 0,
                "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": null, "finish_reason": "stop"}],
            "usage": usage(input, output), "service_tier": "default", "system_fingerprint": null
        })
    }

    /// A JSON answer that calls a tool.
    pub(crate) fn tool_completion(name: &str, arguments: &str, input: u64, output: u64) -> Value {
        let mut answer = completion("", input, output);
        answer["choices"][0]["finish_reason"] = json!("tool_calls");
        answer["choices"][0]["message"]["content"] = Value::Null;
        answer["choices"][0]["message"]["tool_calls"] = json!([
            {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
        ]);
        answer
    }

    /// The records of a stream of text: role, pieces, finish, usage, `[DONE]`.
    pub(crate) fn stream(pieces: &[&str], input: u64, output: u64) -> Vec<String> {
        let mut records =
            vec![delta(&json!({"role": "assistant", "content": "", "refusal": null}))];
        records.extend(pieces.iter().map(|piece| delta(&json!({"content": piece}))));
        records.extend(end("stop", input, output));
        records
    }

    /// The records of a stream that calls a tool, its arguments in pieces.
    pub(crate) fn tool_stream(
        name: &str,
        arguments: &[&str],
        input: u64,
        output: u64,
    ) -> Vec<String> {
        let call = json!([{"index": 0, "id": "call_1", "type": "function",
            "function": {"name": name, "arguments": ""}}]);
        let first = json!({"role": "assistant", "content": null, "tool_calls": call});
        let mut records = vec![delta(&first)];
        records.extend(arguments.iter().map(|piece| {
            delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        }));
        records.extend(end("tool_calls", input, output));
        records
    }

    fn end(finish: &str, input: u64, output: u64) -> [String; 3] {
        let last = chunk(
            &json!([{"index": 0, "delta": {}, "logprobs": null,
            "finish_reason": finish}]),
            &Value::Null,
        );
        [record(&last), record(&chunk(&json!([]), &usage(input, output))), done()]
    }

    fn chunk(choices: &Value, usage: &Value) -> Value {
        json!({
            "id": "chatcmpl-scripted", "object": "chat.completion.chunk",
            "created": 1_790_000_000, "model": MODEL, "service_tier": "default",
            "system_fingerprint": null, "choices": choices, "usage": usage
        })
    }

    /// One record of a delta.
    pub(crate) fn delta(delta: &Value) -> String {
        let choices =
            json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]);
        record(&chunk(&choices, &Value::Null))
    }

    /// One record of text.
    pub(crate) fn text_delta(text: &str) -> String {
        delta(&json!({"content": text}))
    }

    /// `data: [DONE]`.
    pub(crate) fn done() -> String {
        "data: [DONE]\n\n".to_owned()
    }

    /// An error in the stream.
    pub(crate) fn error_record(kind: &str, message: &str) -> String {
        record(&error(kind, message, None))
    }

    fn record(value: &Value) -> String {
        format!("data: {value}\n\n")
    }

    /// The body of an error.
    pub(crate) fn error(kind: &str, message: &str, code: Option<&str>) -> Value {
        json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
    }

    /// An exchange that answers text as JSON.
    pub(crate) fn json_exchange(text: &str, input: u64, output: u64) -> Exchange {
        Exchange::json(200, &completion(text, input, output)).path(PATH)
    }

    /// An exchange that streams text, one record per chunk.
    pub(crate) fn stream_exchange(pieces: &[&str], input: u64, output: u64) -> Exchange {
        Exchange::sse(stream(pieces, input, output)).path(PATH)
    }
}

/// Anthropic's format.
pub(crate) mod anthropic {
    use serde_json::{Value, json};

    use crate::support::upstream::Exchange;

    /// Path of the endpoint below the provider's base URL.
    pub(crate) const PATH: &str = "/v1/messages";
    /// The model that the scripted provider claims to be.
    pub(crate) const MODEL: &str = "upstream-claude-20260101";

    fn usage(input: u64, output: u64) -> Value {
        json!({
            "input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output, "service_tier": "standard"
        })
    }

    fn message(content: &Value, stop_reason: Option<&str>, input: u64, output: u64) -> Value {
        json!({
            "id": "msg_scripted", "type": "message", "role": "assistant", "model": MODEL,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": usage(input, output)
        })
    }

    /// A JSON answer of text.
    pub(crate) fn completion(text: &str, input: u64, output: u64) -> Value {
        message(&json!([{"type": "text", "text": text}]), Some("end_turn"), input, output)
    }

    /// A JSON answer that calls a tool.
    pub(crate) fn tool_completion(name: &str, arguments: &Value, input: u64, output: u64) -> Value {
        let call = json!([{"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}]);
        message(&call, Some("tool_use"), input, output)
    }

    /// The records of a stream of text, from `message_start` to `message_stop`.
    pub(crate) fn stream(pieces: &[&str], input: u64, output: u64) -> Vec<String> {
        let block = json!({"type": "text", "text": ""});
        let deltas: Vec<String> = pieces.iter().map(|piece| text_delta(piece)).collect();
        around(&block, deltas, "end_turn", input, output)
    }

    /// The records of a stream that calls a tool, its arguments in pieces.
    pub(crate) fn tool_stream(
        name: &str,
        arguments: &[&str],
        input: u64,
        output: u64,
    ) -> Vec<String> {
        let block = json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}});
        let deltas = arguments.iter().map(|piece| {
            let delta = json!({"type": "input_json_delta", "partial_json": piece});
            record("content_block_delta", json!({"index": 0, "delta": delta}))
        });
        around(&block, deltas.collect(), "tool_use", input, output)
    }

    fn around(
        block: &Value,
        deltas: Vec<String>,
        stop_reason: &str,
        input: u64,
        output: u64,
    ) -> Vec<String> {
        let start = message(&json!([]), None, input, 1);
        let mut records = vec![
            record("message_start", json!({"message": start})),
            record("content_block_start", json!({"index": 0, "content_block": block})),
            record("ping", json!({})),
        ];
        records.extend(deltas);
        records.push(record("content_block_stop", json!({"index": 0})));
        records.push(record(
            "message_delta",
            json!({"delta": {"stop_reason": stop_reason, "stop_sequence": null},
                "usage": {"output_tokens": output}}),
        ));
        records.push(record("message_stop", json!({})));
        records
    }

    /// One record of text.
    pub(crate) fn text_delta(text: &str) -> String {
        let delta = json!({"type": "text_delta", "text": text});
        record("content_block_delta", json!({"index": 0, "delta": delta}))
    }

    /// An error in the stream.
    pub(crate) fn error_record(kind: &str, message: &str) -> String {
        format!("event: error\ndata: {}\n\n", error(kind, message))
    }

    fn record(name: &str, fields: Value) -> String {
        let mut value = json!({"type": name});
        if let (Some(value), Value::Object(fields)) = (value.as_object_mut(), fields) {
            value.extend(fields);
        }
        format!("event: {name}\ndata: {value}\n\n")
    }

    /// The body of an error.
    pub(crate) fn error(kind: &str, message: &str) -> Value {
        json!({"type": "error", "error": {"type": kind, "message": message},
            "request_id": "req_scripted"})
    }

    /// An exchange that answers text as JSON.
    pub(crate) fn json_exchange(text: &str, input: u64, output: u64) -> Exchange {
        Exchange::json(200, &completion(text, input, output)).path(PATH)
    }

    /// An exchange that streams text, one record per chunk.
    pub(crate) fn stream_exchange(pieces: &[&str], input: u64, output: u64) -> Exchange {
        Exchange::sse(stream(pieces, input, output)).path(PATH)
    }
}
