//! The input: a text, or items, as chat messages.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::wire::{
    chat_body::{Call, File, ImageUrl, Message, Part, drop_field},
    raw::{self, RawObject},
    request_error::{JsonType, RequestError},
    upstream_error,
};

/// The conversation, the instructions first.
pub(super) fn messages<'a>(
    fields: &RawObject<'a>,
    instructions: Option<Cow<'a, str>>,
    dropped: &mut Vec<&'static str>,
) -> Result<Vec<Message<'a>>, RequestError> {
    let input = fields.get("input").ok_or_else(|| RequestError::missing("input"))?;
    let mut conversation = Conversation { messages: Vec::new(), late: Vec::new(), dropped };
    if let Some(text) = instructions.filter(|text| !text.is_empty()) {
        conversation.messages.push(Message::text("system", text));
    }
    if let Some(text) = raw::text(input) {
        conversation.messages.push(Message::text("user", text));
        return Ok(conversation.messages);
    }
    let items: Vec<RawObject<'a>> = serde_json::from_str(input.get()).map_err(|_| {
        RequestError::value("input", "`input` must be a string or an array of items")
    })?;
    if items.is_empty() {
        let text = "`input` is empty: send at least one message";
        return Err(RequestError::value("input", text));
    }
    for (index, item) in items.iter().enumerate() {
        conversation.item(item, &format!("input[{index}]"))?;
    }
    conversation.flush();
    Ok(conversation.messages)
}

struct Conversation<'a, 'd> {
    messages: Vec<Message<'a>>,
    /// Images of calls' results: a `tool` message takes text only, so they follow the results in a
    /// user's message.
    late: Vec<Part<'a>>,
    dropped: &'d mut Vec<&'static str>,
}

impl<'a> Conversation<'a, '_> {
    fn item(&mut self, item: &RawObject<'a>, path: &str) -> Result<(), RequestError> {
        let kind = item.text("type");
        if kind.as_deref() != Some("function_call_output") {
            self.flush();
        }
        match kind.as_deref() {
            None | Some("message") => self.message(item, path),
            Some("function_call") => self.function_call(item, path),
            Some("function_call_output") => self.function_call_output(item, path),
            // What a model thought can only be read by its own provider's Responses API.
            Some("reasoning") => {
                drop_field(self.dropped, "input.reasoning");
                Ok(())
            }
            Some("item_reference") => {
                let text = "no items are stored here: send the item itself";
                Err(RequestError::unsupported(&format!("{path}.type"), text))
            }
            Some(kind) => {
                let kind = upstream_error::bounded(kind, 40);
                let text = format!("items of type `{kind}` don't exist here");
                Err(RequestError::unsupported(&format!("{path}.type"), text))
            }
        }
    }

    fn flush(&mut self) {
        if !self.late.is_empty() {
            self.messages.push(Message::user(std::mem::take(&mut self.late)));
        }
    }

    fn message(&mut self, item: &RawObject<'a>, path: &str) -> Result<(), RequestError> {
        let role_path = format!("{path}.role");
        let role = item.get("role").ok_or_else(|| RequestError::missing(&role_path))?;
        let role = raw::text(role)
            .ok_or_else(|| RequestError::wrong_type(&role_path, JsonType::String))?;
        let path = format!("{path}.content");
        let content = item.get("content").ok_or_else(|| RequestError::missing(&path))?;
        match role.as_ref() {
            "user" => match raw::text(content) {
                Some(text) => self.messages.push(Message::text("user", text)),
                None => self.messages.push(Message::user(parts(content, &path)?)),
            },
            // Servers that take `developer` take `system` too, and not the other way round.
            "system" | "developer" => {
                let text = joined_text(content, &path, "\n")?;
                self.messages.push(Message::text("system", text));
            }
            "assistant" => {
                let text = joined_text(content, &path, "")?;
                let text = match self.messages.last_mut() {
                    Some(last) => last.add_text(text),
                    None => Err(text),
                };
                if let Err(text) = text {
                    self.messages.extend(Message::assistant(text, Vec::new()));
                }
            }
            _ => {
                let text =
                    format!("`{role_path}` must be one of user, assistant, system or developer");
                return Err(RequestError::value(&role_path, text));
            }
        }
        Ok(())
    }

    fn function_call(&mut self, item: &RawObject<'a>, path: &str) -> Result<(), RequestError> {
        let field = |name: &str| {
            item.text(name).ok_or_else(|| RequestError::missing(&format!("{path}.{name}")))
        };
        let call = Call::new(field("call_id")?, field("name")?, field("arguments")?);
        let call = match self.messages.last_mut() {
            Some(last) => last.add_call(call),
            None => Err(call),
        };
        if let Err(call) = call {
            self.messages.extend(Message::assistant(String::new(), vec![call]));
        }
        Ok(())
    }

    fn function_call_output(
        &mut self,
        item: &RawObject<'a>,
        path: &str,
    ) -> Result<(), RequestError> {
        let id_path = || format!("{path}.call_id");
        let id = item.text("call_id").ok_or_else(|| RequestError::missing(&id_path()))?;
        let path = format!("{path}.output");
        let output = item.get("output").ok_or_else(|| RequestError::missing(&path))?;
        let mut text = String::new();
        match raw::text(output) {
            Some(whole) => text.push_str(&whole),
            None => {
                for part in parts(output, &path)? {
                    match part {
                        Part::Text { text: piece } => text.push_str(&piece),
                        other => self.late.push(other),
                    }
                }
            }
        }
        self.messages.push(Message::tool(id, text));
        Ok(())
    }
}

