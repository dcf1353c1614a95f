//! A native request in a face's name: the persona goes in, the face's name comes back.

use bytes::{Bytes, BytesMut};

use crate::wire::{
    SseRecord,
    raw::{self, Edit, RawObject},
    request_error::{RequestError, RequestErrorKind},
    sse,
};

use super::MessagesRequest;

/// What a request without `max_tokens` asks for.
pub const MAX_TOKENS_DEFAULT: u64 = 4_096;

impl MessagesRequest {
    /// Reads and checks the body of a request that may leave `max_tokens` out; then
    /// [`MAX_TOKENS_DEFAULT`] is written into it.
    ///
    /// # Errors
    /// As [`Self::parse`]; and when `system` stands twice or is neither text nor blocks, because
    /// then there is no one place for the persona.
    pub fn parse_lenient(body: Bytes) -> Result<Self, RequestError> {
        let request = Self::read(body, false)?;
        let fields = request.fields();
        check_system(&fields)?;
        if fields.get("max_tokens").is_some() {
            return Ok(request);
        }
        let text = request.text();
        let value = MAX_TOKENS_DEFAULT.to_string();
        Self::read(raw::splice(text, set(text, &fields, "max_tokens", value)), true)
    }

    /// The request for the provider: the same bytes with its name of the model, and the persona
    /// before the caller's own system text (a string: with a blank line between; blocks: as a new
    /// first one).
    #[must_use]
    pub fn with_persona(&self, model: &str, persona: Option<&str>) -> Bytes {
        let text = self.text();
        let fields = self.fields();
        let mut edits = Vec::with_capacity(2);
        if let Some(old) = fields.get("model") {
            edits.push(Edit::replace(raw::span(text, old.get()), raw::json_string(model)));
        }
        if let Some(persona) = persona {
            edits.extend(system_edits(text, &fields, persona));
        }
        raw::splice(text, edits)
    }
}

fn check_system(fields: &RawObject<'_>) -> Result<(), RequestError> {
    if fields.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case("system")).count() > 1 {
        return Err(RequestError::value("system", "`system` stands twice: keep one"));
    }
    let is_legal = fields
        .get("system")
        .is_none_or(|system| raw::text(system).is_some() || raw::elements(system).is_some());
    if is_legal {
        return Ok(());
    }
    let kind = RequestErrorKind::Type(crate::wire::JsonType::String);
    let text = "`system` must be a string or an array of text blocks";
    Err(RequestError::new(kind, "system", text))
}

fn system_edits(text: &str, fields: &RawObject<'_>, persona: &str) -> Vec<Edit> {
    let mut escaped = raw::json_string(persona);
    let Some(system) = fields.get("system").filter(|system| system.get() != "\"\"") else {
        return set(text, fields, "system", escaped);
    };
    let at = raw::span(text, system.get()).start;
    if raw::starts_with(system, b'"') {
        escaped.pop();
        escaped.push_str("\\n\\n");
        return vec![Edit::replace(at..at + 1, escaped)];
    }
    let comma = if raw::elements(system).is_none_or(|it| it.is_empty()) { "" } else { "," };
    let block = format!(r#"{{"type":"text","text":{escaped}}}{comma}"#);
    vec![Edit::insert(at + 1, block)]
}

/// Sets a top-level field: in its place (also of a `null`), or before the first one.
fn set(text: &str, fields: &RawObject<'_>, key: &str, value: String) -> Vec<Edit> {
    if let Some((_, old)) = fields.0.iter().find(|(name, _)| name == key) {
        return vec![Edit::replace(raw::span(text, old.get()), value)];
    }
    let start = text.find('{').map_or(0, |brace| brace + 1);
    vec![Edit::insert(start, format!("\"{key}\":{value},"))]
}

/// A whole message that says it is by `model`, else as the provider wrote it.
#[must_use]
pub fn echo_model(body: &Bytes, model: &str) -> Bytes {
    let edited = std::str::from_utf8(body).ok().and_then(|text| {
        let object = RawObject::parse(text).ok()?;
        Some(raw::splice(text, vec![model_edit(text, &object, model)?]))
    });
    edited.unwrap_or_else(|| body.clone())
}

/// The record of `message_start` with a message that says it is by `model`; `None` for any other.
#[must_use]
pub fn echo_model_at_start(record: &SseRecord, model: &str) -> Option<Bytes> {
    let text = std::str::from_utf8(record.data.as_ref()?).ok()?;
    let object = RawObject::parse(text).ok()?;
    if object.text("type").as_deref() != Some("message_start") {
        return None;
    }
    let message = RawObject::parse(object.get("message")?.get()).ok()?;
    let data = raw::splice(text, vec![model_edit(text, &message, model)?]);
    let mut out = BytesMut::new();
    sse::encode_event("message_start", &sse::one_line(data), &mut out);
    Some(out.freeze())
}

fn model_edit(text: &str, object: &RawObject<'_>, model: &str) -> Option<Edit> {
    let (_, old) = object.0.iter().find(|(key, _)| key == "model")?;
    Some(Edit::replace(raw::span(text, old.get()), raw::json_string(model)))
}
