//! Bodies of billing.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A payment to book as credit.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"amount_usd": 25, "payment_ref": "pay_123"}))]
pub struct TopUp {
    /// At least 1.00; `amount` is another name.
    #[schema(minimum = 1)]
    pub amount_usd: f64,
    /// The payment's reference. A repeat books nothing and answers the same.
    pub payment_ref: Option<String>,
}

/// What was booked.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"success": true, "amount_usd": 25, "payment_ref": "pay_123",
    "new_balance_usd": 34.5, "frozen": false}))]
pub struct ToppedUp {
    /// `true`.
    pub success: bool,
    /// The payment's amount.
    pub amount_usd: f64,
    /// Its reference.
    pub payment_ref: String,
    /// The balance after it.
    pub new_balance_usd: f64,
    /// Whether the account may not spend.
    pub frozen: bool,
}

/// What to add up.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document; the use case has a reader of its own")]
pub(in super::super) struct UsageQuery {
    /// `api_key_id`, `model_iam_id` (a face's id, the default), `model_username`, `llm_model` or `date`.
    #[param(example = "llm_model")]
    group_by: Option<String>,
    /// Of one API key; `api_key` is another name.
    api_key_id: Option<String>,
    /// Of one face; `username` and `alias` are other names.
    model_username: Option<String>,
    /// Of one face, by its id.
    model_iam_id: Option<String>,
    /// Of one model.
    llm_model: Option<String>,
    /// First day; `from_date` and `start_date` are other names.
    #[param(example = "2026-11-01")]
    from: Option<String>,
    /// Last day; `to_date` and `end_date` are other names.
    #[param(example = "2026-11-30")]
    to: Option<String>,
    /// How many groups to show.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What was used, by group.
#[derive(Debug, ToSchema)]
pub struct Usage {
    /// `list`.
    pub object: String,
    /// What the groups are.
    pub group_by: String,
    /// First day.
    pub from_date: Option<String>,
    /// Last day.
    pub to_date: Option<String>,
    /// The groups.
    pub rows: Vec<UsageSums>,
    /// All groups together.
    pub totals: UsageSums,
    /// Whether there are more groups.
    pub has_more: bool,
    /// What the next request sends as `cursor`.
    pub next_cursor: Option<String>,
}

/// Sums of a group.
#[derive(Debug, ToSchema)]
pub struct UsageSums {
    /// The group's key.
    pub group_key: Option<String>,
    /// A name for people.
    pub group_label: Option<String>,
    /// Requests.
    pub request_count: u64,
    /// Tokens of input, cached ones included.
    pub input_tokens: u64,
    /// Tokens of input that the provider had in its cache.
    pub cached_input_tokens: u64,
    /// Tokens of output.
    pub output_tokens: u64,
    /// What the provider takes.
    pub provider_cost_usd: f64,
    /// What this server adds.
    pub markup_usd: f64,
    /// What was charged.
    pub total_cost_usd: f64,
}

/// What models cost.
#[derive(Debug, ToSchema)]
pub struct LlmCosts {
    /// `list`.
    pub object: String,
    /// `USD`.
    pub currency: String,
    /// What this server adds to a request's whole cost.
    pub markup_percent: f64,
    /// The models.
    pub data: Vec<LlmCost>,
}

/// What a model costs, by its provider's list.
#[derive(Debug, ToSchema)]
pub struct LlmCost {
    /// The model.
    pub model: String,
    /// Its provider.
    pub provider: String,
    /// Per million tokens of input.
    pub input_usd_per_mtok: f64,
    /// Per million tokens of cached input.
    pub cached_input_usd_per_mtok: f64,
    /// Per million tokens of output.
    pub output_usd_per_mtok: f64,
    /// What this server adds.
    pub markup_percent: f64,
}

/// A page of monthly statements, newest first.
#[derive(Debug, ToSchema)]
pub struct InvoicePage {
    /// `list`.
    pub object: String,
    /// The statements, without their lines.
    pub data: Vec<Invoice>,
    /// Whether there are more.
    pub has_more: bool,
    /// What the next request sends as `cursor`.
    pub next_cursor: Option<String>,
}

/// A month's statement.
#[derive(Debug, ToSchema)]
pub struct Invoice {
    /// The month.
    #[schema(example = "2026-11")]
    pub id: String,
    /// `invoice`.
    pub object: String,
    /// First day.
    pub period_start: String,
    /// Last day.
    pub period_end: String,
    /// `open` while the month runs, then `closed`.
    pub status: String,
    /// `USD`.
    pub currency: String,
    /// Balance at its begin.
    pub opening_balance_usd: f64,
    /// Balance at its end, or now.
    pub closing_balance_usd: f64,
}

/// The account's plan.
#[derive(Debug, ToSchema)]
pub struct Subscription {
    /// Its name.
    pub plan: String,
    /// `active`.
    pub status: String,
    /// Faces that there are.
    pub face_count: u64,
    /// Faces that there may be.
    pub face_limit: Option<u64>,
    /// All plans of this server.
    pub plans: Vec<BTreeMap<String, Value>>,
}

/// An event of a payment provider.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"id": "evt_1", "type": "payment.succeeded",
    "data": {"payment_ref": "pay_123", "amount_usd": "25.00"}}))]
pub struct PaymentEvent {
    /// The event's id: it is booked once.
    pub id: String,
    /// `payment.succeeded` or `payment.refunded`; others are ignored.
    #[schema(rename = "type")]
    pub r#type: String,
    /// The payment.
    pub data: Option<Payment>,
}

/// A payment.
#[derive(Debug, ToSchema)]
pub struct Payment {
    /// Its reference.
    pub payment_ref: String,
    /// Its amount, as a number or a text.
    pub amount_usd: Value,
    /// The account that paid; without it, whoever claims the payment.
    pub account: Option<String>,
}

/// What became of an event.
#[derive(Debug, ToSchema)]
pub struct EventTaken {
    /// `true`.
    pub received: bool,
    /// The event's id.
    pub event_id: String,
    /// What was done.
    pub outcome: String,
}
