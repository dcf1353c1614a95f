//! Streams of OpenAI-format upstreams.

use std::{borrow::Cow, collections::VecDeque};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    domain::{ErrorCode, Usage},
    wire::{
        FinishReason, Meter, SseRecord, UpstreamFault,
        errors::ErrorBody,
        raw::{self, Edit, RawObject, Text},
        sse, upstream_error, usage,
    },
};

use super::{ChatStreamOptions, StreamStep, cut_off, template::Templates};

/// Reads an OpenAI stream; with a [`View`] it also writes the client's chunks.
#[derive(Debug)]
pub(super) struct OpenAiStream {
    view: Option<View>,
    meter: Meter,
    templates: Templates,
    /// Choices by index that have begun and have not finished.
    open_choices: u128,
    /// Those that have begun and not finished for a client that has not seen the last record.
    open_before: u128,
    finish_seen: bool,
    done_seen: bool,
    fault: Option<UpstreamFault>,
    /// The upstream's final and plausible usage object.
    usage: Option<Box<RawValue>>,
    /// The upstream's `created`.
    created: Option<i64>,
    /// The upstream's `model` as JSON, for the records that a proxy writes itself.
    model: Option<String>,
}

/// How the client's chunks differ from the upstream's.
#[derive(Debug)]
struct View {
    /// As JSON strings, quotes included.
    model: String,
    fallback_id: String,
    include_usage: bool,
    created: i64,
}

/// What a record held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// No data, or nothing after the end.
    Nothing,
    /// A chunk; with a view, the client's text of it.
    Chunk(Option<Bytes>),
    /// The chunk with usage and no choices.
    UsageOnly,
    /// `[DONE]`.
    Done,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
}

impl OpenAiStream {
    /// For our own clients: chunks are rewritten.
    pub(super) fn for_client(options: ChatStreamOptions<'_>) -> Self {
        let view = View {
            model: raw::json_string(options.model_echo),
            fallback_id: raw::json_string(&options.fallback_id),
            include_usage: options.include_usage,
            created: options.created,
        };
        Self { view: Some(view), ..Self::for_proxy(options.context_tokens_max) }
    }

    /// For a proxy: chunks are only metered.
    pub(super) fn for_proxy(context_tokens_max: u64) -> Self {
        Self {
            view: None,
            meter: Meter::new(context_tokens_max),
            templates: Templates::default(),
            open_choices: 0,
            open_before: 0,
            finish_seen: false,
            done_seen: false,
            fault: None,
            usage: None,
            created: None,
            model: None,
        }
    }

    pub(super) const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Whether the response was seen to its end.
    pub(super) const fn is_complete(&self) -> bool {
        self.fault.is_none() && (self.done_seen || (self.finish_seen && self.open_choices == 0))
    }

    pub(super) fn push(&mut self, record: &SseRecord, out: &mut VecDeque<Bytes>) -> StreamStep {
        match self.read(record) {
            Ok(Read::Chunk(chunk)) => {
                out.extend(chunk);
                StreamStep::Continue
            }
            Ok(Read::Done) => StreamStep::Ended,
            Ok(Read::Nothing) if self.done_seen => StreamStep::Ended,
            Ok(Read::Nothing | Read::UsageOnly) => StreamStep::Continue,
            Err(fault) => StreamStep::Failed(fault),
        }
    }

