//! What an account used, and what models cost.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Caller, Failure, Flows, Platform};
use crate::{
    domain::{ChargeRate, Day, ErrorCode, FaceId, FaceName, KeyId, NanoUsd},
    providers::Model,
    storage::{
        faces as storage_faces,
        ledger::usage::{
            self, GROUPS_MAX, GroupKey, Rolled, UsageFilter, UsageGroup, UsageRow, UsageSums,
        },
    },
};

/// Groups in one page when the caller does not say.
const PAGE_DEFAULT: u32 = 100;
/// Pause between two steps of a rollup that is behind: requests come first.
const STEP_PAUSE: Duration = Duration::from_millis(20);
/// Nano-USD per million tokens in a pico-USD per token.
const NANO_PER_MTOK: i64 = 1_000;

/// The query of `GET /v1/billing/usage`, by all its names.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct UsageQuery {
    group_by: Option<String>,
    #[serde(alias = "api_key")]
    api_key_id: Option<String>,
    #[serde(alias = "username", alias = "alias")]
    model_username: Option<String>,
    model_iam_id: Option<String>,
    llm_model: Option<String>,
    #[serde(alias = "from_date", alias = "start_date")]
    from: Option<String>,
    #[serde(alias = "to_date", alias = "end_date")]
    to: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// How groups are called in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    ById,
    ByUsername,
}

impl Platform {
    /// `GET /v1/billing/usage`: exact and of now, in the order of the groups' keys, with a cursor.
    ///
    /// # Errors
    /// 422 that names the wrong parameter; 503 when the database can't be asked.
    pub async fn usage(&self, caller: &Caller, query: UsageQuery) -> Result<Value, Failure> {
        let (group, naming) = group_of(query.group_by.as_deref())?;
        let limit = limit_of(query.limit.as_deref())?;
        let after = query.cursor.as_deref().map(|cursor| after(group, cursor)).transpose()?;
        let (from, to) =
            (day_of("from", query.from.as_deref())?, day_of("to", query.to.as_deref())?);
        let Some(filter) = self.usage_filter(caller, &query, from, to).await? else {
            // An unknown face, or another account's: nobody can tell which.
            return Ok(usage_json(group, naming, from, to, &[], UsageSums::default(), None));
        };
        let page = usage::read_usage(&self.inner.db, filter, group, after, limit).await?;
        let next = page.rows.last().filter(|_| page.has_more).map(|row| cursor_of(&row.key));
        Ok(usage_json(group, naming, from, to, &page.rows, page.totals, next))
    }

    /// `None` when a face is asked for that the caller does not have.
    async fn usage_filter(
        &self,
        caller: &Caller,
        query: &UsageQuery,
        from: Option<Day>,
        to: Option<Day>,
    ) -> Result<Option<UsageFilter>, Failure> {
        let key_id = query.api_key_id.as_deref().map(|text| {
            let wrong = || invalid("api_key_id", "api_key_id must be the id of an API key");
            text.parse::<KeyId>().map_err(|_| wrong())
        });
        if query.llm_model.as_deref().is_some_and(is_no_model) {
            return Err(invalid("llm_model", "llm_model must not contain control characters"));
        }
        let mut filter = UsageFilter {
            from,
            to,
            key_id: key_id.transpose()?,
            model: query.llm_model.clone(),
            ..UsageFilter::all(caller.account_id)
        };
        if let Some(model) = &filter.model {
            // Aliases are counted under the model's own id.
            let known = self.inner.catalog.id_of(model).map(str::to_owned);
            filter.model = known.or(filter.model);
        }
        for face in [&query.model_username, &query.model_iam_id].into_iter().flatten() {
            let id = match face.parse::<FaceId>() {
                Ok(id) => Some(id),
                Err(_) => self.face_id(caller, face).await?,
            };
            if id.is_none() || filter.face_id.is_some_and(|other| Some(other) != id) {
                return Ok(None);
            }
            filter.face_id = id;
        }
        Ok(Some(filter))
    }

