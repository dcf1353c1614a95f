//! Readers of streamed responses: for our own clients ([`ChatStream`]) and for the native
//! proxies ([`ProxyStream`]).
//!
//! Both know when a stream is complete: an OpenAI stream by `[DONE]` or a finish reason for every
//! choice, an Anthropic stream by `message_stop`. The end of the body before that is
//! [`UpstreamFault::Truncated`].

mod anthropic;
mod cut_off;
mod openai;
mod proxy;
mod template;

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::domain::Usage;

use super::{Meter, SseRecord, UpstreamFault, UpstreamFormat, errors::ErrorBody};

pub(crate) use openai::tool_bytes;
pub use proxy::{ProxyStep, ProxyStream, ProxyStreamOptions, read_native_usage};

/// How a stream is shown to the client.
#[derive(Debug, Clone)]
pub struct ChatStreamOptions<'a> {
    /// The `model` string that the client sent: every chunk repeats it.
    pub model_echo: &'a str,
    /// Whether the client asked for usage: then chunks may carry `"usage":null`, and
    /// [`ChatStream::usage_chunk`] follows after the settlement.
    pub include_usage: bool,
    /// Seconds since the Unix epoch, for upstreams that tell no time.
    pub created: i64,
    /// The id of upstreams that tell none, e.g. `chatcmpl-…`.
    pub fallback_id: String,
    /// Tokens of the model's context; more can't have been used (0: unknown).
    pub context_tokens_max: u64,
    /// Whether structured output was asked for as a forced tool (`Translated::unwrap_tool`): its
    /// input is then the content.
    pub unwrap_tool: bool,
}

/// What a record meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamStep {
    /// More is to come.
    Continue,
    /// The response is complete: `[DONE]` or `message_stop`.
    Ended,
    /// The response failed; what was delivered stays, no finish may follow.
    Failed(UpstreamFault),
}

/// Turns the records of any upstream format into OpenAI chunks for the client.
///
/// The texts put out are JSON on one line, ready for `data:`; `[DONE]` is the caller's to send,
/// after the settlement. The usage chunk is held back for [`Self::usage_chunk`].
#[derive(Debug)]
pub struct ChatStream(Inner);

#[derive(Debug)]
enum Inner {
    OpenAi(Box<openai::OpenAiStream>),
    Anthropic(Box<anthropic::AnthropicStream>),
}

impl ChatStream {
    /// A reader for one response.
    #[must_use]
    pub fn new(format: UpstreamFormat, options: ChatStreamOptions<'_>) -> Self {
        Self(match format {
            UpstreamFormat::OpenAiChat => {
                Inner::OpenAi(Box::new(openai::OpenAiStream::for_client(options)))
            }
            UpstreamFormat::AnthropicMessages => {
                Inner::Anthropic(Box::new(anthropic::AnthropicStream::new(options)))
            }
        })
    }

    /// Reads a record and appends the chunks it makes to `out` (none, one or several).
    pub fn push(&mut self, record: &SseRecord, out: &mut VecDeque<Bytes>) -> StreamStep {
        match &mut self.0 {
            Inner::OpenAi(stream) => stream.push(record, out),
            Inner::Anthropic(stream) => stream.push(record, out),
        }
    }

    /// Ends the body. Neither format leaves a chunk to be made here, so nothing is put out.
    ///
    /// # Errors
    /// [`UpstreamFault::Truncated`] when the response was not complete, or had failed before.
    pub fn end_of_body(&mut self, _out: &mut VecDeque<Bytes>) -> Result<(), UpstreamFault> {
        let complete = match &self.0 {
            Inner::OpenAi(stream) => stream.is_complete(),
            Inner::Anthropic(stream) => stream.is_complete(),
        };
        if complete { Ok(()) } else { Err(UpstreamFault::Truncated) }
    }

    /// The chunk with `choices: []` and the usage, for a client that asked for it. The upstream's
    /// own usage object is kept where there is one; `extra` fields (such as `cost_usd`) are added
    /// to it.
    #[must_use]
    pub fn usage_chunk(&self, usage: &Usage, extra: &[(&str, &RawValue)]) -> Bytes {
        match &self.0 {
            Inner::OpenAi(stream) => stream.usage_chunk(usage, extra),
            Inner::Anthropic(stream) => stream.usage_chunk(usage, extra),
        }
    }

    /// Ends the answer where its credit ran out, for a client that has seen the chunks of all records
    /// but the last one pushed: appends a chunk with `finish_reason: "length"` and `error` in it for
    /// each choice that has not finished. No record may be pushed after it.
    pub fn cut_off(&mut self, error: &ErrorBody<'_>, out: &mut VecDeque<Bytes>) {
        match &mut self.0 {
            Inner::OpenAi(stream) => stream.cut_off(error, out),
            Inner::Anthropic(stream) => stream.cut_off(error, out),
        }
    }

    /// What the response has used so far.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        match &self.0 {
            Inner::OpenAi(stream) => stream.meter(),
            Inner::Anthropic(stream) => stream.meter(),
        }
    }
}

#[cfg(test)]
mod tests;
