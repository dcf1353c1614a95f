//! OpenAI chat requests: checked once, kept as the bytes they came in.
//!
//! [`ChatRequest`] owns the body and knows where its top-level fields lie. What goes to an
//! OpenAI-format upstream is the same bytes with a few splices ([`ChatRequest::to_openai`]), so
//! that fields nobody here knows pass untouched.

mod parse;
mod splice;

pub(crate) use parse::{
    body_text, message_list, optional_bool, positive, required, required_model, top_level,
};

use std::ops::Range;

use bytes::Bytes;

use super::{
    bound::InputBound,
    placeholders::{Templated, TextAt, message_texts},
    raw::{self, RawObject},
    request_error::RequestError,
};

/// Most bytes of [`ChatRequest::conversation_text`]: the newest turns decide what is relevant.
pub const CONVERSATION_TEXT_BYTES_MAX: usize = 16 * 1024;

/// The name under which an upstream model takes its output limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokensField {
    /// `max_tokens`: third-party servers and older models.
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's reasoning and newer models.
    MaxCompletionTokens,
}

impl TokensField {
    /// The field's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// What is changed in a request for an OpenAI-format upstream.
#[derive(Debug, Clone, Copy)]
pub struct OpenAiEdit<'a> {
    /// The upstream's name of the model.
    pub model: &'a str,
    /// The persona: put before the caller's own system text, with a blank line between.
    pub system_prefix: Option<&'a str>,
    /// Whether a streamed response must carry usage, whatever the client asked.
    pub include_usage: bool,
    /// The output limit to set, under the name that the model knows; the other name is removed.
    pub max_tokens: Option<(TokensField, u64)>,
}

/// A chat request that passed the checks.
///
/// # Examples
/// ```
/// use bytes::Bytes;
/// use faces::wire::openai_chat::{ChatRequest, OpenAiEdit};
/// let body = r#"{"model":"alice","messages":[{"role":"user","content":"Hi"}],"x":1.50}"#;
/// let request = ChatRequest::parse(Bytes::from_static(body.as_bytes())).unwrap();
/// assert_eq!(request.model(), "alice");
/// let sent = request.to_openai(&OpenAiEdit {
///     model: "gpt-4o-mini", system_prefix: None, include_usage: true, max_tokens: None,
/// });
/// assert_eq!(sent, body.replace("alice", "gpt-4o-mini"));
/// ```
#[derive(Clone)]
pub struct ChatRequest {
    body: Bytes,
    model: String,
    stream: bool,
    include_usage: bool,
    max_tokens: Option<u64>,
    has_max_tokens: bool,
    has_max_completion_tokens: bool,
    n: u64,
    bound: InputBound,
    may_write_cache: bool,
    asks_for_reasoning: bool,
    /// Where the array of messages lies in `body`.
    messages: Range<usize>,
}

/// Shows sizes only: a request is never logged.
impl std::fmt::Debug for ChatRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatRequest")
            .field("body_bytes", &self.body.len())
            .field("stream", &self.stream)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

impl ChatRequest {
    /// Reads and checks a body: an object with a non-empty `model`, a non-empty array `messages`
    /// of objects with a role and legal content, and sane settings. Fields that are not read here
    /// are not judged.
    ///
    /// # Errors
    /// [`RequestError`] with the place and the fix of the first mistake.
    pub fn parse(body: Bytes) -> Result<Self, RequestError> {
        parse::parse(body)
    }

    /// The `model` string as the client sent it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether the client asked for a stream.
    #[must_use]
    pub const fn stream(&self) -> bool {
        self.stream
    }

    /// Whether the client asked for usage in the stream.
    #[must_use]
    pub const fn include_usage(&self) -> bool {
        self.include_usage
    }

