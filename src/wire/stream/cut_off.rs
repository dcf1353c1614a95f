//! The end of a stream whose credit ran out: a finish that every SDK knows as "the limit was
//! reached", and beside it, where SDKs pass unknown fields on, the error.
//!
//! OpenAI's SDKs raise on a chunk with a top-level `error` and forget what was streamed, so it
//! stands in the choice, where OpenRouter has errors too. Anthropic's SDKs raise on an `error`
//! event; a field of `message_delta` that they don't know is kept.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::{
    domain::Usage,
    wire::{FinishReason, errors::ErrorBody, sse},
};

/// The chunk that finishes a choice; `head` is what stands before its `choices`.
pub(super) fn openai_chunk(
    head: &str,
    index: u32,
    error: &ErrorBody<'_>,
    include_usage: bool,
) -> Bytes {
    let finish = FinishReason::Length.as_str();
    let usage = if include_usage { r#","usage":null"# } else { "" };
    Bytes::from(format!(
        r#"{head}"choices":[{{"index":{index},"delta":{{}},"logprobs":null,"finish_reason":"{finish}","error":{}}}]{usage}}}"#,
        Value::Object(error.openai_object()),
    ))
}

/// The records that end an Anthropic stream; `block` is the content block that the client saw begin
/// and not end.
pub(super) fn anthropic_records(
    block: Option<u64>,
    usage: &Usage,
    error: &ErrorBody<'_>,
) -> BytesMut {
    let mut out = BytesMut::new();
    let mut write = |name: &str, event: &Value| {
        sse::encode_event(name, event.to_string().as_bytes(), &mut out);
    };
    if let Some(index) = block {
        write("content_block_stop", &json!({"type": "content_block_stop", "index": index}));
    }
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let delta = json!({
        "type": "message_delta",
        "delta": {"stop_reason": "max_tokens", "stop_sequence": null},
        "usage": {
            "input_tokens": usage.input_uncached,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": usage.cache_read,
            "output_tokens": usage.output_total(),
        },
        "error": error.anthropic_object(),
    });
    write("message_delta", &delta);
    write("message_stop", &json!({"type": "message_stop"}));
    out
}
