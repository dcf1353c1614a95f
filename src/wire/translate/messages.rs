//! The conversation: roles, tool calls and their results, system texts.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use serde_json::value::RawValue;

use crate::wire::{
    raw::{self, RawObject},
    request_error::{JsonType, RequestError},
};

use super::{
    AnthropicTarget,
    blocks::{self, Block, Breakpoints, Message},
    options::drop_field,
};

/// What stands in for a first user turn when a conversation begins with the assistant (Anthropic
/// wants the user first).
const OPENING: &str = "(The assistant opens the conversation.)";

pub(super) struct Conversation<'a> {
    pub(super) system: Vec<Block<'a>>,
    pub(super) messages: Vec<Message<'a>>,
    /// Whether the last assistant turn called tools and carries no signed thinking: then thinking
    /// with a budget is refused by Anthropic.
    pub(super) ends_in_unsigned_tool_loop: bool,
    /// The cache breakpoints set so far.
    pub(super) breakpoints: Breakpoints,
}

struct Builder<'a, 'd> {
    messages: Vec<Message<'a>>,
    /// Where each message began, for errors.
    paths: Vec<String>,
    /// Calls of the last assistant turn that have no result yet: id and place.
    open_calls: Vec<(String, String)>,
    ids: HashMap<String, String>,
    safe_ids: HashSet<String>,
    breakpoints: Breakpoints,
    dropped: &'d mut Vec<&'static str>,
}

pub(super) fn translate<'a>(
    list: &[RawObject<'a>],
    target: &AnthropicTarget<'a>,
    dropped: &mut Vec<&'static str>,
) -> Result<Conversation<'a>, RequestError> {
    let mut builder = Builder {
        messages: Vec::with_capacity(list.len()),
        paths: Vec::with_capacity(list.len()),
        open_calls: Vec::new(),
        ids: HashMap::new(),
        safe_ids: HashSet::new(),
        breakpoints: Breakpoints::default(),
        dropped,
    };
    let mut system: Vec<Block<'a>> = target.system_prefix.map(Block::text).into_iter().collect();
    let mut leading = true;
    for (index, message) in list.iter().enumerate() {
        let path = format!("messages[{index}]");
        let role = message.text("role").unwrap_or_default();
        let is_system = matches!(role.as_ref(), "system" | "developer");
        leading &= is_system;
        match role.as_ref() {
            _ if leading => system.extend(builder.content(message, &path)?),
            "system" | "developer" => {
                builder.mid_system(message, &path, target.accepts_mid_system)?;
            }
            "user" => builder.user(message, &path)?,
            "assistant" => builder.assistant(message, &path)?,
            "tool" => builder.tool(message, &path)?,
            _ => {
                let text = "messages of role `function` are not translated: use role `tool`";
                return Err(RequestError::unsupported(&format!("{path}.role"), text));
            }
        }
    }
    builder.finish(system)
}