    /// `max_completion_tokens`, else `max_tokens`. At least 1.
    #[must_use]
    pub const fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    /// The output limit that must be written, so that the upstream obeys the one that was paid
    /// for: when it came under a name that such an upstream may not know, or under both names.
    #[must_use]
    pub fn limit_to_write(&self, known: TokensField) -> Option<u64> {
        let unsure = match known {
            TokensField::MaxTokens => self.has_max_completion_tokens,
            // These upstreams know the older name too, or refuse it.
            TokensField::MaxCompletionTokens => {
                self.has_max_tokens && self.has_max_completion_tokens
            }
        };
        if unsure { self.max_tokens } else { None }
    }

    /// How many choices the client asked for (1 when it did not say).
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// The bound of the input's size.
    #[must_use]
    pub const fn input_bound(&self) -> InputBound {
        self.bound
    }

    /// Whether the request may ask the provider to write a prompt cache (errs towards yes).
    #[must_use]
    pub const fn may_write_cache(&self) -> bool {
        self.may_write_cache
    }

    /// Whether the request asks the model to reason (errs towards yes).
    #[must_use]
    pub const fn asks_for_reasoning(&self) -> bool {
        self.asks_for_reasoning
    }

    /// The body as it came.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The text of the user and assistant turns, newest last, one line each; the oldest are left
    /// out once [`CONVERSATION_TEXT_BYTES_MAX`] is reached.
    #[must_use]
    pub fn conversation_text(&self) -> String {
        conversation_text(&self.raw_messages())
    }

    /// The request for an OpenAI-format upstream: the same bytes, with the edits made.
    #[must_use]
    pub fn to_openai(&self, edit: &OpenAiEdit<'_>) -> Bytes {
        splice::to_openai(self, edit)
    }

    /// The body as text (checked in [`Self::parse`]).
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    pub(crate) fn fields(&self) -> RawObject<'_> {
        RawObject::parse(self.text()).unwrap_or_default()
    }

    pub(crate) fn raw_messages(&self) -> Vec<RawObject<'_>> {
        let text = self.text().get(self.messages.clone()).unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl Templated for ChatRequest {
    fn bytes(&self) -> &Bytes {
        &self.body
    }

    fn texts(&self) -> Vec<TextAt<'_>> {
        message_texts(&self.raw_messages())
    }

    fn conversation(&self) -> String {
        self.conversation_text()
    }

    fn with_bytes(&self, body: Bytes) -> Result<Self, RequestError> {
        Self::parse(body)
    }
}

/// The text of the user and assistant turns, newest last, one line each; the oldest are left out once
/// [`CONVERSATION_TEXT_BYTES_MAX`] is reached.
pub(crate) fn conversation_text(list: &[RawObject<'_>]) -> String {
    let mut turns: Vec<String> = Vec::new();
    let mut bytes = 0;
    for message in list.iter().rev() {
        if bytes >= CONVERSATION_TEXT_BYTES_MAX {
            break;
        }
        if !matches!(message.text("role").as_deref(), Some("user" | "assistant")) {
            continue;
        }
        let Some(content) = message.get("content") else { continue };
        let mut turn = content_text(content);
        if bytes + turn.len() > CONVERSATION_TEXT_BYTES_MAX {
            // The end of a long turn is the newer part.
            let mut start = bytes + turn.len() - CONVERSATION_TEXT_BYTES_MAX;
            while !turn.is_char_boundary(start) {
                start += 1;
            }
            turn.drain(..start);
        }
        if !turn.is_empty() {
            bytes += turn.len() + 1;
            turns.push(turn);
        }
    }
    turns.reverse();
    turns.join("\n")
}

/// The texts of a content, joined with blanks.
fn content_text(content: &serde_json::value::RawValue) -> String {
    if let Some(text) = raw::text(content) {
        return text.into_owned();
    }
    let parts = raw::elements(content).unwrap_or_default();
    let texts: Vec<String> = parts
        .into_iter()
        .filter_map(|part| RawObject::parse(part.get()).ok())
        .filter_map(|part| part.text("text").map(std::borrow::Cow::into_owned))
        .collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests;
