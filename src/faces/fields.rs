//! The bodies of `POST /v1/faces` and `PATCH /v1/faces/{face}`.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::{FaceError, FieldPath};
use super::{Face, Facts, text};
use crate::domain::{AccountId, FaceId, FaceName};

/// Most characters of a person's name.
pub const NAME_CHARS_MAX: usize = 200;
/// Most characters of a default model's id (the longest public ids have about 100).
pub const DEFAULT_MODEL_CHARS_MAX: usize = 256;
/// Most default tools (what OpenAI's API takes in one request).
pub const DEFAULT_TOOLS_MAX: usize = 128;
/// Most characters of one tool's name.
pub const TOOL_CHARS_MAX: usize = 128;

/// Most bytes of a field's JSON text: all 90 facts at full length with every character escaped
/// are 0.6 MiB. Checked before the text becomes a tree, which takes many times its size.
const FIELD_BYTES_MAX: usize = 1_048_576;

/// What a caller says about a face, checked field by field. A field that was left out is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FaceFields {
    /// `username`, or `alias`, or `model`.
    pub username: Option<FaceName>,
    /// `name`, on one line.
    pub name: Option<String>,
    /// `basic_facts`, or `facts`.
    pub facts: Option<Facts>,
    /// `default_tools`, or `tools`.
    pub default_tools: Option<Vec<String>>,
    /// `default_model`; `Some(None)` when the caller sent `null` to clear it.
    pub default_model: Option<Option<String>>,
    /// What was dropped, for the face object's `warnings`.
    pub warnings: Vec<String>,
}

impl FaceFields {
    /// Reads a JSON body. Unknown fields are ignored, as the public API does.
    ///
    /// # Errors
    /// [`FaceError::Json`] when it is not JSON, [`FaceError::Field`] with the path of the first
    /// wrong field, [`FaceError::FormulaUnsupported`] when a formula is given.
    pub fn parse(body: &[u8]) -> Result<Self, FaceError> {
        RawFields::parse(body)?.read()
    }

    /// The new face of a creation, at version 1. A missing name falls back to the username.
    ///
    /// # Errors
    /// [`FaceError::Field`] when the username is missing.
    pub fn into_face(
        self,
        id: FaceId,
        account_id: AccountId,
        created_at: i64,
    ) -> Result<(Face, Vec<String>), FaceError> {
        let Some(username) = self.username else {
            return Err(FaceError::missing(FieldPath::root().field("username")));
        };
        let face = Face {
            id,
            account_id,
            name: self.name.unwrap_or_else(|| username.as_str().to_owned()),
            username,
            facts: self.facts.unwrap_or_default(),
            default_model: self.default_model.flatten(),
            default_tools: self.default_tools.unwrap_or_default(),
            formula: None,
            version: 1,
            created_at,
            updated_at: created_at,
            component_counts: None,
        };
        Ok((face, self.warnings))
    }

    /// Makes the changes of an update; gives the warnings back. Facts are merged key by key,
    /// tools are replaced, the username stays (it is the face's address). The caller owns
    /// `version` and `updated_at`.
    pub fn apply_to(self, face: &mut Face) -> Vec<String> {
        if let Some(name) = self.name {
            face.name = name;
        }
        if let Some(facts) = self.facts {
            face.facts.merge(facts);
        }
        if let Some(tools) = self.default_tools {
            face.default_tools = tools;
        }
        if let Some(model) = self.default_model {
            face.default_model = model;
        }
        self.warnings
    }
}

/// The fields as JSON texts: nothing big becomes a tree before its size is known.
#[derive(Deserialize)]
pub(super) struct RawFields<'a> {
    #[serde(borrow)]
    username: Option<&'a RawValue>,
    #[serde(borrow)]
    alias: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    basic_facts: Option<&'a RawValue>,
    #[serde(borrow)]
    facts: Option<&'a RawValue>,
    #[serde(borrow)]
    default_tools: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "keep_null")]
    default_model: Option<&'a RawValue>,
    #[serde(borrow)]
    formula: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) primitives: Option<&'a RawValue>,
}

