//! Tools and the choice among them.

use serde_json::{Map, Value, json, value::RawValue};

use crate::wire::{
    raw::{self, RawObject},
    request_error::{JsonType, RequestError},
};

use super::{
    AnthropicTarget, STRUCTURED_OUTPUT_TOOL,
    blocks::Breakpoints,
    options::{Structured, drop_field},
};

pub(super) struct Tools {
    pub(super) list: Vec<Value>,
    pub(super) choice: Option<Value>,
    /// Whether the tool of structured output is forced.
    pub(super) forced_structured: bool,
}

/// The choice as the client made it.
enum Choice {
    Unset,
    Auto,
    None,
    Any,
    Tool(String),
}

/// Settles the choice among the tools of `list`, and adds the one of structured output.
pub(super) fn translate(
    fields: &RawObject<'_>,
    mut list: Vec<Value>,
    structured: &Structured,
    forces_tool: bool,
    dropped: &mut Vec<&'static str>,
) -> Result<Tools, RequestError> {
    let mut choice = choice(fields, &mut list)?;
    if list.is_empty() && matches!(choice, Choice::Any | Choice::Tool(_)) {
        let text = "`tool_choice` asks for a call and there are no `tools`: add them";
        return Err(RequestError::value("tool_choice", text));
    }
    if let Choice::Tool(name) = &choice
        && !list.iter().any(|tool| tool.get("name") == Some(&json!(name)))
    {
        let text = "`tool_choice` names a tool that `tools` does not hold";
        return Err(RequestError::value("tool_choice.function.name", text));
    }
    let mut forced_structured = false;
    if let Structured::Tool { description, schema } = structured {
        let alone = list.is_empty() || matches!(choice, Choice::None);
        if matches!(choice, Choice::None) {
            list.clear();
        }
        list.push(json!({
            "name": STRUCTURED_OUTPUT_TOOL,
            "description": description.as_deref().unwrap_or("The final answer, in this form."),
            "input_schema": schema,
        }));
        if forces_tool && !matches!(choice, Choice::Tool(_)) {
            forced_structured = true;
            // Beside other tools the model may still call those first.
            choice =
                if alone { Choice::Tool(STRUCTURED_OUTPUT_TOOL.to_owned()) } else { Choice::Any };
        } else if alone {
            choice = Choice::Auto;
        }
    }
    if list.is_empty() {
        return Ok(Tools { list, choice: None, forced_structured });
    }
    if !forces_tool && matches!(choice, Choice::Any | Choice::Tool(_)) {
        drop_field(dropped, "tool_choice");
        choice = Choice::Auto;
    }
    let single = fields.get("parallel_tool_calls").map(RawValue::get) == Some("false");
    let choice = match choice {
        Choice::Unset if single => Some(json!({ "type": "auto" })),
        Choice::Unset => None,
        Choice::Auto => Some(json!({ "type": "auto" })),
        Choice::None => Some(json!({ "type": "none" })),
        Choice::Any => Some(json!({ "type": "any" })),
        Choice::Tool(name) => Some(json!({ "type": "tool", "name": name })),
    };
    let choice = choice.map(|mut choice| {
        if single && choice.get("type") != Some(&json!("none")) {
            choice["disable_parallel_tool_use"] = json!(true);
        }
        choice
    });
    Ok(Tools { list, choice, forced_structured })
}

/// The tools of the request.
pub(super) fn list(
    fields: &RawObject<'_>,
    target: &AnthropicTarget<'_>,
    breakpoints: &mut Breakpoints,
    dropped: &mut Vec<&'static str>,
) -> Result<Vec<Value>, RequestError> {
    let Some(tools) = fields.get("tools") else { return Ok(Vec::new()) };
    let tools: Vec<RawObject<'_>> = serde_json::from_str(tools.get())
        .map_err(|_| RequestError::wrong_type("tools", JsonType::Array))?;
    let mut list = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let mut translated = one_tool(index, tool, target)?;
        if let Some(cache_control) = breakpoints.of(tool, dropped) {
            translated.insert("cache_control".to_owned(), cache_control);
        }
        list.push(Value::Object(translated));
    }
    Ok(list)
}

