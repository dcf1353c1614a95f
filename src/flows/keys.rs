//! API keys: making them, what they spent, and an administrator's list of them. How their owners
//! see them is `user_keys`'.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Failure, Platform,
    admin::{LIST_MAX, LIST_PAGE},
    budget::window_of,
    passwords::internal,
};
use crate::{
    domain::{
        AccountId, ApiKeySecret, ErrorCode, KeyBudget, KeyId, NanoUsd, Scopes,
        clock::{self, UnixMicros},
    },
    storage::{
        keys::{self, BudgetChange, KeyInfo, NewKey},
        ledger,
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
    /// What it may do.
    pub(super) scopes: Scopes,
}

impl KeyTerms {
    /// A key without limits.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            expires_at: None,
            allowed_faces: None,
            allowed_models: None,
            budget: None,
            scopes: Scopes::KEY,
        }
    }
}

/// What keys have spent.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// In the window that runs, of keys with a budget that was used in it.
    windows: BTreeMap<KeyId, NanoUsd>,
    /// In all.
    totals: BTreeMap<KeyId, NanoUsd>,
}

impl Spending {
    /// What a key spent in all.
    pub(super) fn total(&self, key: &KeyInfo) -> NanoUsd {
        self.totals.get(&key.id).copied().unwrap_or_default()
    }

    /// What counts against its budget: that of the window that runs. Without a budget: everything
    /// since its owner had it counted anew, if ever.
    pub(super) fn counted(&self, key: &KeyInfo) -> NanoUsd {
        match key.budget {
            Some(_) => self.windows.get(&key.id).copied().unwrap_or_default(),
            None => NanoUsd(self.total(key).0.saturating_sub(key.spent_before.0).max(0)),
        }
    }
}

impl Platform {
    /// Makes a key; its secret is not kept.
    pub(super) async fn new_key(
        &self,
        account_id: AccountId,
        terms: KeyTerms,
    ) -> Result<(KeyInfo, ApiKeySecret), Failure> {
        let secret = ApiKeySecret::generate()
            .map_err(|error| internal(&format!("no randomness for a key: {error}")))?;
        let KeyTerms { name, expires_at, allowed_faces, allowed_models, budget, scopes } = terms;
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
            scopes,
        };
        Ok((keys::insert_key(&self.inner.db, key).await?, secret))
    }

    /// Makes a key and tells it to an administrator.
    pub(super) async fn make_key(
        &self,
        account_id: AccountId,
        terms: KeyTerms,
    ) -> Result<Value, Failure> {
        let (key, secret) = self.new_key(account_id, terms).await?;
        Ok(json!({
            "id": key.id,
            "key": secret.expose(),
            "key_prefix": key.prefix,
            "account": account_id,
            "expires_at": key.expires_at.map(UnixMicros::seconds),
            "budget_usd": key.budget.map(|budget| budget.limit.to_json_number()),
            "budget_window": key.budget.map(|budget| budget.window),
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

    /// What these keys spent.
    pub(super) async fn spending(
        &self,
        page: &[KeyInfo],
        now: UnixMicros,
    ) -> Result<Spending, Failure> {
        let caps = page.iter().filter_map(|key| Some(window_of(key, now)?.0)).collect();
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

/// `spent_usd` is [`Spending::counted`].
fn key_json(key: &KeyInfo, spending: &Spending, now: UnixMicros) -> Value {
    let (total, spent) = (spending.total(key), spending.counted(key));
    let resets_at = window_of(key, now).and_then(|(_, end)| end);
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
