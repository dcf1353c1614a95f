//! The checks of a chat request.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::wire::{
    bound::{self, InputBound},
    raw::{self, RawObject},
    request_error::{JsonType, RequestError, RequestErrorKind},
};

use super::ChatRequest;

/// Top-level fields that put nothing into the model's context. All others count as input.
const SETTINGS: [&str; 24] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
    "stop",
    "store",
    "user",
    "safety_identifier",
    "service_tier",
    "metadata",
    "reasoning_effort",
    "parallel_tool_calls",
    "prompt_cache_key",
];

pub(super) fn parse(body: Bytes) -> Result<ChatRequest, RequestError> {
    let text = body_text(&body)?;
    let fields = top_level(text)?;
    let model = required_model(&fields)?;
    let messages = required(&fields, "messages")?;
    let list = message_list(messages)?;
    let mut input = InputBound::default();
    for (index, message) in list.iter().enumerate() {
        let message = check_message(index, message)?;
        input.add_message(&message);
    }
    for (key, value) in &fields.0 {
        if !SETTINGS.contains(&key.as_ref()) {
            input.text_bytes += raw::decoded_len(value.get());
        }
    }
    let stream = optional_bool(&fields, "stream")?.unwrap_or(false);
    let max_tokens = positive(&fields, "max_tokens")?;
    let max_completion_tokens = positive(&fields, "max_completion_tokens")?;
    let include_usage = include_usage(&fields)?;
    let n = positive(&fields, "n")?.unwrap_or(1);
    let messages = raw::span(text, messages.get());
    let may_write_cache = bound::may_write_cache(&body);
    let asks_for_reasoning = bound::asks_for_reasoning(&fields);
    Ok(ChatRequest {
        model,
        stream,
        include_usage,
        max_tokens: max_completion_tokens.or(max_tokens),
        has_max_tokens: max_tokens.is_some(),
        has_max_completion_tokens: max_completion_tokens.is_some(),
        n,
        bound: input,
        may_write_cache,
        asks_for_reasoning,
        messages,
        body,
    })
}

pub(crate) fn body_text(body: &[u8]) -> Result<&str, RequestError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        let message = "the body is empty: send one JSON object";
        return Err(RequestError::new(RequestErrorKind::Json, "", message));
    }
    std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        let message = format!("the body is not UTF-8 (byte {at}): send JSON as UTF-8");
        RequestError::new(RequestErrorKind::Json, "", message)
    })
}

/// The fields of the body. A field that is read here and stands twice is refused: which of the
/// two counts would be the upstream's guess.
pub(crate) fn top_level(text: &str) -> Result<RawObject<'_>, RequestError> {
    let fields = RawObject::parse(text).map_err(|error| {
        let is_object = text.trim_start().starts_with('{');
        if error.is_data() && !is_object {
            let message = "the body must be a JSON object";
            RequestError::new(RequestErrorKind::Type(JsonType::Object), "", message)
        } else {
            RequestError::json(&error)
        }
    })?;
    for name in SETTINGS {
        // Some readers fold case (Go's does): what we bill must be what they obey.
        if fields.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).count() > 1 {
            let message = format!("`{name}` stands twice: keep one");
            return Err(RequestError::value(name, message));
        }
    }
    Ok(fields)
}

pub(crate) fn required<'a>(
    fields: &RawObject<'a>,
    name: &str,
) -> Result<&'a RawValue, RequestError> {
    let value = fields.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    value.ok_or_else(|| RequestError::missing(name))
}

pub(crate) fn required_model(fields: &RawObject<'_>) -> Result<String, RequestError> {
    let model = raw::text(required(fields, "model")?)
        .ok_or_else(|| RequestError::wrong_type("model", JsonType::String))?;
    if model.trim().is_empty() {
        let message = "`model` is empty: name a face, `face@model` or a model of GET /v1/models";
        return Err(RequestError::value("model", message));
    }
    Ok(model.into_owned())
}

pub(crate) fn message_list(messages: &RawValue) -> Result<Vec<&RawValue>, RequestError> {
    let list = raw::elements(messages)
        .ok_or_else(|| RequestError::wrong_type("messages", JsonType::Array))?;
    if list.is_empty() {
        let message = "`messages` is empty: send at least one message";
        return Err(RequestError::value("messages", message));
    }
    Ok(list)
}

