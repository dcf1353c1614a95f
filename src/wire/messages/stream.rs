//! A chat stream as the events of a message.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json, value::RawValue};

use crate::{
    domain::{ErrorCode, Usage},
    wire::{
        FinishReason,
        chat_answer::{Call, CallDelta, CallNumbers, Chunk, Said},
        errors::{self, ErrorBody},
        raw, retell, sse,
    },
};

use super::{message_id, stop_reason, usage_json};

/// Tells the chunks of one answer as events.
///
/// Blocks never overlap in this format, and the calls of a chat stream may. A call is told while it
/// comes; what comes of another one before the first is whole waits for it.
#[derive(Debug)]
pub(in crate::wire) struct MessagesTeller {
    model: String,
    id: String,
    is_started: bool,
    /// The block that is open, and its number.
    open: Option<(Block, u64)>,
    blocks: u64,
    calls: BTreeMap<u64, Call>,
    numbers: CallNumbers,
    /// Text that came while a call was open.
    late_text: String,
    /// Bytes that are kept here.
    kept_bytes: usize,
    finish: FinishReason,
    is_refused: bool,
    /// Why the answer was cut off.
    exhausted: Option<String>,
    usage: (Usage, Vec<(String, Value)>),
    is_failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    /// The call of that index.
    Tool(u64),
}

