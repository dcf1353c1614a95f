//! A whole chat answer as a message.

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use crate::{
    domain::Usage,
    wire::{UpstreamFault, chat_answer, raw},
};

use super::{message_id, stop_reason, usage_json};

/// The message for a client that sent `model`.
///
/// # Errors
/// [`UpstreamFault::Malformed`] when the answer has no message.
pub(in crate::wire) fn message(
    model: &str,
    body: &[u8],
    usage: &Usage,
) -> Result<Bytes, UpstreamFault> {
    let answer = chat_answer::read(body)?;
    let id = message_id(&answer.id);
    let mut content: Vec<Value> = Vec::new();
    if let Some(thinking) = answer.reasoning() {
        content.push(json!({ "type": "thinking", "thinking": thinking, "signature": "" }));
    }
    let refusal = answer.text("refusal");
    for text in answer.text("content").iter().chain(&refusal) {
        content.push(json!({ "type": "text", "text": text }));
    }
    let calls = answer.calls();
    for (index, call) in calls.iter().enumerate() {
        let id = call.id().map_or_else(|| format!("call_{id}_{index}"), |id| id.into_owned());
        content.push(json!({
            "type": "tool_use",
            "id": id,
            "name": call.name().unwrap_or_default(),
            "input": input(call.arguments()),
        }));
    }
    let stop_reason = stop_reason(answer.finish, !calls.is_empty(), refusal.is_some());
    let message = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": usage_json(usage),
    });
    Ok(Bytes::from(message.to_string()))
}

/// The arguments as an object; what is none (a model can write anything) stands under a name, so
/// that it is not lost.
fn input(arguments: Option<&RawValue>) -> Value {
    let Some(text) = arguments.and_then(raw::text) else { return json!({}) };
    match serde_json::from_str::<Value>(&text) {
        Ok(object @ Value::Object(_)) => object,
        Ok(other) => json!({ "arguments": other }),
        Err(_) => json!({ "arguments": text }),
    }
}
