//! `${username}` in the texts of messages: found, and replaced by names.
//!
//! A placeholder is `${`, a username's letters and `}`; anything else between the braces is text.
//! `\${username}` is how a person writes the placeholder itself: the backslash is taken away. What
//! people write must name faces. What a model wrote is replaced where a face has that name, and is
//! text otherwise: an answer that shows code must not stop the conversation. Results of tools are
//! data and never touched. All is found before anything is replaced, so no replacement is read
//! again.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::ChatRequest;
use crate::{
    domain::FACE_NAME_CHARS_MAX,
    wire::{
        raw::{self, Edit, RawObject},
        request_error::RequestError,
    },
};

/// The placeholders of a request, each name once, in the order of their first place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placeholders {
    /// Names that people wrote.
    pub required: Vec<String>,
    /// Names that only a model wrote.
    pub optional: Vec<String>,
    /// Whether something is escaped.
    pub has_escapes: bool,
}

impl Placeholders {
    /// Whether there is nothing to replace.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.required.is_empty() && self.optional.is_empty() && !self.has_escapes
    }
}

/// A text of a message.
struct TextAt<'a> {
    literal: &'a RawValue,
    by_model: bool,
}

/// A piece of a text.
enum Piece<'a> {
    Plain(&'a str),
    Name { whole: &'a str, name: &'a str, is_escaped: bool },
}

impl ChatRequest {
    /// Whether there may be placeholders: a search of the bytes, for every request. Errs towards
    /// yes: `$` and `{` may be written as escapes.
    #[must_use]
    pub fn may_hold_placeholders(&self) -> bool {
        [&b"${"[..], b"\\u0024", b"\\u007b", b"\\u007B"]
            .into_iter()
            .any(|sign| memchr::memmem::find(self.body(), sign).is_some())
    }

    /// Finds the placeholders of all messages.
    #[must_use]
    pub fn placeholders(&self) -> Placeholders {
        let mut found = Placeholders::default();
        let mut by_model = Vec::new();
        let messages = self.raw_messages();
        for text in message_texts(&messages) {
            let Some(decoded) = raw::text(text.literal) else { continue };
            for piece in pieces(&decoded) {
                match piece {
                    Piece::Name { is_escaped: true, .. } => found.has_escapes |= !text.by_model,
                    Piece::Name { name, .. } if text.by_model => by_model.push(name.to_owned()),
                    Piece::Name { name, .. } => push_new(&mut found.required, name),
                    Piece::Plain(_) => {}
                }
            }
        }
        for name in by_model.iter().filter(|name| !found.required.contains(name)) {
            push_new(&mut found.optional, name);
        }
        found
    }

    /// The same request with placeholders replaced by what they stand for; those of other names
    /// stay. Escapes of what people wrote are resolved.
    ///
    /// # Errors
    /// As [`ChatRequest::parse`]; none, for a request that passed it.
    pub fn with_placeholders(
        &self,
        names: &BTreeMap<String, String>,
    ) -> Result<Self, RequestError> {
        let body = self.text();
        let messages = self.raw_messages();
        let mut edits = Vec::new();
        for text in message_texts(&messages) {
            let Some(decoded) = raw::text(text.literal) else { continue };
            let replaced: String =
                pieces(&decoded).map(|piece| piece.said(text.by_model, names)).collect();
            if replaced != *decoded {
                let at = raw::span(body, text.literal.get());
                edits.push(Edit::replace(at, raw::json_string(&replaced)));
            }
        }
        Self::parse(raw::splice(body, edits))
    }
}

impl<'a> Piece<'a> {
    fn said(self, by_model: bool, names: &'a BTreeMap<String, String>) -> &'a str {
        match self {
            Self::Plain(text) => text,
            Self::Name { whole, is_escaped: true, .. } if by_model => whole,
            Self::Name { whole, is_escaped: true, .. } => whole.strip_prefix('\\').unwrap_or(whole),
            Self::Name { whole, name, .. } => names.get(name).map_or(whole, String::as_str),
        }
    }
}

/// The texts of messages that hold something like a placeholder.
fn message_texts<'a>(messages: &[RawObject<'a>]) -> Vec<TextAt<'a>> {
    let mut texts = Vec::new();
    for message in messages {
        let by_model = match message.text("role").as_deref() {
            Some("tool" | "function") => continue,
            role => role == Some("assistant"),
        };
        let Some(content) = message.get("content") else { continue };
        if raw::starts_with(content, b'"') {
            texts.push(TextAt { literal: content, by_model });
            continue;
        }
        for part in raw::elements(content).unwrap_or_default() {
            let Ok(part) = RawObject::parse(part.get()) else { continue };
            if part.text("type").as_deref() == Some("text")
                && let Some(literal) = part.get("text")
            {
                texts.push(TextAt { literal, by_model });
            }
        }
    }
    texts
}

