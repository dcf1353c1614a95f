//! Bytes ↔ typed requests, responses and stream events, and the translation between dialects.
//!
//! Owns the wire formats: the incremental SSE decoder ([`sse`]), OpenAI chat requests read and
//! spliced as raw JSON ([`openai_chat`]), native Anthropic requests ([`anthropic`]), the
//! translation OpenAI → Anthropic ([`translate`]), requests of the Messages and Responses formats as
//! chat requests and their answers told back ([`messages`], [`responses`], [`Retelling`]), the
//! placeholders in messages ([`Placeholders`]), the readers of responses ([`ChatStream`],
//! [`ProxyStream`], [`completion`], [`embeddings`]) with their one [`Meter`], upstream errors
//! ([`upstream_error`]) and the bodies of our own errors and lists ([`errors`], [`models`]).
//!
//! What never happens here: I/O, async, clocks, prices, randomness. Everything is a function of
//! its input; ids and times come in as arguments. No input panics, whoever sent it.
//!
//! How it fails: a caller's mistake is a [`RequestError`] that names the place and the fix; an
//! upstream's mistake is an [`UpstreamFault`]. A response that ends before its proper end is
//! always a fault (the transport can't tell a cut from an end), and a fault is never turned into a
//! finish reason.
//!
//! Limits: the decoder holds at most one record of `record_bytes_max`; messages taken from an
//! upstream are cut at [`UPSTREAM_MESSAGE_CHARS_MAX`]; schemas are inlined up to a fixed size; a
//! teller keeps at most 32 MiB of an answer.
//!
//! Invariants are tested beside the code: decoder laws in `sse/tests.rs`, splice laws in
//! `openai_chat/tests.rs`, translated requests as snapshots in `translate/tests.rs`, truncation
//! at every boundary in `stream/tests.rs`.

pub mod anthropic;
mod bound;
mod chat_answer;
mod chat_body;
pub mod completion;
pub mod embeddings;
pub mod errors;
mod fault;
pub mod messages;
mod meter;
pub mod models;
pub mod openai_chat;
mod placeholders;
mod raw;
mod request_error;
pub mod responses;
mod retell;
pub mod sse;
mod stream;
pub mod translate;
pub mod upstream_error;
mod usage;
pub mod webhook;

pub use bound::InputBound;
pub use chat_body::AsChat;
pub use fault::UpstreamFault;
pub use meter::{FinishReason, Meter};
pub use placeholders::Placeholders;
pub(crate) use placeholders::Templated;
pub use request_error::{JsonType, RequestError, RequestErrorKind};
pub use retell::{Retelling, Teller};
pub use sse::{SseDecoder, SseError, SseRecord};
pub use stream::{
    ChatStream, ChatStreamOptions, ProxyStep, ProxyStream, ProxyStreamOptions, StreamStep,
    read_native_usage,
};
pub use upstream_error::{UPSTREAM_MESSAGE_CHARS_MAX, UpstreamErrorInfo, read_upstream_error};

/// The format that an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamFormat {
    /// `POST /chat/completions`, OpenAI's form.
    OpenAiChat,
    /// `POST /v1/messages`, Anthropic's form.
    AnthropicMessages,
}
