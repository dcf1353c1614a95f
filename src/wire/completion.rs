//! Whole (not streamed) responses.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    FinishReason, Meter, UpstreamFault, UpstreamFormat,
    raw::{self, Edit, RawObject, Text},
    stream::tool_bytes,
    translate::STRUCTURED_OUTPUT_TOOL,
    upstream_error, usage,
};

/// How a response is shown to the client.
#[derive(Debug, Clone)]
pub struct CompletionOptions<'a> {
    /// The `model` string that the client sent.
    pub model_echo: &'a str,
    /// Seconds since the Unix epoch, for upstreams that tell no time.
    pub created: i64,
    /// The id of upstreams that tell none.
    pub fallback_id: String,
    /// Tokens of the model's context (0: unknown).
    pub context_tokens_max: u64,
    /// Whether structured output was asked for as a forced tool (`Translated::unwrap_tool`).
    pub unwrap_tool: bool,
}

/// A response in OpenAI's form, and what it used.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The `chat.completion` for the client.
    pub body: Bytes,
    /// Its usage.
    pub meter: Meter,
}

/// Reads a response of status 200.
///
/// # Errors
/// [`UpstreamFault::Malformed`] when the body is not the whole JSON of a response (a transport
/// can't tell a cut body from a whole one); [`UpstreamFault::ErrorEvent`] when it is an error.
pub fn read(
    format: UpstreamFormat,
    body: &Bytes,
    options: &CompletionOptions<'_>,
) -> Result<Completion, UpstreamFault> {
    let text = std::str::from_utf8(body)
        .map_err(|_| UpstreamFault::Malformed { detail: "the body is not UTF-8" })?;
    let object = RawObject::parse(text)
        .map_err(|_| UpstreamFault::Malformed { detail: "the body is not one JSON object" })?;
    match format {
        UpstreamFormat::OpenAiChat => read_openai(text, &object, options),
        UpstreamFormat::AnthropicMessages => read_anthropic(text, &object, options),
    }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    message: Option<RawObject<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

fn read_openai(
    text: &str,
    object: &RawObject<'_>,
    options: &CompletionOptions<'_>,
) -> Result<Completion, UpstreamFault> {
    if let Some(fault) = upstream_error::openai_error_of(object, text) {
        return Err(fault);
    }
    let malformed = UpstreamFault::Malformed { detail: "the body has no choices" };
    let choices = object.get("choices").ok_or_else(|| malformed.clone())?;
    let choices: Vec<Choice<'_>> =
        serde_json::from_str(choices.get()).map_err(|_| malformed.clone())?;
    if choices.is_empty() {
        return Err(malformed);
    }
    let mut meter = Meter::new(options.context_tokens_max);
    for choice in &choices {
        for (key, value) in choice.message.iter().flat_map(|message| &message.0) {
            let length = || raw::decoded_len(value.get());
            match key.as_ref() {
                _ if value.get() == "null" => {}
                "content" | "refusal" | "function_call" | "audio" => meter.note_text(length()),
                "reasoning_content" | "reasoning" => meter.note_reasoning(length()),
                "tool_calls" => meter.note_text(tool_bytes(value)),
                _ => {}
            }
        }
        if let Some(word) = &choice.finish_reason {
            meter.note_finish(FinishReason::from_openai(&word.0));
        }
    }
    if let Some(id) = object.text("id") {
        meter.note_id(&id);
    }
    if let Some(usage) = object.get("usage") {
        meter.note_openai_usage(usage, true);
    }
    let mut edits = Vec::with_capacity(2);
    let mut missing = String::new();
    let model = raw::json_string(options.model_echo);
    match object.0.iter().find(|(key, _)| key == "model") {
        Some((_, old)) => edits.push(Edit::replace(raw::span(text, old.get()), model)),
        None => missing = format!("\"model\":{model},"),
    }
    let id = raw::json_string(&options.fallback_id);
    match object.0.iter().find(|(key, _)| key == "id") {
        Some((_, told)) if matches!(told.get(), "null" | "\"\"") => {
            edits.push(Edit::replace(raw::span(text, told.get()), id));
        }
        Some(_) => {}
        None => missing.insert_str(0, &format!("\"id\":{id},")),
    }
    if let Some(start) = text.find('{').filter(|_| !missing.is_empty()) {
        edits.push(Edit::insert(start + 1, missing));
    }
    Ok(Completion { body: raw::splice(text, edits), meter })
}

/// The parts of an Anthropic message, gathered from its blocks.
#[derive(Default)]
struct Gathered {
    content: String,
    has_text: bool,
    reasoning: String,
    tool_calls: Vec<Value>,
    annotations: Vec<Value>,
}

fn read_anthropic(
    text: &str,
    object: &RawObject<'_>,
    options: &CompletionOptions<'_>,
) -> Result<Completion, UpstreamFault> {
    if object.text("type").as_deref() == Some("error") {
        let error = object.get("error").map_or(text, RawValue::get);
        let format = UpstreamFormat::AnthropicMessages;
        return Err(upstream_error::read_error_event(format, error));
    }
    let malformed = UpstreamFault::Malformed { detail: "the body has no content" };
    let content = object.get("content").ok_or_else(|| malformed.clone())?;
    let blocks: Vec<RawObject<'_>> = serde_json::from_str(content.get()).map_err(|_| malformed)?;
    let mut meter = Meter::new(options.context_tokens_max);
    let mut gathered = Gathered::default();
    for block in &blocks {
        gathered.add(block, options, &mut meter);
    }
    if let Some(id) = object.text("id") {
        meter.note_id(&id);
    }
    if let Some(usage) = object.get("usage") {
        meter.note_anthropic_usage(usage, true);
    }
    let told = object
        .text("stop_reason")
        .map_or(FinishReason::Stop, |word| FinishReason::from_anthropic(&word));
    meter.note_finish(told);
    let refusal = object
        .get("stop_details")
        .filter(|_| told == FinishReason::ContentFilter)
        .and_then(|details| RawObject::parse(details.get()).ok())
        .and_then(|details| details.text("explanation").map(std::borrow::Cow::into_owned));
    let finish = openai_finish(told, !gathered.tool_calls.is_empty());
    let id = meter.upstream_id().map(chat_id);
    let usage: Value = serde_json::from_str(&usage::openai_object(&meter.usage_reading(0).0, &[]))
        .unwrap_or_default();
    let body = json!({
        "id": id.as_deref().unwrap_or(&options.fallback_id),
        "object": "chat.completion",
        "created": options.created,
        "model": options.model_echo,
        "choices": [{
            "index": 0,
            "message": gathered.into_message(refusal),
            "logprobs": null,
            "finish_reason": finish.as_str(),
        }],
        "usage": usage,
    });
    Ok(Completion { body: Bytes::from(body.to_string()), meter })
}

impl Gathered {
    fn add(&mut self, block: &RawObject<'_>, options: &CompletionOptions<'_>, meter: &mut Meter) {
        match block.text("type").as_deref() {
            Some("text") => {
                let text = block.text("text").unwrap_or_default();
                meter.note_text(text.len() as u64);
                self.add_citations(block, text.chars().count());
                self.content.push_str(&text);
                self.has_text = true;
            }
            Some("thinking") => {
                let thinking = block.text("thinking").unwrap_or_default();
                meter.note_reasoning(thinking.len() as u64);
                self.reasoning.push_str(&thinking);
            }
            Some("tool_use") => {
                let input = block.get("input").map_or("{}", RawValue::get);
                let name = block.text("name").unwrap_or_default();
                meter.note_text((name.len() + input.len()) as u64);
                if options.unwrap_tool && name == STRUCTURED_OUTPUT_TOOL {
                    // Words before the call are not part of the asked-for JSON.
                    self.content.clear();
                    self.content.push_str(input);
                    self.has_text = true;
                } else {
                    self.tool_calls.push(json!({
                        "id": block.text("id").unwrap_or_default(),
                        "type": "function",
                        "function": { "name": name, "arguments": input },
                    }));
                }
            }
            _ => {}
        }
    }

    /// Citations with a URL become annotations over the block's text.
    fn add_citations(&mut self, block: &RawObject<'_>, chars: usize) {
        let Some(citations) = block.get("citations").and_then(raw::elements) else { return };
        let start = self.content.chars().count();
        for citation in citations {
            let Ok(citation) = RawObject::parse(citation.get()) else { continue };
            let Some(url) = citation.text("url") else { continue };
            self.annotations.push(json!({
                "type": "url_citation",
                "url_citation": {
                    "url": url,
                    "title": citation.text("title").unwrap_or_default(),
                    "start_index": start,
                    "end_index": start + chars,
                },
            }));
        }
    }

    fn into_message(self, refusal: Option<String>) -> Value {
        let content = if self.has_text { json!(self.content) } else { Value::Null };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": refusal });
        let mut set = |key: &str, value: Value| {
            if let Some(fields) = message.as_object_mut() {
                fields.insert(key.to_owned(), value);
            }
        };
        if !self.reasoning.is_empty() {
            set("reasoning_content", json!(self.reasoning));
        }
        if !self.tool_calls.is_empty() {
            set("tool_calls", json!(self.tool_calls));
        }
        if !self.annotations.is_empty() {
            set("annotations", json!(self.annotations));
        }
        message
    }
}

/// The finish reason for the client: calls decide it where the upstream's word and its output
/// differ (structured output unwrapped from a tool is no call).
pub(crate) fn openai_finish(told: FinishReason, has_tool_calls: bool) -> FinishReason {
    match (told, has_tool_calls) {
        (FinishReason::Stop, true) => FinishReason::ToolCalls,
        (FinishReason::ToolCalls, false) => FinishReason::Stop,
        (other, _) => other,
    }
}

/// `msg_01X` as `chatcmpl-01X`: the tail stays recognisable in both logs.
pub(crate) fn chat_id(upstream_id: &str) -> String {
    format!("chatcmpl-{}", upstream_id.strip_prefix("msg_").unwrap_or(upstream_id))
}

#[cfg(test)]
mod tests;
