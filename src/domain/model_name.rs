//! The `model` field: `face`, `face@llm`, `(formula)@llm` or a bare `llm`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most characters of a face's username.
pub const FACE_NAME_CHARS_MAX: usize = 32;

/// A face's username: `^[a-z0-9-]{1,32}$`, unique within an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FaceName(String);

/// Usernames that are words of the path `/v1/faces/{word}` and so could never be reached.
pub const RESERVED_FACE_NAMES: [&str; 3] = ["attributes", "stats", "diff"];

/// Why a text is not a username. The message tells the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaceNameError {
    /// Empty or over 32 characters.
    #[error("a face's username has 1 to 32 characters")]
    Length,
    /// A character outside `a-z`, `0-9`, `-`.
    #[error("a face's username holds only lowercase letters, digits and dashes")]
    Alphabet,
    /// One of [`RESERVED_FACE_NAMES`].
    #[error("`{0}` is a word of the API's paths and can't be a face's username")]
    Reserved(&'static str),
}

impl FaceName {
    /// Checks the rules of a username, reserved words included (use it when one is created).
    ///
    /// # Errors
    /// [`FaceNameError`] names the rule that was broken.
    pub fn parse(text: &str) -> Result<Self, FaceNameError> {
        if text.is_empty() || text.len() > FACE_NAME_CHARS_MAX {
            return Err(FaceNameError::Length);
        }
        if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err(FaceNameError::Alphabet);
        }
        match RESERVED_FACE_NAMES.into_iter().find(|word| *word == text) {
            Some(word) => Err(FaceNameError::Reserved(word)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The username.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FaceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What a client's `model` string asks for, before any look-up.
///
/// # Examples
/// ```
/// use faces::domain::ModelSelector;
/// let both = ModelSelector::split("alice@accounts/fireworks/models/llama-v3p1-8b-instruct");
/// assert_eq!(both, ModelSelector::FaceWithModel {
///     face: "alice", llm: "accounts/fireworks/models/llama-v3p1-8b-instruct",
/// });
/// assert_eq!(ModelSelector::split("alice"), ModelSelector::FaceOrModel("alice"));
/// assert_eq!(ModelSelector::split("(alice | bob)@sandbox"), ModelSelector::Composite {
///     formula: "(alice | bob)", llm: Some("sandbox"),
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelSelector<'a> {
    /// No `@`: an own face first, then a model of the catalog.
    FaceOrModel(&'a str),
    /// Begins with `(`: faces that are combined for this request only.
    Composite {
        /// Left of the `@`, brackets included.
        formula: &'a str,
        /// Right of the `@`.
        llm: Option<&'a str>,
    },
    /// Split at the first `@`: usernames can't hold one, model names can.
    FaceWithModel {
        /// Left of the `@`.
        face: &'a str,
        /// Right of the `@`.
        llm: &'a str,
    },
}

impl<'a> ModelSelector<'a> {
    /// Splits at the first `@`. Never fails: what the parts name is looked up later.
    #[must_use]
    pub fn split(model: &'a str) -> Self {
        if model.trim_start().starts_with('(') {
            let (formula, llm) =
                model.split_once('@').map_or((model, None), |(formula, llm)| (formula, Some(llm)));
            return Self::Composite { formula, llm };
        }
        match model.split_once('@') {
            Some((face, llm)) => Self::FaceWithModel { face, llm },
            None => Self::FaceOrModel(model),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_follow_the_rule() {
        for good in ["a", "alice", "news-bot", "0", "-", "a2345678901234567890123456789012"] {
            assert_eq!(FaceName::parse(good).unwrap().as_str(), good);
        }
        for (bad, error) in [
            ("", FaceNameError::Length),
            ("a23456789012345678901234567890123", FaceNameError::Length),
            ("Alice", FaceNameError::Alphabet),
            ("al ice", FaceNameError::Alphabet),
            ("älice", FaceNameError::Alphabet),
            ("a@b", FaceNameError::Alphabet),
            ("stats", FaceNameError::Reserved("stats")),
        ] {
            assert_eq!(FaceName::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn only_the_first_at_sign_splits() {
        assert_eq!(
            ModelSelector::split("a@b@c"),
            ModelSelector::FaceWithModel { face: "a", llm: "b@c" }
        );
        assert_eq!(ModelSelector::split("@x"), ModelSelector::FaceWithModel { face: "", llm: "x" });
        for (model, formula, llm) in [
            ("(a | b)@c@d", "(a | b)", Some("c@d")),
            (" (a)&b@c", " (a)&b", Some("c")),
            ("(a | b)", "(a | b)", None),
            ("(", "(", None),
            ("(@", "(", Some("")),
        ] {
            assert_eq!(ModelSelector::split(model), ModelSelector::Composite { formula, llm });
        }
    }
}
