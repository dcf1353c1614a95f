//! What an administrator can do, as values: the command line runs them in its own process, or
//! sends them to the running server that owns the database.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    AuditMode, Failure, Platform,
    keys::{KeyTerms, no_key},
};
use crate::{
    domain::{
        AccountId, BudgetWindow, EmailAddress, ErrorCode, FaceName, KeyBudget, KeyId, NanoUsd,
        RateSetting,
        clock::{self, MICROS_PER_SECOND, UnixMicros},
        ledger::FLAG_FROZEN,
    },
    storage::{
        accounts::{self, AccountInfo, CreditSource, NewAccount},
        faces as storage_faces,
        keys::{self, BudgetChange},
    },
};

/// Rows in one page while a list is read to its end.
pub(super) const LIST_PAGE: u32 = 500;
/// Most rows of one answer: a list for people, not an export.
pub(super) const LIST_MAX: usize = 100_000;
/// Life of the key that `faces chat` makes for itself, s.
const CHAT_KEY_LIFE_S: i64 = 600;
/// Seconds in a day.
pub(super) const SECONDS_PER_DAY: i64 = 86_400;

/// A password on its way to its hash; `Debug` never shows it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NewPassword(pub String);

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewPassword([REDACTED])")
    }
}

/// One administrator's command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum AdminRequest {
    /// Makes an account with its opening credit.
    CreateAccount {
        /// Name for people.
        name: String,
        /// Opening credit.
        credit: NanoUsd,
    },
    /// All accounts with their credit.
    ListAccounts,
    /// Stops or allows an account's spending.
    SetFrozen {
        /// Which account.
        account: AccountId,
        /// Whether it may not spend.
        frozen: bool,
    },
    /// Puts an account on a configured plan.
    SetPlan {
        /// Which account.
        account: AccountId,
        /// The plan's name.
        plan: String,
    },
    /// Sets how often a key may ask; `None` keeps what was set.
    SetKeyRate {
        /// Which key.
        key: KeyId,
        /// Requests per minute.
        requests: Option<RateSetting>,
        /// Tokens per minute.
        tokens: Option<RateSetting>,
    },
    /// Sets how often all keys of an account together may ask; `None` keeps what was set.
    SetAccountRate {
        /// Which account.
        account: AccountId,
        /// Requests per minute.
        requests: Option<RateSetting>,
        /// Tokens per minute.
        tokens: Option<RateSetting>,
    },
    /// Gives an account another password and ends its login tokens.
    SetPassword {
        /// Which account.
        account: AccountId,
        /// Address to log in with, for an account that has none.
        email: Option<String>,
        /// The new password.
        password: NewPassword,
    },
    /// Makes an API key.
    CreateKey {
        /// Whose.
        account: AccountId,
        /// Name for people.
        name: String,
        /// Life in days; `None` is for ever.
        expires_in_days: Option<u32>,
        /// Usernames that it may use; `None` is all.
        allowed_faces: Option<Vec<FaceName>>,
        /// Models that it may use; `None` is all.
        allowed_models: Option<Vec<String>>,
        /// What it may spend; `None` is all that its account has.
        budget: Option<KeyBudget>,
    },
    /// Changes what a key may spend.
    ChangeBudget {
        /// Which key.
        key: KeyId,
        /// The new limit; `None` keeps it.
        limit: Option<NanoUsd>,
        /// The new window; `None` keeps it.
        window: Option<BudgetWindow>,
    },
    /// Lets a key spend all that its account has.
    RemoveBudget {
        /// Which key.
        key: KeyId,
    },
    /// An account's keys, without secrets.
    ListKeys {
        /// Whose.
        account: AccountId,
    },
    /// Ends a key.
    RevokeKey {
        /// Which key.
        key: KeyId,
    },
    /// Adds credit, once per reference.
    TopUp {
        /// Whose.
        account: AccountId,
        /// How much.
        amount: NanoUsd,
        /// The caller's reference.
        reference: String,
    },
    /// Imports a face, replacing one of the same username.
    ImportFace {
        /// Whose.
        account: AccountId,
        /// The file's text.
        file: String,
    },
    /// An account's faces.
    ListFaces {
        /// Whose.
        account: AccountId,
    },
    /// Makes a short-lived key for `faces chat` on the account that owns a face.
    CreateChatKey {
        /// The username, when the model string names one.
        face: Option<FaceName>,
    },
    /// Audits what is not sealed and moves the seal.
    AuditIncremental,
}

