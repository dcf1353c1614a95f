//! What can be wrong with a face that someone hands in, and where.

use std::fmt;

use super::text;
use crate::domain::ErrorCode;

/// Most characters of a caller's own word (a field's name) that an error or warning repeats.
const ECHO_CHARS_MAX: usize = 64;

/// One step from a body's root to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// A member of an object.
    Field(String),
    /// An element of an array, from 0.
    Index(usize),
}

/// Where a field stands in a body. Displayed as `primitives[3].component`; the root is `body`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPath(Vec<PathStep>);

impl FieldPath {
    /// The body itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// This path, and then the member `name` (cut to 64 characters on one line: it may be the
    /// caller's own word).
    #[must_use]
    pub fn field(mut self, name: &str) -> Self {
        self.0.push(PathStep::Field(echo(name)));
        self
    }

    /// This path, and then the element `index`.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(PathStep::Index(index));
        self
    }

    /// The steps from the root.
    #[must_use]
    pub fn steps(&self) -> &[PathStep] {
        &self.0
    }

    /// The steps as FastAPI's `loc` has them, without the leading `body`.
    #[must_use]
    pub fn loc(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|step| match step {
                PathStep::Field(name) => name.clone(),
                PathStep::Index(index) => index.to_string(),
            })
            .collect()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("body");
        }
        for (position, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Field(name) if position == 0 => f.write_str(name)?,
                PathStep::Field(name) => write!(f, ".{name}")?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// What is wrong with a field, in the words that a validation error needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldFault {
    /// It is not there and must be.
    Missing,
    /// It is JSON of the wrong type.
    Type,
    /// It has the right type and a value that is not allowed.
    Value,
}

/// Why a face, or a part of one, is not accepted. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaceError {
    /// The text is not JSON at all.
    #[error("not valid JSON: {message}")]
    Json {
        /// What the parser says, with line and column.
        message: String,
    },
    /// One field is wrong.
    #[error("{path}: {message}")]
    Field {
        /// Where it stands.
        path: FieldPath,
        /// What kind of fault.
        fault: FieldFault,
        /// What is wrong and what is allowed.
        message: String,
    },
}

impl FaceError {
    /// The code that decides the status: all are 422.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Json { .. } => ErrorCode::InvalidJson,
            Self::Field { .. } => ErrorCode::InvalidRequest,
        }
    }

    pub(super) fn missing(path: FieldPath) -> Self {
        Self::Field { path, fault: FieldFault::Missing, message: "field required".to_owned() }
    }

    pub(super) fn wrong_type(path: FieldPath, expected: &str) -> Self {
        Self::Field { path, fault: FieldFault::Type, message: format!("must be {expected}") }
    }

    pub(super) fn value(path: FieldPath, message: impl Into<String>) -> Self {
        Self::Field { path, fault: FieldFault::Value, message: message.into() }
    }

    /// Tells "this is not JSON" from "this is JSON of the wrong shape".
    pub(super) fn from_json(path: FieldPath, error: &serde_json::Error) -> Self {
        match error.classify() {
            serde_json::error::Category::Data => Self::value(path, error.to_string()),
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => Self::Json { message: error.to_string() },
        }
    }
}

/// A caller's own word, short and on one line, for an error or a warning.
pub(super) fn echo(word: &str) -> String {
    let mut short: String = word.chars().take(ECHO_CHARS_MAX + 1).collect();
    short = text::flatten(&short);
    if short.chars().count() > ECHO_CHARS_MAX {
        short = short.chars().take(ECHO_CHARS_MAX - 1).chain(['…']).collect();
    }
    short
}