    pub(super) fn read(&mut self, record: &SseRecord) -> Result<Read, UpstreamFault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.open_before = self.open_choices;
        let read = self.read_data(record);
        if let Err(fault) = &read {
            self.fault = Some(fault.clone());
        }
        read
    }

    fn read_data(&mut self, record: &SseRecord) -> Result<Read, UpstreamFault> {
        let Some(data) = record.data.as_ref() else { return Ok(Read::Nothing) };
        if self.done_seen || data.is_empty() {
            return Ok(Read::Nothing);
        }
        if let Some(found) = self.templates.read(data, self.view.is_some()) {
            self.meter.note_text(found.content_bytes);
            return Ok(Read::Chunk(found.out));
        }
        if data.trim_ascii() == sse::DONE {
            self.done_seen = true;
            return Ok(Read::Done);
        }
        let text = std::str::from_utf8(data)
            .map_err(|_| UpstreamFault::Malformed { detail: "an event is not UTF-8" })?;
        if text.trim().is_empty() {
            return Ok(Read::Nothing);
        }
        let malformed = UpstreamFault::Malformed { detail: "an event is not a JSON chunk" };
        let object = RawObject::parse(text).map_err(|_| malformed.clone())?;
        if record.event.as_deref() == Some(b"error") {
            let error = object.get("error").map_or(text, RawValue::get);
            let format = crate::wire::UpstreamFormat::OpenAiChat;
            return Err(upstream_error::read_error_event(format, error));
        }
        if let Some(fault) = upstream_error::openai_error_of(&object, text) {
            return Err(fault);
        }
        let choices: Vec<Choice<'_>> = match object.get("choices") {
            Some(choices) => serde_json::from_str(choices.get()).map_err(|_| malformed)?,
            None => Vec::new(),
        };
        self.note(&object, &choices)?;
        Ok(self.write(text, &object, &choices))
    }

    /// Meters a chunk.
    fn note(
        &mut self,
        object: &RawObject<'_>,
        choices: &[Choice<'_>],
    ) -> Result<(), UpstreamFault> {
        if self.meter.upstream_id().is_none()
            && let Some(id) = object.text("id")
        {
            self.meter.note_id(&id);
        }
        if self.created.is_none() {
            self.created = object.get("created").and_then(|value| value.get().parse().ok());
        }
        if self.view.is_none() && self.model.is_none() {
            self.model = object.text("model").map(|model| raw::json_string(&model));
        }
        for choice in choices {
            let index = choice.index.unwrap_or(0);
            let bit = u32::try_from(index)
                .ok()
                .and_then(|index| 1_u128.checked_shl(index))
                .ok_or(UpstreamFault::Malformed { detail: "a choice's index is out of range" })?;
            if let Some(delta) = &choice.delta {
                note_delta(&mut self.meter, delta);
            }
            match &choice.finish_reason {
                // OpenRouter's word for a generation that broke off.
                Some(word) if word.0 == "error" => {
                    let message = "the provider broke off the generation".to_owned();
                    let code = ErrorCode::UpstreamFailed;
                    return Err(UpstreamFault::ErrorEvent { code, message, status_hint: None });
                }
                Some(word) if !word.0.is_empty() => {
                    self.finish_seen = true;
                    self.open_choices &= !bit;
                    self.meter.note_finish(FinishReason::from_openai(&word.0));
                }
                _ => self.open_choices |= bit,
            }
        }
        if let Some(usage) = object.get("usage") {
            // Some upstreams repeat a running usage on every chunk: final is what comes with the
            // finish, after it, or alone.
            let is_final = choices.is_empty() || self.finish_seen;
            if self.meter.note_openai_usage(usage, is_final) && is_final {
                self.usage = Some(usage.to_owned());
            }
        }
        Ok(())
    }

    /// Makes the client's text of a chunk, and a template of it when it is a plain delta.
    fn write(&mut self, text: &str, object: &RawObject<'_>, choices: &[Choice<'_>]) -> Read {
        let has_usage = object.get("usage").is_some_and(|usage| raw::starts_with(usage, b'{'));
        if choices.is_empty() && has_usage {
            return Read::UsageOnly;
        }
        let edits = self.view.as_ref().map(|view| view.edits(text, object)).unwrap_or_default();
        if !has_usage
            && self.templates.may_learn()
            && memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none()
            && let [choice] = choices
            && let Some(content) = plain_content(choice)
        {
            let inner = |value: &RawValue| {
                let span = raw::span(text, value.get());
                span.start + 1..span.end - 1
            };
            let padding = object.get("obfuscation").filter(|value| raw::starts_with(value, b'"'));
            self.templates.learn(text, &edits, inner(content), padding.map(inner));
        }
        if self.view.is_none() {
            return Read::Chunk(None);
        }
        Read::Chunk(Some(sse::one_line(raw::splice(text, edits))))
    }

    pub(super) fn usage_chunk(&self, usage: &Usage, extra: &[(&str, &RawValue)]) -> Bytes {
        let usage = match &self.usage {
            Some(usage) => extended(usage, extra),
            None => Cow::Owned(usage::openai_object(usage, extra)),
        };
        let chunk = format!(r#"{}"choices":[],"usage":{usage}}}"#, self.head());
        sse::one_line(Bytes::from(chunk))
    }

    /// The chunks that end each choice which is open for a client that has not seen the last record.
    pub(super) fn cut_off(&self, error: &ErrorBody<'_>, out: &mut VecDeque<Bytes>) {
        // Where none has begun, the first would have.
        let open = if self.open_before == 0 { 1 } else { self.open_before };
        let include_usage = self.view.as_ref().is_some_and(|view| view.include_usage);
        let head = self.head();
        let open = (0..u128::BITS).filter(|index| open >> index & 1 == 1);
        out.extend(open.map(|index| cut_off::openai_chunk(&head, index, error, include_usage)));
    }

    /// `{"id":…,"object":…,"created":…,"model":…,` of the chunks that are made here.
    fn head(&self) -> String {
        let (model, fallback_id, created) = match &self.view {
            Some(view) => (view.model.as_str(), view.fallback_id.as_str(), view.created),
            None => (self.model.as_deref().unwrap_or("null"), "null", 0),
        };
        let id = self.meter.upstream_id().map(raw::json_string);
        format!(
            r#"{{"id":{},"object":"chat.completion.chunk","created":{},"model":{model},"#,
            id.as_deref().unwrap_or(fallback_id),
            self.created.unwrap_or(created),
        )
    }
}

