//! Settings of a chat request: what has an equivalent, what is dropped, what is refused.

use std::borrow::Cow;

use serde_json::{Value, json, value::RawValue};

use crate::wire::{
    raw::{self, RawObject},
    request_error::{JsonType, RequestError},
};

use super::{AnthropicTarget, STRUCTURED_OUTPUT_TOOL, schema};

/// Fields without an equivalent that only state a preference.
const DROPPED: [&str; 18] = [
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
    "store",
    "prediction",
    "metadata",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "verbosity",
    "web_search_options",
    "top_k",
    "min_p",
    "repetition_penalty",
];

/// Fields that are read somewhere in this module.
const READ: [&str; 22] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "temperature",
    "top_p",
    "stop",
    "user",
    "safety_identifier",
    "service_tier",
    "reasoning_effort",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "modalities",
    "audio",
    "functions",
    "function_call",
];

/// Notes a left-out field, once.
pub(super) fn drop_field(dropped: &mut Vec<&'static str>, name: &'static str) {
    if !dropped.contains(&name) {
        dropped.push(name);
    }
}

/// Refuses what can't be said and lists what is left out.
pub(super) fn unsupported_and_dropped(
    fields: &RawObject<'_>,
    n: u64,
) -> Result<Vec<&'static str>, RequestError> {
    if n != 1 {
        let text = "this model gives one choice: leave `n` out, or send several requests";
        return Err(RequestError::unsupported("n", text));
    }
    let modalities = fields.get("modalities").and_then(raw::elements).unwrap_or_default();
    if fields.get("audio").is_some() || modalities.iter().any(|it| it.get() != "\"text\"") {
        let name = if fields.get("audio").is_some() { "audio" } else { "modalities" };
        let text = "this model answers in text only: leave `audio` and `modalities` out";
        return Err(RequestError::unsupported(name, text));
    }
    for name in ["functions", "function_call"] {
        if fields.get(name).is_some() {
            let text = format!("`{name}` is not translated: use `tools` and `tool_choice`");
            return Err(RequestError::unsupported(name, text));
        }
    }
    let mut dropped = Vec::new();
    for (key, value) in &fields.0 {
        let says_nothing = matches!(value.get(), "null" | "false" | "0" | "0.0" | "{}");
        match DROPPED.into_iter().find(|name| key == name) {
            Some(name) if name == "seed" || !says_nothing => drop_field(&mut dropped, name),
            Some(_) => {}
            None if READ.contains(&key.as_ref()) => {}
            None => drop_field(&mut dropped, "unknown fields"),
        }
    }
    Ok(dropped)
}

pub(super) fn stop_sequences(fields: &RawObject<'_>) -> Result<Vec<String>, RequestError> {
    let Some(stop) = fields.get("stop") else { return Ok(Vec::new()) };
    let list = match raw::text(stop) {
        Some(single) => vec![single.into_owned()],
        None => serde_json::from_str(stop.get()).map_err(|_| {
            RequestError::value("stop", "`stop` must be a string or an array of strings")
        })?,
    };
    // Anthropic refuses sequences of whitespace.
    Ok(list.into_iter().filter(|text| !text.trim().is_empty()).collect())
}

pub(super) struct Sampling {
    pub(super) temperature: Option<Value>,
    pub(super) top_p: Option<Value>,
}

/// Temperature 0..2 is cut to 0..1. Of `temperature` and `top_p` only the first is sent when both
/// are given: newer models refuse the pair.
pub(super) fn sampling(
    fields: &RawObject<'_>,
    target: &AnthropicTarget<'_>,
    thinks: bool,
    dropped: &mut Vec<&'static str>,
) -> Result<Sampling, RequestError> {
    let mut read = |name: &'static str, highest: f64| -> Result<Option<Value>, RequestError> {
        let Some(value) = fields.get(name) else { return Ok(None) };
        let number: f64 = serde_json::from_str(value.get())
            .map_err(|_| RequestError::wrong_type(name, JsonType::Number))?;
        if !(0.0..=highest).contains(&number) {
            let text = format!("`{name}` must be between 0 and {highest}");
            return Err(RequestError::value(name, text));
        }
        if !target.accepts_sampling || thinks {
            drop_field(dropped, name);
            return Ok(None);
        }
        if number > 1.0 {
            return Ok(Some(json!(1)));
        }
        Ok(serde_json::from_str(value.get()).ok())
    };
    let temperature = read("temperature", 2.0)?;
    let mut top_p = read("top_p", 1.0)?;
    if temperature.is_some() && top_p.take().is_some() {
        drop_field(dropped, "top_p");
    }
    Ok(Sampling { temperature, top_p })
}

#[derive(Default)]
pub(super) struct Thinking {
    pub(super) config: Option<Value>,
    pub(super) effort: Option<&'static str>,
}