/// Cuts a text at its placeholders.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((start, name)) = first_name(rest) else {
            return Some(Piece::Plain(std::mem::take(&mut rest)));
        };
        if start > 0 {
            let (plain, tail) = rest.split_at(start);
            rest = tail;
            return Some(Piece::Plain(plain));
        }
        let is_escaped = rest.starts_with('\\');
        let (whole, tail) = rest.split_at(name.len() + 3 + usize::from(is_escaped));
        rest = tail;
        Some(Piece::Name { whole, name, is_escaped })
    })
}

/// Where the first placeholder begins (at its backslash, when it has one), and its name.
fn first_name(text: &str) -> Option<(usize, &str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("${") {
        let open = from + at;
        let inside = &text[open + 2..];
        let letters =
            inside.bytes().take_while(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let length = letters.count();
        if (1..=FACE_NAME_CHARS_MAX).contains(&length) && inside[length..].starts_with('}') {
            let start = open - usize::from(text[..open].ends_with('\\'));
            return Some((start, &inside[..length]));
        }
        from = open + 2;
    }
    None
}

fn push_new(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn request(messages: &Value) -> ChatRequest {
        let body = json!({"model": "m", "messages": messages, "x": "${bob}"});
        ChatRequest::parse(Bytes::from(body.to_string())).unwrap()
    }

    fn replaced(messages: &Value) -> Value {
        let names = [("bob", "Bob ${ann}"), ("ann", "Ann \"A\"")];
        let names = names.map(|(name, shown)| (name.to_owned(), shown.to_owned())).into();
        let request = request(messages).with_placeholders(&names).unwrap();
        let mut body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["x"], "${bob}", "only messages are touched");
        body["messages"].take()
    }

    #[test]
    fn placeholders_are_found_and_replaced_once_and_escapes_resolved() {
        let user = |text: &str| json!([{"role": "user", "content": text}]);
        for (text, expected) in [
            ("Hi ${bob}!", "Hi Bob ${ann}!"),
            ("${ann}${bob}", "Ann \"A\"Bob ${ann}"),
            ("\\${bob} is ${bob}", "${bob} is Bob ${ann}"),
            ("\\\\${bob}", "\\${bob}"),
            (
                "${nobody} ${Bob} ${b o} ${} $ {bob} ${bob",
                "${nobody} ${Bob} ${b o} ${} $ {bob} ${bob",
            ),
            ("\\${HOME} ${${ann}}", "\\${HOME} ${Ann \"A\"}"),
        ] {
            assert_eq!(replaced(&user(text)), user(expected), "{text}");
        }
        let parts = json!([{"role": "system", "content": [
            {"type": "text", "text": "${ann}"}, {"type": "image_url", "image_url": {"url": "${ann}"}}]}]);
        assert_eq!(replaced(&parts)[0]["content"][0]["text"], "Ann \"A\"");
        assert_eq!(replaced(&parts)[0]["content"][1], parts[0]["content"][1]);
    }

    #[test]
    fn what_a_model_wrote_need_not_name_a_face_and_results_of_tools_are_data() {
        let messages = json!([
            {"role": "user", "content": "${ann} \\${x}"},
            {"role": "assistant", "content": "`\\${bob}` ${bob} ${ann} ${i}"},
            {"role": "tool", "tool_call_id": "1", "content": "${bob}"},
        ]);
        let found = request(&messages).placeholders();
        assert_eq!(found.required, ["ann"]);
        assert_eq!(found.optional, ["bob", "i"]);
        assert!(found.has_escapes);
        let out = replaced(&messages);
        assert_eq!(out[1]["content"], "`\\${bob}` Bob ${ann} Ann \"A\" ${i}");
        assert_eq!(out[2], messages[2]);
    }

    #[test]
    fn escapes_of_json_hide_nothing() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"\u0024\u007bbob}"}]}"#;
        let request = ChatRequest::parse(Bytes::from_static(body.as_bytes())).unwrap();
        assert!(request.may_hold_placeholders());
        assert_eq!(request.placeholders().required, ["bob"]);
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole_text(text in "([$]|[{]|[}]|\\\\|a|é|\\$\\{a\\}){0,40}") {
            let whole: String = pieces(&text).map(|piece| match piece {
                Piece::Plain(plain) => plain.to_owned(),
                Piece::Name { whole, name, is_escaped } => {
                    let sign = if is_escaped { "\\" } else { "" };
                    assert_eq!(whole, format!("{sign}${{{name}}}"));
                    whole.to_owned()
                }
            }).collect();
            prop_assert_eq!(whole, text);
        }
    }
}
