//! The conversation: turns of blocks as chat messages.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::wire::{
    chat_body::{Call, File, ImageUrl, Message, Part, drop_field},
    raw::{self, RawObject},
    request_error::{JsonType, RequestError},
    upstream_error,
};

pub(super) struct Conversation<'a, 'd> {
    messages: Vec<Message<'a>>,
    dropped: &'d mut Vec<&'static str>,
}

impl<'a, 'd> Conversation<'a, 'd> {
    pub(super) const fn new(dropped: &'d mut Vec<&'static str>) -> Self {
        Self { messages: Vec::new(), dropped }
    }

    pub(super) fn finish(self) -> Vec<Message<'a>> {
        self.messages
    }

    /// The caller's system text: one message.
    pub(super) fn system(&mut self, system: Option<&'a RawValue>) -> Result<(), RequestError> {
        let Some(system) = system else { return Ok(()) };
        let text = self.joined_text(system, "system", "\n")?;
        if !text.is_empty() {
            self.messages.push(Message::text("system", text));
        }
        Ok(())
    }

    /// One turn.
    pub(super) fn message(
        &mut self,
        message: &RawObject<'a>,
        path: &str,
    ) -> Result<(), RequestError> {
        let content_path = format!("{path}.content");
        let content = message.get("content").ok_or_else(|| RequestError::missing(&content_path))?;
        match message.text("role").as_deref() {
            Some("user") => self.user(content, &content_path),
            Some("assistant") => self.assistant(content, &content_path),
            Some("system") => {
                let text = self.joined_text(content, &content_path, "\n")?;
                self.messages.push(Message::text("system", text));
                Ok(())
            }
            _ => {
                let path = format!("{path}.role");
                let text = format!("`{path}` must be one of user, assistant or system");
                Err(RequestError::value(&path, text))
            }
        }
    }

    /// Results of calls go first, each as a message of its own; then the rest of the turn.
    fn user(&mut self, content: &'a RawValue, path: &str) -> Result<(), RequestError> {
        if let Some(text) = raw::text(content) {
            self.messages.push(Message::text("user", text));
            return Ok(());
        }
        let mut parts = Vec::new();
        let mut has_results = false;
        for (index, block) in blocks(content, path)?.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if block.text("type").as_deref() == Some("tool_result") {
                self.tool_result(block, &path, &mut parts)?;
                has_results = true;
            } else {
                self.part(block, &path, &mut parts)?;
            }
        }
        if !parts.is_empty() || !has_results {
            self.messages.push(Message::user(parts));
        }
        Ok(())
    }

    /// A `tool` message takes text only, so a result's images follow in the user's message.
    fn tool_result(
        &mut self,
        block: &RawObject<'a>,
        path: &str,
        parts: &mut Vec<Part<'a>>,
    ) -> Result<(), RequestError> {
        self.note_cache_control(block);
        let id_path = || format!("{path}.tool_use_id");
        let id = block.text("tool_use_id").ok_or_else(|| RequestError::missing(&id_path()))?;
        let mut inner = Vec::new();
        match block.get("content") {
            None => {}
            Some(content) => match raw::text(content) {
                Some(text) => inner.push(Part::Text { text }),
                None => {
                    let path = format!("{path}.content");
                    for (index, block) in blocks(content, &path)?.iter().enumerate() {
                        self.part(block, &format!("{path}[{index}]"), &mut inner)?;
                    }
                }
            },
        }
        let is_error = block.get("is_error").map(RawValue::get) == Some("true");
        let mut text = String::from(if is_error { "Error: " } else { "" });
        let mut is_first = true;
        for part in inner {
            match part {
                Part::Text { text: piece } => {
                    if !std::mem::take(&mut is_first) {
                        text.push('\n');
                    }
                    text.push_str(&piece);
                }
                other => parts.push(other),
            }
        }
        self.messages.push(Message::tool(id, text));
        Ok(())
    }

    fn assistant(&mut self, content: &'a RawValue, path: &str) -> Result<(), RequestError> {
        if let Some(text) = raw::text(content) {
            self.messages.extend(Message::assistant(text.into_owned(), Vec::new()));
            return Ok(());
        }
        let mut text = String::new();
        let mut calls = Vec::new();
        for (index, block) in blocks(content, path)?.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.note_cache_control(block);
            match block.text("type").as_deref() {
                Some("text") => text.push_str(&text_of(block, &path)?),
                Some("tool_use") => calls.push(tool_use(block, &path)?),
                // No other model reads Anthropic's signed thoughts.
                Some("thinking" | "redacted_thinking") => {
                    drop_field(self.dropped, "messages.content.thinking");
                }
                kind => return Err(unknown_block(kind, &path)),
            }
        }
        self.messages.extend(Message::assistant(text, calls));
        Ok(())
    }

    /// A block that is shown to the model.
    fn part(
        &mut self,
        block: &RawObject<'a>,
        path: &str,
        parts: &mut Vec<Part<'a>>,
    ) -> Result<(), RequestError> {
        self.note_cache_control(block);
        match block.text("type").as_deref() {
            Some("text") => {
                let text = text_of(block, path)?;
                if !text.is_empty() {
                    parts.push(Part::Text { text });
                }
            }
            Some("image") => {
                let image_url = ImageUrl { url: image_url(block, path)?, detail: None };
                parts.push(Part::ImageUrl { image_url });
            }
            Some("document") => self.document(block, path, parts)?,
            kind => return Err(unknown_block(kind, path)),
        }
        Ok(())
    }

    fn document(
        &mut self,
        block: &RawObject<'a>,
        path: &str,
        parts: &mut Vec<Part<'a>>,
    ) -> Result<(), RequestError> {
        let path = format!("{path}.source");
        let source = source(block, &path)?;
        match source.text("type").as_deref() {
            Some("base64") => {
                let filename = block.text("title").unwrap_or(Cow::Borrowed("document.pdf"));
                let file_data = data_url(&source, &path)?;
                parts.push(Part::File { file: File { filename, file_data } });
                Ok(())
            }
            Some("text") => {
                let data = source.text("data");
                let text = data.ok_or_else(|| RequestError::missing(&format!("{path}.data")))?;
                parts.push(Part::Text { text });
                Ok(())
            }
            Some("content") => {
                let path = format!("{path}.content");
                let content = source.get("content").ok_or_else(|| RequestError::missing(&path))?;
                let text = self.joined_text(content, &path, "\n")?;
                parts.push(Part::Text { text: Cow::Owned(text) });
                Ok(())
            }
            _ => Err(unsupported_source(&path)),
        }
    }

    /// A string, or text blocks joined with `separator`.
    fn joined_text(
        &mut self,
        content: &'a RawValue,
        path: &str,
        separator: &str,
    ) -> Result<String, RequestError> {
        if let Some(text) = raw::text(content) {
            return Ok(text.into_owned());
        }
        let mut out = String::new();
        for (index, block) in blocks(content, path)?.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.note_cache_control(block);
            if block.text("type").as_deref() != Some("text") {
                return Err(unknown_block(block.text("type").as_deref(), &path));
            }
            if !out.is_empty() {
                out.push_str(separator);
            }
            out.push_str(&text_of(block, &path)?);
        }
        Ok(out)
    }

    fn note_cache_control(&mut self, block: &RawObject<'_>) {
        if block.get("cache_control").is_some() {
            drop_field(self.dropped, "cache_control");
        }
    }
}