/// `reasoning_effort` as an effort with adaptive thinking, or as a token budget.
pub(super) fn thinking(
    fields: &RawObject<'_>,
    target: &AnthropicTarget<'_>,
    ends_in_unsigned_tool_loop: bool,
    dropped: &mut Vec<&'static str>,
) -> Result<Thinking, RequestError> {
    let Some(effort) = fields.get("reasoning_effort") else { return Ok(Thinking::default()) };
    let word = raw::text(effort)
        .ok_or_else(|| RequestError::wrong_type("reasoning_effort", JsonType::String))?;
    let (effort, budget): (_, u64) = match word.as_ref() {
        // Newest models refuse `disabled`; leaving it out means the same.
        "none" => return Ok(Thinking::default()),
        "minimal" => ("low", 1_024),
        "low" => ("low", 1_024),
        "medium" => ("medium", 2_048),
        "high" => ("high", 4_096),
        "xhigh" => ("xhigh", 8_192),
        "max" => ("max", 16_384),
        _ => {
            let text = "`reasoning_effort` must be one of none, minimal, low, medium, high, \
                        xhigh or max";
            return Err(RequestError::value("reasoning_effort", text));
        }
    };
    if target.adaptive_thinking {
        let config = Some(json!({ "type": "adaptive" }));
        return Ok(Thinking { config, effort: Some(effort) });
    }
    // A budget must be below max_tokens and at least 1,024.
    let budget = budget.min(target.max_tokens.saturating_sub(1));
    if budget < 1_024 || ends_in_unsigned_tool_loop {
        drop_field(dropped, "reasoning_effort");
        return Ok(Thinking::default());
    }
    let config = Some(json!({ "type": "enabled", "budget_tokens": budget }));
    Ok(Thinking { config, effort: None })
}

/// What `response_format` asks for, in the target's terms.
pub(super) enum Structured {
    Text,
    /// Any JSON object: there is no native form, so the system text asks for it.
    AnyObject,
    /// A schema, natively.
    Native(Value),
    /// A schema as the input of a tool.
    Tool {
        description: Option<String>,
        schema: Value,
    },
}

pub(super) fn structured_output(
    fields: &RawObject<'_>,
    target: &AnthropicTarget<'_>,
) -> Result<Structured, RequestError> {
    let Some(format) = fields.get("response_format") else { return Ok(Structured::Text) };
    let format = RawObject::parse(format.get())
        .map_err(|_| RequestError::wrong_type("response_format", JsonType::Object))?;
    match format.text("type").as_deref() {
        Some("text") => return Ok(Structured::Text),
        Some("json_object") => return Ok(Structured::AnyObject),
        Some("json_schema") => {}
        _ => {
            let path = "response_format.type";
            let text = format!("`{path}` must be one of text, json_object or json_schema");
            return Err(RequestError::value(path, text));
        }
    }
    let path = "response_format.json_schema.schema";
    let outer = format.get("json_schema").and_then(|it| RawObject::parse(it.get()).ok());
    let outer = outer.ok_or_else(|| RequestError::missing("response_format.json_schema"))?;
    let schema = outer.get("schema").ok_or_else(|| RequestError::missing(path))?;
    let schema: Value = serde_json::from_str(schema.get())
        .map_err(|_| RequestError::value(path, format!("`{path}` can't be read")))?;
    let schema = schema::for_anthropic(&schema, path)?;
    if target.native_structured_output {
        return Ok(Structured::Native(schema));
    }
    if schema.get("type") != Some(&json!("object")) {
        let text = format!("`{path}` must be of type `object` for this model");
        return Err(RequestError::value(path, text));
    }
    let description = outer.text("description").map(Cow::into_owned);
    Ok(Structured::Tool { description, schema })
}

impl Structured {
    pub(super) const fn is_tool(&self) -> bool {
        matches!(self, Self::Tool { .. })
    }

    /// `output_config.format`.
    pub(super) fn native_format(&self) -> Option<Value> {
        match self {
            Self::Native(schema) => Some(json!({ "type": "json_schema", "schema": schema })),
            Self::Text | Self::AnyObject | Self::Tool { .. } => None,
        }
    }

    /// The sentence for the system text where nothing else forces the form.
    pub(super) fn hint(&self, forced: bool) -> Option<String> {
        match self {
            Self::AnyObject => Some(
                "Answer with one JSON object and nothing else: no prose, no code fence.".to_owned(),
            ),
            Self::Tool { .. } if !forced => Some(format!(
                "Give your final answer by calling the tool `{STRUCTURED_OUTPUT_TOOL}`."
            )),
            Self::Text | Self::Native(_) | Self::Tool { .. } => None,
        }
    }
}

pub(super) fn output_config(effort: Option<&str>, format: Option<Value>) -> Option<Value> {
    let mut config = serde_json::Map::new();
    if let Some(effort) = effort {
        config.insert("effort".to_owned(), json!(effort));
    }
    if let Some(format) = format {
        config.insert("format".to_owned(), format);
    }
    (!config.is_empty()).then_some(Value::Object(config))
}

pub(super) fn metadata(fields: &RawObject<'_>) -> Option<Value> {
    let user = fields.text("safety_identifier").or_else(|| fields.text("user"))?;
    (!user.is_empty()).then(|| json!({ "user_id": user }))
}

pub(super) fn service_tier(
    fields: &RawObject<'_>,
    dropped: &mut Vec<&'static str>,
) -> Option<&'static str> {
    match fields.get("service_tier").map(RawValue::get)? {
        "\"auto\"" => Some("auto"),
        "\"default\"" => Some("standard_only"),
        _ => {
            drop_field(dropped, "service_tier");
            None
        }
    }
}
