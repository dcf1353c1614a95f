//! The response object: what it repeats of its request, its items, its usage.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    domain::Usage,
    wire::{
        FinishReason, UpstreamFault, chat_answer,
        raw::{self, RawObject},
    },
};

/// What a response repeats of its request.
#[derive(Debug, Clone)]
pub(in crate::wire) struct Echo {
    pub(super) model: String,
    /// The settings, in their order.
    settings: Map<String, Value>,
}

impl Echo {
    pub(super) fn new(model: &str, fields: &RawObject<'_>) -> Self {
        let mut settings = Map::new();
        let mut set = |name: &str, default: Value| {
            let value = fields.get(name).and_then(|value| serde_json::from_str(value.get()).ok());
            settings.insert(name.to_owned(), value.unwrap_or(default));
        };
        set("instructions", Value::Null);
        set("max_output_tokens", Value::Null);
        set("metadata", json!({}));
        set("parallel_tool_calls", json!(true));
        set("reasoning", json!({ "effort": null, "summary": null }));
        set("temperature", json!(1.0));
        set("text", json!({ "format": { "type": "text" } }));
        set("tool_choice", json!("auto"));
        set("tools", json!([]));
        set("top_p", json!(1.0));
        set("user", Value::Null);
        if let Some(Value::Object(text)) = settings.get_mut("text")
            && !text.contains_key("format")
        {
            text.insert("format".to_owned(), json!({ "type": "text" }));
        }
        Self { model: model.to_owned(), settings }
    }

    /// The object at one moment of its life.
    pub(super) fn object(&self, head: &Head<'_>, output: &[Value], usage: Option<&Value>) -> Value {
        let mut object = Map::new();
        let mut set = |name: &str, value: Value| {
            object.insert(name.to_owned(), value);
        };
        set("id", json!(head.id));
        set("object", json!("response"));
        set("created_at", json!(head.created_at));
        set("status", json!(head.status.as_str()));
        set("background", json!(false));
        set("error", head.error.clone());
        set("incomplete_details", head.incomplete_details.clone());
        set("model", json!(self.model));
        set("output", json!(output));
        set("previous_response_id", Value::Null);
        set("store", json!(false));
        set("truncation", json!("disabled"));
        set("usage", json!(usage));
        object.extend(self.settings.clone());
        Value::Object(object)
    }
}

/// What changes of a response while it lives.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) id: &'a str,
    pub(super) created_at: i64,
    pub(super) status: Status,
    pub(super) error: Value,
    pub(super) incomplete_details: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

impl Status {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// How a finished answer's status is told.
pub(super) fn outcome(finish: FinishReason) -> (Status, Value) {
    match finish {
        FinishReason::Length => (Status::Incomplete, json!({ "reason": "max_output_tokens" })),
        FinishReason::ContentFilter => (Status::Incomplete, json!({ "reason": "content_filter" })),
        FinishReason::Stop
        | FinishReason::ToolCalls
        | FinishReason::FunctionCall
        | FinishReason::Other => (Status::Completed, Value::Null),
    }
}

/// A part of a message's content.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) is_refusal: bool,
    pub(super) text: String,
    pub(super) annotations: Vec<Value>,
}

impl Part {
    pub(super) const fn new(is_refusal: bool) -> Self {
        Self { is_refusal, text: String::new(), annotations: Vec::new() }
    }

    pub(super) fn json(&self) -> Value {
        if self.is_refusal {
            return json!({ "type": "refusal", "refusal": self.text });
        }
        json!({
            "type": "output_text",
            "text": self.text,
            "annotations": self.annotations,
            "logprobs": [],
        })
    }
}

/// The item of what the model thought.
pub(super) fn reasoning_item(id: &str, text: Option<&str>, status: Status) -> Value {
    let content = text.map(|text| json!({ "type": "reasoning_text", "text": text }));
    let content: Vec<Value> = content.into_iter().collect();
    let status = status.as_str();
    json!({ "id": id, "type": "reasoning", "summary": [], "content": content, "status": status })
}

/// The item of what the model said.
pub(super) fn message_item(id: &str, parts: &[Part], status: Status) -> Value {
    let content: Vec<Value> = parts.iter().map(Part::json).collect();
    json!({
        "id": id,
        "type": "message",
        "status": status.as_str(),
        "role": "assistant",
        "content": content,
    })
}

/// The item of a call.
pub(super) fn call_item(
    id: &str,
    call_id: &str,
    name: &str,
    arguments: &str,
    status: Status,
) -> Value {
    json!({
        "id": id,
        "type": "function_call",
        "status": status.as_str(),
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    })
}

/// `chatcmpl-01X` as `01X`, for the ids of the response and its items.
pub(super) fn tail(chat_id: &str) -> &str {
    chat_id.strip_prefix("chatcmpl-").unwrap_or(chat_id)
}

pub(super) fn usage_json(usage: &Usage) -> Value {
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let (input, output) = (usage.input_total(), usage.output_total());
    json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": written,
        },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": input.saturating_add(output),
    })
}

/// A whole chat answer as a response.
///
/// # Errors
/// [`UpstreamFault::Malformed`] when the answer has no message.
pub(in crate::wire) fn response(
    echo: &Echo,
    body: &[u8],
    usage: &Usage,
) -> Result<Bytes, UpstreamFault> {
    let answer = chat_answer::read(body)?;
    let tail = tail(&answer.id);
    let (status, incomplete_details) = outcome(answer.finish);
    let mut output: Vec<Value> = Vec::new();
    if let Some(text) = answer.reasoning() {
        output.push(reasoning_item(&format!("rs_{tail}_0"), Some(&text), status));
    }
    let part = |is_refusal: bool, text: &str, annotations| Part {
        text: text.to_owned(),
        annotations,
        ..Part::new(is_refusal)
    };
    let mut parts = Vec::new();
    if let Some(text) = answer.text("content") {
        parts.push(part(false, &text, annotations(&answer.message)));
    }
    if let Some(text) = answer.text("refusal") {
        parts.push(part(true, &text, Vec::new()));
    }
    let calls = answer.calls();
    if !parts.is_empty() || calls.is_empty() {
        output.push(message_item(&format!("msg_{tail}_{}", output.len()), &parts, status));
    }
    for call in calls {
        let index = output.len();
        let arguments = call.arguments().and_then(raw::text).unwrap_or_default();
        let call_id = call.id().map_or_else(|| format!("call_{tail}_{index}"), Into::into);
        let name = call.name().unwrap_or_default();
        output.push(call_item(&format!("fc_{tail}_{index}"), &call_id, &name, &arguments, status));
    }
    let head = Head {
        id: &format!("resp_{tail}"),
        created_at: answer.created,
        status,
        error: Value::Null,
        incomplete_details,
    };
    let object = echo.object(&head, &output, Some(&usage_json(usage)));
    Ok(Bytes::from(object.to_string()))
}

/// Citations with a URL, which stand flat in this format.
fn annotations(message: &RawObject<'_>) -> Vec<Value> {
    let list = message.get("annotations").and_then(raw::elements).unwrap_or_default();
    let one = |annotation: &serde_json::value::RawValue| {
        let annotation: Value = serde_json::from_str(annotation.get()).ok()?;
        let Value::Object(citation) = annotation.get("url_citation")? else { return None };
        let mut flat = Map::new();
        flat.insert("type".to_owned(), json!("url_citation"));
        flat.extend(citation.clone());
        Some(Value::Object(flat))
    };
    list.into_iter().filter_map(one).collect()
}