    async fn face_id(&self, caller: &Caller, username: &str) -> Result<Option<FaceId>, Failure> {
        let Ok(name) = FaceName::parse(username) else { return Ok(None) };
        let face = storage_faces::find_face(&self.inner.db, caller.account_id, &name).await?;
        Ok(face.map(|face| face.id))
    }

    /// Adds settled holds to the sums by day every `usage_rollup_interval_ms`, for ever. Any number
    /// of instances may do it at once.
    ///
    /// # Cancel safety
    /// Dropped, a step that has begun ends in the background; the next one goes on from there.
    pub async fn roll_usage(&self) {
        let limits = &self.inner.limits;
        let interval = Duration::from_millis(limits.usage_rollup_interval_ms);
        loop {
            tokio::time::sleep(interval).await;
            loop {
                match usage::roll(&self.inner.db, limits.usage_rollup_rows_max).await {
                    Ok(Rolled::More) => tokio::time::sleep(STEP_PAUSE).await,
                    Ok(Rolled::Done | Rolled::Lost) => break,
                    Err(error) => {
                        let chain = crate::telemetry::chain(&error);
                        log::warn!(target: "faces::flows", "adding up usage failed: {chain}");
                        break;
                    }
                }
            }
        }
    }
}

impl Flows {
    /// `GET /v1/billing/llm-costs`: what the usable models cost, USD per million tokens, by the
    /// provider's list price; the markup is added to the whole of a request.
    ///
    /// # Errors
    /// 500 for a model without a price: a bug.
    pub fn llm_costs(&self, caller: &Caller) -> Result<Value, Failure> {
        // One for all models, as the server had it that wrote the price list last.
        let mut bps = self.inner.options.markup_bps;
        let mut data = Vec::new();
        for model in self.inner.platform.models(caller) {
            let rate = self.inner.prices.of(&model)?.rate;
            bps = rate.markup_bps;
            data.push(cost_json(&model, rate));
        }
        Ok(
            json!({"object": "list", "currency": "USD", "markup_percent": percent(bps), "data": data}),
        )
    }
}

fn cost_json(model: &Model, rate: ChargeRate) -> Value {
    let prices = &rate.prices;
    let usd = |pico: i64| NanoUsd(pico.saturating_mul(NANO_PER_MTOK)).to_json_number();
    json!({
        "model": model.id,
        "provider": model.provider.name,
        "input_usd_per_mtok": usd(prices.input_pico),
        "cached_input_usd_per_mtok": usd(prices.cache_read_pico),
        "cache_write_5m_usd_per_mtok": usd(prices.cache_write_5m_pico),
        "cache_write_1h_usd_per_mtok": usd(prices.cache_write_1h_pico),
        "output_usd_per_mtok": usd(prices.output_pico),
        "markup_percent": percent(rate.markup_bps),
    })
}

/// Basis points as percent, exact.
fn percent(bps: i64) -> Box<serde_json::value::RawValue> {
    NanoUsd(bps.saturating_mul(10_000_000)).to_json_number()
}

fn group_of(text: Option<&str>) -> Result<(UsageGroup, Naming), Failure> {
    Ok(match text.unwrap_or("model_iam_id") {
        "api_key_id" | "api_key" => (UsageGroup::Key, Naming::ById),
        "model_iam_id" => (UsageGroup::Face, Naming::ById),
        "model_username" | "model" => (UsageGroup::Face, Naming::ByUsername),
        "llm_model" | "llm" => (UsageGroup::Model, Naming::ById),
        "date" => (UsageGroup::Day, Naming::ById),
        _ => {
            return Err(invalid(
                "group_by",
                "group_by must be api_key_id, model_iam_id (the default), model_username, \
                 llm_model or date",
            ));
        }
    })
}

fn limit_of(text: Option<&str>) -> Result<u32, Failure> {
    let Some(text) = text else { return Ok(PAGE_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=GROUPS_MAX).contains(limit));
    limit.ok_or_else(|| invalid("limit", &format!("limit must be from 1 to {GROUPS_MAX}")))
}

fn day_of(name: &str, text: Option<&str>) -> Result<Option<Day>, Failure> {
    let Some(text) = text else { return Ok(None) };
    Day::parse(text).map(Some).ok_or_else(|| {
        invalid(name, &format!("{name} must be a date such as 2026-11-26, or a time of that day"))
    })
}