impl Platform {
    /// Runs a command.
    ///
    /// # Errors
    /// 404 for an unknown id, 409 for a reused reference with another amount, 422 for a wrong
    /// import file, 503 when the database can't be reached. Nothing is half done.
    pub async fn administer(&self, request: AdminRequest) -> Result<Value, Failure> {
        match request {
            AdminRequest::CreateAccount { name, credit } => {
                let id = AccountId::generate();
                let account = NewAccount { id, name, credit, credit_source: CreditSource::Cash };
                Ok(account_json(&accounts::create_account(&self.inner.db, account).await?))
            }
            AdminRequest::ListAccounts => self.list_accounts().await,
            AdminRequest::SetFrozen { account, frozen } => self.set_frozen(account, frozen).await,
            AdminRequest::SetKeyRate { key, requests, tokens } => {
                keys::owner_of_key(&self.inner.db, key).await?.ok_or_else(|| no_key(key))?;
                self.set_rates(key.0, requests, tokens).await
            }
            AdminRequest::SetAccountRate { account, requests, tokens } => {
                self.known_account(account).await?;
                self.set_rates(account.0, requests, tokens).await
            }
            AdminRequest::SetPlan { account, plan } => self.set_plan(account, plan).await,
            AdminRequest::SetPassword { account, email, password } => {
                self.give_password(account, email, password).await
            }
            AdminRequest::CreateKey {
                account,
                name,
                expires_in_days,
                allowed_faces,
                allowed_models,
                budget,
            } => {
                self.known_account(account).await?;
                let expires_at =
                    expires_in_days.map(|days| in_seconds(i64::from(days) * SECONDS_PER_DAY));
                let allowed_faces = allowed_faces
                    .map(|names| names.iter().map(|name| name.as_str().to_owned()).collect());
                let unlimited = KeyTerms::named(&name);
                let terms =
                    KeyTerms { expires_at, allowed_faces, allowed_models, budget, ..unlimited };
                self.make_key(account, terms).await
            }
            AdminRequest::ChangeBudget { key, limit, window } => {
                self.change_budget(key, Some(BudgetChange { limit, window })).await
            }
            AdminRequest::RemoveBudget { key } => self.change_budget(key, None).await,
            AdminRequest::ListKeys { account } => {
                self.known_account(account).await?;
                self.list_keys(account).await
            }
            AdminRequest::RevokeKey { key } => {
                let owner = keys::owner_of_key(&self.inner.db, key).await?;
                let account = owner.ok_or_else(|| no_key(key))?;
                keys::revoke_key(&self.inner.db, account, key).await?;
                self.inner.directory.forget_keys();
                Ok(json!({"id": key, "revoked": true}))
            }
            AdminRequest::TopUp { account, amount, reference } => {
                self.top_up(account, amount, &reference).await
            }
            AdminRequest::ImportFace { account, file } => {
                self.known_account(account).await?;
                self.import_face(account, file.as_bytes()).await
            }
            AdminRequest::ListFaces { account } => {
                self.known_account(account).await?;
                self.faces_of(account, None, None, Some(super::personas::PAGE_MAX)).await
            }
            AdminRequest::CreateChatKey { face } => self.chat_key(face).await,
            AdminRequest::AuditIncremental => Ok(self.audit(AuditMode::Incremental).await?.report),
        }
    }

    async fn set_frozen(&self, account: AccountId, frozen: bool) -> Result<Value, Failure> {
        self.known_account(account).await?;
        accounts::set_frozen(&self.inner.db, account, frozen).await?;
        self.account_changed(account);
        Ok(account_json(&self.known_account(account).await?))
    }

    async fn give_password(
        &self,
        account: AccountId,
        email: Option<String>,
        NewPassword(password): NewPassword,
    ) -> Result<Value, Failure> {
        self.known_account(account).await?;
        let email = email.as_deref().map(EmailAddress::parse).transpose();
        let email = email.map_err(|rule| Failure::invalid("email", rule))?;
        let login = self.set_password(account, email, password.into()).await?;
        Ok(json!({
            "account": login.account_id,
            "email": login.email,
            "username": login.username,
        }))
    }

    async fn top_up(
        &self,
        account: AccountId,
        amount: NanoUsd,
        reference: &str,
    ) -> Result<Value, Failure> {
        self.known_account(account).await?;
        let added = accounts::top_up(&self.inner.db, account, amount, reference).await?;
        self.account_changed(account);
        Ok(json!({
            "account": account,
            "amount_usd": amount.to_json_number(),
            "ref": reference,
            "repeated": added.repeated,
            "balance_usd": added.row.balance().to_json_number(),
        }))
    }

    async fn list_accounts(&self) -> Result<Value, Failure> {
        let mut data: Vec<Value> = Vec::new();
        let mut after = None;
        while data.len() < LIST_MAX {
            let page = accounts::list_accounts(&self.inner.db, after, LIST_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            data.extend(page.iter().map(account_json));
        }
        Ok(json!({"object": "list", "data": data}))
    }

    async fn chat_key(&self, face: Option<FaceName>) -> Result<Value, Failure> {
        let owner = match &face {
            Some(name) => storage_faces::first_owner_of(&self.inner.db, name).await?,
            None => None,
        };
        let owner = match owner {
            Some(owner) => Some(owner),
            None => accounts::list_accounts(&self.inner.db, None, 1)
                .await?
                .first()
                .map(|account| account.id),
        };
        let Some(owner) = owner else {
            return Err(Failure::new(
                ErrorCode::NotFound,
                "there is no account yet; make one with: faces admin account create --name NAME --credit-usd 5",
            ));
        };
        let expires_at = Some(in_seconds(CHAT_KEY_LIFE_S));
        self.make_key(owner, KeyTerms { expires_at, ..KeyTerms::named("faces chat") }).await
    }

    async fn known_account(&self, id: AccountId) -> Result<AccountInfo, Failure> {
        accounts::find_account(&self.inner.db, id).await?.ok_or_else(|| {
            Failure::new(
                ErrorCode::NotFound,
                format!(
                    "there is no account with the id {id}; `faces admin account list` shows them"
                ),
            )
        })
    }
}

/// The time so many seconds from now.
pub(super) fn in_seconds(seconds: i64) -> UnixMicros {
    UnixMicros(clock::now().0.saturating_add(seconds.saturating_mul(MICROS_PER_SECOND)))
}

fn account_json(account: &AccountInfo) -> Value {
    json!({
        "id": account.id,
        "name": account.name,
        "balance_usd": account.row.balance().to_json_number(),
        "reserved_usd": account.held.to_json_number(),
        "credits_usd": account.row.credits.to_json_number(),
        "spent_usd": account.row.spent().to_json_number(),
        "frozen": account.row.flags & FLAG_FROZEN != 0,
        "created": account.created_at.seconds(),
    })
}