impl<'a> Builder<'a, '_> {
    fn content(
        &mut self,
        message: &RawObject<'a>,
        path: &str,
    ) -> Result<Vec<Block<'a>>, RequestError> {
        if message.get("name").is_some() {
            drop_field(self.dropped, "messages.name");
        }
        let path = format!("{path}.content");
        let content = message.get("content");
        blocks::content(content, &path, &mut self.breakpoints, self.dropped)
    }

    /// Adds blocks to the last message if it has the role, else begins a message.
    fn add(&mut self, role: &'static str, blocks: Vec<Block<'a>>, path: &str) {
        match self.messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            _ => {
                self.messages.push(Message { role, content: blocks });
                self.paths.push(path.to_owned());
            }
        }
    }

    fn user(&mut self, message: &RawObject<'a>, path: &str) -> Result<(), RequestError> {
        let blocks = self.content(message, path)?;
        self.add("user", blocks, path);
        Ok(())
    }

    fn mid_system(
        &mut self,
        message: &RawObject<'a>,
        path: &str,
        accepted: bool,
    ) -> Result<(), RequestError> {
        let blocks = self.content(message, path)?;
        if blocks.is_empty() {
            return Ok(());
        }
        let after_user = self.messages.last().is_some_and(|last| last.role != "assistant");
        // Between results it would part them from their calls.
        if accepted && after_user && self.open_calls.is_empty() {
            self.add("system", blocks, path);
            return Ok(());
        }
        // Folded into the user turn at this place, marked for what it is.
        let folded = blocks.into_iter().map(|block| match block {
            Block::Text { text, cache_control } => Block::Text {
                text: Cow::Owned(format!("<system>\n{text}\n</system>")),
                cache_control,
            },
            other => other,
        });
        let folded = folded.collect();
        self.add("user", folded, path);
        Ok(())
    }

    fn assistant(&mut self, message: &RawObject<'a>, path: &str) -> Result<(), RequestError> {
        self.check_open_calls()?;
        let mut blocks = Vec::new();
        if let Some(thinking) = message.get("thinking_blocks").and_then(raw::elements) {
            blocks.extend(thinking.into_iter().filter(|block| is_signed(block)).map(Block::Raw));
        }
        blocks.extend(self.content(message, path)?);
        if let Some(refusal) = message.text("refusal").filter(|text| !text.trim().is_empty()) {
            blocks.push(Block::text(refusal));
        }
        if message.get("audio").is_some() {
            let text = "this model has no audio turns: send the transcript as `content`";
            return Err(RequestError::unsupported(&format!("{path}.audio"), text));
        }
        if message.get("function_call").is_some() {
            let text = "`function_call` is not translated: use `tool_calls`";
            return Err(RequestError::unsupported(&format!("{path}.function_call"), text));
        }
        if let Some(calls) = message.get("tool_calls") {
            let path = format!("{path}.tool_calls");
            let calls: Vec<RawObject<'a>> = serde_json::from_str(calls.get())
                .map_err(|_| RequestError::wrong_type(&path, JsonType::Array))?;
            for (index, call) in calls.iter().enumerate() {
                blocks.push(self.tool_use(call, format!("{path}[{index}]"))?);
            }
        }
        if !blocks.is_empty() {
            self.add("assistant", blocks, path);
        }
        Ok(())
    }

    fn tool_use(&mut self, call: &RawObject<'a>, path: String) -> Result<Block<'a>, RequestError> {
        if call.text("type").is_some_and(|kind| kind != "function") {
            let text = "only tool calls of type `function` exist for this model";
            return Err(RequestError::unsupported(&format!("{path}.type"), text));
        }
        let id = call.text("id").ok_or_else(|| RequestError::missing(&format!("{path}.id")))?;
        let function = call.get("function").and_then(|it| RawObject::parse(it.get()).ok());
        let function =
            function.ok_or_else(|| RequestError::missing(&format!("{path}.function")))?;
        let name_path = || format!("{path}.function.name");
        let name = function.text("name").ok_or_else(|| RequestError::missing(&name_path()))?;
        let input = arguments(&function, &format!("{path}.function.arguments"))?;
        let safe = self.safe_id(&id);
        self.open_calls.push((id.into_owned(), path));
        Ok(Block::ToolUse { id: Cow::Owned(safe), name, input })
    }

    fn tool(&mut self, message: &RawObject<'a>, path: &str) -> Result<(), RequestError> {
        let id_path = format!("{path}.tool_call_id");
        let id = message.text("tool_call_id").ok_or_else(|| RequestError::missing(&id_path))?;
        let Some(position) = self.open_calls.iter().position(|(open, _)| *open == id) else {
            let text = format!(
                "`{id_path}` answers no open tool call: it must name a call of the assistant \
                 message before it, once"
            );
            return Err(RequestError::value(&id_path, text));
        };
        self.open_calls.remove(position);
        let content = self.content(message, path)?;
        let tool_use_id = Cow::Owned(self.safe_id(&id));
        let result = Block::ToolResult { tool_use_id, content };
        match self.messages.last_mut() {
            Some(last) if last.role == "user" => {
                // Results stand before everything else of the turn.
                let at = last.content.iter().take_while(|block| block.is_tool_result()).count();
                last.content.insert(at, result);
            }
            _ => self.add("user", vec![result], path),
        }
        Ok(())
    }

    /// The id as Anthropic takes it (`^[a-zA-Z0-9_-]+$`): kept if it can be, else numbered, the
    /// same for a call and its result.
    fn safe_id(&mut self, id: &str) -> String {
        let is_safe = !id.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if is_safe {
            self.safe_ids.insert(id.to_owned());
            return id.to_owned();
        }
        if let Some(known) = self.ids.get(id) {
            return known.clone();
        }
        let mut number = self.ids.len();
        let mut safe = format!("toolu_mapped_{number}");
        while self.safe_ids.contains(&safe) {
            number += 1;
            safe = format!("toolu_mapped_{number}");
        }
        self.safe_ids.insert(safe.clone());
        self.ids.insert(id.to_owned(), safe.clone());
        safe
    }

    fn check_open_calls(&self) -> Result<(), RequestError> {
        match self.open_calls.first() {
            None => Ok(()),
            Some((_, path)) => {
                let text = format!(
                    "`{path}` has no result: after the assistant message, send one message of \
                     role `tool` with its `tool_call_id` per call"
                );
                Err(RequestError::value(path, text))
            }
        }
    }

    fn finish(mut self, system: Vec<Block<'a>>) -> Result<Conversation<'a>, RequestError> {
        self.check_open_calls()?;
        for (message, path) in self.messages.iter().zip(&self.paths) {
            if message.content.is_empty() {
                let path = format!("{path}.content");
                let text = format!("`{path}` has no visible text: this model needs some");
                return Err(RequestError::value(&path, text));
            }
        }
        if !self.messages.iter().any(|message| message.role != "system") {
            let text = "this model needs a user message: add one after the system text";
            return Err(RequestError::value("messages", text));
        }
        if self.messages.first().is_some_and(|first| first.role == "assistant") {
            let opening = Message { role: "user", content: vec![Block::text(OPENING)] };
            self.messages.insert(0, opening);
        }
        let last_assistant = self.messages.iter().rev().find(|it| it.role == "assistant");
        let calls_tools = last_assistant.is_some_and(|message| {
            let has = |test: fn(&Block<'_>) -> bool| message.content.iter().any(test);
            has(|block| matches!(block, Block::ToolUse { .. }))
                && !has(|block| matches!(block, Block::Raw(_)))
        });
        Ok(Conversation {
            system,
            messages: self.messages,
            ends_in_unsigned_tool_loop: calls_tools,
            breakpoints: self.breakpoints,
        })
    }
}

/// A thinking block that Anthropic signed (or redacted) may be replayed; others may not.
fn is_signed(block: &RawValue) -> bool {
    let Ok(block) = RawObject::parse(block.get()) else { return false };
    let filled = |key: &str| block.text(key).is_some_and(|text| !text.is_empty());
    match block.text("type").as_deref() {
        Some("thinking") => filled("signature"),
        Some("redacted_thinking") => filled("data"),
        _ => false,
    }
}

/// A call's arguments as an object, as they were written.
fn arguments(function: &RawObject<'_>, path: &str) -> Result<Box<RawValue>, RequestError> {
    let empty = || RawValue::from_string("{}".to_owned());
    let refuse = || {
        let text = format!(
            "`{path}` must be a string holding a JSON object, as the model wrote it (an empty \
             string stands for no arguments)"
        );
        RequestError::value(path, text)
    };
    let Some(value) = function.get("arguments") else { return empty().map_err(|_| refuse()) };
    let text = raw::text(value).ok_or_else(refuse)?;
    if text.trim().is_empty() {
        return empty().map_err(|_| refuse());
    }
    // The strict reader: a raw value alone would let bad escapes pass.
    let parsed: serde_json::Value = serde_json::from_str(&text).map_err(|_| refuse())?;
    if !parsed.is_object() {
        return Err(refuse());
    }
    RawValue::from_string(text.trim().to_owned()).map_err(|_| refuse())
}
