//! Facts: what is settled about a person, by keys of a closed table.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::{FaceError, FieldPath, echo};
use super::{attributes, text};

/// Most characters of one fact's value, after trimming.
pub const FACT_CHARS_MAX: usize = 500;

/// Most warnings of one body; a last one tells how many more there were.
const WARNINGS_MAX: usize = 100;

/// Facts by normalised key (`marital_status`), only keys of [`super::ATTRIBUTES`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts(BTreeMap<String, String>);

/// What a caller says about facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FactChanges {
    /// Stated.
    pub stated: Facts,
    /// Normalised keys that were sent as `null`: to be forgotten.
    pub removed: Vec<String>,
    /// What was dropped.
    pub warnings: Vec<String>,
}

impl Facts {
    /// Reads the object that a caller sends as `basic_facts`.
    ///
    /// Keys are lowercased and joined by `_` ("Marital Status" → `marital_status`). A value is a
    /// string, a number, a boolean, or an object whose `value` is one (the form in which facts
    /// are shown). An unknown key and an empty value are dropped; each gives a warning that names
    /// the key. Of two spellings of one key the last wins, with a warning. `null` is no facts, and
    /// a fact that is `null` is none (see [`Facts::read_changes`]).
    ///
    /// # Errors
    /// [`FaceError::Field`] when it is not an object, when a value has another type, and when
    /// one is longer than [`FACT_CHARS_MAX`].
    pub fn normalise(facts: &Value) -> Result<(Self, Vec<String>), FaceError> {
        let read = Self::read_changes(facts)?;
        Ok((read.stated, read.warnings))
    }

    /// As [`Facts::normalise`], with the keys whose value is `null` apart.
    ///
    /// # Errors
    /// As [`Facts::normalise`].
    pub fn read_changes(facts: &Value) -> Result<FactChanges, FaceError> {
        let path = FieldPath::root().field("basic_facts");
        let entries = match facts {
            Value::Null => return Ok(FactChanges::default()),
            Value::Object(entries) => entries,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(FaceError::wrong_type(path, "an object of facts by key"));
            }
        };
        let mut kept = BTreeMap::new();
        let mut removed = Vec::new();
        let mut warnings = Warnings::default();
        for (written, value) in entries {
            let key = normalise_key(written);
            if !attributes::is_attribute(&key) {
                warnings.add(written, "is not supported and was dropped");
                continue;
            }
            if value.is_null() {
                removed.push(key);
                continue;
            }
            let value = read_value(path.clone().field(&key), value)?;
            if value.is_empty() {
                warnings.add(written, "has an empty value and was dropped");
            } else if kept.insert(key, value).is_some() {
                warnings.add(written, "is given more than once; the last value was kept");
            }
        }
        Ok(FactChanges { stated: Self(kept), removed, warnings: warnings.finish() })
    }

    /// Takes over `newer` key by key; keys that it doesn't have stay.
    pub fn merge(&mut self, newer: Self) {
        self.0.extend(newer.0);
    }

    /// Sets one fact, whose key and value are those of other facts.
    pub(super) fn insert(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    /// Takes one fact out.
    pub(super) fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Forgets these keys.
    pub fn forget(&mut self, keys: &[String]) {
        self.0.retain(|key, _| !keys.contains(key));
    }

    /// How many facts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a normalised key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Key and value in the order of [`super::ATTRIBUTES`]; keys that an older table knew come
    /// last, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let known = attributes::keys().filter_map(|key| Some((key, self.get(key)?)));
        let others = self.0.iter().filter(|(key, _)| !attributes::is_attribute(key));
        known.chain(others.map(|(key, value)| (key.as_str(), value.as_str())))
    }

    /// The object that the API shows:
    /// `{"age":{"value":"30","status":"stated","identification":"user-provided"}}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let shown = |value: &str| json!({"value": value, "status": "stated", "identification": "user-provided"});
        Value::Object(self.iter().map(|(key, value)| (key.to_owned(), shown(value))).collect())
    }

    /// The JSON text of a database row: `{"age":"30"}`, keys sorted.
    #[must_use]
    pub fn to_stored(&self) -> String {
        let stored: Map<String, Value> =
            self.0.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        Value::Object(stored).to_string()
    }

    /// Reads what [`Facts::to_stored`] wrote, by whatever version of the table.
    ///
    /// # Errors
    /// [`FaceError`] when the text is not a JSON object of strings: the row is damaged.
    pub fn from_stored(stored: &str) -> Result<Self, FaceError> {
        serde_json::from_str(stored)
            .map(Self)
            .map_err(|error| FaceError::from_json(FieldPath::root().field("basic_facts"), &error))
    }
}

/// Warnings of one body, bounded: a body may hold a million unknown keys.
#[derive(Default)]
struct Warnings {
    texts: Vec<String>,
    unsaid: u64,
}

impl Warnings {
    fn add(&mut self, key: &str, what: &str) {
        if self.texts.len() < WARNINGS_MAX {
            self.texts.push(format!("basic_facts key '{}' {what}", echo(key)));
        } else {
            self.unsaid += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.unsaid > 0 {
            self.texts.push(format!("basic_facts: {} more keys gave a warning", self.unsaid));
        }
        self.texts
    }
}

/// Lowercase letters and digits; every run of anything else inside is one `_`.
fn normalise_key(written: &str) -> String {
    let mut key = String::with_capacity(written.len());
    let mut gap = false;
    for character in written.chars() {
        if character.is_alphanumeric() {
            if gap && !key.is_empty() {
                key.push('_');
            }
            gap = false;
            key.extend(character.to_lowercase());
        } else {
            gap = true;
        }
    }
    key
}

fn read_value(path: FieldPath, value: &Value) -> Result<String, FaceError> {
    let (path, plain) = match value {
        Value::Object(shown) => {
            let path = path.field("value");
            match shown.get("value") {
                Some(inner) => (path, inner),
                None => return Err(FaceError::missing(path)),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            (path, value)
        }
    };
    let read = match plain {
        Value::String(string) => string.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(FaceError::wrong_type(path, "a string, a number or a boolean"));
        }
    };
    let chars = read.chars().count();
    if chars > FACT_CHARS_MAX {
        let message = format!("is {chars} characters long; at most {FACT_CHARS_MAX} are allowed");
        return Err(FaceError::value(path, message));
    }
    // A value of nothing but invisible characters would be an empty line of the prompt.
    Ok(if text::flatten(&read).is_empty() { String::new() } else { read })
}
