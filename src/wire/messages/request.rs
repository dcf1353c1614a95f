//! A Messages request as a chat request.

use std::borrow::Cow;

use serde_json::{Value, json, value::RawValue};

use crate::wire::{
    AsChat,
    anthropic::MessagesRequest,
    chat_body::{ChatBody, Format, JsonSchema, Message, Tool, ToolFunction, drop_field},
    raw::{self, RawObject},
    request_error::{JsonType, RequestError},
};

use super::content::Conversation;

/// Stop sequences that chat takes at most.
const STOP_SEQUENCES_MAX: usize = 4;
/// Longest `user` of a chat request, characters.
const USER_CHARS_MAX: usize = 64;

/// Fields without an equivalent that only state a preference.
const DROPPED: [&str; 8] = [
    "top_k",
    "cache_control",
    "context_management",
    "diagnostics",
    "inference_geo",
    "speed",
    "betas",
    "anthropic_beta",
];

/// Fields that change what happens and have no equivalent.
const UNSUPPORTED: [&str; 2] = ["container", "mcp_servers"];

/// Fields that are read somewhere in this module.
const READ: [&str; 15] = [
    "model",
    "messages",
    "system",
    "max_tokens",
    "stream",
    "stop_sequences",
    "temperature",
    "top_p",
    "metadata",
    "service_tier",
    "thinking",
    "output_config",
    "output_format",
    "tools",
    "tool_choice",
];

/// What the target model takes.
#[derive(Debug, Clone, Copy)]
pub struct MessagesTarget {
    /// Whether it can be told how much to reason; else `thinking` is left out.
    pub takes_effort: bool,
}

/// Translates a Messages request for a model that is asked in OpenAI's chat format.
///
/// # Errors
/// [`RequestError`] that names the place: of kind `Unsupported` for what chat can't say (files by
/// id, server tools, more than four stop sequences), of another for a malformed field.
pub fn to_chat(request: &MessagesRequest, target: MessagesTarget) -> Result<AsChat, RequestError> {
    let fields = request.fields();
    let mut dropped = unsupported_and_dropped(&fields)?;
    if request.max_tokens() == 0 {
        let text = "`max_tokens` of 0 warms a cache, which this model has not: ask for at least 1";
        return Err(RequestError::unsupported("max_tokens", text));
    }
    let mut conversation = Conversation::new(&mut dropped);
    conversation.system(fields.get("system"))?;
    for (index, message) in request.raw_messages().iter().enumerate() {
        conversation.message(message, &format!("messages[{index}]"))?;
    }
    let messages: Vec<Message<'_>> = conversation.finish();
    let model = Cow::Borrowed(request.model());
    let mut body = ChatBody::new(model, messages, request.stream());
    body.max_completion_tokens = Some(request.max_tokens());
    body.temperature = fields.get("temperature");
    body.top_p = fields.get("top_p");
    body.stop = stop_sequences(&fields)?;
    body.tools = tools(&fields, &mut dropped)?;
    if !body.tools.is_empty() {
        (body.tool_choice, body.parallel_tool_calls) = tool_choice(&fields)?;
    }
    let config = object(&fields, "output_config")?;
    let format = config.get("format").or_else(|| fields.get("output_format"));
    body.response_format = format.map(output_format).transpose()?;
    body.reasoning_effort = effort(&fields, &config, target, &mut dropped)?;
    body.service_tier = service_tier(&fields, &mut dropped);
    body.user = user(&fields, &mut dropped)?;
    Ok(AsChat { request: body.into_request()?, dropped })
}

fn unsupported_and_dropped(fields: &RawObject<'_>) -> Result<Vec<&'static str>, RequestError> {
    for name in UNSUPPORTED {
        if fields.get(name).is_some_and(|value| value.get() != "[]") {
            let text = format!("`{name}` exists for Anthropic's models only: leave it out");
            return Err(RequestError::unsupported(name, text));
        }
    }
    let mut dropped = Vec::new();
    for (key, value) in &fields.0 {
        if value.get() == "null" || READ.contains(&key.as_ref()) {
            continue;
        }
        let known = DROPPED.into_iter().find(|name| key == name);
        if !UNSUPPORTED.contains(&key.as_ref()) {
            drop_field(&mut dropped, known.unwrap_or("unknown fields"));
        }
    }
    Ok(dropped)
}

/// The object at `name`; an empty one when it is absent.
fn object<'a>(fields: &RawObject<'a>, name: &str) -> Result<RawObject<'a>, RequestError> {
    let Some(value) = fields.get(name) else { return Ok(RawObject::default()) };
    RawObject::parse(value.get()).map_err(|_| RequestError::wrong_type(name, JsonType::Object))
}

fn stop_sequences(fields: &RawObject<'_>) -> Result<Vec<String>, RequestError> {
    let Some(value) = fields.get("stop_sequences") else { return Ok(Vec::new()) };
    let list: Vec<String> = serde_json::from_str(value.get()).map_err(|_| {
        RequestError::value("stop_sequences", "`stop_sequences` must be an array of strings")
    })?;
    if list.len() > STOP_SEQUENCES_MAX {
        let text = format!("this model takes at most {STOP_SEQUENCES_MAX} `stop_sequences`");
        return Err(RequestError::unsupported("stop_sequences", text));
    }
    Ok(list)
}

