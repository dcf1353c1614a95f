//! The face itself, and the object that the API shows of it.

use serde_json::{Value, json};

use super::{ComponentCounts, Facts};
use crate::domain::clock::UnixMicros;
use crate::domain::{AccountId, FaceId, FaceName};

/// A persona, without its primitives.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    /// Its id (`uid` in the API).
    pub id: FaceId,
    /// Who owns it.
    pub account_id: AccountId,
    /// Its handle in the `model` field.
    pub username: FaceName,
    /// The person's name, as the prompt says it.
    pub name: String,
    /// What is settled about the person.
    pub facts: Facts,
    /// The language model that answers when the caller names none.
    pub default_model: Option<String>,
    /// Names of tools, kept for clients.
    pub default_tools: Vec<String>,
    /// What it is made of, when it is made of other faces ([`super::Formula`], canonical). Such a
    /// face has no facts and primitives of its own.
    pub formula: Option<String>,
    /// What its owner says about it, for people: no part of a prompt.
    pub description: Option<String>,
    /// Text that follows the profile in every prompt, as it is.
    pub profile_addendum: Option<String>,
    /// Grows by one with every change of the face or its primitives.
    pub version: i64,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    /// Microseconds since the Unix epoch.
    pub updated_at: i64,
    /// `None` until primitives were imported for the first time: clients take it as "compiled".
    pub component_counts: Option<ComponentCounts>,
}

/// What the API's face object needs besides the face.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaceRendering<'a> {
    /// `owned_by`: the account's name (or id).
    pub owned_by: &'a str,
    /// Size of the whole profile, tokens ([`super::Persona::profile_tokens`]); shown only for a
    /// face that has primitives.
    pub profile_tokens: Option<u64>,
    /// What was dropped from the caller's body.
    pub warnings: &'a [String],
}

impl Face {
    /// The API's face object; both generations of names (`id`, `username`, `alias` are the same
    /// handle, `uid` is the UUID).
    #[must_use]
    pub fn to_json(&self, rendering: FaceRendering<'_>) -> Value {
        let handle = self.username.as_str();
        json!({
            "id": handle,
            "username": handle,
            "alias": handle,
            "uid": self.id,
            "object": "face",
            "created": UnixMicros(self.created_at).seconds(),
            "owned_by": rendering.owned_by,
            "name": self.name,
            "basic_facts": self.facts.to_json(),
            "default_tools": self.default_tools,
            "default_model": self.default_model,
            "formula": self.formula,
            "description": self.description,
            "profile_addendum": self.profile_addendum,
            "profile_token_count": self.component_counts.and(rendering.profile_tokens),
            "total_tokens_saved": null,
            "component_counts": self.component_counts,
            "warnings": rendering.warnings,
        })
    }
}
