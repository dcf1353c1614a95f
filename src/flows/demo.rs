//! What an empty database gets on a fresh machine: an account, a face and a key.

use super::{Failure, Platform, keys::KeyTerms};
use crate::{
    domain::{AccountId, NanoUsd},
    faces::demo,
    storage::accounts::{self, CreditSource, NewAccount},
};

/// The demo account's credit: $5, enough for some hundred thousand tokens of the sandbox.
const DEMO_CREDIT: NanoUsd = NanoUsd(5 * crate::domain::money::NANO_PER_USD);

/// What was made.
#[derive(Clone)]
pub struct Demo {
    /// The account's id.
    pub account_id: AccountId,
    /// Its credit.
    pub credit: NanoUsd,
    /// Its face.
    pub face: &'static str,
    /// Its key, shown this once.
    pub key: String,
}

impl std::fmt::Debug for Demo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Demo").field("account_id", &self.account_id).finish_non_exhaustive()
    }
}

impl Platform {
    /// Makes the demo account, face and key when the database holds no account at all.
    ///
    /// # Errors
    /// As the three steps; what was made before an error stays and can be used.
    pub async fn make_demo(&self) -> Result<Option<Demo>, Failure> {
        if accounts::count_accounts(&self.inner.db).await? > 0 {
            return Ok(None);
        }
        let account_id = AccountId::generate();
        let account = NewAccount {
            id: account_id,
            name: "demo".to_owned(),
            credit: DEMO_CREDIT,
            credit_source: CreditSource::Promo,
        };
        accounts::create_account(&self.inner.db, account).await?;
        self.import_face(account_id, demo::ALICE_JSON.as_bytes()).await?;
        let key = self.make_key(account_id, KeyTerms::named("demo")).await?;
        let key = key.get("key").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        Ok(Some(Demo { account_id, credit: DEMO_CREDIT, face: "alice", key }))
    }
}
