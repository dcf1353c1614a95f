//! A chat stream as the events of a response.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    domain::{ErrorCode, Usage},
    wire::{
        FinishReason,
        chat_answer::{Call, CallDelta, CallNumbers, Chunk, Said},
        errors::ErrorBody,
        raw, retell, sse,
    },
};

use super::object::{
    Echo, Head, Part, Status, call_item, message_item, outcome, reasoning_item, tail, usage_json,
};

/// Tells the chunks of one answer as events.
///
/// Each thing that the model does is an item with a number of its own. Texts and thoughts follow
/// each other; calls may be open side by side. All of it is kept, because the last event repeats it.
#[derive(Debug)]
pub(in crate::wire) struct ResponsesTeller {
    echo: Echo,
    tail: String,
    created_at: i64,
    is_started: bool,
    sequence: u64,
    items: Vec<Item>,
    calls: BTreeMap<u64, Call>,
    numbers: CallNumbers,
    kept_bytes: usize,
    finish: FinishReason,
    /// Why the answer was cut off.
    exhausted: Option<String>,
    usage: Option<(Usage, Vec<(String, Value)>)>,
    is_failed: bool,
}

#[derive(Debug)]
struct Item {
    id: String,
    kind: Kind,
    /// Set once it is over, to how it ended.
    done: Option<Status>,
}

#[derive(Debug)]
enum Kind {
    Reasoning(String),
    Message(Vec<Part>),
    /// The call of that index.
    Call(u64),
}

impl ResponsesTeller {
    pub(in crate::wire) fn new(echo: Echo) -> Self {
        Self {
            echo,
            tail: String::new(),
            created_at: 0,
            is_started: false,
            sequence: 0,
            items: Vec::new(),
            calls: BTreeMap::new(),
            numbers: CallNumbers::default(),
            kept_bytes: 0,
            finish: FinishReason::Stop,
            exhausted: None,
            usage: None,
            is_failed: false,
        }
    }

    /// Tells a chunk.
    pub(in crate::wire) fn chunk(&mut self, json: &[u8], out: &mut BytesMut) {
        let Some(chunk) = Chunk::read(json).filter(|_| !self.is_failed) else { return };
        self.start(&chunk, out);
        self.usage = chunk.usage().or_else(|| self.usage.take());
        for said in chunk.said() {
            match said {
                Said::Reasoning(text) => self.reasoning(text, out),
                Said::Text(text) => self.text(text, false, out),
                Said::Refusal(text) => self.text(text, true, out),
                Said::Call(delta) => self.call(&delta, out),
                Said::Finish(finish) => self.finish = finish,
                Said::Exhausted(message) => self.exhausted = Some(message.into_owned()),
            }
        }
        if self.kept_bytes > retell::KEPT_BYTES_MAX {
            self.failed(&retell::too_large(), out);
        }
    }

    /// The answer is whole and paid for.
    pub(in crate::wire) fn end(&mut self, out: &mut BytesMut) {
        if self.is_failed {
            return;
        }
        let (status, mut details) = outcome(self.finish);
        if let Some(message) = &self.exhausted {
            let error = ErrorBody::new(ErrorCode::CreditExhausted, message).openai_object();
            details = json!({ "reason": "max_output_tokens", "error": error });
        }
        for index in 0..self.items.len() {
            self.close(index, status, out);
        }
        let usage = self.usage.take().map(|(usage, money)| {
            let mut usage = usage_json(&usage);
            if let Value::Object(fields) = &mut usage {
                fields.extend(money);
            }
            usage
        });
        let response = self.object(status, Value::Null, details, usage.as_ref());
        self.event(&format!("response.{}", status.as_str()), json!({ "response": response }), out);
    }

