//! The bodies of `POST /v1/faces` and `PATCH /v1/faces/{face}`.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::{FaceError, FieldPath};
use super::{Face, FactChanges, Facts, Formula, text};
use crate::domain::{AccountId, FaceId, FaceName};

/// Most characters of a person's name.
pub const NAME_CHARS_MAX: usize = 200;
/// Most characters of a description. Source: the public Faces API's agent documents.
pub const DESCRIPTION_CHARS_MAX: usize = 1_500;
/// Most characters of a profile's addendum. Source: the same.
pub const ADDENDUM_CHARS_MAX: usize = 100_000;
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
    pub facts: Option<FactChanges>,
    /// `formula`.
    pub formula: Option<Formula>,
    /// `description`; `Some(None)` clears it, as the two below.
    pub description: Option<Option<String>>,
    /// `profile_addendum`.
    pub profile_addendum: Option<Option<String>>,
    /// `default_tools`, or `tools`.
    pub default_tools: Option<Vec<String>>,
    /// `default_model`; `Some(None)` when the caller sent `null` to clear it.
    pub default_model: Option<Option<String>>,
}

impl FaceFields {
    /// Reads a JSON body. Unknown fields are ignored, as the public API does.
    ///
    /// # Errors
    /// [`FaceError::Json`] when it is not JSON, [`FaceError::Field`] with the path of the first
    /// wrong field.
    pub fn parse(body: &[u8]) -> Result<Self, FaceError> {
        RawFields::parse(body)?.read()
    }

    /// The new face of a creation, at version 1. A missing name falls back to the username.
    ///
    /// # Errors
    /// [`FaceError::Field`] when the username is missing, and when there are facts beside a
    /// formula.
    pub fn into_face(
        self,
        id: FaceId,
        account_id: AccountId,
        created_at: i64,
    ) -> Result<(Face, Vec<String>), FaceError> {
        let Some(username) = self.username else {
            return Err(FaceError::missing(FieldPath::root().field("username")));
        };
        let facts = self.facts.unwrap_or_default();
        if self.formula.is_some() && !facts.stated.is_empty() {
            return Err(facts_beside_formula());
        }
        let face = Face {
            id,
            account_id,
            name: self.name.unwrap_or_else(|| username.as_str().to_owned()),
            username,
            facts: facts.stated,
            default_model: self.default_model.flatten(),
            default_tools: self.default_tools.unwrap_or_default(),
            formula: self.formula.map(|formula| formula.to_string()),
            description: self.description.flatten(),
            profile_addendum: self.profile_addendum.flatten(),
            version: 1,
            created_at,
            updated_at: created_at,
            component_counts: None,
        };
        Ok((face, facts.warnings))
    }

    /// Makes the changes of an update; gives the warnings back. Facts are merged key by key (one
    /// that is `null` is forgotten), tools are replaced, the username stays (it is the face's
    /// address). The caller owns `version` and `updated_at`.
    ///
    /// # Errors
    /// [`FaceError::Field`] when a face with a formula is given facts, or one without is given a
    /// formula: which of the two it is, is decided when it is made.
    pub fn apply_to(self, face: &mut Face) -> Result<Vec<String>, FaceError> {
        let facts = self.facts.unwrap_or_default();
        if let Some(formula) = self.formula {
            if face.formula.is_none() {
                let path = FieldPath::root().field("formula");
                let message = "can't be given to a face that has facts and primitives of its own; \
                               make another face by this formula";
                return Err(FaceError::value(path, message));
            }
            face.formula = Some(formula.to_string());
        }
        if face.formula.is_some() && !facts.stated.is_empty() {
            return Err(facts_beside_formula());
        }
        face.facts.merge(facts.stated);
        face.facts.forget(&facts.removed);
        if let Some(name) = self.name {
            face.name = name;
        }
        if let Some(description) = self.description {
            face.description = description;
        }
        if let Some(addendum) = self.profile_addendum {
            face.profile_addendum = addendum;
        }
        if let Some(tools) = self.default_tools {
            face.default_tools = tools;
        }
        if let Some(model) = self.default_model {
            face.default_model = model;
        }
        Ok(facts.warnings)
    }
}

fn facts_beside_formula() -> FaceError {
    let path = FieldPath::root().field("basic_facts");
    FaceError::value(path, "can't stand beside a formula: the facts are those of its operands")
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
    #[serde(borrow, default, deserialize_with = "keep_null")]
    description: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "keep_null")]
    profile_addendum: Option<&'a RawValue>,
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
        let facts = match tree("basic_facts", self.basic_facts.or(self.facts))? {
            Some(value) => Some(Facts::read_changes(&value)?),
            None => None,
        };
        Ok(FaceFields {
            username: read_username(self.username.or(self.alias).or(self.model))?,
            name: line("name", self.name, NAME_CHARS_MAX)?,
            facts,
            formula: read_formula(self.formula)?,
            description: paragraph("description", self.description, DESCRIPTION_CHARS_MAX)?,
            profile_addendum: paragraph(
                "profile_addendum",
                self.profile_addendum,
                ADDENDUM_CHARS_MAX,
            )?,
            default_tools: read_tools(self.default_tools.or(self.tools))?,
            default_model: match self.default_model {
                None => None,
                Some(raw) if raw.get() == "null" => Some(None),
                Some(raw) => Some(line("default_model", Some(raw), DEFAULT_MODEL_CHARS_MAX)?),
            },
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

/// A text of any lines; `null` and an empty one clear it.
fn paragraph(
    field: &str,
    raw: Option<&RawValue>,
    chars_max: usize,
) -> Result<Option<Option<String>>, FaceError> {
    let Some(value) = tree(field, raw)? else { return Ok(None) };
    let path = FieldPath::root().field(field);
    let string = match value {
        Value::Null => return Ok(Some(None)),
        Value::String(string) => string,
        _ => return Err(FaceError::wrong_type(path, "a string")),
    };
    let text = string.trim();
    let chars = text.chars().count();
    if chars > chars_max {
        let message = format!("is {chars} characters long; at most {chars_max} are allowed");
        return Err(FaceError::value(path, message));
    }
    Ok(Some((!text.is_empty()).then(|| text.to_owned())))
}

/// A formula; `null` and an empty one are none.
fn read_formula(raw: Option<&RawValue>) -> Result<Option<Formula>, FaceError> {
    match tree("formula", raw)? {
        None => Ok(None),
        Some(Value::String(formula)) if formula.trim().is_empty() => Ok(None),
        Some(Value::String(formula)) => Ok(Some(Formula::parse(&formula)?)),
        Some(_) => Err(FaceError::wrong_type(FieldPath::root().field("formula"), "a string")),
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
