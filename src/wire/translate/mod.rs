//! OpenAI chat requests as Anthropic Messages requests.
//!
//! Follows the tables of Anthropic's own compatibility rules and of the gateways that went before:
//! nothing that changes the meaning is dropped in silence. What has no equivalent and matters is a
//! [`RequestError`] of kind `Unsupported`; what has none and is a mere preference is left out and
//! named in [`Translated::dropped`].

mod blocks;
mod messages;
mod options;
mod schema;
mod tools;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::{openai_chat::ChatRequest, request_error::RequestError};

/// The tool that stands for structured output on models without a native form of it.
pub const STRUCTURED_OUTPUT_TOOL: &str = "structured_output";

/// What the target model takes.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent gate of the model")]
pub struct AnthropicTarget<'a> {
    /// The upstream's name of the model.
    pub model: &'a str,
    /// The output limit (a required field there).
    pub max_tokens: u64,
    /// The persona: the first block of `system`.
    pub system_prefix: Option<&'a str>,
    /// Whether `temperature` and `top_p` may be sent.
    pub accepts_sampling: bool,
    /// Whether reasoning is asked for as `adaptive` with an effort (else with a token budget).
    pub adaptive_thinking: bool,
    /// Whether `output_config.format` exists (else a forced tool stands for it).
    pub native_structured_output: bool,
    /// Whether `tool_choice` may force a call.
    pub accepts_forced_tool_choice: bool,
    /// Whether `{"role":"system"}` may stand in mid-conversation.
    pub accepts_mid_system: bool,
}

/// A translated request.
#[derive(Debug, Clone)]
pub struct Translated {
    /// The Messages request.
    pub body: Bytes,
    /// Fields of the request that were left out, in the order found, for a warning header.
    pub dropped: Vec<&'static str>,
    /// Whether the response's call of [`STRUCTURED_OUTPUT_TOOL`] is the content: hand it to the
    /// reader of the response.
    pub unwrap_tool: bool,
}

/// The request's fields in the order in which they are written.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<blocks::Block<'a>>,
    messages: Vec<blocks::Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

/// Translates a chat request.
///
/// # Errors
/// [`RequestError`] that names the place: of kind `Unsupported` for what the format can't say
/// (audio, several choices, custom tools), of kind `Value` for a conversation that Anthropic
/// refuses (arguments that are not JSON, a tool call without its result, an empty user turn).
pub fn request_to_anthropic(
    request: &ChatRequest,
    target: &AnthropicTarget<'_>,
) -> Result<Translated, RequestError> {
    let fields = request.fields();
    let mut dropped = options::unsupported_and_dropped(&fields, request.n())?;
    let raw_messages = request.raw_messages();
    let mut conversation = messages::translate(&raw_messages, target, &mut dropped)?;
    let structured = options::structured_output(&fields, target)?;
    let thinking =
        options::thinking(&fields, target, conversation.ends_in_unsigned_tool_loop, &mut dropped)?;
    let forces_tool = target.accepts_forced_tool_choice && thinking.config.is_none();
    let list = tools::list(&fields, target, &mut conversation.breakpoints, &mut dropped)?;
    let tools = tools::translate(&fields, list, &structured, forces_tool, &mut dropped)?;
    let sampling = options::sampling(&fields, target, thinking.config.is_some(), &mut dropped)?;
    if let Some(hint) = structured.hint(tools.forced_structured) {
        conversation.system.push(blocks::Block::text(hint));
    }
    let body = Body {
        model: target.model,
        max_tokens: target.max_tokens,
        system: conversation.system,
        messages: conversation.messages,
        tools: tools.list,
        tool_choice: tools.choice,
        stop_sequences: options::stop_sequences(&fields)?,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        thinking: thinking.config,
        output_config: options::output_config(thinking.effort, structured.native_format()),
        metadata: options::metadata(&fields),
        service_tier: options::service_tier(&fields, &mut dropped),
        stream: request.stream(),
    };
    let unwrap_tool = structured.is_tool();
    let body = serde_json::to_vec(&body)
        .map_err(|_| RequestError::value("", "the request can't be written as JSON"))?;
    Ok(Translated { body: Bytes::from(body), dropped, unwrap_tool })
}

#[cfg(test)]
mod tests;
