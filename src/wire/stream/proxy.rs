//! The tee of the native proxies: records pass untouched and are metered.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    domain::Usage,
    wire::{
        Meter, SseRecord, UpstreamFault, UpstreamFormat,
        completion::{self, CompletionOptions},
        errors::ErrorBody,
        sse,
    },
};

use super::{
    anthropic::Events,
    cut_off,
    openai::{OpenAiStream, Read},
};

/// How a native stream is read.
#[derive(Debug, Clone, Copy)]
pub struct ProxyStreamOptions {
    /// Whether to hide the usage chunk: we asked for it, the client did not.
    pub hide_usage: bool,
    /// Tokens of the model's context (0: unknown).
    pub context_tokens_max: u64,
}

/// What to do with a record's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyStep {
    /// Relay them now.
    Relay,
    /// Leave them out.
    Hide,
    /// The response's end (`[DONE]`, `message_stop`): relay them once the charge is settled.
    Terminal,
    /// The upstream's own error event: relay them, then end; the response failed.
    ErrorEvent(UpstreamFault),
    /// The record can't be read: don't relay it, end with an error event of ours.
    Failed(UpstreamFault),
}

/// Meters a native stream without changing it.
#[derive(Debug)]
pub struct ProxyStream {
    inner: Inner,
    hide_usage: bool,
}

#[derive(Debug)]
enum Inner {
    OpenAi(Box<OpenAiStream>),
    Anthropic(Box<Events>),
}

impl ProxyStream {
    /// A reader for one response.
    #[must_use]
    pub fn new(format: UpstreamFormat, options: ProxyStreamOptions) -> Self {
        let inner = match format {
            UpstreamFormat::OpenAiChat => {
                Inner::OpenAi(Box::new(OpenAiStream::for_proxy(options.context_tokens_max)))
            }
            UpstreamFormat::AnthropicMessages => {
                Inner::Anthropic(Box::new(Events::new(options.context_tokens_max)))
            }
        };
        Self { inner, hide_usage: options.hide_usage }
    }

    /// Reads a record and says what to do with its bytes.
    pub fn push(&mut self, record: &SseRecord) -> ProxyStep {
        let read = match &mut self.inner {
            Inner::OpenAi(stream) => stream.read(record).map(|read| match read {
                Read::Done => ProxyStep::Terminal,
                Read::UsageOnly if self.hide_usage => ProxyStep::Hide,
                Read::Nothing | Read::Chunk(_) | Read::UsageOnly => ProxyStep::Relay,
            }),
            Inner::Anthropic(events) => events.read(record).map(|event| match event {
                Some(event) if event.is_stop() => ProxyStep::Terminal,
                _ => ProxyStep::Relay,
            }),
        };
        read.unwrap_or_else(|fault| match fault {
            UpstreamFault::ErrorEvent { .. } => ProxyStep::ErrorEvent(fault),
            UpstreamFault::Truncated
            | UpstreamFault::Malformed { .. }
            | UpstreamFault::TooLarge => ProxyStep::Failed(fault),
        })
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`UpstreamFault::Truncated`] when the response was not complete.
    pub fn end_of_body(&mut self) -> Result<(), UpstreamFault> {
        let complete = match &self.inner {
            Inner::OpenAi(stream) => stream.is_complete(),
            Inner::Anthropic(events) => events.is_complete(),
        };
        if complete { Ok(()) } else { Err(UpstreamFault::Truncated) }
    }

    /// The records that end the response where its credit ran out, in the provider's format, for a
    /// client that has seen all records but the last one pushed: a finish that says that the limit
    /// was reached, with `error` in it, `usage` (for OpenAI's format: if it was asked for) and the
    /// terminal record.
    #[must_use]
    pub fn cut_off(&self, usage: &Usage, error: &ErrorBody<'_>) -> Bytes {
        let stream = match &self.inner {
            Inner::OpenAi(stream) => stream,
            Inner::Anthropic(events) => {
                return cut_off::anthropic_records(events.block_before(), usage, error).freeze();
            }
        };
        let mut chunks = VecDeque::new();
        stream.cut_off(error, &mut chunks);
        if !self.hide_usage {
            chunks.push_back(stream.usage_chunk(usage, &[]));
        }
        let mut out = BytesMut::new();
        for chunk in chunks {
            sse::encode_data(&chunk, &mut out);
        }
        out.extend_from_slice(sse::DONE_RECORD);
        out.freeze()
    }

    /// What the response has used so far.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        match &self.inner {
            Inner::OpenAi(stream) => stream.meter(),
            Inner::Anthropic(events) => events.meter(),
        }
    }
}

/// Meters a whole native JSON body.
///
/// # Errors
/// [`UpstreamFault`] when the body is cut off, is not of the format, or is an error in spite of
/// its status.
pub fn read_native_usage(
    format: UpstreamFormat,
    body: &Bytes,
    context_tokens_max: u64,
) -> Result<Meter, UpstreamFault> {
    let options = CompletionOptions {
        model_echo: "",
        created: 0,
        fallback_id: String::new(),
        context_tokens_max,
        unwrap_tool: false,
    };
    completion::read(format, body, &options).map(|completion| completion.meter)
}
