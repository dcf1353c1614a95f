//! Content blocks of the Messages format, and parts of chat messages turned into them.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use crate::wire::{
    raw::{self, RawObject},
    request_error::{JsonType, RequestError},
};

/// Media types that Anthropic takes as images.
const IMAGE_TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'static str,
    pub(super) content: Vec<Block<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Value>,
    },
    Image {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Value>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Value>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: Box<RawValue>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
    },
    /// A signed thinking block, replayed as it came.
    #[serde(untagged)]
    Raw(&'a RawValue),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source<'a> {
    Base64 { media_type: &'a str, data: Cow<'a, str> },
    Url { url: Cow<'a, str> },
}

impl<'a> Block<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text { text: text.into(), cache_control: None }
    }

    pub(super) const fn is_tool_result(&self) -> bool {
        matches!(self, Self::ToolResult { .. })
    }
}

/// Counts cache breakpoints: Anthropic takes four in a request.
#[derive(Debug, Default)]
pub(super) struct Breakpoints(u8);

impl Breakpoints {
    /// The `cache_control` of a part or message, for at most four of them.
    pub(super) fn of(
        &mut self,
        object: &RawObject<'_>,
        dropped: &mut Vec<&'static str>,
    ) -> Option<Value> {
        let mark = object.get("prompt_cache_breakpoint").or_else(|| object.get("cache_control"))?;
        let mark = RawObject::parse(mark.get()).ok()?;
        if self.0 == 4 {
            super::options::drop_field(dropped, "prompt_cache_breakpoint");
            return None;
        }
        self.0 += 1;
        let long = matches!(mark.text("ttl").as_deref(), Some("30m" | "12h" | "1h" | "24h"));
        Some(if long {
            json!({ "type": "ephemeral", "ttl": "1h" })
        } else {
            json!({ "type": "ephemeral" })
        })
    }
}

/// The blocks of a content. Texts without a visible character are left out (Anthropic refuses
/// them).
pub(super) fn content<'a>(
    content: Option<&'a RawValue>,
    path: &str,
    breakpoints: &mut Breakpoints,
    dropped: &mut Vec<&'static str>,
) -> Result<Vec<Block<'a>>, RequestError> {
    let Some(content) = content else { return Ok(Vec::new()) };
    if let Some(text) = raw::text(content) {
        let is_visible = !text.trim().is_empty();
        return Ok(if is_visible { vec![Block::text(text)] } else { Vec::new() });
    }
    let parts: Vec<RawObject<'a>> = serde_json::from_str(content.get())
        .map_err(|_| RequestError::wrong_type(path, JsonType::String))?;
    let mut blocks = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let cache_control = breakpoints.of(part, dropped);
        let block = match part.text("type").as_deref() {
            Some(kind @ ("text" | "refusal")) => {
                let text = part.text(kind).unwrap_or_default();
                if text.trim().is_empty() {
                    continue;
                }
                Block::Text { text, cache_control }
            }
            Some("image_url") => Block::Image { source: image(part, &path)?, cache_control },
            Some("file") => file(part, &path, cache_control)?,
            Some("input_audio") => {
                let message = "this model takes no audio: send the text, or choose another model";
                return Err(RequestError::unsupported(&path, message));
            }
            Some(other) => {
                let kind = crate::wire::upstream_error::bounded(other, 40);
                let message = format!("content parts of type `{kind}` don't exist for this model");
                return Err(RequestError::unsupported(&path, message));
            }
            None => return Err(RequestError::missing(&format!("{path}.type"))),
        };
        blocks.push(block);
    }
    Ok(blocks)
}

fn image<'a>(part: &RawObject<'a>, path: &str) -> Result<Source<'a>, RequestError> {
    let path = format!("{path}.image_url.url");
    let url = part.get("image_url").and_then(|image| {
        // `image_url` as a bare string is common enough.
        raw::text(image).or_else(|| RawObject::parse(image.get()).ok()?.text("url"))
    });
    let url = url.ok_or_else(|| RequestError::missing(&path))?;
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(Source::Url { url });
    }
    let Some((media_type, data)) = data_url(url) else {
        let message = format!("`{path}` must be an http(s) URL or a base64 data URL");
        return Err(RequestError::value(&path, message));
    };
    let media_type = if media_type == "image/jpg" { "image/jpeg" } else { media_type.as_str() };
    let known = IMAGE_TYPES.into_iter().find(|known| *known == media_type);
    let Some(media_type) = known else {
        let message = format!("`{path}` must be a JPEG, PNG, GIF or WebP image");
        return Err(RequestError::value(&path, message));
    };
    Ok(Source::Base64 { media_type, data })
}

fn file<'a>(
    part: &RawObject<'a>,
    path: &str,
    cache_control: Option<Value>,
) -> Result<Block<'a>, RequestError> {
    let path = format!("{path}.file");
    let file = part.get("file").and_then(|file| RawObject::parse(file.get()).ok());
    let file = file.ok_or_else(|| RequestError::missing(&path))?;
    let Some(data) = file.text("file_data") else {
        if file.get("file_id").is_some() {
            let message = format!("`{path}.file_id` is unknown to this provider: send `file_data`");
            return Err(RequestError::unsupported(&format!("{path}.file_id"), message));
        }
        return Err(RequestError::missing(&format!("{path}.file_data")));
    };
    match data_url(data) {
        Some((media_type, data)) if media_type == "application/pdf" => Ok(Block::Document {
            source: Source::Base64 { media_type: "application/pdf", data },
            title: file.text("filename"),
            cache_control,
        }),
        _ => {
            let message = format!(
                "`{path}.file_data` must be a PDF as data URL (data:application/pdf;base64,…)"
            );
            Err(RequestError::unsupported(&format!("{path}.file_data"), message))
        }
    }
}

/// Splits `data:<media type>[;…];base64,<data>`.
fn data_url(url: Cow<'_, str>) -> Option<(String, Cow<'_, str>)> {
    let start = {
        let rest = url.strip_prefix("data:")?;
        let (head, _) = rest.split_once(',')?;
        let media_type = head.strip_suffix(";base64")?;
        let media_type = media_type.split(';').next().unwrap_or_default().to_ascii_lowercase();
        (media_type, "data:".len() + head.len() + 1)
    };
    let data = match url {
        Cow::Borrowed(url) => Cow::Borrowed(url.get(start.1..)?),
        Cow::Owned(mut url) => Cow::Owned(url.split_off(start.1)),
    };
    Some((start.0, data))
}
