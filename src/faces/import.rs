//! The import file of a whole face, and the body of `PUT /v1/faces/{face}/primitives`.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::{FaceError, FieldPath};
use super::fields::RawFields;
use super::primitive::WEIGHT_MAX;
use super::{Component, ComponentCounts, Face, FaceFields, Primitive, text};
use crate::domain::{AccountId, FaceId};

/// Bounds of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    /// Primitives of one face.
    pub primitives_max: u32,
    /// Characters of one primitive's text.
    pub primitive_chars_max: u32,
}

/// A whole persona, read from JSON:
///
/// ```json
/// {"username": "alice", "name": "Alice", "basic_facts": {"age": 39}, "default_model": null,
///  "primitives": [{"component": "epsilon", "text": "Walks to work.", "weight": 2}]}
/// ```
///
/// `username` and `primitives` (which may be `[]`) must be there; a weight left out is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct FaceImport {
    /// Everything but the primitives.
    pub fields: FaceFields,
    /// The primitives, in the file's order.
    pub primitives: Vec<Primitive>,
}

impl FaceImport {
    /// Reads an import file.
    ///
    /// # Errors
    /// As [`FaceFields::parse`], and [`FaceError::Field`] for a missing `username` or
    /// `primitives`, for a formula, and for the first wrong primitive (`primitives[3].component: …`).
    pub fn parse(file: &[u8], limits: &ImportLimits) -> Result<Self, FaceError> {
        let mut raw = RawFields::parse(file)?;
        let primitives = read_member(raw.primitives.take(), limits)?;
        let fields = raw.read()?;
        if fields.username.is_none() {
            return Err(FaceError::missing(FieldPath::root().field("username")));
        }
        if fields.formula.is_some() {
            let message = "can't be imported: its face has no primitives of its own";
            return Err(FaceError::value(FieldPath::root().field("formula"), message));
        }
        Ok(Self { fields, primitives })
    }

    /// The new face, with its counts, its primitives, and the warnings.
    ///
    /// # Errors
    /// [`FaceError::Field`] when the username was taken out of [`FaceImport::fields`].
    pub fn into_face(
        self,
        id: FaceId,
        account_id: AccountId,
        created_at: i64,
    ) -> Result<(Face, Vec<Primitive>, Vec<String>), FaceError> {
        let (mut face, warnings) = self.fields.into_face(id, account_id, created_at)?;
        face.component_counts = Some(ComponentCounts::of(&self.primitives));
        Ok((face, self.primitives, warnings))
    }
}

/// Reads the body of `PUT /v1/faces/{face}/primitives`: `{"primitives":[…]}` (an import file is
/// one), or the bare array.
///
/// # Errors
/// [`FaceError`], with the path of the first wrong field.
pub fn parse_primitives(body: &[u8], limits: &ImportLimits) -> Result<Vec<Primitive>, FaceError> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        let raw = serde_json::from_slice::<&RawValue>(body)
            .map_err(|error| FaceError::from_json(FieldPath::root(), &error))?;
        return read_member(Some(raw), limits);
    }
    read_member(RawFields::parse(body)?.primitives, limits)
}

fn read_member(raw: Option<&RawValue>, limits: &ImportLimits) -> Result<Vec<Primitive>, FaceError> {
    let path = FieldPath::root().field("primitives");
    let Some(raw) = raw else { return Err(FaceError::missing(path)) };
    if !raw.get().starts_with('[') {
        return Err(FaceError::wrong_type(path, "an array of primitives"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    match (Elements { limits }).deserialize(&mut deserializer) {
        Ok(read) => read,
        Err(error) => Err(FaceError::from_json(path, &error)),
    }
}

/// Reads the array element by element, so that one that is too long is never held as a whole.
/// The outer result is the parser's, the inner one ours (serde's errors can't carry a path).
struct Elements<'a> {
    limits: &'a ImportLimits,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Result<Vec<Primitive>, FaceError>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Result<Vec<Primitive>, FaceError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of primitives")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let path = FieldPath::root().field("primitives");
        let count_max = usize::try_from(self.limits.primitives_max).unwrap_or(usize::MAX);
        let mut primitives = Vec::new();
        let mut fault = None;
        while let Some(raw) = elements.next_element::<&RawValue>()? {
            if fault.is_some() {
                continue; // the parser wants to see the array's end
            }
            if primitives.len() == count_max {
                let message = format!("has more than {count_max} elements");
                fault = Some(FaceError::value(path.clone(), message));
                continue;
            }
            match read_primitive(path.clone().index(primitives.len()), raw, self.limits) {
                Ok(primitive) => primitives.push(primitive),
                Err(error) => fault = Some(error),
            }
        }
        Ok(fault.map_or(Ok(primitives), Err))
    }
}

fn read_primitive(
    path: FieldPath,
    raw: &RawValue,
    limits: &ImportLimits,
) -> Result<Primitive, FaceError> {
    let chars_max = usize::try_from(limits.primitive_chars_max).unwrap_or(usize::MAX);
    // A character is at most 12 bytes of JSON (`\ud83d\ude00`); the rest is room for the frame.
    let bytes_max = chars_max.saturating_mul(12).saturating_add(4_096);
    if raw.get().len() > bytes_max {
        let message = format!("is too large; its text may have {chars_max} characters");
        return Err(FaceError::value(path, message));
    }
    let fields = match serde_json::from_str(raw.get()) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err(FaceError::wrong_type(path, "an object with component and text")),
        Err(error) => return Err(FaceError::value(path, error.to_string())),
    };
    Ok(Primitive {
        component: read_component(path.clone().field("component"), fields.get("component"))?,
        text: read_text(path.clone().field("text"), fields.get("text"), chars_max)?,
        weight: read_weight(path.field("weight"), fields.get("weight"))?,
    })
}

fn read_component(path: FieldPath, value: Option<&Value>) -> Result<Component, FaceError> {
    match value {
        None => Err(FaceError::missing(path)),
        Some(Value::String(name)) => Component::parse(name)
            .ok_or_else(|| FaceError::value(path, "must be one of alpha, beta, delta, epsilon")),
        Some(_) => Err(FaceError::wrong_type(path, "a string")),
    }
}

fn read_text(
    path: FieldPath,
    value: Option<&Value>,
    chars_max: usize,
) -> Result<String, FaceError> {
    let statement = match value {
        None => return Err(FaceError::missing(path)),
        Some(Value::String(statement)) => statement.trim(),
        Some(_) => return Err(FaceError::wrong_type(path, "a string")),
    };
    if text::flatten(statement).is_empty() {
        return Err(FaceError::value(path, "must not be empty"));
    }
    let chars = statement.chars().count();
    if chars > chars_max {
        let message = format!("is {chars} characters long; at most {chars_max} are allowed");
        return Err(FaceError::value(path, message));
    }
    Ok(statement.to_owned())
}

fn read_weight(path: FieldPath, value: Option<&Value>) -> Result<f64, FaceError> {
    match value {
        None | Some(Value::Null) => Ok(1.0),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(weight) if (0.0..=WEIGHT_MAX).contains(&weight) => Ok(weight),
            _ => Err(FaceError::value(path, format!("must be from 0 to {WEIGHT_MAX}"))),
        },
        Some(_) => Err(FaceError::wrong_type(path, "a number")),
    }
}
