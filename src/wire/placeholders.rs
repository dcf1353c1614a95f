//! `${username}` in the texts of messages: found, and replaced by names.
//!
//! A placeholder is `${`, a username's letters and `}`; anything else between the braces is text.
//! `\${username}` is how a person writes the placeholder itself: the backslash is taken away. What
//! people write must name faces. What a model wrote is replaced where a face has that name, and is
//! text otherwise: an answer that shows code must not stop the conversation. Results of tools are
//! data and never touched. All is found before anything is replaced, so no replacement is read
//! again.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    raw::{self, Edit, RawObject},
    request_error::RequestError,
};
use crate::domain::FACE_NAME_CHARS_MAX;

/// Most names that are found of each kind: each is looked up, and compared with every placeholder. More
/// of people's are too many for any request; more of a model's are text.
const NAMES_MAX: usize = 32;

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

/// A text in which placeholders are read.
pub(crate) struct TextAt<'a> {
    literal: &'a RawValue,
    by_model: bool,
}

/// A piece of a text.
enum Piece<'a> {
    Plain(&'a str),
    Name { whole: &'a str, name: &'a str, is_escaped: bool },
}

/// A request whose messages may mention faces.
pub(crate) trait Templated: Sized {
    /// The body as it came.
    fn bytes(&self) -> &Bytes;

    /// The texts in which placeholders are read: slices of [`Self::bytes`], none twice.
    fn texts(&self) -> Vec<TextAt<'_>>;

    /// The text of the user and assistant turns.
    fn conversation(&self) -> String;

    /// The same request with another body, checked again.
    ///
    /// # Errors
    /// [`RequestError`] when the body is not one of such a request.
    fn with_bytes(&self, body: Bytes) -> Result<Self, RequestError>;

    /// Whether there may be placeholders: a search of the bytes, for every request. Errs towards
    /// yes: `$` and `{` may be written as escapes.
    fn may_hold_placeholders(&self) -> bool {
        [&b"${"[..], b"\\u0024", b"\\u007b", b"\\u007B"]
            .into_iter()
            .any(|sign| memchr::memmem::find(self.bytes(), sign).is_some())
    }

    /// Finds the placeholders of all texts.
    fn placeholders(&self) -> Placeholders {
        let mut found = Placeholders::default();
        let mut by_model = Vec::new();
        for text in self.texts() {
            let Some(decoded) = raw::text(text.literal) else { continue };
            for piece in pieces(&decoded) {
                match piece {
                    Piece::Name { is_escaped: true, .. } => found.has_escapes |= !text.by_model,
                    Piece::Name { name, .. } if text.by_model => push_new(&mut by_model, name),
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
    /// stay. Escapes of what people wrote are resolved. All other bytes stay as they are.
    ///
    /// # Errors
    /// As [`Self::with_bytes`]; none, for a request that passed its checks.
    fn with_placeholders(&self, names: &BTreeMap<String, String>) -> Result<Self, RequestError> {
        let body = std::str::from_utf8(self.bytes()).unwrap_or_default();
        let mut edits = Vec::new();
        for text in self.texts() {
            let Some(decoded) = raw::text(text.literal) else { continue };
            let replaced: String =
                pieces(&decoded).map(|piece| piece.said(text.by_model, names)).collect();
            if replaced != *decoded {
                let at = raw::span(body, text.literal.get());
                edits.push(Edit::replace(at, raw::json_string(&replaced)));
            }
        }
        self.with_bytes(raw::splice(body, edits))
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

/// The texts of messages; results of tools are data.
pub(crate) fn message_texts<'a>(messages: &[RawObject<'a>]) -> Vec<TextAt<'a>> {
    let mut texts = Vec::new();
    for message in messages {
        let by_model = match message.text("role").as_deref() {
            Some("tool" | "function") => continue,
            role => role == Some("assistant"),
        };
        if let Some(content) = message.get("content") {
            content_texts(content, by_model, &mut texts);
        }
    }
    texts
}

/// The texts of a content: itself, or its parts of type `text`.
pub(crate) fn content_texts<'a>(
    content: &'a RawValue,
    by_model: bool,
    texts: &mut Vec<TextAt<'a>>,
) {
    if raw::starts_with(content, b'"') {
        texts.push(TextAt { literal: content, by_model });
        return;
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
    if names.len() < NAMES_MAX && !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::{anthropic::MessagesRequest, openai_chat::ChatRequest};

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
    fn of_a_native_request_only_texts_are_read_and_every_other_byte_stays() {
        let body = r#"{ "x":[1.0 ,"${bob}"],"system": [ {"type":"text" ,"text":"S ${ann} \u00e9","cache_control":{}} ],"max_tokens":9,
            "model":"m", "messages":[ {"role":"user","content":[ {"type":"tool_result","tool_use_id":"t","content":"${bob}"},
            {"type":"document","source":{"type":"text","data":"${bob}"}},{"text":"\\${x} ${bob}","type":"text"} ]},
            {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":{"a":"${bob}"}},{"type":"text","text":"${ann} ${i}"}]} ] }"#;
        let request = MessagesRequest::parse(Bytes::from_static(body.as_bytes())).unwrap();
        let found = request.placeholders();
        assert_eq!(
            (found.required, found.optional),
            (vec!["ann".into(), "bob".into()], vec!["i".into()])
        );
        let names = [("bob", "B"), ("ann", "${bob}")];
        let names = names.map(|(name, shown)| (name.to_owned(), shown.to_owned())).into();
        let replaced = request.with_placeholders(&names).unwrap();
        let expected = body
            .replace(r#""S ${ann} \u00e9""#, r#""S ${bob} é""#)
            .replace(r#""\\${x} ${bob}""#, r#""${x} B""#)
            .replace(r#""${ann} ${i}""#, r#""${bob} ${i}""#);
        assert_eq!(String::from_utf8_lossy(replaced.body()), expected);
        assert!(replaced.input_bound().text_bytes < request.input_bound().text_bytes);
        let system =
            r#"{"model":"m","system":"${ann}","messages":[{"role":"user","content":"x"}]}"#;
        let request =
            MessagesRequest::parse_count_tokens(Bytes::from_static(system.as_bytes())).unwrap();
        assert_eq!(request.placeholders().required, ["ann"]);
        assert_eq!(
            request.with_placeholders(&names).unwrap().body(),
            &system.replace("${ann}", "${bob}")
        );
    }

    #[test]
    fn of_very_many_names_some_are_found() {
        let text: String = (0..200_000).map(|number| format!("${{n{number}}}")).collect();
        let turns = ["user", "assistant"].map(|role| json!({"role": role, "content": text}));
        let found = request(&json!(turns)).placeholders();
        assert_eq!((found.required.len(), found.required[31].as_str()), (NAMES_MAX, "n31"));
        assert!(found.optional.is_empty(), "those that are found are people's, too");
        let found = request(&json!([turns[1]])).placeholders();
        assert_eq!((found.required.len(), found.optional.len()), (0, NAMES_MAX));
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