fn list<'a>(content: &'a RawValue, path: &str) -> Result<Vec<RawObject<'a>>, RequestError> {
    serde_json::from_str(content.get()).map_err(|_| {
        let text = format!("`{path}` must be a string or an array of content parts");
        RequestError::value(path, text)
    })
}

/// The parts of a user's message or a result.
fn parts<'a>(content: &'a RawValue, path: &str) -> Result<Vec<Part<'a>>, RequestError> {
    let mut out = Vec::new();
    for (index, part) in list(content, path)?.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match part.text("type").as_deref() {
            Some("input_text" | "output_text" | "text") => {
                out.push(Part::Text { text: text_of(part, "text", &path)? });
            }
            Some("input_image") => out.push(image(part, &path)?),
            Some("input_file") => out.push(file(part, &path)?),
            kind => return Err(unknown_part(kind, &path)),
        }
    }
    Ok(out)
}

/// A string, or text parts joined with `separator`.
fn joined_text(content: &RawValue, path: &str, separator: &str) -> Result<String, RequestError> {
    if let Some(text) = raw::text(content) {
        return Ok(text.into_owned());
    }
    let mut texts = Vec::new();
    for (index, part) in list(content, path)?.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match part.text("type").as_deref() {
            Some("input_text" | "output_text" | "text") => {
                texts.push(text_of(part, "text", &path)?.into_owned());
            }
            Some("refusal") => texts.push(text_of(part, "refusal", &path)?.into_owned()),
            kind => return Err(unknown_part(kind, &path)),
        }
    }
    Ok(texts.join(separator))
}

fn text_of<'a>(part: &RawObject<'a>, name: &str, path: &str) -> Result<Cow<'a, str>, RequestError> {
    let path = format!("{path}.{name}");
    let text = part.get(name).ok_or_else(|| RequestError::missing(&path))?;
    raw::text(text).ok_or_else(|| RequestError::wrong_type(&path, JsonType::String))
}

fn image<'a>(part: &RawObject<'a>, path: &str) -> Result<Part<'a>, RequestError> {
    refuse_file_id(part, path, "image_url")?;
    let url = part.text("image_url");
    let url = url.ok_or_else(|| RequestError::missing(&format!("{path}.image_url")))?;
    Ok(Part::ImageUrl { image_url: ImageUrl { url, detail: part.text("detail") } })
}

fn file<'a>(part: &RawObject<'a>, path: &str) -> Result<Part<'a>, RequestError> {
    refuse_file_id(part, path, "file_data")?;
    if part.get("file_url").is_some() {
        let path = format!("{path}.file_url");
        let text = format!("`{path}` is not fetched here: send `file_data`");
        return Err(RequestError::unsupported(&path, text));
    }
    let data = part.text("file_data");
    let file_data = data.ok_or_else(|| RequestError::missing(&format!("{path}.file_data")))?;
    let filename = part.text("filename").unwrap_or(Cow::Borrowed("file.pdf"));
    Ok(Part::File { file: File { filename, file_data } })
}

/// Files of the provider's store would be the operator's, not the caller's.
fn refuse_file_id(part: &RawObject<'_>, path: &str, instead: &str) -> Result<(), RequestError> {
    if part.get("file_id").is_none() {
        return Ok(());
    }
    let path = format!("{path}.file_id");
    let text = format!("`{path}` is unknown here: send `{instead}`");
    Err(RequestError::unsupported(&path, text))
}

fn unknown_part(kind: Option<&str>, path: &str) -> RequestError {
    let path = format!("{path}.type");
    let Some(kind) = kind else { return RequestError::missing(&path) };
    let kind = upstream_error::bounded(kind, 40);
    let text = format!("content parts of type `{kind}` don't exist at this place");
    RequestError::unsupported(&path, text)
}
