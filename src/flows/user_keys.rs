//! API keys as their owners see them: `/v1/auth/api-keys` and `/v1/api-keys`. Only for logins.

use serde_json::{Value, json};

use super::{
    Caller, Failure, Platform,
    admin::{SECONDS_PER_DAY, in_seconds},
    budget::window_of,
    fields::Fields,
    keys::{KeyTerms, Spending},
    personas::{PAGE_DEFAULT, PAGE_MAX},
};
use crate::{
    domain::{
        BudgetWindow, ErrorCode, FaceName, KeyBudget, KeyId, Scopes,
        clock::{self, UnixMicros},
    },
    storage::keys::{self, KeyChange, KeyInfo},
};

/// Most characters of a key's name.
const NAME_CHARS_MAX: usize = 100;
/// Longest life of a key, days: a hundred years.
const DAYS_MAX: u32 = 36_500;
/// Most faces or models that a key may name.
const ALLOWED_MAX: usize = 1_000;
/// Most characters of a model's id.
const MODEL_CHARS_MAX: usize = 256;

const NAME: &[&str] = &["name"];
const EXPIRES: &[&str] = &["expires_in_days", "expires_days"];
const SCOPES: &[&str] = &["scopes"];
const BUDGET: &[&str] = &["budget_usd", "budget"];
const WINDOW: &[&str] = &["budget_window"];
const FACES: &[&str] = &["allowed_face_ids", "allowed_faces"];
const MODELS: &[&str] = &["allowed_llm_models", "allowed_models"];

impl Platform {
    /// `POST …/api-keys`: the only time that the key itself is told.
    ///
    /// # Errors
    /// 422 for a wrong field and at the limit of keys per account.
    pub async fn create_user_key(&self, caller: &Caller, body: &[u8]) -> Result<Value, Failure> {
        let terms = new_terms(&Fields::parse(body)?)?;
        let most = u64::from(self.inner.limits.keys_per_account_max);
        if keys::count_keys(&self.inner.db, caller.account_id).await? >= most {
            return Err(Failure::new(
                ErrorCode::InvalidRequest,
                format!("This account has {most} keys, which is the most. Revoke one first."),
            ));
        }
        let (key, secret) = self.new_key(caller.account_id, terms).await?;
        let mut made = json!({"key": secret.expose()});
        if let (Some(made), Value::Object(shown)) =
            (made.as_object_mut(), key_json(&key, &Spending::default(), clock::now()))
        {
            made.extend(shown);
        }
        Ok(made)
    }

    /// `GET …/api-keys`: all keys, revoked ones too, newest first, with a cursor.
    ///
    /// # Errors
    /// 422 for a limit out of range.
    pub async fn list_user_keys(
        &self,
        caller: &Caller,
        before: Option<KeyId>,
        limit: Option<u32>,
    ) -> Result<Value, Failure> {
        let limit = limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Failure {
                loc: vec!["query".to_owned(), "limit".to_owned()],
                ..Failure::new(
                    ErrorCode::InvalidRequest,
                    format!("limit must be from 1 to {PAGE_MAX}"),
                )
            });
        }
        let account = caller.account_id;
        let mut page = keys::list_newest_keys(&self.inner.db, account, before, limit + 1).await?;
        let length = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = page.len() > length;
        page.truncate(length);
        let next = page.last().map(|key| key.id).filter(|_| has_more);
        let now = clock::now();
        let spending = self.spending(&page, now).await?;
        let data: Vec<Value> = page.iter().map(|key| key_json(key, &spending, now)).collect();
        Ok(json!({"object": "list", "data": data, "has_more": has_more, "next_cursor": next}))
    }

    /// `GET …/api-keys/{id}`.
    ///
    /// # Errors
    /// 404 when it is not the caller's.
    pub async fn read_user_key(&self, caller: &Caller, id: &str) -> Result<Value, Failure> {
        let key = self.own_key(caller, id).await?;
        self.shown_key(&key).await
    }

    /// `PATCH …/api-keys/{id}`: what is left out or `null` stays. Servers follow within two seconds.
    ///
    /// # Errors
    /// 404 when it is not the caller's, 422 for a wrong field.
    pub async fn update_user_key(
        &self,
        caller: &Caller,
        id: &str,
        body: &[u8],
    ) -> Result<Value, Failure> {
        let fields = Fields::parse(body)?;
        let key = self.own_key(caller, id).await?;
        let mut change = change_of(&fields, &key)?;
        if fields.flag(&["reset_spent"])? == Some(true) {
            let now = clock::now();
            let spending = self.spending(std::slice::from_ref(&key), now).await?;
            change.spent = Some((now, spending.total(&key)));
        }
        let changed = keys::change_key(&self.inner.db, caller.account_id, key.id, change).await?;
        let key = changed.ok_or_else(not_found)?;
        self.inner.directory.forget_keys();
        self.account_changed(caller.account_id);
        self.shown_key(&key).await
    }

    /// `DELETE …/api-keys/{id}`: for good; the key stays listed. Repeating it changes nothing.
    ///
    /// # Errors
    /// 404 when it is not the caller's.
    pub async fn revoke_user_key(&self, caller: &Caller, id: &str) -> Result<Value, Failure> {
        let key = self.own_key(caller, id).await?;
        keys::revoke_key(&self.inner.db, caller.account_id, key.id).await?;
        self.inner.directory.forget_keys();
        Ok(json!({"revoked": true, "key_id": key.id, "id": key.id, "object": "api_key"}))
    }

    async fn own_key(&self, caller: &Caller, id: &str) -> Result<KeyInfo, Failure> {
        let id: KeyId = id.parse().map_err(|_| not_found())?;
        let found = keys::find_key(&self.inner.db, caller.account_id, id).await?;
        found.ok_or_else(not_found)
    }

    async fn shown_key(&self, key: &KeyInfo) -> Result<Value, Failure> {
        let now = clock::now();
        let spending = self.spending(std::slice::from_ref(key), now).await?;
        Ok(key_json(key, &spending, now))
    }
}

