//! A Responses request as a chat request.

use std::borrow::Cow;

use serde_json::{Value, json, value::RawValue};

use crate::wire::{
    AsChat,
    chat_body::{ChatBody, Format, JsonSchema, Tool, ToolFunction, drop_field},
    openai_chat::{body_text, optional_bool, positive, required_model, top_level},
    raw::{self, RawObject},
    request_error::{JsonType, RequestError},
    retell::Retelling,
    upstream_error,
};

use super::{input, object::Echo};

/// Fields that would need what this server does not have, with the reason.
const UNSUPPORTED: [(&str, &str); 4] = [
    ("previous_response_id", "no response is stored here: send the whole conversation as `input`"),
    ("conversation", "no conversation is stored here: send all of it as `input`"),
    ("prompt", "no prompt is stored here: send its text as `instructions` or `input`"),
    ("background", "a response can't run in the background here: leave it out, or stream"),
];

/// Fields without an equivalent that only state a preference.
const DROPPED: [&str; 9] = [
    "include",
    "truncation",
    "top_logprobs",
    "max_tool_calls",
    "prompt_cache_retention",
    "prompt_cache_options",
    "context_management",
    "moderation",
    "stream_options",
];

/// Fields that are read somewhere in this module.
const READ: [&str; 19] = [
    "model",
    "input",
    "instructions",
    "stream",
    "store",
    "max_output_tokens",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "metadata",
    "verbosity",
];

/// Translates a Responses request; beside it, how its answer is told.
///
/// # Errors
/// [`RequestError`] that names the place: of kind `Unsupported` for what needs stored responses,
/// OpenAI's own tools and files by id, of another for a malformed field.
pub fn to_chat(body: &[u8]) -> Result<(AsChat, Retelling), RequestError> {
    let text = body_text(body)?;
    let fields = top_level(text)?;
    let model = required_model(&fields)?;
    let mut dropped = unsupported_and_dropped(&fields)?;
    let stream = optional_bool(&fields, "stream")?.unwrap_or(false);
    optional_bool(&fields, "store")?;
    let instructions = optional_text(&fields, "instructions")?;
    let messages = input::messages(&fields, instructions, &mut dropped)?;
    let mut chat = ChatBody::new(Cow::Borrowed(&model), messages, stream);
    chat.max_completion_tokens = positive(&fields, "max_output_tokens")?;
    chat.temperature = fields.get("temperature");
    chat.top_p = fields.get("top_p");
    chat.tools = tools(&fields)?;
    let parallel = optional_bool(&fields, "parallel_tool_calls")?;
    let choice = tool_choice(&fields)?;
    if !chat.tools.is_empty() {
        chat.tool_choice = choice;
        chat.parallel_tool_calls = parallel;
    }
    let text_settings = object(&fields, "text")?;
    chat.response_format = text_settings.get("format").map(format).transpose()?.flatten();
    chat.verbosity = text_settings.get("verbosity");
    let reasoning = object(&fields, "reasoning")?;
    chat.reasoning_effort = reasoning.text("effort");
    chat.service_tier = optional_text(&fields, "service_tier")?;
    chat.safety_identifier = fields.get("safety_identifier");
    chat.user = optional_text(&fields, "user")?;
    chat.prompt_cache_key = fields.get("prompt_cache_key");
    let retelling = Retelling::responses(Box::new(Echo::new(&model, &fields)));
    Ok((AsChat { request: chat.into_request()?, dropped }, retelling))
}

fn unsupported_and_dropped(fields: &RawObject<'_>) -> Result<Vec<&'static str>, RequestError> {
    for (name, reason) in UNSUPPORTED {
        if fields.get(name).is_some_and(|value| value.get() != "false") {
            let text = format!("`{name}` is not supported: {reason}");
            return Err(RequestError::unsupported(name, text));
        }
    }
    let mut dropped = Vec::new();
    for (key, value) in &fields.0 {
        let says_nothing =
            matches!(value.get(), "null" | "0" | "[]" | "{}" | "\"disabled\"" | "false");
        if says_nothing || READ.contains(&key.as_ref()) {
            continue;
        }
        let known = DROPPED.into_iter().find(|name| key == name);
        drop_field(&mut dropped, known.unwrap_or("unknown fields"));
    }
    Ok(dropped)
}

fn object<'a>(fields: &RawObject<'a>, name: &str) -> Result<RawObject<'a>, RequestError> {
    let Some(value) = fields.get(name) else { return Ok(RawObject::default()) };
    RawObject::parse(value.get()).map_err(|_| RequestError::wrong_type(name, JsonType::Object))
}

