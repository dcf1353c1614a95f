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
    /// A short name: lowercase letters, digits and dashes.
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

/// Another password for whoever is logged in.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"current_password": "Enchantress-of-9-numbers", "new_password": "Enchantress-of-10-numbers"}))]
pub struct PasswordChange {
    /// The password until now.
    pub current_password: String,
    /// The password from now on.
    pub new_password: String,
}

/// A login token.
#[derive(Debug, ToSchema)]
pub struct LoggedIn {
    /// `true`.
    pub success: bool,
    /// None.
    pub messages: Vec<String>,
    /// Token, id and `is_admin` once more.
    pub data: LoginData,
    /// `null`.
    #[schema(required = true)]
    pub error: Option<String>,
    /// `null`.
    #[schema(required = true)]
    pub meta: Option<String>,
    /// The token.
    pub token: String,
    /// The same.
    pub access_token: String,
    /// `bearer`.
    pub token_type: String,
    /// Its life, seconds.
    pub expires_in: i64,
    /// The account's id.
    pub user_id: String,
    /// Whether it administers the server.
    pub is_admin: bool,
}

/// What is in the envelope of a login.
#[derive(Debug, ToSchema)]
pub struct LoginData {
    /// The token.
    pub token: String,
    /// The account's id.
    pub user_id: String,
    /// Whether it administers the server.
    pub is_admin: bool,
}

/// Who is logged in.
#[derive(Debug, ToSchema)]
pub struct User {
    /// `user`.
    pub object: String,
    /// The account's id.
    pub id: String,
    /// The same.
    pub user_id: String,
    /// The address.
    pub email: String,
    /// The short name.
    #[schema(required = true)]
    pub username: Option<String>,
    /// The account's name.
    pub name: String,
    /// Whether it administers the server.
    pub is_admin: bool,
    /// When it registered.
    #[schema(format = DateTime)]
    pub created_at: String,
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
    /// `api_key`.
    pub object: String,
    /// Its id.
    pub id: String,
    /// The key itself, when it is made and never again.
    #[schema(nullable = false)]
    pub key: Option<String>,
    /// How it begins.
    pub key_prefix: String,
    /// A name for people.
    #[schema(required = true)]
    pub name: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ends; `null` when it does not.
    #[schema(required = true, format = DateTime)]
    pub expires_at: Option<String>,
    /// When it was last used, to the minute or so.
    #[schema(required = true, format = DateTime)]
    pub last_used_at: Option<String>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it was revoked.
    #[schema(required = true, format = DateTime)]
    pub revoked_at: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What it may spend; `null` for all that the account has.
    #[schema(required = true)]
    pub budget_usd: Option<f64>,
    /// The budget's window: `daily`, `weekly`, `monthly` or `none`.
    #[schema(required = true)]
    pub budget_window: Option<String>,
    /// When the window ends.
    #[schema(required = true, format = DateTime)]
    pub resets_at: Option<String>,
    /// What counts against the budget.
    pub spent_usd: f64,
    /// What it ever spent.
    pub total_spent_usd: f64,
    /// Faces that it may use; `null` for all.
    #[schema(required = true)]
    pub allowed_face_ids: Option<Vec<String>>,
    /// Models that it may use; `null` for all.
    #[schema(required = true)]
    pub allowed_llm_models: Option<Vec<String>>,
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
    /// The same.
    pub key_id: String,
    /// `api_key`.
    pub object: String,
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
