//! Bodies of faces.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// A new face.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"username": "bo", "name": "Bo Beispiel", "basic_facts": {"age": "41", "city": "Kiel"}}))]
pub struct NewFace {
    /// Its handle. `alias` and `model` are other names of this field.
    #[schema(example = "bo", pattern = "^[a-z0-9][a-z0-9-]*$")]
    pub username: String,
    /// The person's name; without it, the handle.
    pub name: Option<String>,
    /// Facts by key (`GET /v1/faces/attributes`); `facts` is another name. A value is a text, a
    /// number, a boolean or an object with `value`. Unknown keys are dropped and named in `warnings`.
    pub basic_facts: Option<BTreeMap<String, Value>>,
    /// Names of tools; `tools` is another name.
    pub default_tools: Option<Vec<String>>,
    /// The model that answers when a request names none; `null` for the account's or server's.
    pub default_model: Option<String>,
    /// A combination of other faces, for a face that has no texts of its own.
    pub formula: Option<String>,
}

/// Changes of a face. What is left out stays; facts are merged key by key.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"basic_facts": {"age": "42"}, "default_model": null}))]
pub struct FaceChange {
    /// The person's name.
    pub name: Option<String>,
    /// Facts to add or replace; `facts` is another name.
    pub basic_facts: Option<BTreeMap<String, Value>>,
    /// Names of tools, all of them; `tools` is another name.
    pub default_tools: Option<Vec<String>>,
    /// The model that answers when a request names none; `null` clears it.
    pub default_model: Option<String>,
    /// The combination of other faces that it is, for a face that was made with one.
    pub formula: Option<String>,
}

/// A persona.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"id": "bo", "username": "bo", "alias": "bo",
    "uid": "01990000-0000-7000-8000-000000000000", "object": "face", "created": 1_767_225_600,
    "owned_by": "01990000-0000-7000-8000-000000000001", "name": "Bo Beispiel",
    "basic_facts": {"age": {"value": "41", "status": "stated", "identification": "user-provided"}},
    "default_tools": [], "default_model": null, "formula": null, "description": null, "profile_addendum": null, "profile_token_count": null,
    "total_tokens_saved": null, "component_counts": null, "warnings": []}))]
pub struct Face {
    /// The handle, as `username` and `alias`.
    pub id: String,
    /// The handle.
    pub username: String,
    /// The handle.
    pub alias: String,
    /// The id that never changes.
    pub uid: String,
    /// `face`.
    pub object: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The account's id.
    pub owned_by: String,
    /// The person's name.
    pub name: String,
    /// Facts by key.
    pub basic_facts: BTreeMap<String, Fact>,
    /// Names of tools.
    pub default_tools: Vec<String>,
    /// The model that answers when a request names none.
    #[schema(required = true)]
    pub default_model: Option<String>,
    /// The combination that it is.
    #[schema(required = true)]
    pub formula: Option<String>,
    /// Kept for clients; `null`.
    #[schema(required = true)]
    pub description: Option<String>,
    /// Kept for clients; `null`.
    #[schema(required = true)]
    pub profile_addendum: Option<String>,
    /// Size of the whole profile, tokens; `null` until it was prepared to speak.
    #[schema(required = true)]
    pub profile_token_count: Option<u64>,
    /// Kept for clients; `null`.
    #[schema(required = true)]
    pub total_tokens_saved: Option<u64>,
    /// Primitives by component; `null` until there were any.
    #[schema(required = true)]
    pub component_counts: Option<BTreeMap<String, u64>>,
    /// `syncing` while something of it is compiled, else `synced`; told where one face is read.
    #[schema(nullable = false)]
    pub sync_status: Option<String>,
    /// What was dropped from the request.
    pub warnings: Vec<String>,
}

/// A fact.
#[derive(Debug, ToSchema)]
pub struct Fact {
    /// What is stated.
    pub value: String,
    /// `stated`.
    pub status: String,
    /// `user-provided`.
    pub identification: String,
}

/// A page of faces, oldest first.
#[derive(Debug, ToSchema)]
pub struct FacePage {
    /// `list`.
    pub object: String,
    /// The faces.
    pub data: Vec<Face>,
    /// Whether there are more.
    pub has_more: bool,
    /// What the next request sends as `cursor`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// That a face was deleted.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"deleted": true, "id": "bo", "object": "face"}))]
pub struct FaceDeleted {
    /// `true`.
    pub deleted: bool,
    /// The handle.
    pub id: String,
    /// `face`.
    pub object: String,
}

/// All primitives of a face. The bare list is taken too.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"primitives": [{"component": "epsilon", "text": "Walks to work.", "weight": 2}]}))]
pub struct Primitives {
    /// The statements.
    pub primitives: Vec<Primitive>,
}

/// One statement about a person.
#[derive(Debug, ToSchema)]
pub struct Primitive {
    /// Which side of the person it tells about.
    pub component: Component,
    /// The statement.
    pub text: String,
    /// How much it matters; 1 when left out.
    #[schema(minimum = 0, maximum = 1000)]
    pub weight: Option<f64>,
}

/// A side of a person: identity, values, thought, behaviour.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Component {
    /// Self-concept, identity.
    Alpha,
    /// Values, preferences.
    Beta,
    /// Patterns of thought.
    Delta,
    /// Habits, behaviour.
    Epsilon,
}

/// The keys of `basic_facts`.
#[derive(Debug, ToSchema)]
pub struct AttributeList {
    /// `list`.
    pub object: String,
    /// The categories.
    pub data: Vec<AttributeCategory>,
}

/// Keys that belong together.
#[derive(Debug, ToSchema)]
pub struct AttributeCategory {
    /// What they are about.
    pub name: String,
    /// The keys.
    pub facts: Vec<String>,
}

/// What a face is made of, and what was spent on it since it was made.
#[derive(Debug, ToSchema)]
pub struct FaceStats {
    /// The handle, as `username` and `alias`.
    pub id: String,
    /// The handle.
    pub username: String,
    /// The handle.
    pub alias: String,
    /// The id that never changes.
    pub uid: String,
    /// Primitives by component; `null` until there were any.
    #[schema(required = true)]
    pub component_counts: Option<BTreeMap<String, u64>>,
    /// Size of its whole profile, tokens; `null` without primitives, and for accounts with many faces.
    #[schema(required = true)]
    pub profile_token_count: Option<u64>,
    /// Tokens of the texts that it is made of now.
    pub tokens_compiled_current: u64,
    /// Tokens that were ever compiled.
    pub tokens_compiled_alltime: u64,
    /// When primitives last came into it, seconds since 1970.
    #[schema(required = true)]
    pub last_synced_at: Option<i64>,
    /// Requests to it.
    pub request_count: u64,
    /// Tokens of their input.
    pub input_tokens: u64,
    /// Tokens of their output.
    pub output_tokens: u64,
    /// What the providers took.
    pub provider_cost_usd: f64,
    /// What this server added.
    pub markup_usd: f64,
    /// What was charged.
    pub total_cost_usd: f64,
    /// Kept for clients; `null`.
    #[schema(required = true)]
    pub total_tokens_saved: Option<u64>,
}
