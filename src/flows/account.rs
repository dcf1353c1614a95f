//! What an account's owner can read about it. `email` and `username` are null where nobody can log
//! in.

use serde_json::{Value, json};

use super::{Caller, Failure, Platform};
use crate::{
    domain::{ErrorCode, ledger::FLAG_FROZEN},
    storage::{accounts, accounts::AccountInfo, faces as storage_faces, logins},
};

impl Platform {
    /// `GET /v1/account/state`.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub async fn account_state(&self, caller: &Caller) -> Result<Value, Failure> {
        let account = self.account(caller).await?;
        let has_first_face =
            storage_faces::count_faces(&self.inner.db, caller.account_id).await? > 0;
        let login = logins::find_login(&self.inner.db, caller.account_id).await?;
        let is_admin =
            login.as_ref().is_some_and(|login| self.inner.identity.is_admin(&login.email));
        let plan = self.plan_of(caller.account_id).await?;
        let frozen = is_frozen(&account);
        Ok(json!({
            "user_id": account.id,
            "name": account.name,
            "email": login.as_ref().map(|login| &login.email),
            "username": login.as_ref().map(|login| &login.username),
            "plan": plan.name,
            "subscription_status": "active",
            "has_payment_method": false,
            "has_first_face": has_first_face,
            "onboarding_complete": has_first_face,
            "balance_usd": account.row.balance().to_json_number(),
            "frozen": frozen,
            "is_frozen": frozen,
            "is_admin": is_admin,
        }))
    }

    /// `GET /v1/billing/balance`. `balance_usd` is what is settled; `reserved_usd` is held by
    /// running requests; `available_usd` is what a new request can use.
    ///
    /// # Errors
    /// 503 when the database can't be asked.
    pub async fn balance(&self, caller: &Caller) -> Result<Value, Failure> {
        let account = self.account(caller).await?;
        let frozen = is_frozen(&account);
        let balance = account.row.balance().to_json_number();
        Ok(json!({
            "iam_id": account.id,
            "account_id": account.id,
            "balance_usd": balance,
            "reserved_usd": account.held.to_json_number(),
            "available_usd": account.available().to_json_number(),
            "credits_usd": account.row.credits.to_json_number(),
            "spent_usd": account.row.spent().to_json_number(),
            "frozen": frozen,
            "is_frozen": frozen,
            "is_active": !account.row.is_blocked(),
            "has_payment_method": false,
            "data": {
                "balance_usd": balance,
                "is_frozen": frozen,
                "has_payment_method": false,
            },
        }))
    }

    async fn account(&self, caller: &Caller) -> Result<AccountInfo, Failure> {
        accounts::find_account(&self.inner.db, caller.account_id).await?.ok_or_else(|| {
            Failure::new(
                ErrorCode::Unauthenticated,
                "The account of this key does not exist any more.",
            )
        })
    }
}

const fn is_frozen(account: &AccountInfo) -> bool {
    account.row.flags & FLAG_FROZEN != 0
}
