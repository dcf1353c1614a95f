//! How large a request's input can be, from its bytes.

use serde_json::value::RawValue;

use super::raw::{self, RawObject};

/// An upper bound of what a request puts into the model's context.
///
/// A byte-level tokenizer makes at most one token of a byte, so `text_bytes` bounds the text's
/// tokens; messages, images and files cost extra and are counted for the caller to price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputBound {
    /// Bytes of text once JSON escapes are read: messages, tools, schemas and every field that is
    /// not known to be a mere setting. Without image and file data.
    pub text_bytes: u64,
    /// Messages (each costs a few tokens of framing).
    pub message_count: u64,
    /// Images.
    pub image_count: u64,
    /// Bytes of file and audio parts as they stand in the body (base64).
    pub file_bytes: u64,
}

impl InputBound {
    /// Adds a content: a string, an array of parts or blocks, or anything else as text.
    pub(crate) fn add_content(&mut self, content: &RawValue) {
        if raw::starts_with(content, b'[')
            && let Some(parts) = raw::elements(content)
        {
            for part in parts {
                self.add_part(part);
            }
        } else {
            self.text_bytes += raw::decoded_len(content.get());
        }
    }

    fn add_part(&mut self, part: &RawValue) {
        let Ok(object) = RawObject::parse(part.get()) else {
            self.text_bytes += raw::decoded_len(part.get());
            return;
        };
        match object.text("type").as_deref() {
            Some("image_url" | "image") => self.image_count += 1,
            Some("file" | "input_audio" | "document" | "audio") => {
                self.file_bytes += part.get().len() as u64;
            }
            Some("tool_result" | "search_result") => {
                for (key, value) in &object.0 {
                    if key == "content" {
                        self.add_content(value);
                    } else {
                        self.text_bytes += raw::decoded_len(value.get());
                    }
                }
            }
            _ => {
                for (_, value) in &object.0 {
                    self.text_bytes += raw::decoded_len(value.get());
                }
            }
        }
    }

    /// Adds a message object.
    pub(crate) fn add_message(&mut self, message: &RawObject<'_>) {
        self.message_count += 1;
        for (key, value) in &message.0 {
            match key.as_ref() {
                "role" => {}
                "content" => self.add_content(value),
                _ => self.text_bytes += raw::decoded_len(value.get()),
            }
        }
    }
}

/// Whether a request may ask for cache writes. Errs towards yes: the words may stand in a text,
/// and letters may be written as escapes.
pub(crate) fn may_write_cache(body: &[u8]) -> bool {
    [
        &b"cache_control"[..],
        b"prompt_cache_breakpoint",
        b"prompt_cache_options",
        b"\\u005",
        b"\\u006",
        b"\\u007",
    ]
    .into_iter()
    .any(|word| memchr::memmem::find(body, word).is_some())
}

/// Whether a request asks its model to reason, in any dialect's words: OpenAI's `reasoning_effort`,
/// Anthropic's `thinking`, OpenRouter's `reasoning`. Errs towards yes.
pub(crate) fn asks_for_reasoning(fields: &RawObject<'_>) -> bool {
    let words = ["reasoning_effort", "thinking", "reasoning"];
    fields.0.iter().any(|(key, value)| {
        let is_off = || match raw::text(value) {
            Some(word) => word == "none",
            None => {
                value.get() == "null"
                    || RawObject::parse(value.get())
                        .is_ok_and(|object| object.text("type").as_deref() == Some("disabled"))
            }
        };
        words.iter().any(|word| key.eq_ignore_ascii_case(word)) && !is_off()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_is_asked_for_unless_it_is_off_or_not_named() {
        for (fields, expected) in [
            (r#"{}"#, false),
            (r#"{"reasoning_effort":"none"}"#, false),
            (r#"{"reasoning_effort":null}"#, false),
            (r#"{"reasoning_effort":"low"}"#, true),
            (r#"{"Reasoning_Effort":"low"}"#, true),
            (r#"{"reasoning_effort":1}"#, true),
            (r#"{"thinking":{"type":"disabled"}}"#, false),
            (r#"{"thinking":{"type":"adaptive"}}"#, true),
            (r#"{"thinking":{"type":"enabled","budget_tokens":1024}}"#, true),
            (r#"{"reasoning":{"effort":"high"}}"#, true),
        ] {
            let fields = RawObject::parse(fields).unwrap();
            assert_eq!(asks_for_reasoning(&fields), expected, "{fields:?}");
        }
    }
}