impl MessagesTeller {
    pub(in crate::wire) fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            id: String::new(),
            is_started: false,
            open: None,
            blocks: 0,
            calls: BTreeMap::new(),
            numbers: CallNumbers::default(),
            late_text: String::new(),
            kept_bytes: 0,
            finish: FinishReason::Stop,
            is_refused: false,
            exhausted: None,
            usage: (Usage::default(), Vec::new()),
            is_failed: false,
        }
    }

    /// Tells a chunk.
    pub(in crate::wire) fn chunk(&mut self, json: &[u8], out: &mut BytesMut) {
        let Some(chunk) = Chunk::read(json).filter(|_| !self.is_failed) else { return };
        self.start(&chunk, out);
        if let Some(usage) = chunk.usage() {
            self.usage = usage;
        }
        for said in chunk.said() {
            match said {
                Said::Reasoning(text) => self.piece(Block::Thinking, text, out),
                Said::Text(text) => self.piece(Block::Text, text, out),
                Said::Refusal(text) => {
                    self.is_refused = true;
                    self.piece(Block::Text, text, out);
                }
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
        self.close(out);
        let waiting: Vec<u64> = self.calls.keys().copied().collect();
        for index in waiting {
            self.begin_call(index, out);
            self.close(out);
        }
        if !self.late_text.is_empty() {
            let text = raw::json_string(&std::mem::take(&mut self.late_text));
            self.begin(Block::Text, &json!({ "type": "text", "text": "" }), out);
            self.delta("text_delta", "text", &text, out);
            self.close(out);
        }
        let has_calls = self.calls.values().any(|call| call.is_begun);
        let stop_reason = stop_reason(self.finish, has_calls, self.is_refused);
        let mut usage = usage_json(&self.usage.0);
        if let Value::Object(fields) = &mut usage {
            fields.extend(std::mem::take(&mut self.usage.1));
        }
        let mut event = json!({
            "type": "message_delta",
            "delta": { "stop_reason": stop_reason, "stop_sequence": null },
            "usage": usage,
        });
        if let Some(message) = &self.exhausted {
            let error = ErrorBody::new(ErrorCode::CreditExhausted, message);
            event["error"] = error.anthropic_object();
        }
        write("message_delta", &event, out);
        write("message_stop", &json!({ "type": "message_stop" }), out);
    }

    /// The answer failed: nothing follows.
    pub(in crate::wire) fn failed(&mut self, error: &ErrorBody<'_>, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.is_failed, true) {
            out.extend_from_slice(&errors::anthropic_error_event(error));
        }
    }

    fn start(&mut self, chunk: &Chunk<'_>, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        self.id = message_id(&chunk.id());
        // The input is known at the end only; `message_delta` tells all figures again.
        let message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_json(&Usage::default()),
        });
        write("message_start", &json!({ "type": "message_start", "message": message }), out);
        write("ping", &json!({ "type": "ping" }), out);
    }

    /// A piece of text or thought; `text` is a JSON string.
    fn piece(&mut self, block: Block, text: &RawValue, out: &mut BytesMut) {
        if self.open.is_none_or(|(open, _)| open != block) {
            if !self.may_close() {
                let text = raw::text(text).unwrap_or_default();
                if block == Block::Text {
                    self.kept_bytes += text.len();
                    self.late_text.push_str(&text);
                }
                return;
            }
            self.close(out);
            let begun = match block {
                Block::Thinking => json!({ "type": "thinking", "thinking": "", "signature": "" }),
                Block::Text | Block::Tool(_) => json!({ "type": "text", "text": "" }),
            };
            self.begin(block, &begun, out);
        }
        match block {
            Block::Thinking => self.delta("thinking_delta", "thinking", text.get(), out),
            Block::Text | Block::Tool(_) => self.delta("text_delta", "text", text.get(), out),
        }
    }

    fn call(&mut self, delta: &CallDelta<'_>, out: &mut BytesMut) {
        let index = self.numbers.of(delta, &self.calls);
        let call = self.calls.entry(index).or_default();
        self.kept_bytes += call.add(delta);
        if self.open.is_some_and(|(open, _)| open == Block::Tool(index)) {
            if let Some(piece) = delta.arguments() {
                self.delta("input_json_delta", "partial_json", piece.get(), out);
            }
        } else if !call.name.is_empty() && self.may_close() {
            self.close(out);
            self.begin_call(index, out);
        }
    }

    /// Opens a call that has not been, with what has come of it.
    fn begin_call(&mut self, index: u64, out: &mut BytesMut) {
        let Some(call) = self.calls.get_mut(&index).filter(|it| !it.is_begun) else { return };
        if call.name.is_empty() {
            return;
        }
        call.is_begun = true;
        let id = call.id_or(&self.id, index);
        let block = json!({ "type": "tool_use", "id": id, "name": call.name, "input": {} });
        let arguments = (!call.arguments.is_empty()).then(|| raw::json_string(&call.arguments));
        self.begin(Block::Tool(index), &block, out);
        if let Some(arguments) = arguments {
            self.delta("input_json_delta", "partial_json", &arguments, out);
        }
    }

    /// Whether the open block can end here.
    fn may_close(&self) -> bool {
        match self.open {
            Some((Block::Tool(index), _)) => self.calls.get(&index).is_none_or(Call::is_whole),
            Some((Block::Thinking | Block::Text, _)) | None => true,
        }
    }

    fn begin(&mut self, block: Block, content: &Value, out: &mut BytesMut) {
        let index = self.blocks;
        self.blocks += 1;
        self.open = Some((block, index));
        let event =
            json!({ "type": "content_block_start", "index": index, "content_block": content });
        write("content_block_start", &event, out);
    }

    /// A delta of the open block; `value` is a JSON string.
    fn delta(&self, kind: &str, field: &str, value: &str, out: &mut BytesMut) {
        let Some((_, index)) = self.open else { return };
        let index: Cow<'_, str> = Cow::Owned(index.to_string());
        let event = [
            r#"{"type":"content_block_delta","index":"#,
            &index,
            r#","delta":{"type":""#,
            kind,
            r#"",""#,
            field,
            r#"":"#,
            value,
            "}}",
        ];
        sse::encode_event("content_block_delta", event.concat().as_bytes(), out);
    }

    fn close(&mut self, out: &mut BytesMut) {
        if let Some((_, index)) = self.open.take() {
            let event = json!({ "type": "content_block_stop", "index": index });
            write("content_block_stop", &event, out);
        }
    }
}

fn write(name: &str, event: &Value, out: &mut BytesMut) {
    sse::encode_event(name, Bytes::from(event.to_string()).as_ref(), out);
}