fn after(group: UsageGroup, cursor: &str) -> Result<GroupKey, Failure> {
    let id = |text: &str| match text {
        "-" => Some(None),
        text => text.parse().ok().map(Some),
    };
    let key = match group {
        UsageGroup::Key => id(cursor).map(|id| GroupKey::Key(id.map(KeyId))),
        UsageGroup::Face => id(cursor).map(|id| GroupKey::Face(id.map(FaceId))),
        UsageGroup::Model => {
            Some(cursor).filter(|id| !is_no_model(id)).map(|id| GroupKey::Model(id.to_owned()))
        }
        UsageGroup::Day => Day::parse(cursor).map(GroupKey::Day),
    };
    key.ok_or_else(|| invalid("cursor", "cursor must be the next_cursor of the page before"))
}

/// No model's id has such characters, and PostgreSQL can't be asked for some of them.
fn is_no_model(text: &str) -> bool {
    text.contains(char::is_control)
}

fn cursor_of(key: &GroupKey) -> String {
    let id = |id: Option<String>| id.unwrap_or_else(|| "-".to_owned());
    match key {
        GroupKey::Key(key) => id(key.map(|key| key.to_string())),
        GroupKey::Face(face) => id(face.map(|face| face.to_string())),
        GroupKey::Model(model) => model.clone(),
        GroupKey::Day(day) => day.to_string(),
    }
}

fn usage_json(
    group: UsageGroup,
    naming: Naming,
    from: Option<Day>,
    to: Option<Day>,
    rows: &[UsageRow],
    totals: UsageSums,
    next: Option<String>,
) -> Value {
    let data: Vec<Value> = rows.iter().map(|row| row_json(row, naming)).collect();
    let group = match (group, naming) {
        (UsageGroup::Key, _) => "api_key_id",
        (UsageGroup::Face, Naming::ById) => "model_iam_id",
        (UsageGroup::Face, Naming::ByUsername) => "model_username",
        (UsageGroup::Model, _) => "llm_model",
        (UsageGroup::Day, _) => "date",
    };
    json!({
        "object": "list",
        "group_by": group,
        "from_date": from.map(|day| day.to_string()),
        "to_date": to.map(|day| day.to_string()),
        "rows": data,
        "totals": sums_json(Value::Null, Value::Null, &totals),
        "has_more": next.is_some(),
        "next_cursor": next,
    })
}

fn row_json(row: &UsageRow, naming: Naming) -> Value {
    let (key, label) = match (&row.key, naming) {
        (GroupKey::Key(id), _) => (json!(id), json!(row.label)),
        // A deleted face has no username any more.
        (GroupKey::Face(id), Naming::ByUsername) => match &row.label {
            Some(username) => (json!(username), json!(row.name)),
            None => (json!(id), Value::Null),
        },
        (GroupKey::Face(id), Naming::ById) => (json!(id), json!(row.label)),
        (GroupKey::Model(model), _) => (json!(model), json!(model)),
        (GroupKey::Day(day), _) => (json!(day.to_string()), json!(day.to_string())),
    };
    sums_json(key, label, &row.sums)
}

/// Sums as `rows` and `totals` show them. What a profile saves is not measured here.
pub(super) fn sums_json(key: Value, label: Value, sums: &UsageSums) -> Value {
    json!({
        "group_key": key,
        "group_label": label,
        "request_count": sums.requests,
        "input_tokens": sums.input_tokens,
        "cached_input_tokens": sums.cached_tokens,
        "output_tokens": sums.output_tokens,
        "provider_cost_usd": sums.provider_cost.to_json_number(),
        "markup_usd": sums.markup().to_json_number(),
        "total_cost_usd": sums.cost.to_json_number(),
        "tokens_saved": null,
        "usd_saved": null,
    })
}

fn invalid(name: &str, message: &str) -> Failure {
    Failure {
        loc: vec!["query".to_owned(), name.to_owned()],
        ..Failure::new(ErrorCode::InvalidRequest, message)
    }
}
