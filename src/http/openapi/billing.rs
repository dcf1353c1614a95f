//! Bodies of billing.

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
    #[schema(required = true)]
    pub from_date: Option<String>,
    /// Last day.
    #[schema(required = true)]
    pub to_date: Option<String>,
    /// The groups.
    pub rows: Vec<UsageSums>,
    /// All groups together.
    pub totals: UsageSums,
    /// Whether there are more groups.
    pub has_more: bool,
    /// What the next request sends as `cursor`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Sums of a group.
#[derive(Debug, ToSchema)]
pub struct UsageSums {
    /// The group's key.
    #[schema(required = true)]
    pub group_key: Option<String>,
    /// A name for people.
    #[schema(required = true)]
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
    /// Kept for clients; `null`.
    #[schema(required = true)]
    pub tokens_saved: Option<u64>,
    /// Kept for clients; `null`.
    #[schema(required = true)]
    pub usd_saved: Option<f64>,
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
    /// Per million tokens written to a cache of five minutes.
    pub cache_write_5m_usd_per_mtok: f64,
    /// Per million tokens written to a cache of an hour.
    pub cache_write_1h_usd_per_mtok: f64,
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
    pub data: Vec<InvoiceSums>,
    /// Whether there are more.
    pub has_more: bool,
    /// What the next request sends as `cursor`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// A month's sums.
#[derive(Debug, ToSchema)]
pub struct InvoiceSums {
    /// The month.
    #[schema(example = "2026-11")]
    pub id: String,
    /// `invoice`.
    pub object: String,
    /// First day.
    #[schema(format = Date)]
    pub period_start: String,
    /// Last day.
    #[schema(format = Date)]
    pub period_end: String,
    /// `open` while the month runs, then `closed`.
    pub status: String,
    /// `USD`.
    pub currency: String,
    /// Balance at its begin.
    pub opening_balance_usd: f64,
    /// What came in, less what was taken back.
    pub topups_usd: f64,
    /// What was charged.
    pub charges_usd: f64,
    /// Balance at its end, or now.
    pub closing_balance_usd: f64,
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
    #[schema(format = Date)]
    pub period_start: String,
    /// Last day.
    #[schema(format = Date)]
    pub period_end: String,
    /// `open` while the month runs, then `closed`.
    pub status: String,
    /// `USD`.
    pub currency: String,
    /// Balance at its begin.
    pub opening_balance_usd: f64,
    /// What came in, less what was taken back.
    pub topups_usd: f64,
    /// What was charged.
    pub charges_usd: f64,
    /// Balance at its end, or now.
    pub closing_balance_usd: f64,
    /// The account's id.
    pub account_id: String,
    /// Everything that came in or was taken back.
    pub topups: Vec<Incoming>,
    /// What was charged, by day and model.
    pub charges: Vec<Charge>,
    /// All charges together.
    pub totals: UsageSums,
    /// Whether there were too many lines to show all; the sums are whole.
    pub truncated: bool,
}

/// Credit that came in, or was taken back.
#[derive(Debug, ToSchema)]
pub struct Incoming {
    /// The transfer's id.
    pub id: String,
    /// Its kind, such as `top_up`.
    #[schema(rename = "type")]
    pub r#type: String,
    /// Its amount; below zero when it was taken back.
    pub amount_usd: f64,
    /// The payment's reference.
    #[schema(required = true)]
    pub payment_ref: Option<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// Its day.
    #[schema(format = Date)]
    pub date: String,
}

/// What a model charged on a day.
#[derive(Debug, ToSchema)]
pub struct Charge {
    /// The day.
    #[schema(format = Date)]
    pub date: String,
    /// The model.
    pub llm_model: String,
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

/// The account's plan.
#[derive(Debug, ToSchema)]
pub struct Subscription {
    /// Its name.
    pub plan: String,
    /// Its price, in words.
    pub price: String,
    /// `active`.
    pub status: String,
    /// Faces that there are.
    pub face_count: u64,
    /// Faces that there may be.
    pub face_limit: u64,
    /// Tokens that may be compiled in a period; `null` for any number.
    #[schema(required = true)]
    pub compile_tokens: Option<u64>,
    /// The period's length, days; `null` for one that never ends.
    #[schema(required = true)]
    pub period_days: Option<u64>,
    /// `null`: a plan lasts until the operator gives another.
    #[schema(required = true)]
    pub current_period_end: Option<String>,
    /// All plans of this server.
    pub plans: Vec<Plan>,
}

/// A plan.
#[derive(Debug, ToSchema)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its price, in words.
    pub price: String,
    /// Faces that there may be; `null` for the server's limit.
    #[schema(required = true)]
    pub face_limit: Option<u64>,
    /// Tokens that may be compiled in a period; `null` for any number.
    #[schema(required = true)]
    pub compile_tokens: Option<u64>,
    /// The period's length, days; `null` for one that never ends.
    #[schema(required = true)]
    pub period_days: Option<u64>,
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