impl View {
    fn edits(&self, text: &str, object: &RawObject<'_>) -> Vec<Edit> {
        let mut edits = Vec::with_capacity(3);
        let mut missing = String::new();
        match object.0.iter().find(|(key, _)| key == "model") {
            Some((_, model)) => {
                edits.push(Edit::replace(raw::span(text, model.get()), &*self.model));
            }
            None => missing = format!("\"model\":{},", self.model),
        }
        match object.0.iter().find(|(key, _)| key == "id") {
            Some((_, id)) if matches!(id.get(), "null" | "\"\"") => {
                edits.push(Edit::replace(raw::span(text, id.get()), &*self.fallback_id));
            }
            Some(_) => {}
            None => missing.insert_str(0, &format!("\"id\":{},", self.fallback_id)),
        }
        if !missing.is_empty() && !object.0.is_empty() {
            let start = text.find('{').map_or(0, |brace| brace + 1);
            edits.push(Edit::insert(start, missing));
        }
        if let Some(index) = object.0.iter().position(|(key, _)| key == "usage") {
            let value = object.0[index].1;
            if !self.include_usage {
                edits.extend(raw::removal(text, object, index));
            } else if value.get() != "null" {
                edits.push(Edit::replace(raw::span(text, value.get()), "null"));
            }
        }
        edits
    }
}

/// The content of a delta that has nothing else.
fn plain_content<'a>(choice: &Choice<'a>) -> Option<&'a RawValue> {
    let delta = choice.delta.as_ref()?;
    let others = [
        delta.refusal,
        delta.reasoning_content,
        delta.reasoning,
        delta.tool_calls,
        delta.function_call,
        delta.audio,
    ];
    let plain = choice.finish_reason.is_none() && others.iter().all(Option::is_none);
    delta.content.filter(|content| plain && raw::starts_with(content, b'"'))
}

fn note_delta(meter: &mut Meter, delta: &Delta<'_>) {
    let length = |value: Option<&RawValue>| {
        value.filter(|value| value.get() != "null").map_or(0, |value| raw::decoded_len(value.get()))
    };
    meter.note_text(length(delta.content));
    meter.note_text(length(delta.refusal));
    // Either name; a few servers send both with the same text.
    meter.note_reasoning(length(delta.reasoning_content).max(length(delta.reasoning)));
    meter.note_text(delta.tool_calls.map_or(0, tool_bytes));
    meter.note_text(length(delta.function_call));
    meter.note_text(length(delta.audio));
}

/// Bytes of the names and arguments in a `tool_calls` array.
pub(crate) fn tool_bytes(calls: &RawValue) -> u64 {
    #[derive(Deserialize)]
    struct Call<'a> {
        #[serde(borrow, default)]
        function: Option<RawObject<'a>>,
        #[serde(borrow, default)]
        custom: Option<RawObject<'a>>,
    }
    let Ok(calls) = serde_json::from_str::<Vec<Call<'_>>>(calls.get()) else {
        return if calls.get() == "null" { 0 } else { calls.get().len() as u64 };
    };
    let fields = calls.iter().flat_map(|call| [&call.function, &call.custom]).flatten();
    fields.flat_map(|object| &object.0).map(|(_, value)| raw::decoded_len(value.get())).sum()
}

/// A usage object with further fields.
fn extended<'a>(usage: &'a RawValue, extra: &[(&str, &RawValue)]) -> Cow<'a, str> {
    if extra.is_empty() {
        return Cow::Borrowed(usage.get());
    }
    let mut out = usage.get().strip_suffix('}').unwrap_or_default().to_owned();
    let mut first = RawObject::parse(usage.get()).is_ok_and(|object| object.0.is_empty());
    for (key, value) in extra {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(&raw::json_string(key));
        out.push(':');
        out.push_str(value.get());
    }
    out.push('}');
    Cow::Owned(out)
}