fn not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "API key not found")
}

fn new_terms(fields: &Fields<'_>) -> Result<KeyTerms, Failure> {
    let name = fields.line(NAME, NAME_CHARS_MAX)?;
    let days = fields.whole(EXPIRES, 1..=DAYS_MAX)?;
    let (limit, window) = (fields.usd(BUDGET)?, window_in(fields)?);
    let budget = match (limit, window) {
        (Some(limit), window) => {
            Some(KeyBudget { limit, window: window.unwrap_or(BudgetWindow::Forever) })
        }
        (None, None) => None,
        (None, Some(_)) => return Err(window_alone()),
    };
    Ok(KeyTerms {
        expires_at: days.map(|days| in_seconds(i64::from(days) * SECONDS_PER_DAY)),
        allowed_faces: faces_in(fields)?,
        allowed_models: fields.lines(MODELS, ALLOWED_MAX, MODEL_CHARS_MAX)?,
        budget,
        scopes: scopes_in(fields)?.unwrap_or(Scopes::KEY),
        ..KeyTerms::named(name.as_deref().unwrap_or("default"))
    })
}

fn change_of(fields: &Fields<'_>, key: &KeyInfo) -> Result<KeyChange, Failure> {
    let clears = |flag: &'static str, names: &'static [&'static str]| {
        let clear = fields.flag(&[flag])? == Some(true);
        if clear && fields.has(names) {
            return Err(Failure::invalid(
                flag,
                format!("{flag} and {} exclude each other", names[0]),
            ));
        }
        Ok(clear)
    };
    let clear_budget = clears("clear_budget", BUDGET)?;
    let clear_faces = clears("clear_iam_allowlist", FACES)?;
    let clear_models = clears("clear_llm_allowlist", MODELS)?;
    let (limit, window) = (fields.usd(BUDGET)?, window_in(fields)?);
    let budget = match (limit, window, key.budget) {
        _ if clear_budget => Some(None),
        (None, None, _) => None,
        (Some(limit), window, old) => {
            let kept = old.map_or(BudgetWindow::Forever, |old| old.window);
            Some(Some(KeyBudget { limit, window: window.unwrap_or(kept) }))
        }
        (None, Some(window), Some(old)) => Some(Some(KeyBudget { window, ..old })),
        (None, Some(_), None) => return Err(window_alone()),
    };
    let or_cleared = |list: Option<Vec<String>>, clear| {
        if clear { Some(None) } else { list.map(Some) }
    };
    Ok(KeyChange {
        name: fields.line(NAME, NAME_CHARS_MAX)?,
        allowed_faces: or_cleared(faces_in(fields)?, clear_faces),
        allowed_models: or_cleared(
            fields.lines(MODELS, ALLOWED_MAX, MODEL_CHARS_MAX)?,
            clear_models,
        ),
        budget,
        scopes: scopes_in(fields)?,
        spent: None,
    })
}

fn window_alone() -> Failure {
    Failure::invalid(
        "budget_window",
        "there is no budget whose window it could be: give budget_usd too",
    )
}

fn window_in(fields: &Fields<'_>) -> Result<Option<BudgetWindow>, Failure> {
    let Some(text) = fields.line(WINDOW, NAME_CHARS_MAX)? else { return Ok(None) };
    let window = BudgetWindow::parse(&text);
    window.map(Some).map_err(|rule| Failure::invalid("budget_window", rule))
}

fn faces_in(fields: &Fields<'_>) -> Result<Option<Vec<String>>, Failure> {
    let Some(names) = fields.lines(FACES, ALLOWED_MAX, NAME_CHARS_MAX)? else { return Ok(None) };
    for (index, name) in names.iter().enumerate() {
        if let Err(error) = FaceName::parse(name) {
            let mut failure = Failure::invalid("allowed_face_ids", error.to_string());
            failure.loc.push(index.to_string());
            return Err(failure);
        }
    }
    Ok(Some(names))
}

fn scopes_in(fields: &Fields<'_>) -> Result<Option<Scopes>, Failure> {
    let Some(words) = fields.lines(SCOPES, ALLOWED_MAX, NAME_CHARS_MAX)? else { return Ok(None) };
    Scopes::parse(words.iter().map(String::as_str)).map(Some).map_err(|word| {
        let known = Scopes::WORDS.join(", ");
        Failure::invalid("scopes", format!("`{word}` is no scope; there are {known}"))
    })
}

fn key_json(key: &KeyInfo, spending: &Spending, now: UnixMicros) -> Value {
    let resets_at = window_of(key, now).and_then(|(_, end)| end);
    json!({
        "object": "api_key",
        "id": key.id,
        "name": key.name,
        "key_prefix": key.prefix,
        "created_at": key.created_at.rfc3339(),
        "expires_at": key.expires_at.map(UnixMicros::rfc3339),
        "last_used_at": key.last_used_at.map(UnixMicros::rfc3339),
        "revoked": key.revoked_at.is_some(),
        "revoked_at": key.revoked_at.map(UnixMicros::rfc3339),
        "scopes": key.scopes.words(),
        "budget_usd": key.budget.map(|budget| budget.limit.to_json_number()),
        "budget_window": key.budget.map(|budget| budget.window),
        "resets_at": resets_at.map(UnixMicros::rfc3339),
        "spent_usd": spending.counted(key).to_json_number(),
        "total_spent_usd": spending.total(key).to_json_number(),
        "allowed_face_ids": key.allowed_faces,
        "allowed_llm_models": key.allowed_models,
    })
}
