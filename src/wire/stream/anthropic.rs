//! Streams of Anthropic-format upstreams, turned into OpenAI chunks.

use std::{borrow::Cow, collections::VecDeque};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    domain::Usage,
    wire::{
        FinishReason, Meter, SseRecord, UpstreamFault, UpstreamFormat,
        errors::ErrorBody,
        raw::{self, RawObject},
        sse,
        translate::STRUCTURED_OUTPUT_TOOL,
        upstream_error, usage,
    },
};

use super::{ChatStreamOptions, StreamStep, cut_off};

/// The state of one response.
#[derive(Debug)]
pub(super) struct AnthropicStream {
    options: Options,
    events: Events,
    /// `{"id":…,"object":…,"created":…,"model":…,` of every chunk.
    head: String,
    started: bool,
    block: Block,
    /// Tool calls so far; they are numbered over tool blocks only.
    tools: u64,
    explanation: Option<String>,
}

#[derive(Debug)]
struct Options {
    model_json: String,
    include_usage: bool,
    created: i64,
    fallback_id: String,
    unwrap_tool: bool,
}

/// The open content block.
#[derive(Debug, Default)]
enum Block {
    #[default]
    None,
    /// Text, thinking and kinds we don't know.
    Plain,
    /// A tool call.
    Tool {
        index: u64,
        /// The input told at the block's start; used when no piece of JSON follows.
        input: String,
        json_seen: bool,
    },
    /// The tool that stands for structured output.
    Structured { input: String, json_seen: bool },
}

/// Reads events and meters them; shared with the proxy.
#[derive(Debug)]
pub(super) struct Events {
    meter: Meter,
    stop_seen: bool,
    fault: Option<UpstreamFault>,
    /// The content block that is open after the last event, and the one that was before it.
    block: Option<u64>,
    block_before: Option<u64>,
}

/// An event of the stream.
pub(super) struct Event<'a> {
    kind: Cow<'a, str>,
    /// The object that events of its kind are about: `message`, `content_block` or `delta`.
    part: RawObject<'a>,
}

impl Events {
    pub(super) fn new(context_tokens_max: u64) -> Self {
        Self {
            meter: Meter::new(context_tokens_max),
            stop_seen: false,
            fault: None,
            block: None,
            block_before: None,
        }
    }

    pub(super) const fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.stop_seen && self.fault.is_none()
    }

    /// The content block that is open for a client that has not seen the last event.
    pub(super) const fn block_before(&self) -> Option<u64> {
        self.block_before
    }

    /// The record's event, metered; `None` when it has none (or comes after the end).
    pub(super) fn read<'a>(
        &mut self,
        record: &'a SseRecord,
    ) -> Result<Option<Event<'a>>, UpstreamFault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let read = self.read_data(record);
        if let Err(fault) = &read {
            self.fault = Some(fault.clone());
        }
        read
    }

    fn read_data<'a>(&mut self, record: &'a SseRecord) -> Result<Option<Event<'a>>, UpstreamFault> {
        let Some(data) = record.data.as_ref().filter(|data| !data.is_empty()) else {
            return Ok(None);
        };
        if self.stop_seen || data.trim_ascii() == sse::DONE {
            return Ok(None);
        }
        let text = std::str::from_utf8(data)
            .map_err(|_| UpstreamFault::Malformed { detail: "an event is not UTF-8" })?;
        let malformed = UpstreamFault::Malformed { detail: "an event is not a JSON event" };
        let object = RawObject::parse(text).map_err(|_| malformed.clone())?;
        let kind = object.text("type").ok_or_else(|| malformed.clone())?;
        if kind == "error" {
            let error = object.get("error").map_or(text, RawValue::get);
            return Err(upstream_error::read_error_event(UpstreamFormat::AnthropicMessages, error));
        }
        let part = match kind.as_ref() {
            "message_start" => "message",
            "content_block_start" => "content_block",
            "content_block_delta" | "message_delta" => "delta",
            // Unknown kinds may hold anything.
            _ => "",
        };
        let part = match part {
            "" => RawObject::default(),
            part => {
                let part = object.get(part).ok_or_else(|| malformed.clone())?;
                RawObject::parse(part.get()).map_err(|_| malformed)?
            }
        };
        self.note(&kind, &part, object.get("usage"));
        self.block_before = self.block;
        match kind.as_ref() {
            "content_block_start" => {
                self.block = object.get("index").and_then(|index| index.get().parse().ok());
            }
            "content_block_stop" => self.block = None,
            _ => {}
        }
        Ok(Some(Event { kind, part }))
    }

    /// Meters an event.
    fn note(&mut self, kind: &str, part: &RawObject<'_>, usage: Option<&RawValue>) {
        let length = |key: &str| part.get(key).map_or(0, |value| raw::decoded_len(value.get()));
        match kind {
            "message_start" => {
                if let Some(id) = part.text("id") {
                    self.meter.note_id(&id);
                }
                if let Some(usage) = part.get("usage") {
                    self.meter.note_anthropic_usage(usage, false);
                }
            }
            "content_block_start" => {
                self.meter.note_text(length("name"));
                self.meter.note_text(length("text"));
            }
            "content_block_delta" => {
                self.meter.note_text(length("text"));
                self.meter.note_text(length("partial_json"));
                self.meter.note_reasoning(length("thinking"));
            }
            "message_delta" => {
                let reason = part.text("stop_reason");
                if let Some(reason) = &reason {
                    self.meter.note_finish(FinishReason::from_anthropic(reason));
                }
                if let Some(usage) = usage {
                    self.meter.note_anthropic_usage(usage, reason.is_some());
                }
            }
            "message_stop" => self.stop_seen = true,
            _ => {}
        }
    }
}

