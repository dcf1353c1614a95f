//! A chat request for an OpenAI-format upstream: the caller's bytes with a few splices.

use bytes::Bytes;

use crate::wire::raw::{self, Edit, RawObject};

use super::{ChatRequest, OpenAiEdit, TokensField};

pub(super) fn to_openai(request: &ChatRequest, edit: &OpenAiEdit<'_>) -> Bytes {
    let text = request.text();
    let fields = request.fields();
    let mut edits = Vec::with_capacity(4);
    let mut appended = String::new();
    if let Some(model) = fields.get("model") {
        edits.push(Edit::replace(raw::span(text, model.get()), raw::json_string(edit.model)));
    }
    if let Some(prefix) = edit.system_prefix {
        edits.extend(system_edit(request, text, prefix));
    }
    if edit.include_usage && request.stream() && !request.include_usage() {
        include_usage(text, &fields, &mut edits, &mut appended);
    }
    if let Some((field, tokens)) = edit.max_tokens {
        set_tokens(text, &fields, field, tokens, &mut edits, &mut appended);
    }
    if !appended.is_empty()
        && let Some(end) = text.rfind('}')
    {
        edits.push(Edit::insert(end, appended));
    }
    raw::splice(text, edits)
}

/// Sets `key` to `value`: in its place, or after the last field.
fn set(
    text: &str,
    fields: &RawObject<'_>,
    key: &str,
    value: &str,
    edits: &mut Vec<Edit>,
    appended: &mut String,
) {
    match fields.0.iter().find(|(name, _)| name == key) {
        Some((_, old)) => edits.push(Edit::replace(raw::span(text, old.get()), value)),
        None => {
            appended.push_str(",\"");
            appended.push_str(key);
            appended.push_str("\":");
            appended.push_str(value);
        }
    }
}

fn set_tokens(
    text: &str,
    fields: &RawObject<'_>,
    field: TokensField,
    tokens: u64,
    edits: &mut Vec<Edit>,
    appended: &mut String,
) {
    let other = match field {
        TokensField::MaxTokens => TokensField::MaxCompletionTokens,
        TokensField::MaxCompletionTokens => TokensField::MaxTokens,
    };
    set(text, fields, field.as_str(), &tokens.to_string(), edits, appended);
    if let Some(index) = fields.0.iter().position(|(name, _)| name == other.as_str()) {
        edits.extend(raw::removal(text, fields, index));
    }
}

fn include_usage(text: &str, fields: &RawObject<'_>, edits: &mut Vec<Edit>, appended: &mut String) {
    let nested = fields.get("stream_options").and_then(|options| {
        let object = RawObject::parse(options.get()).ok()?;
        Some((options, object))
    });
    let Some((options, object)) = nested else {
        set(text, fields, "stream_options", r#"{"include_usage":true}"#, edits, appended);
        return;
    };
    let at = raw::span(text, options.get());
    match object.0.iter().rev().find(|(name, _)| name == "include_usage") {
        Some((_, old)) => edits.push(Edit::replace(raw::span(text, old.get()), "true")),
        None if object.0.is_empty() => edits.push(Edit::replace(at, r#"{"include_usage":true}"#)),
        None => edits.push(Edit::insert(at.end - 1, r#","include_usage":true"#)),
    }
}

/// Puts the persona before the caller's system text.
fn system_edit(request: &ChatRequest, text: &str, prefix: &str) -> Option<Edit> {
    let messages = request.raw_messages();
    let first = messages.first()?;
    let mut escaped = raw::json_string(prefix);
    let is_system = matches!(first.text("role").as_deref(), Some("system" | "developer"));
    let content = first.get("content").filter(|_| is_system);
    match content {
        Some(content) if raw::starts_with(content, b'"') => {
            escaped.pop();
            escaped.push_str("\\n\\n");
            let at = raw::span(text, content.get()).start;
            Some(Edit::replace(at..at + 1, escaped))
        }
        Some(content) => {
            escaped.pop();
            let comma = if raw::elements(content)?.is_empty() { "" } else { "," };
            let part = format!(r#"{{"type":"text","text":{escaped}\n\n"}}{comma}"#);
            Some(Edit::insert(raw::span(text, content.get()).start + 1, part))
        }
        None => {
            let message = format!(r#"{{"role":"system","content":{escaped}}},"#);
            Some(Edit::insert(request.messages.start + 1, message))
        }
    }
}