fn check_message<'a>(index: usize, message: &'a RawValue) -> Result<RawObject<'a>, RequestError> {
    let path = || format!("messages[{index}]");
    if !raw::starts_with(message, b'{') {
        return Err(RequestError::wrong_type(&path(), JsonType::Object));
    }
    let message = RawObject::parse(message.get()).map_err(|error| RequestError::json(&error))?;
    for name in ["role", "content"] {
        if message.0.iter().filter(|(key, _)| key == name).count() > 1 {
            let path = format!("{}.{name}", path());
            let text = format!("`{path}` stands twice: keep one");
            return Err(RequestError::value(&path, text));
        }
    }
    let role_path = || format!("{}.role", path());
    let role = message.0.iter().find(|(key, _)| key == "role");
    let role = role.ok_or_else(|| RequestError::missing(&role_path()))?.1;
    let role =
        raw::text(role).ok_or_else(|| RequestError::wrong_type(&role_path(), JsonType::String))?;
    if !matches!(role.as_ref(), "system" | "developer" | "user" | "assistant" | "tool" | "function")
    {
        let text = format!(
            "`{}` must be one of system, developer, user, assistant, tool or function",
            role_path()
        );
        return Err(RequestError::value(&role_path(), text));
    }
    let content_path = format!("{}.content", path());
    match message.get("content") {
        Some(content) => check_content(&content_path, content)?,
        None if matches!(role.as_ref(), "assistant" | "function") => {}
        None if message.0.iter().any(|(key, _)| key == "content") => {
            return Err(RequestError::wrong_type(&content_path, JsonType::String));
        }
        None => return Err(RequestError::missing(&content_path)),
    }
    Ok(message)
}

/// A string, or an array of parts that each have a `type`.
fn check_content(path: &str, content: &RawValue) -> Result<(), RequestError> {
    match content.get().as_bytes().first() {
        Some(b'"') => match raw::text(content) {
            Some(_) => Ok(()),
            None => Err(RequestError::value(path, format!("`{path}` is not valid Unicode text"))),
        },
        Some(b'[') => {
            for (index, part) in raw::elements(content).unwrap_or_default().iter().enumerate() {
                let part_path = || format!("{path}[{index}]");
                if !raw::starts_with(part, b'{') {
                    return Err(RequestError::wrong_type(&part_path(), JsonType::Object));
                }
                let part =
                    RawObject::parse(part.get()).map_err(|error| RequestError::json(&error))?;
                let kind_path = || format!("{}.type", part_path());
                let kind = part.get("type").ok_or_else(|| RequestError::missing(&kind_path()))?;
                let kind = raw::text(kind)
                    .ok_or_else(|| RequestError::wrong_type(&kind_path(), JsonType::String))?;
                if kind == "text" {
                    let text_path = || format!("{}.text", part_path());
                    let text =
                        part.get("text").ok_or_else(|| RequestError::missing(&text_path()))?;
                    if raw::text(text).is_none() {
                        return Err(RequestError::wrong_type(&text_path(), JsonType::String));
                    }
                }
            }
            Ok(())
        }
        _ => Err(RequestError::new(
            RequestErrorKind::Type(JsonType::String),
            path,
            format!("`{path}` must be a string or an array of content parts"),
        )),
    }
}

pub(crate) fn optional_bool(
    fields: &RawObject<'_>,
    name: &str,
) -> Result<Option<bool>, RequestError> {
    match fields.get(name).map(RawValue::get) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(RequestError::wrong_type(name, JsonType::Bool)),
    }
}

/// A positive integer, or nothing.
pub(crate) fn positive(fields: &RawObject<'_>, name: &str) -> Result<Option<u64>, RequestError> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    if let Ok(number) = value.get().parse::<u64>() {
        if number == 0 {
            return Err(RequestError::value(name, format!("`{name}` must be at least 1")));
        }
        return Ok(Some(number));
    }
    if value.get().parse::<i128>().is_ok() {
        let message = format!("`{name}` must be a positive integer of ordinary size");
        return Err(RequestError::value(name, message));
    }
    Err(RequestError::wrong_type(name, JsonType::Integer))
}

fn include_usage(fields: &RawObject<'_>) -> Result<bool, RequestError> {
    let Some(options) = fields.get("stream_options") else { return Ok(false) };
    if !raw::starts_with(options, b'{') {
        return Err(RequestError::wrong_type("stream_options", JsonType::Object));
    }
    let options = RawObject::parse(options.get()).map_err(|error| RequestError::json(&error))?;
    match options.get("include_usage").map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(RequestError::wrong_type("stream_options.include_usage", JsonType::Bool)),
    }
}