impl Event<'_> {
    pub(super) fn is_stop(&self) -> bool {
        self.kind == "message_stop"
    }
}

impl AnthropicStream {
    pub(super) fn new(options: ChatStreamOptions<'_>) -> Self {
        Self {
            events: Events::new(options.context_tokens_max),
            options: Options {
                model_json: raw::json_string(options.model_echo),
                include_usage: options.include_usage,
                created: options.created,
                fallback_id: options.fallback_id,
                unwrap_tool: options.unwrap_tool,
            },
            head: String::new(),
            started: false,
            block: Block::None,
            tools: 0,
            explanation: None,
        }
    }

    pub(super) const fn meter(&self) -> &Meter {
        self.events.meter()
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.events.is_complete()
    }

    pub(super) fn push(&mut self, record: &SseRecord, out: &mut VecDeque<Bytes>) -> StreamStep {
        match self.events.read(record) {
            Err(fault) => StreamStep::Failed(fault),
            Ok(Some(event)) => self.translate(&event, out),
            Ok(None) if self.events.stop_seen => StreamStep::Ended,
            Ok(None) => StreamStep::Continue,
        }
    }

    fn translate(&mut self, event: &Event<'_>, out: &mut VecDeque<Bytes>) -> StreamStep {
        match event.kind.as_ref() {
            "message_start" => self.start(out),
            "content_block_start" => {
                self.start(out);
                self.close_block(out);
                self.open_block(&event.part, out);
            }
            "content_block_delta" => {
                self.start(out);
                self.delta(&event.part, out);
            }
            "content_block_stop" => self.close_block(out),
            "message_delta" => {
                let explanation = event
                    .part
                    .get("stop_details")
                    .and_then(|details| RawObject::parse(details.get()).ok())
                    .and_then(|details| details.text("explanation"))
                    .map(|text| raw::json_string(&text));
                self.explanation = explanation.or_else(|| self.explanation.take());
            }
            "message_stop" => {
                self.start(out);
                self.close_block(out);
                self.finish(out);
                return StreamStep::Ended;
            }
            _ => {}
        }
        StreamStep::Continue
    }