fn tools<'a>(
    fields: &RawObject<'a>,
    dropped: &mut Vec<&'static str>,
) -> Result<Vec<Tool<'a>>, RequestError> {
    let Some(value) = fields.get("tools") else { return Ok(Vec::new()) };
    let list: Vec<RawObject<'a>> = serde_json::from_str(value.get())
        .map_err(|_| RequestError::wrong_type("tools", JsonType::Array))?;
    let one = |(index, tool): (usize, &RawObject<'a>)| {
        let path = format!("tools[{index}]");
        if tool.text("type").is_some_and(|kind| kind != "custom") {
            let text = "this model has no server tools: describe a tool by its `input_schema`";
            return Err(RequestError::unsupported(&format!("{path}.type"), text));
        }
        if tool.get("cache_control").is_some() {
            drop_field(dropped, "cache_control");
        }
        let name_path = || format!("{path}.name");
        let name = tool.text("name").ok_or_else(|| RequestError::missing(&name_path()))?;
        let schema = tool.get("input_schema").filter(|schema| raw::starts_with(schema, b'{'));
        let schema_path = || format!("{path}.input_schema");
        let schema = schema.ok_or_else(|| RequestError::missing(&schema_path()))?;
        Ok(Tool::function(ToolFunction {
            name,
            description: tool.text("description"),
            parameters: Some(schema),
            strict: (tool.get("strict").map(RawValue::get) == Some("true")).then_some(true),
        }))
    };
    list.iter().enumerate().map(one).collect()
}

fn tool_choice(fields: &RawObject<'_>) -> Result<(Option<Value>, Option<bool>), RequestError> {
    if fields.get("tool_choice").is_none() {
        return Ok((None, None));
    }
    let choice = object(fields, "tool_choice")?;
    let parallel = choice.get("disable_parallel_tool_use").map(RawValue::get) == Some("true");
    let word = match choice.text("type").as_deref() {
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => {
            let path = "tool_choice.name";
            let name = choice.text("name").ok_or_else(|| RequestError::missing(path))?;
            json!({ "type": "function", "function": { "name": name } })
        }
        _ => {
            let text = "`tool_choice.type` must be one of auto, any, tool or none";
            return Err(RequestError::value("tool_choice.type", text));
        }
    };
    Ok((Some(word), parallel.then_some(false)))
}

fn output_format(format: &RawValue) -> Result<Format<'_>, RequestError> {
    let path = "output_config.format";
    let format = RawObject::parse(format.get())
        .map_err(|_| RequestError::wrong_type(path, JsonType::Object))?;
    if format.text("type").as_deref() != Some("json_schema") {
        let path = format!("{path}.type");
        return Err(RequestError::value(&path, format!("`{path}` must be json_schema")));
    }
    let schema = format.get("schema").filter(|schema| raw::starts_with(schema, b'{'));
    let schema = schema.ok_or_else(|| RequestError::missing(&format!("{path}.schema")))?;
    let name = format.text("name").unwrap_or(Cow::Borrowed("output"));
    let json_schema = JsonSchema { name, description: None, schema, strict: Some(true) };
    Ok(Format::JsonSchema { json_schema })
}

/// How much to reason: the effort when it is named, else what the thinking's budget stands for.
fn effort<'a>(
    fields: &RawObject<'a>,
    config: &RawObject<'a>,
    target: MessagesTarget,
    dropped: &mut Vec<&'static str>,
) -> Result<Option<Cow<'a, str>>, RequestError> {
    let thinking = object(fields, "thinking")?;
    let named = config.text("effort");
    let wanted = match thinking.text("type").as_deref() {
        Some("enabled") => {
            let path = "thinking.budget_tokens";
            let budget = thinking.get("budget_tokens").and_then(|it| it.get().parse::<u64>().ok());
            let budget = budget.ok_or_else(|| RequestError::wrong_type(path, JsonType::Integer))?;
            let word = match budget {
                0..5_000 => "low",
                5_000..10_000 => "medium",
                _ => "high",
            };
            Some(named.unwrap_or(Cow::Borrowed(word)))
        }
        Some("disabled") => None,
        Some(_) => Some(named.unwrap_or(Cow::Borrowed("medium"))),
        None => named,
    };
    if wanted.is_some() && !target.takes_effort {
        drop_field(dropped, "thinking");
        return Ok(None);
    }
    Ok(wanted)
}

fn service_tier(
    fields: &RawObject<'_>,
    dropped: &mut Vec<&'static str>,
) -> Option<Cow<'static, str>> {
    match fields.get("service_tier").map(RawValue::get)? {
        "\"auto\"" => Some(Cow::Borrowed("auto")),
        "\"standard_only\"" => Some(Cow::Borrowed("default")),
        _ => {
            drop_field(dropped, "service_tier");
            None
        }
    }
}

fn user<'a>(
    fields: &RawObject<'a>,
    dropped: &mut Vec<&'static str>,
) -> Result<Option<Cow<'a, str>>, RequestError> {
    let user = object(fields, "metadata")?.text("user_id");
    let fits = user.as_ref().is_none_or(|user| user.chars().count() <= USER_CHARS_MAX);
    if !fits {
        drop_field(dropped, "metadata.user_id");
    }
    Ok(user.filter(|_| fits))
}
