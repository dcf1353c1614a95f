//! Bodies of registering, logging in, keys and preferences.

use serde_json::Value;
use utoipa::ToSchema;

/// Who registers.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"email": "ada@example.org", "password": "Enchantress-of-9-numbers"}))]
pub struct Registration {
    /// The address to log in with.
    pub email: String,
    /// The password.
    pub password: String,
    /// The account's name.
    pub name: Option<String>,
    /// A name to log in with.
    pub username: Option<String>,
}

/// Who logs in.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"email": "ada@example.org", "password": "Enchantress-of-9-numbers"}))]
pub struct Login {
    /// The address.
    pub email: String,
    /// The password.
    pub password: String,
}

/// A login token.
#[derive(Debug, ToSchema)]
pub struct LoggedIn {
    /// `true`.
    pub success: bool,
    /// The token; also in `data` and `access_token`.
    pub token: String,
    /// `bearer`.
    pub token_type: String,
    /// Its life, seconds.
    pub expires_in: i64,
    /// The account's id.
    pub user_id: String,
    /// Whether it administers the server.
    pub is_admin: bool,
}

/// Who is logged in.
#[derive(Debug, ToSchema)]
pub struct User {
    /// The account's id; also in `user_id`.
    pub id: String,
    /// The address.
    pub email: String,
    /// The name to log in with.
    pub username: Option<String>,
    /// The account's name.
    pub name: String,
    /// Whether it administers the server.
    pub is_admin: bool,
}

/// A new key, or changes of one.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"name": "laptop", "scopes": ["v1:chat"], "budget_usd": 5, "expires_in_days": 30}))]
pub struct KeyTerms {
    /// A name for people.
    pub name: Option<String>,
    /// `v1:*`, `v1:chat`, `v1:read`, `v1:admin`.
    pub scopes: Option<Vec<String>>,
    /// What it may spend.
    pub budget_usd: Option<f64>,
    /// The budget's window: `daily`, `weekly`, `monthly` or `none`.
    pub budget_window: Option<String>,
    /// Its life.
    pub expires_in_days: Option<u32>,
    /// Faces that it may use.
    pub allowed_face_ids: Option<Vec<String>>,
    /// Models that it may use.
    pub allowed_llm_models: Option<Vec<String>>,
}

/// An API key.
#[derive(Debug, ToSchema)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// The key itself, when it is made and never again.
    #[schema(nullable = false)]
    pub key: Option<String>,
    /// How it begins.
    pub key_prefix: String,
    /// A name for people.
    pub name: Option<String>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What it may spend.
    pub budget_usd: Option<f64>,
    /// What counts against the budget.
    pub spent_usd: f64,
}

/// A page of keys, newest first.
#[derive(Debug, ToSchema)]
pub struct KeyPage {
    /// `list`.
    pub object: String,
    /// The keys, revoked ones too.
    pub data: Vec<ApiKey>,
    /// Whether there are more.
    pub has_more: bool,
    /// What the next request sends as `cursor`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// That a key was revoked.
#[derive(Debug, ToSchema)]
pub struct KeyRevoked {
    /// `true`.
    pub revoked: bool,
    /// Its id.
    pub id: String,
}

/// What the account prefers, or changes of it.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"default_model": "sandbox"}))]
pub struct Preferences {
    /// Kept for clients.
    pub api_fallback: Option<Value>,
    /// The model of faces without one.
    pub default_model: Option<String>,
}