fn one_tool(
    index: usize,
    tool: &RawObject<'_>,
    target: &AnthropicTarget<'_>,
) -> Result<Map<String, Value>, RequestError> {
    let path = format!("tools[{index}]");
    if tool.text("type").as_deref() != Some("function") {
        let text = "only tools of type `function` exist for this model";
        return Err(RequestError::unsupported(&format!("{path}.type"), text));
    }
    let function = tool.get("function").and_then(|it| RawObject::parse(it.get()).ok());
    let function = function.ok_or_else(|| RequestError::missing(&format!("{path}.function")))?;
    let name_path = format!("{path}.function.name");
    let name = function.text("name").ok_or_else(|| RequestError::missing(&name_path))?;
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(name));
    if let Some(description) = function.text("description").filter(|it| !it.is_empty()) {
        out.insert("description".to_owned(), json!(description));
    }
    let schema = input_schema(&function, &format!("{path}.function.parameters"))?;
    out.insert("input_schema".to_owned(), schema);
    // Strict tools came with native structured output.
    let strict = function.get("strict").map(RawValue::get) == Some("true");
    if strict && target.native_structured_output {
        out.insert("strict".to_owned(), json!(true));
    }
    Ok(out)
}

/// The parameters as an object schema; none stand for no arguments.
fn input_schema(function: &RawObject<'_>, path: &str) -> Result<Value, RequestError> {
    let Some(parameters) = function.get("parameters") else {
        return Ok(json!({ "type": "object", "properties": {} }));
    };
    let parameters: Map<String, Value> = serde_json::from_str(parameters.get())
        .map_err(|_| RequestError::wrong_type(path, JsonType::Object))?;
    match parameters.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(Value::Object(parameters)),
        None => {
            let mut typed = Map::new();
            typed.insert("type".to_owned(), json!("object"));
            typed.extend(parameters);
            Ok(Value::Object(typed))
        }
        Some(_) => {
            let text = format!("`{path}.type` must be `object`");
            Err(RequestError::value(&format!("{path}.type"), text))
        }
    }
}

/// Reads `tool_choice`; `allowed_tools` takes the others out of `list`.
fn choice(fields: &RawObject<'_>, list: &mut Vec<Value>) -> Result<Choice, RequestError> {
    let Some(value) = fields.get("tool_choice") else { return Ok(Choice::Unset) };
    let refuse = || {
        let text = "`tool_choice` must be none, auto, required, a function or allowed_tools";
        RequestError::value("tool_choice", text)
    };
    if let Some(word) = raw::text(value) {
        return match word.as_ref() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" => Ok(Choice::Any),
            _ => Err(refuse()),
        };
    }
    let object = RawObject::parse(value.get()).map_err(|_| refuse())?;
    match object.text("type").as_deref() {
        Some("function") => {
            let function = object.get("function").and_then(|it| RawObject::parse(it.get()).ok());
            let name = function.as_ref().and_then(|function| function.text("name"));
            let path = "tool_choice.function.name";
            Ok(Choice::Tool(name.ok_or_else(|| RequestError::missing(path))?.into_owned()))
        }
        Some("allowed_tools") => {
            let allowed = object.get("allowed_tools").ok_or_else(refuse)?;
            let allowed = RawObject::parse(allowed.get()).map_err(|_| refuse())?;
            let names = allowed_names(&allowed).ok_or_else(refuse)?;
            list.retain(|tool| {
                tool.get("name")
                    .and_then(Value::as_str)
                    .is_some_and(|name| names.iter().any(|allowed| allowed == name))
            });
            match allowed.text("mode").as_deref() {
                Some("required") => Ok(Choice::Any),
                _ => Ok(Choice::Auto),
            }
        }
        Some("custom") => {
            let text = "custom tools don't exist for this model: use a function";
            Err(RequestError::unsupported("tool_choice", text))
        }
        _ => Err(refuse()),
    }
}

fn allowed_names(allowed: &RawObject<'_>) -> Option<Vec<String>> {
    let tools: Vec<RawObject<'_>> = serde_json::from_str(allowed.get("tools")?.get()).ok()?;
    tools
        .iter()
        .map(|tool| {
            let function = RawObject::parse(tool.get("function")?.get()).ok()?;
            function.text("name").map(std::borrow::Cow::into_owned)
        })
        .collect()
}
