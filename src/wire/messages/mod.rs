//! The Messages format for models that speak another one: requests as chat requests, and the
//! answers told back as messages.
//!
//! What has no equivalent and matters is a [`RequestError`](super::RequestError) of kind
//! `Unsupported`; what has none and is a mere preference is left out and named in
//! [`AsChat::dropped`](super::AsChat).

mod content;
mod reply;
mod request;
mod stream;

pub(super) use reply::message;
pub use request::{MessagesTarget, to_chat};
pub(super) use stream::MessagesTeller;

use crate::domain::Usage;

/// `chatcmpl-01X` as `msg_01X`: the tail stays recognisable in both logs.
fn message_id(chat_id: &str) -> String {
    format!("msg_{}", chat_id.strip_prefix("chatcmpl-").unwrap_or(chat_id))
}

/// The word for why a message ended. Calls decide it where the provider's word and its output
/// differ.
const fn stop_reason(finish: super::FinishReason, calls: bool, refused: bool) -> &'static str {
    use super::FinishReason as F;
    match finish {
        F::ContentFilter => "refusal",
        F::Length => "max_tokens",
        _ if calls => "tool_use",
        F::Stop | F::ToolCalls | F::FunctionCall | F::Other if refused => "refusal",
        F::Stop | F::ToolCalls | F::FunctionCall | F::Other => "end_turn",
    }
}

/// A usage object with all four of its figures.
fn usage_json(usage: &Usage) -> serde_json::Value {
    super::errors::anthropic_usage(usage)
}

#[cfg(test)]
mod tests;
