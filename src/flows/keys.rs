//! An administrator's keys: making them, listing them with what they spent, changing budgets.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Failure, Platform,
    admin::{LIST_MAX, LIST_PAGE},
};
use crate::{
    domain::{
        AccountId, ApiKeySecret, ErrorCode, KeyBudget, KeyId, NanoUsd,
        clock::{self, UnixMicros},
    },
    storage::{
        keys::{self, BudgetChange, KeyInfo, NewKey},
        ledger::{self, CapWindow},
    },
};

/// What a new key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyTerms {
    /// For people.
    pub(super) name: String,
    /// When it ends; `None` for never.
    pub(super) expires_at: Option<UnixMicros>,
    /// Usernames that it may use; `None` for all.
    pub(super) allowed_faces: Option<Vec<String>>,
    /// Models that it may use; `None` for all.
    pub(super) allowed_models: Option<Vec<String>>,
    /// What it may spend; `None` for all that its account has.
    pub(super) budget: Option<KeyBudget>,
}

impl KeyTerms {
    /// A key without limits.
    pub(super) fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self { name, expires_at: None, allowed_faces: None, allowed_models: None, budget: None }
    }
}

/// What keys have spent.
#[derive(Debug, Default)]
struct Spending {
    /// In the window that runs, of keys with a budget that was used in it.
    windows: BTreeMap<KeyId, NanoUsd>,
    /// In all.
    totals: BTreeMap<KeyId, NanoUsd>,
}

impl Platform {
    pub(super) async fn make_key(
        &self,
        account_id: AccountId,
        terms: KeyTerms,
    ) -> Result<Value, Failure> {
        let secret = ApiKeySecret::generate().map_err(|error| {
            log::error!(target: "faces::flows", "no randomness for a key: {error}");
            Failure::new(ErrorCode::Internal, super::failure::INTERNAL_MESSAGE)
        })?;
        let KeyTerms { name, expires_at, allowed_faces, allowed_models, budget } = terms;
        let key = NewKey {
            id: KeyId::generate(),
            account_id,
            name,
            hash: secret.hash(),
            prefix: secret.display_prefix(),
            expires_at,
            allowed_faces,
            allowed_models,
            budget,
        };
        let id = key.id;
        let prefix = key.prefix.clone();
        keys::insert_key(&self.inner.db, key).await?;
        Ok(json!({
            "id": id,
            "key": secret.expose(),
            "key_prefix": prefix,
            "account": account_id,
            "expires_at": expires_at.map(UnixMicros::seconds),
            "budget_usd": budget.map(|budget| budget.limit.to_json_number()),
            "budget_window": budget.map(|budget| budget.window),
        }))
    }

    pub(super) async fn list_keys(&self, account: AccountId) -> Result<Value, Failure> {
        let mut data: Vec<Value> = Vec::new();
        let (mut after, now) = (None, clock::now());
        while data.len() < LIST_MAX {
            let page = keys::list_keys(&self.inner.db, account, after, LIST_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            let spending = self.spending(&page, now).await?;
            data.extend(page.iter().map(|key| key_json(key, &spending, now)));
        }
        Ok(json!({"object": "list", "data": data}))
    }

    /// Changes a key's budget, or removes it; answers the key as a list shows it.
    ///
    /// # Errors
    /// 404 without such a key, 422 for another window of a budget that is not there.
    pub(super) async fn change_budget(
        &self,
        id: KeyId,
        change: Option<BudgetChange>,
    ) -> Result<Value, Failure> {
        let changed = keys::change_budget(&self.inner.db, id, change).await?;
        let key = changed.ok_or_else(|| no_key(id))?;
        if change.is_some() && key.budget.is_none() {
            return Err(Failure::invalid(
                "budget_window",
                "this key has no budget whose window could be changed: give its amount too",
            ));
        }
        self.inner.directory.forget_keys();
        self.account_changed(key.account_id);
        let now = clock::now();
        let spending = self.spending(std::slice::from_ref(&key), now).await?;
        Ok(key_json(&key, &spending, now))
    }

    async fn spending(&self, page: &[KeyInfo], now: UnixMicros) -> Result<Spending, Failure> {
        let window_of = |key: &KeyInfo| {
            let window = key.budget?.window;
            Some(CapWindow { key_id: key.id, window, start: window.bounds(now).start })
        };
        let caps = page.iter().filter_map(window_of).collect();
        let caps = ledger::read_caps(&self.inner.db, caps).await?;
        let windows = caps.into_iter().map(|(key, row)| (key, row.spent())).collect();
        let ids = page.iter().map(|key| key.id).collect();
        let totals = ledger::spent_by_keys(&self.inner.db, ids).await?;
        Ok(Spending { windows, totals })
    }
}

/// The refusal of an id that no key has.
pub(super) fn no_key(id: KeyId) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("there is no API key with the id {id}"))
}

/// `spent_usd` is what counts against the budget: that of the window that runs, or everything when
/// there is no budget.
fn key_json(key: &KeyInfo, spending: &Spending, now: UnixMicros) -> Value {
    let total = spending.totals.get(&key.id).copied().unwrap_or_default();
    let spent = match key.budget {
        Some(_) => spending.windows.get(&key.id).copied().unwrap_or_default(),
        None => total,
    };
    let resets_at = key.budget.and_then(|budget| budget.window.bounds(now).end);
    json!({
        "id": key.id,
        "name": key.name,
        "key_prefix": key.prefix,
        "created": key.created_at.seconds(),
        "expires_at": key.expires_at.map(UnixMicros::seconds),
        "revoked": key.revoked_at.is_some(),
        "allowed_face_ids": key.allowed_faces,
        "allowed_llm_models": key.allowed_models,
        "budget_usd": key.budget.map(|budget| budget.limit.to_json_number()),
        "budget_window": key.budget.map(|budget| budget.window),
        "resets_at": resets_at.map(UnixMicros::seconds),
        "spent_usd": spent.to_json_number(),
        "total_spent_usd": total.to_json_number(),
    })
}