fn blocks<'a>(content: &'a RawValue, path: &str) -> Result<Vec<RawObject<'a>>, RequestError> {
    serde_json::from_str(content.get()).map_err(|_| {
        let text = format!("`{path}` must be a string or an array of content blocks");
        RequestError::value(path, text)
    })
}

fn text_of<'a>(block: &RawObject<'a>, path: &str) -> Result<Cow<'a, str>, RequestError> {
    let path = format!("{path}.text");
    let text = block.get("text").ok_or_else(|| RequestError::missing(&path))?;
    raw::text(text).ok_or_else(|| RequestError::wrong_type(&path, JsonType::String))
}

fn tool_use<'a>(block: &RawObject<'a>, path: &str) -> Result<Call<'a>, RequestError> {
    let field = |name: &str| {
        block.text(name).ok_or_else(|| RequestError::missing(&format!("{path}.{name}")))
    };
    let input = block.get("input").map_or("{}", RawValue::get);
    if !input.starts_with('{') {
        return Err(RequestError::wrong_type(&format!("{path}.input"), JsonType::Object));
    }
    Ok(Call::new(field("id")?, field("name")?, Cow::Borrowed(input)))
}

fn source<'a>(block: &RawObject<'a>, path: &str) -> Result<RawObject<'a>, RequestError> {
    let source = block.get("source").ok_or_else(|| RequestError::missing(path))?;
    RawObject::parse(source.get()).map_err(|_| RequestError::wrong_type(path, JsonType::Object))
}

fn image_url<'a>(block: &RawObject<'a>, path: &str) -> Result<Cow<'a, str>, RequestError> {
    let path = format!("{path}.source");
    let source = source(block, &path)?;
    match source.text("type").as_deref() {
        Some("base64") => data_url(&source, &path),
        Some("url") => {
            let path = format!("{path}.url");
            source.text("url").ok_or_else(|| RequestError::missing(&path))
        }
        _ => Err(unsupported_source(&path)),
    }
}

/// `data:<media type>;base64,<data>`.
fn data_url<'a>(source: &RawObject<'a>, path: &str) -> Result<Cow<'a, str>, RequestError> {
    let field = |name: &str| {
        source.text(name).ok_or_else(|| RequestError::missing(&format!("{path}.{name}")))
    };
    let (media_type, data) = (field("media_type")?, field("data")?);
    Ok(Cow::Owned(["data:", &media_type, ";base64,", &data].concat()))
}

fn unsupported_source(path: &str) -> RequestError {
    let path = format!("{path}.type");
    let text = format!("`{path}` is not one that this model can read: send the data itself");
    RequestError::unsupported(&path, text)
}

fn unknown_block(kind: Option<&str>, path: &str) -> RequestError {
    let path = format!("{path}.type");
    let Some(kind) = kind else { return RequestError::missing(&path) };
    let kind = upstream_error::bounded(kind, 40);
    let text = format!("content blocks of type `{kind}` don't exist at this place for this model");
    RequestError::unsupported(&path, text)
}