fn optional_text<'a>(
    fields: &RawObject<'a>,
    name: &str,
) -> Result<Option<Cow<'a, str>>, RequestError> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let text = raw::text(value).ok_or_else(|| RequestError::wrong_type(name, JsonType::String))?;
    Ok(Some(text))
}

fn tools<'a>(fields: &RawObject<'a>) -> Result<Vec<Tool<'a>>, RequestError> {
    let Some(value) = fields.get("tools") else { return Ok(Vec::new()) };
    let list: Vec<RawObject<'a>> = serde_json::from_str(value.get())
        .map_err(|_| RequestError::wrong_type("tools", JsonType::Array))?;
    let one = |(index, tool): (usize, &RawObject<'a>)| {
        let path = format!("tools[{index}]");
        match tool.text("type").as_deref() {
            Some("function") => {}
            Some(kind) => {
                let kind = upstream_error::bounded(kind, 40);
                let text =
                    format!("tools of type `{kind}` don't exist here: use one of type `function`");
                return Err(RequestError::unsupported(&format!("{path}.type"), text));
            }
            None => return Err(RequestError::missing(&format!("{path}.type"))),
        }
        let name_path = || format!("{path}.name");
        let name = tool.text("name").ok_or_else(|| RequestError::missing(&name_path()))?;
        let strict = match tool.get("strict").map(RawValue::get) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        let description = tool.text("description");
        let parameters = tool.get("parameters");
        Ok(Tool::function(ToolFunction { name, description, parameters, strict }))
    };
    list.iter().enumerate().map(one).collect()
}

fn tool_choice(fields: &RawObject<'_>) -> Result<Option<Value>, RequestError> {
    let Some(value) = fields.get("tool_choice") else { return Ok(None) };
    let refuse = || {
        let text = "`tool_choice` must be none, auto, required, a function or allowed_tools";
        RequestError::value("tool_choice", text)
    };
    if let Some(word) = raw::text(value) {
        let is_known = matches!(word.as_ref(), "none" | "auto" | "required");
        return if is_known { Ok(Some(json!(word))) } else { Err(refuse()) };
    }
    let choice = RawObject::parse(value.get()).map_err(|_| refuse())?;
    match choice.text("type").as_deref() {
        Some("function") => {
            let path = "tool_choice.name";
            let name = choice.text("name").ok_or_else(|| RequestError::missing(path))?;
            Ok(Some(json!({ "type": "function", "function": { "name": name } })))
        }
        Some("allowed_tools") => {
            let tools = choice.get("tools").ok_or_else(refuse)?;
            let tools: Vec<RawObject<'_>> =
                serde_json::from_str(tools.get()).map_err(|_| refuse())?;
            let tools: Option<Vec<Value>> = tools
                .iter()
                .map(|tool| {
                    let name = tool.text("name")?;
                    Some(json!({ "type": "function", "function": { "name": name } }))
                })
                .collect();
            let tools = tools.ok_or_else(refuse)?;
            let mode = choice.text("mode").unwrap_or(Cow::Borrowed("auto"));
            let allowed = json!({ "mode": mode, "tools": tools });
            Ok(Some(json!({ "type": "allowed_tools", "allowed_tools": allowed })))
        }
        Some(_) => {
            let text = "`tool_choice` names a tool that does not exist here: name a function";
            Err(RequestError::unsupported("tool_choice.type", text))
        }
        None => Err(refuse()),
    }
}

/// `text.format`; plain text is chat's own default.
fn format(value: &RawValue) -> Result<Option<Format<'_>>, RequestError> {
    let path = "text.format";
    let format = RawObject::parse(value.get())
        .map_err(|_| RequestError::wrong_type(path, JsonType::Object))?;
    match format.text("type").as_deref() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format::JsonObject)),
        Some("json_schema") => {
            let missing = |name: &str| RequestError::missing(&format!("{path}.{name}"));
            let json_schema = JsonSchema {
                name: format.text("name").ok_or_else(|| missing("name"))?,
                description: format.text("description"),
                schema: format.get("schema").ok_or_else(|| missing("schema"))?,
                strict: match format.get("strict").map(RawValue::get) {
                    Some("true") => Some(true),
                    Some("false") => Some(false),
                    _ => None,
                },
            };
            Ok(Some(Format::JsonSchema { json_schema }))
        }
        _ => {
            let path = format!("{path}.type");
            let text = format!("`{path}` must be one of text, json_object or json_schema");
            Err(RequestError::value(&path, text))
        }
    }
}
