//! Bodies of accounts and probes.

use utoipa::ToSchema;

/// The account in one call.
#[derive(Debug, ToSchema)]
pub struct AccountState {
    /// The account's id.
    pub user_id: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// Whether it has a face.
    pub has_first_face: bool,
    /// The same.
    pub onboarding_complete: bool,
    /// What is settled, USD.
    pub balance_usd: f64,
    /// Whether it may not spend.
    pub is_frozen: bool,
    /// Whether it administers the server.
    pub is_admin: bool,
}

/// The credit.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"account_id": "01990000-0000-7000-8000-000000000001", "balance_usd": 9.5,
    "reserved_usd": 0.25, "available_usd": 9.25, "credits_usd": 10, "spent_usd": 0.5, "is_frozen": false}))]
pub struct Balance {
    /// The account's id.
    pub account_id: String,
    /// What is settled.
    pub balance_usd: f64,
    /// What running requests hold.
    pub reserved_usd: f64,
    /// What a new request can use.
    pub available_usd: f64,
    /// What ever came in.
    pub credits_usd: f64,
    /// What was charged.
    pub spent_usd: f64,
    /// Whether the account may not spend.
    pub is_frozen: bool,
}

/// That the server lives.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"status": "ok", "version": "0.1.0"}))]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The server's version.
    pub version: String,
}

/// That the server can work.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"status": "ready"}))]
pub struct Ready {
    /// `ready`.
    pub status: String,
}

/// What an audit found: counts, sums and differences.
#[derive(Debug, ToSchema)]
pub struct AuditReport {
    /// Whether the books are right.
    pub clean: bool,
}
