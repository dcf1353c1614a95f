//! Native Anthropic requests (`POST /v1/messages`, `/v1/messages/count_tokens`): for the proxy, and
//! for a face on one of Anthropic's models.

mod persona;

pub use persona::{MAX_TOKENS_DEFAULT, echo_model, echo_model_at_start};

use bytes::Bytes;

use super::{
    bound::{self, InputBound},
    openai_chat::{
        body_text, conversation_text, message_list, optional_bool, positive, required,
        required_model, top_level,
    },
    placeholders::{Templated, TextAt, content_texts, message_texts},
    raw::{self, Edit, RawObject},
    request_error::{JsonType, RequestError},
};

/// Top-level fields that put nothing into the model's context.
const SETTINGS: [&str; 12] = [
    "model",
    "messages",
    "system",
    "max_tokens",
    "stream",
    "metadata",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "service_tier",
    "thinking",
];

/// A native request: checked as far as billing needs, kept as the bytes it came in.
#[derive(Clone)]
pub struct MessagesRequest {
    body: Bytes,
    model: String,
    stream: bool,
    max_tokens: u64,
    bound: InputBound,
    may_write_cache: bool,
    asks_for_reasoning: bool,
}

/// Shows sizes only: a request is never logged.
impl std::fmt::Debug for MessagesRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessagesRequest")
            .field("body_bytes", &self.body.len())
            .field("stream", &self.stream)
            .field("max_tokens", &self.max_tokens)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

impl MessagesRequest {
    /// Reads and checks the body of `POST /v1/messages`.
    ///
    /// # Errors
    /// [`RequestError`] with the place and the fix: no object, `model`, `max_tokens` or `messages`
    /// missing or of the wrong type, a message without a role.
    pub fn parse(body: Bytes) -> Result<Self, RequestError> {
        Self::read(body, true)
    }

    /// Reads the body of `POST /v1/messages/count_tokens`, which has no `max_tokens`
    /// ([`Self::max_tokens`] is then 0).
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_count_tokens(body: Bytes) -> Result<Self, RequestError> {
        Self::read(body, false)
    }

    fn read(body: Bytes, needs_max_tokens: bool) -> Result<Self, RequestError> {
        let text = body_text(&body)?;
        let fields = top_level(text)?;
        let model = required_model(&fields)?;
        let messages = message_list(required(&fields, "messages")?)?;
        let mut input = InputBound::default();
        for (index, message) in messages.into_iter().enumerate() {
            let path = format!("messages[{index}]");
            let message = RawObject::parse(message.get())
                .map_err(|_| RequestError::wrong_type(&path, JsonType::Object))?;
            if message.text("role").is_none() {
                return Err(RequestError::missing(&format!("{path}.role")));
            }
            input.add_message(&message);
        }
        for (key, value) in &fields.0 {
            if key == "system" {
                input.add_content(value);
            } else if !SETTINGS.contains(&key.as_ref()) {
                input.text_bytes += raw::decoded_len(value.get());
            }
        }
        // 0 is legal: it warms a cache.
        let max_tokens = match fields.get("max_tokens").map(serde_json::value::RawValue::get) {
            Some("0") => Some(0),
            _ => positive(&fields, "max_tokens")?,
        };
        if needs_max_tokens && max_tokens.is_none() {
            return Err(RequestError::missing("max_tokens"));
        }
        let stream = optional_bool(&fields, "stream")?.unwrap_or(false);
        let may_write_cache = bound::may_write_cache(&body);
        let asks_for_reasoning = bound::asks_for_reasoning(&fields);
        Ok(Self {
            model,
            stream,
            max_tokens: max_tokens.unwrap_or(0),
            bound: input,
            may_write_cache,
            asks_for_reasoning,
            body,
        })
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

    /// The output limit; 0 warms a cache (or is a count's absent field).
    #[must_use]
    pub const fn max_tokens(&self) -> u64 {
        self.max_tokens
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

    /// Whether the request asks the model to think (errs towards yes).
    #[must_use]
    pub const fn asks_for_reasoning(&self) -> bool {
        self.asks_for_reasoning
    }

    /// The body as it came.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The text of the user and assistant turns, as [`super::openai_chat`] has it.
    #[must_use]
    pub fn conversation_text(&self) -> String {
        conversation_text(&self.raw_messages())
    }

    /// The body as text (checked in [`Self::parse`]).
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    pub(crate) fn fields(&self) -> RawObject<'_> {
        RawObject::parse(self.text()).unwrap_or_default()
    }

    pub(crate) fn raw_messages(&self) -> Vec<RawObject<'_>> {
        let messages = self.fields().get("messages");
        messages.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
    }

    /// The same bytes with another model.
    #[must_use]
    pub fn with_model(&self, model: &str) -> Bytes {
        self.with(model, None)
    }

    /// The same bytes with another model and, when given, another output limit.
    #[must_use]
    pub fn with(&self, model: &str, max_tokens: Option<u64>) -> Bytes {
        let text = self.text();
        let fields = self.fields();
        let mut edits = Vec::with_capacity(2);
        if let Some(old) = fields.get("model") {
            edits.push(Edit::replace(raw::span(text, old.get()), raw::json_string(model)));
        }
        if let (Some(tokens), Some(old)) = (max_tokens, fields.get("max_tokens")) {
            edits.push(Edit::replace(raw::span(text, old.get()), tokens.to_string()));
        }
        raw::splice(text, edits)
    }
}

impl Templated for MessagesRequest {
    fn bytes(&self) -> &Bytes {
        &self.body
    }

    fn texts(&self) -> Vec<TextAt<'_>> {
        let mut texts = Vec::new();
        if let Some(system) = self.fields().get("system") {
            content_texts(system, false, &mut texts);
        }
        texts.extend(message_texts(&self.raw_messages()));
        texts
    }

    fn conversation(&self) -> String {
        self.conversation_text()
    }

    fn with_bytes(&self, body: Bytes) -> Result<Self, RequestError> {
        Self::read(body, false)
    }
}

#[cfg(test)]
mod tests;