/// Tells `null` (clear it) from a field that was left out.
fn keep_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> RawFields<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, FaceError> {
        // Serde would fill a struct from an array too; let the parser find what isn't JSON.
        if body.trim_ascii_start().first() != Some(&b'{') {
            let error = match serde_json::from_slice::<&RawValue>(body) {
                Ok(_) => FaceError::wrong_type(FieldPath::root(), "an object"),
                Err(error) => FaceError::from_json(FieldPath::root(), &error),
            };
            return Err(error);
        }
        serde_json::from_slice(body)
            .map_err(|error| FaceError::from_json(FieldPath::root(), &error))
    }

    pub(super) fn read(self) -> Result<FaceFields, FaceError> {
        if let Some(Value::String(formula)) = tree("formula", self.formula)? {
            if !formula.trim().is_empty() {
                return Err(FaceError::FormulaUnsupported);
            }
        } else if self.formula.is_some() {
            return Err(FaceError::FormulaUnsupported);
        }
        let mut warnings = Vec::new();
        let facts = match tree("basic_facts", self.basic_facts.or(self.facts))? {
            Some(value) => {
                let (facts, dropped) = Facts::normalise(&value)?;
                warnings = dropped;
                Some(facts)
            }
            None => None,
        };
        Ok(FaceFields {
            username: read_username(self.username.or(self.alias).or(self.model))?,
            name: line("name", self.name, NAME_CHARS_MAX)?,
            facts,
            default_tools: read_tools(self.default_tools.or(self.tools))?,
            default_model: match self.default_model {
                None => None,
                Some(raw) if raw.get() == "null" => Some(None),
                Some(raw) => Some(line("default_model", Some(raw), DEFAULT_MODEL_CHARS_MAX)?),
            },
            warnings,
        })
    }
}

fn tree(field: &str, raw: Option<&RawValue>) -> Result<Option<Value>, FaceError> {
    let Some(raw) = raw else { return Ok(None) };
    let path = FieldPath::root().field(field);
    if raw.get().len() > FIELD_BYTES_MAX {
        let message = format!("is larger than {FIELD_BYTES_MAX} bytes");
        return Err(FaceError::value(path, message));
    }
    match serde_json::from_str(raw.get()) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(FaceError::value(path, error.to_string())),
    }
}

/// A string on one line, not empty.
fn line(
    field: &str,
    raw: Option<&RawValue>,
    chars_max: usize,
) -> Result<Option<String>, FaceError> {
    match tree(field, raw)? {
        None => Ok(None),
        Some(value) => checked_line(FieldPath::root().field(field), &value, chars_max).map(Some),
    }
}

fn checked_line(path: FieldPath, value: &Value, chars_max: usize) -> Result<String, FaceError> {
    let Value::String(string) = value else {
        return Err(FaceError::wrong_type(path, "a string"));
    };
    let line = text::flatten(string);
    match line.chars().count() {
        0 => Err(FaceError::value(path, "must not be empty")),
        chars if chars > chars_max => Err(FaceError::value(
            path,
            format!("is {chars} characters long; at most {chars_max} are allowed"),
        )),
        _ => Ok(line),
    }
}

fn read_username(raw: Option<&RawValue>) -> Result<Option<FaceName>, FaceError> {
    let path = FieldPath::root().field("username");
    match tree("username", raw)? {
        None => Ok(None),
        Some(Value::String(username)) => FaceName::parse(&username)
            .map(Some)
            .map_err(|error| FaceError::value(path, error.to_string())),
        Some(_) => Err(FaceError::wrong_type(path, "a string")),
    }
}

fn read_tools(raw: Option<&RawValue>) -> Result<Option<Vec<String>>, FaceError> {
    let path = FieldPath::root().field("default_tools");
    let tools = match tree("default_tools", raw)? {
        None => return Ok(None),
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(FaceError::wrong_type(path, "an array of strings")),
    };
    if tools.len() > DEFAULT_TOOLS_MAX {
        let message =
            format!("has {} elements; at most {DEFAULT_TOOLS_MAX} are allowed", tools.len());
        return Err(FaceError::value(path, message));
    }
    let names = tools.iter().enumerate();
    names
        .map(|(index, tool)| checked_line(path.clone().index(index), tool, TOOL_CHARS_MAX))
        .collect::<Result<_, _>>()
        .map(Some)
}
