//! JSON read without being rebuilt: objects as lists of raw values, spans, and splices.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// An object whose values stay raw text, in their order; equal keys are kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawObject<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

/// A string that borrows when it holds no escape.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl<'a> RawObject<'a> {
    /// Reads an object. Fails when `text` is not one.
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The value of `key` (the last one, as most JSON readers take it); `null` reads as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        let value = self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)?;
        (value.get() != "null").then_some(value)
    }

    /// The string at `key`, when it is one.
    pub(crate) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key).and_then(text)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((key.0, value));
                }
                Ok(RawObject(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The string that a raw value is.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

/// The elements of a raw array.
pub(crate) fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// Whether a raw value is a string, an array or an object, by its first byte.
pub(crate) fn starts_with(value: &RawValue, byte: u8) -> bool {
    value.get().as_bytes().first() == Some(&byte)
}

/// Where `child`, a slice of `parent`, lies in it.
pub(crate) fn span(parent: &str, child: &str) -> Range<usize> {
    let start = (child.as_ptr() as usize).saturating_sub(parent.as_ptr() as usize);
    debug_assert!(start + child.len() <= parent.len());
    start..start + child.len()
}

/// Bytes that a raw JSON string (quotes included) has once its escapes are read. Other values
/// count in full.
pub(crate) fn decoded_len(raw: &str) -> u64 {
    let bytes = raw.as_bytes();
    let Some(inner) = bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return bytes.len() as u64;
    };
    inner_decoded_len(inner)
}

/// [`decoded_len`] of what stands between the quotes.
pub(crate) fn inner_decoded_len(inner: &[u8]) -> u64 {
    let mut saved = 0_usize;
    let mut at = 0_usize;
    while let Some(offset) = memchr::memchr(b'\\', &inner[at..]) {
        let escape = at + offset;
        if inner.get(escape + 1) == Some(&b'u') {
            // `\u00e9` is 6 bytes for at most 3; half of a pair is 6 for 2.
            let code = inner
                .get(escape + 2..escape + 6)
                .and_then(|hex| std::str::from_utf8(hex).ok())
                .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                .unwrap_or(0xFFFF);
            saved += match code {
                0..=0x7F => 5,
                0x80..=0x7FF | 0xD800..=0xDFFF => 4,
                _ => 3,
            };
            at = (escape + 6).min(inner.len());
        } else {
            saved += 1;
            at = (escape + 2).min(inner.len());
        }
    }
    inner.len().saturating_sub(saved) as u64
}

/// Writes `text` as a JSON string, quotes included.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A replacement of a span by other bytes (an empty span inserts).
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) at: Range<usize>,
    pub(crate) with: String,
}

impl Edit {
    pub(crate) fn replace(at: Range<usize>, with: impl Into<String>) -> Self {
        Self { at, with: with.into() }
    }

    pub(crate) fn insert(at: usize, with: impl Into<String>) -> Self {
        Self { at: at..at, with: with.into() }
    }
}

/// Copies `text` once, with the edits made. Edits must not overlap; their order does not matter
/// (insertions at one place are made in the given order).
pub(crate) fn splice(text: &str, mut edits: Vec<Edit>) -> Bytes {
    edits.sort_by_key(|edit| edit.at.start);
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = Vec::with_capacity(text.len() + added);
    let mut cursor = 0;
    for edit in &edits {
        debug_assert!(edit.at.start >= cursor, "edits overlap");
        out.extend_from_slice(text.as_bytes().get(cursor..edit.at.start).unwrap_or_default());
        out.extend_from_slice(edit.with.as_bytes());
        cursor = edit.at.end;
    }
    out.extend_from_slice(text.as_bytes().get(cursor..).unwrap_or_default());
    Bytes::from(out)
}

/// The edit that takes field number `index` out of the object `object` (a slice of `text`).
/// At most one field of an object may be removed in one splice.
pub(crate) fn removal(text: &str, object: &RawObject<'_>, index: usize) -> Option<Edit> {
    let (_, value) = object.0.get(index)?;
    let value = span(text, value.get());
    if let Some(previous) = index.checked_sub(1).and_then(|before| object.0.get(before)) {
        let previous = span(text, previous.1.get());
        return Some(Edit::replace(previous.end..value.end, ""));
    }
    let opening = text.bytes().take(value.start).position(|byte| byte == b'{')? + 1;
    let rest = text.get(value.end..)?;
    let end = match rest.bytes().position(|byte| !byte.is_ascii_whitespace())? {
        comma if rest.as_bytes()[comma] == b',' => value.end + comma + 1,
        _ => value.end,
    };
    Some(Edit::replace(opening..end, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded_lengths_agree_with_a_json_reader() {
        for text in [r#""""#, r#""abc""#, r#""a\n\"b\\""#, r#""\u00e9\u4f60\ud83d\ude00""#] {
            let decoded: String = serde_json::from_str(text).unwrap();
            assert_eq!(decoded_len(text), decoded.len() as u64, "{text}");
        }
    }

    #[test]
    fn any_field_can_be_removed() {
        let text = r#" { "a" : 1 , "b":[2], "c":null } "#;
        for (index, left) in [
            r#" { "b":[2], "c":null } "#,
            r#" { "a" : 1, "c":null } "#,
            r#" { "a" : 1 , "b":[2] } "#,
        ]
        .into_iter()
        .enumerate()
        {
            let object = RawObject::parse(text).unwrap();
            let edit = removal(text, &object, index).unwrap();
            let out = splice(text, vec![edit]);
            let got: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(got, serde_json::from_str::<serde_json::Value>(left).unwrap());
        }
        let single = r#"{"a":1}"#;
        let edit = removal(single, &RawObject::parse(single).unwrap(), 0).unwrap();
        assert_eq!(splice(single, vec![edit]), "{}");
    }
}
