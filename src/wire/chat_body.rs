//! A chat request written from a request of another format.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{openai_chat::ChatRequest, request_error::RequestError};

/// A request of another format as a chat request.
#[derive(Debug)]
pub struct AsChat {
    /// The chat request.
    pub request: ChatRequest,
    /// Fields that chat has no place for, in the order found, for a warning header.
    pub dropped: Vec<&'static str>,
}

/// The request's fields in the order in which they are written.
#[derive(Debug, Serialize)]
pub(super) struct ChatBody<'a> {
    pub(super) model: Cow<'a, str>,
    pub(super) messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_effort: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verbosity: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) safety_identifier: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_cache_key: Option<&'a RawValue>,
    pub(super) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<Value>,
}

impl<'a> ChatBody<'a> {
    /// A body with these messages and no settings. A stream always asks for its usage: both other
    /// formats tell it.
    pub(super) fn new(model: Cow<'a, str>, messages: Vec<Message<'a>>, stream: bool) -> Self {
        Self {
            model,
            messages,
            max_completion_tokens: None,
            temperature: None,
            top_p: None,
            stop: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            response_format: None,
            reasoning_effort: None,
            verbosity: None,
            service_tier: None,
            safety_identifier: None,
            user: None,
            prompt_cache_key: None,
            stream,
            stream_options: stream.then(|| json!({ "include_usage": true })),
        }
    }

    /// Writes the body and reads it as any chat request is read.
    ///
    /// # Errors
    /// What [`ChatRequest::parse`] finds wrong.
    pub(super) fn into_request(self) -> Result<ChatRequest, RequestError> {
        let body = serde_json::to_vec(&self)
            .map_err(|_| RequestError::value("", "the request can't be written as JSON"))?;
        ChatRequest::parse(Bytes::from(body))
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'static str,
    /// `null` only beside calls.
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
}

impl<'a> Message<'a> {
    /// A message of text.
    pub(super) fn text(role: &'static str, text: impl Into<Cow<'a, str>>) -> Self {
        Self::new(role, Content::Text(text.into()))
    }

    /// A user's message; one part of text becomes a string, which every server takes.
    pub(super) fn user(mut parts: Vec<Part<'a>>) -> Self {
        let content = match parts.as_mut_slice() {
            [] => Content::Text(Cow::Borrowed("")),
            [Part::Text { text }] => Content::Text(std::mem::take(text)),
            _ => Content::Parts(parts),
        };
        Self::new("user", content)
    }

    /// An assistant's message; `None` when it says and calls nothing.
    pub(super) fn assistant(text: String, tool_calls: Vec<Call<'a>>) -> Option<Self> {
        if text.is_empty() && tool_calls.is_empty() {
            return None;
        }
        let content = (!text.is_empty()).then_some(Content::Text(Cow::Owned(text)));
        Some(Self { role: "assistant", content, tool_calls, tool_call_id: None })
    }

    /// The result of a call.
    pub(super) fn tool(id: Cow<'a, str>, text: String) -> Self {
        let message = Self::text("tool", text);
        Self { tool_call_id: Some(id), ..message }
    }

    /// Adds a call to an assistant's message; gives it back when this is none.
    pub(super) fn add_call(&mut self, call: Call<'a>) -> Result<(), Call<'a>> {
        if self.role != "assistant" {
            return Err(call);
        }
        self.tool_calls.push(call);
        Ok(())
    }

    /// Adds text to an assistant's message whose calls wait for their results, so that these can
    /// follow; gives it back to any other.
    pub(super) fn add_text(&mut self, text: String) -> Result<(), String> {
        if self.tool_calls.is_empty() {
            return Err(text);
        }
        match &mut self.content {
            Some(Content::Text(said)) => said.to_mut().push_str(&text),
            Some(Content::Parts(_)) => return Err(text),
            None => self.content = Some(Content::Text(Cow::Owned(text))),
        }
        Ok(())
    }

    fn new(role: &'static str, content: Content<'a>) -> Self {
        Self { role, content: Some(content), tool_calls: Vec::new(), tool_call_id: None }
    }
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: ImageUrl<'a> },
    File { file: File<'a> },
}

#[derive(Debug, Serialize)]
pub(super) struct ImageUrl<'a> {
    pub(super) url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
pub(super) struct File<'a> {
    pub(super) filename: Cow<'a, str>,
    pub(super) file_data: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Call<'a> {
    id: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CallFunction<'a>,
}

#[derive(Debug, Serialize)]
struct CallFunction<'a> {
    name: Cow<'a, str>,
    arguments: Cow<'a, str>,
}

impl<'a> Call<'a> {
    /// A call; `arguments` is JSON text.
    pub(super) fn new(id: Cow<'a, str>, name: Cow<'a, str>, arguments: Cow<'a, str>) -> Self {
        Self { id, kind: "function", function: CallFunction { name, arguments } }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: ToolFunction<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct ToolFunction<'a> {
    pub(super) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<bool>,
}

impl<'a> Tool<'a> {
    pub(super) const fn function(function: ToolFunction<'a>) -> Self {
        Self { kind: "function", function }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Format<'a> {
    JsonObject,
    JsonSchema { json_schema: JsonSchema<'a> },
}

#[derive(Debug, Serialize)]
pub(super) struct JsonSchema<'a> {
    pub(super) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Cow<'a, str>>,
    pub(super) schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<bool>,
}

/// Notes a left-out field, once.
pub(super) fn drop_field(dropped: &mut Vec<&'static str>, name: &'static str) {
    if !dropped.contains(&name) {
        dropped.push(name);
    }
}
