//! Bodies of accounts and probes.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// The account in one call.
#[derive(Debug, ToSchema)]
pub struct AccountState {
    /// The account's id.
    pub user_id: String,
    /// Its name.
    pub name: String,
    /// The address to log in with; `null` for an account that the operator made.
    #[schema(required = true)]
    pub email: Option<String>,
    /// A short name.
    #[schema(required = true)]
    pub username: Option<String>,
    /// Its plan.
    pub plan: String,
    /// `active`.
    pub subscription_status: String,
    /// `false`: this server keeps no cards.
    pub has_payment_method: bool,
    /// Whether it has a face.
    pub has_first_face: bool,
    /// The same.
    pub onboarding_complete: bool,
    /// What is settled, USD.
    pub balance_usd: f64,
    /// Whether it may not spend.
    pub frozen: bool,
    /// The same.
    pub is_frozen: bool,
    /// Whether it administers the server.
    pub is_admin: bool,
}

/// The credit.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"iam_id": "01990000-0000-7000-8000-000000000001",
    "account_id": "01990000-0000-7000-8000-000000000001", "balance_usd": 9.5, "reserved_usd": 0.25,
    "available_usd": 9.25, "credits_usd": 10, "spent_usd": 0.5, "frozen": false, "is_frozen": false,
    "is_active": true, "has_payment_method": false,
    "data": {"balance_usd": 9.5, "is_frozen": false, "has_payment_method": false}}))]
pub struct Balance {
    /// The account's id.
    pub iam_id: String,
    /// The same.
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
    pub frozen: bool,
    /// The same.
    pub is_frozen: bool,
    /// Whether it can spend: neither frozen nor closed.
    pub is_active: bool,
    /// `false`: this server keeps no cards.
    pub has_payment_method: bool,
    /// Some of it once more.
    pub data: BalanceData,
}

/// What is in the envelope of a balance.
#[derive(Debug, ToSchema)]
pub struct BalanceData {
    /// What is settled.
    pub balance_usd: f64,
    /// Whether the account may not spend.
    pub is_frozen: bool,
    /// `false`: this server keeps no cards.
    pub has_payment_method: bool,
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

/// What an audit found. Amounts are in nano-USD.
#[derive(Debug, ToSchema)]
pub struct AuditReport {
    /// `full` or `incremental`.
    pub mode: String,
    /// Up to which hold the books were sealed by audits before, for an incremental one.
    #[schema(required = true)]
    pub sealed_to: Option<String>,
    /// Whether the books are right.
    pub clean: bool,
    /// Rows by kind.
    pub counts: BTreeMap<String, i64>,
    /// Sums by kind.
    pub totals: BTreeMap<String, i64>,
    /// What is not right.
    pub differences: Vec<Value>,
    /// Whether there are more differences than are shown.
    pub truncated: bool,
}