    /// Emits the role, once.
    fn start(&mut self, out: &mut VecDeque<Bytes>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        self.head = format!(
            r#"{{"id":{},"object":"chat.completion.chunk","created":{},"model":{},"#,
            self.id_json(),
            self.options.created,
            self.options.model_json
        );
        out.push_back(self.chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null"));
    }

    fn id_json(&self) -> String {
        let id = self.meter().upstream_id().map(super::super::completion::chat_id);
        raw::json_string(id.as_deref().unwrap_or(&self.options.fallback_id))
    }

    fn chunk(&self, delta: &str, finish_reason: &str) -> Bytes {
        let usage = if self.options.include_usage { r#","usage":null"# } else { "" };
        let mut out = String::with_capacity(self.head.len() + delta.len() + 96);
        for piece in [
            self.head.as_str(),
            r#""choices":[{"index":0,"delta":"#,
            delta,
            r#","logprobs":null,"finish_reason":"#,
            finish_reason,
            "}]",
            usage,
            "}",
        ] {
            out.push_str(piece);
        }
        Bytes::from(out)
    }

    fn open_block(&mut self, block: &RawObject<'_>, out: &mut VecDeque<Bytes>) {
        self.block = Block::Plain;
        match block.text("type").as_deref() {
            Some("text") => {
                if let Some(text) = block.get("text").filter(|text| text.get() != "\"\"") {
                    self.piece("content", text, out);
                }
            }
            Some("tool_use") => {
                let input = block
                    .get("input")
                    .map(RawValue::get)
                    .filter(|input| input.starts_with('{'))
                    .unwrap_or("{}")
                    .to_owned();
                let name = block.text("name").unwrap_or_default();
                if self.options.unwrap_tool && name == STRUCTURED_OUTPUT_TOOL {
                    self.block = Block::Structured { input, json_seen: false };
                    return;
                }
                let index = self.tools;
                self.tools += 1;
                let delta = format!(
                    r#"{{"tool_calls":[{{"index":{index},"id":{},"type":"function","function":{{"name":{},"arguments":""}}}}]}}"#,
                    raw::json_string(&block.text("id").unwrap_or_default()),
                    raw::json_string(&name),
                );
                out.push_back(self.chunk(&delta, "null"));
                self.block = Block::Tool { index, input, json_seen: false };
            }
            _ => {}
        }
    }

    fn delta(&mut self, delta: &RawObject<'_>, out: &mut VecDeque<Bytes>) {
        let filled = |key: &str| {
            delta.get(key).filter(|it| raw::starts_with(it, b'"') && it.get() != "\"\"")
        };
        match delta.text("type").as_deref() {
            Some("text_delta") => {
                if let Some(text) = filled("text") {
                    self.piece("content", text, out);
                }
            }
            Some("thinking_delta") => {
                if let Some(thinking) = filled("thinking") {
                    self.piece("reasoning_content", thinking, out);
                }
            }
            Some("input_json_delta") => {
                let Some(json) = filled("partial_json") else { return };
                match &mut self.block {
                    Block::Tool { index, json_seen, .. } => {
                        *json_seen = true;
                        let delta = tool_piece(*index, json.get());
                        out.push_back(self.chunk(&delta, "null"));
                    }
                    Block::Structured { json_seen, .. } => {
                        *json_seen = true;
                        self.piece("content", json, out);
                    }
                    Block::None | Block::Plain => {}
                }
            }
            _ => {}
        }
    }

    /// A delta of one string field; `value` is a JSON string as the upstream wrote it.
    fn piece(&self, field: &str, value: &RawValue, out: &mut VecDeque<Bytes>) {
        let delta = ["{\"", field, "\":", value.get(), "}"].concat();
        out.push_back(self.chunk(&delta, "null"));
    }

    fn close_block(&mut self, out: &mut VecDeque<Bytes>) {
        match std::mem::take(&mut self.block) {
            Block::Tool { index, input, json_seen: false } => {
                let delta = tool_piece(index, &raw::json_string(&input));
                out.push_back(self.chunk(&delta, "null"));
            }
            Block::Structured { input, json_seen: false } => {
                let delta = format!(r#"{{"content":{}}}"#, raw::json_string(&input));
                out.push_back(self.chunk(&delta, "null"));
            }
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut VecDeque<Bytes>) {
        let told = self.meter().finish_reason().unwrap_or(FinishReason::Stop);
        if told == FinishReason::ContentFilter
            && let Some(explanation) = self.explanation.take()
        {
            out.push_back(self.chunk(&format!(r#"{{"refusal":{explanation}}}"#), "null"));
        }
        let reason = super::super::completion::openai_finish(told, self.tools > 0);
        out.push_back(self.chunk("{}", &raw::json_string(reason.as_str())));
    }

    /// The chunk that ends the answer.
    pub(super) fn cut_off(&mut self, error: &ErrorBody<'_>, out: &mut VecDeque<Bytes>) {
        self.start(out);
        out.push_back(cut_off::openai_chunk(&self.head, 0, error, self.options.include_usage));
    }

    pub(super) fn usage_chunk(&self, usage: &Usage, extra: &[(&str, &RawValue)]) -> Bytes {
        Bytes::from(format!(
            r#"{{"id":{},"object":"chat.completion.chunk","created":{},"model":{},"choices":[],"usage":{}}}"#,
            self.id_json(),
            self.options.created,
            self.options.model_json,
            usage::openai_object(usage, extra),
        ))
    }
}

fn tool_piece(index: u64, arguments_json: &str) -> String {
    format!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":{arguments_json}}}}}]}}"#)
}