    /// The answer failed. SDKs raise an error on the first event, other clients read the second;
    /// nothing follows.
    pub(in crate::wire) fn failed(&mut self, error: &ErrorBody<'_>, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_failed, true) {
            return;
        }
        let code = error.code.as_str();
        let fields = json!({
            "code": code,
            "message": error.message,
            "param": null,
            "error": error.openai_object(),
        });
        self.event("error", fields, out);
        let error = json!({ "code": code, "message": error.message });
        let response = self.object(Status::Failed, error, Value::Null, None);
        self.event("response.failed", json!({ "response": response }), out);
    }

    fn start(&mut self, chunk: &Chunk<'_>, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        self.tail = tail(&chunk.id()).to_owned();
        self.created_at = chunk.created();
        let response = self.object(Status::InProgress, Value::Null, Value::Null, None);
        self.event("response.created", json!({ "response": response }), out);
        self.event("response.in_progress", json!({ "response": response }), out);
    }

    /// A piece of thought; `text` is a JSON string, as for the next one.
    fn reasoning(&mut self, text: &RawValue, out: &mut BytesMut) {
        let is_open = |item: &Item| item.done.is_none() && matches!(item.kind, Kind::Reasoning(_));
        if !self.items.last().is_some_and(is_open) {
            self.close_texts(out);
            self.begin("rs", Kind::Reasoning(String::new()), out);
            let part = json!({ "type": "reasoning_text", "text": "" });
            self.part_event("response.content_part.added", 0, part, out);
        }
        let piece = raw::text(text).unwrap_or_default();
        self.kept_bytes += piece.len();
        if let Some(Item { kind: Kind::Reasoning(kept), .. }) = self.items.last_mut() {
            kept.push_str(&piece);
        }
        self.delta("response.reasoning_text.delta", Some(0), "", text, out);
    }

    fn text(&mut self, text: &RawValue, is_refusal: bool, out: &mut BytesMut) {
        let is_open = |item: &Item| item.done.is_none() && matches!(item.kind, Kind::Message(_));
        if !self.items.last().is_some_and(is_open) {
            self.close_texts(out);
            self.begin("msg", Kind::Message(Vec::new()), out);
        }
        let last = self.items.len().saturating_sub(1);
        let Some(Item { kind: Kind::Message(parts), .. }) = self.items.get(last) else { return };
        if parts.last().is_none_or(|part| part.is_refusal != is_refusal) {
            self.close_part(last, out);
            let part = Part::new(is_refusal);
            let shown = part.json();
            if let Some(Item { kind: Kind::Message(parts), .. }) = self.items.get_mut(last) {
                parts.push(part);
            }
            let index = self.part_count(last).saturating_sub(1);
            self.part_event("response.content_part.added", index, shown, out);
        }
        let piece = raw::text(text).unwrap_or_default();
        self.kept_bytes += piece.len();
        if let Some(Item { kind: Kind::Message(parts), .. }) = self.items.get_mut(last)
            && let Some(part) = parts.last_mut()
        {
            part.text.push_str(&piece);
        }
        let index = self.part_count(last).saturating_sub(1);
        if is_refusal {
            self.delta("response.refusal.delta", Some(index), "", text, out);
        } else {
            self.delta("response.output_text.delta", Some(index), r#","logprobs":[]"#, text, out);
        }
    }

    fn call(&mut self, delta: &CallDelta<'_>, out: &mut BytesMut) {
        let index = self.numbers.of(delta, &self.calls);
        let is_it = |item: &Item| matches!(item.kind, Kind::Call(of) if of == index);
        let place = self.items.iter().position(is_it);
        if place.is_some_and(|place| self.items[place].done.is_some()) {
            return;
        }
        let call = self.calls.entry(index).or_default();
        self.kept_bytes += call.add(delta);
        let Some(place) = place else {
            if !call.name.is_empty() {
                self.begin_call(index, out);
            }
            return;
        };
        if let Some(piece) = delta.arguments() {
            self.delta_of(place, "response.function_call_arguments.delta", None, "", piece, out);
        }
    }

    /// Begins a call, with what has come of it.
    fn begin_call(&mut self, index: u64, out: &mut BytesMut) {
        self.close_texts(out);
        for place in 0..self.items.len() {
            let Kind::Call(other) = self.items[place].kind else { continue };
            if self.calls.get(&other).is_some_and(Call::is_whole) {
                self.close(place, Status::Completed, out);
            }
        }
        let early = self.calls.get_mut(&index).map(|call| std::mem::take(&mut call.arguments));
        self.begin("fc", Kind::Call(index), out);
        let early = early.filter(|arguments| !arguments.is_empty());
        let piece = early
            .as_deref()
            .map(raw::json_string)
            .and_then(|piece| RawValue::from_string(piece).ok());
        if let Some(call) = self.calls.get_mut(&index) {
            call.arguments = early.unwrap_or_default();
        }
        if let Some(piece) = piece {
            let place = self.items.len().saturating_sub(1);
            self.delta_of(place, "response.function_call_arguments.delta", None, "", &piece, out);
        }
    }

    fn part_count(&self, place: usize) -> usize {
        match self.items.get(place).map(|item| &item.kind) {
            Some(Kind::Message(parts)) => parts.len(),
            Some(Kind::Reasoning(_)) => 1,
            Some(Kind::Call(_)) | None => 0,
        }
    }

    fn begin(&mut self, prefix: &str, kind: Kind, out: &mut BytesMut) {
        let place = self.items.len();
        let id = format!("{prefix}_{}_{place}", self.tail);
        self.items.push(Item { id, kind, done: None });
        let mut item = self.item_json(place, Status::InProgress);
        if matches!(self.items[place].kind, Kind::Reasoning(_)) {
            item["content"] = json!([]);
        }
        let fields = json!({ "output_index": place, "item": item });
        self.event("response.output_item.added", fields, out);
    }

    /// Ends the text or thought that is open, as all of it came.
    fn close_texts(&mut self, out: &mut BytesMut) {
        let Some(last) = self.items.len().checked_sub(1) else { return };
        if !matches!(self.items[last].kind, Kind::Call(_)) {
            self.close(last, Status::Completed, out);
        }
    }

    /// Ends an item, once.
    fn close(&mut self, place: usize, status: Status, out: &mut BytesMut) {
        if self.items[place].done.is_some() {
            return;
        }
        self.close_part(place, out);
        if let Kind::Call(index) = &self.items[place].kind {
            let call = self.calls.get(index);
            let (name, arguments) =
                call.map_or(("", ""), |call| (call.name.as_str(), call.arguments.as_str()));
            let fields = json!({
                "item_id": self.items[place].id,
                "output_index": place,
                "name": name,
                "arguments": arguments,
            });
            self.event("response.function_call_arguments.done", fields, out);
        }
        self.items[place].done = Some(status);
        let item = self.item_json(place, status);
        let fields = json!({ "output_index": place, "item": item });
        self.event("response.output_item.done", fields, out);
    }

    /// Ends the last part of an item of text or thought.
    fn close_part(&mut self, place: usize, out: &mut BytesMut) {
        let item = &self.items[place];
        let (name, field, text, part) = match &item.kind {
            Kind::Reasoning(text) => {
                let part = json!({ "type": "reasoning_text", "text": text });
                ("response.reasoning_text.done", "text", text.clone(), part)
            }
            Kind::Message(parts) => {
                let Some(part) = parts.last() else { return };
                let (name, field) = if part.is_refusal {
                    ("response.refusal.done", "refusal")
                } else {
                    ("response.output_text.done", "text")
                };
                (name, field, part.text.clone(), part.json())
            }
            Kind::Call(_) => return,
        };
        let index = self.part_count(place).saturating_sub(1);
        let mut fields = json!({
            "item_id": item.id,
            "output_index": place,
            "content_index": index,
        });
        fields[field] = json!(text);
        if name == "response.output_text.done" {
            fields["logprobs"] = json!([]);
        }
        self.event(name, fields, out);
        let fields = json!({
            "item_id": self.items[place].id,
            "output_index": place,
            "content_index": index,
            "part": part,
        });
        self.event("response.content_part.done", fields, out);
    }

    /// An event about a part of the last item.
    fn part_event(&mut self, name: &str, index: usize, part: Value, out: &mut BytesMut) {
        let place = self.items.len().saturating_sub(1);
        let Some(item) = self.items.get(place) else { return };
        let fields = json!({
            "item_id": item.id,
            "output_index": place,
            "content_index": index,
            "part": part,
        });
        self.event(name, fields, out);
    }

    fn delta(
        &mut self,
        name: &str,
        part: Option<usize>,
        more: &str,
        value: &RawValue,
        out: &mut BytesMut,
    ) {
        self.delta_of(self.items.len().saturating_sub(1), name, part, more, value, out);
    }

    /// A delta, written by hand: there is one for every piece of the answer.
    fn delta_of(
        &mut self,
        place: usize,
        name: &str,
        part: Option<usize>,
        more: &str,
        value: &RawValue,
        out: &mut BytesMut,
    ) {
        let Some(item) = self.items.get(place) else { return };
        let id = raw::json_string(&item.id);
        let part = part.map(|part| format!(r#","content_index":{part}"#)).unwrap_or_default();
        let sequence = self.sequence;
        self.sequence += 1;
        let event = format!(
            r#"{{"type":"{name}","sequence_number":{sequence},"item_id":{id},"output_index":{place}{part},"delta":{}{more}}}"#,
            value.get()
        );
        sse::encode_event(name, event.as_bytes(), out);
    }

    fn event(&mut self, name: &str, fields: Value, out: &mut BytesMut) {
        let mut event = Map::new();
        event.insert("type".to_owned(), json!(name));
        event.insert("sequence_number".to_owned(), json!(self.sequence));
        self.sequence += 1;
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        sse::encode_event(name, Value::Object(event).to_string().as_bytes(), out);
    }

    fn item_json(&self, place: usize, status: Status) -> Value {
        let Item { id, kind, .. } = &self.items[place];
        match kind {
            Kind::Reasoning(text) => reasoning_item(id, Some(text), status),
            Kind::Message(parts) => message_item(id, parts, status),
            Kind::Call(index) => {
                let Some(call) = self.calls.get(index) else { return Value::Null };
                let call_id = call.id_or(&self.tail, *index);
                call_item(id, &call_id, &call.name, &call.arguments, status)
            }
        }
    }

    fn object(
        &self,
        status: Status,
        error: Value,
        incomplete_details: Value,
        usage: Option<&Value>,
    ) -> Value {
        let items = 0..self.items.len();
        let output: Vec<Value> = items
            .map(|place| {
                self.item_json(place, self.items[place].done.unwrap_or(Status::Incomplete))
            })
            .collect();
        let head = Head {
            id: &format!("resp_{}", self.tail),
            created_at: self.created_at,
            status,
            error,
            incomplete_details,
        };
        self.echo.object(&head, &output, usage)
    }
}
