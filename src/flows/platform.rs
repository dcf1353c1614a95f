//! The part of the use cases that needs no running ledger or provider: identity, faces,
//! administration. A command line uses it without starting a server.

use std::sync::{Arc, OnceLock};

use super::{
    Caller, Failure,
    directory::Directory,
    identity::{Identity, IdentityOptions},
    rates::RateLimits,
};
use crate::{
    accounts::Accounts,
    config::{Limits, Plans},
    domain::{AccountId, ApiKeySecret, ErrorCode, api_key::KEY_PREFIX, clock},
    providers::Catalog,
    storage::Db,
};

/// Handle to accounts, keys and faces. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Platform {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) directory: Directory,
    pub(super) catalog: Arc<Catalog>,
    pub(super) limits: Limits,
    pub(super) plans: Plans,
    pub(super) rates: Arc<RateLimits>,
    pub(super) identity: Identity,
    /// The running ledger, when this process has one.
    pub(super) ledger: OnceLock<Accounts>,
    /// Told when there is something to compile.
    pub(super) compile_wake: tokio::sync::Notify,
    /// Held by the audit that runs.
    pub(super) auditing: Arc<tokio::sync::Mutex<()>>,
}

impl Platform {
    /// Over an open database, a loaded catalog and the configured plans.
    #[must_use]
    pub fn new(
        db: Db,
        catalog: Arc<Catalog>,
        limits: Limits,
        plans: Plans,
        identity_options: IdentityOptions,
    ) -> Self {
        let directory = Directory::new(db.clone(), &limits);
        let rates = Arc::new(RateLimits::new(&limits));
        let identity = Identity::new(identity_options, &limits);
        let ledger = OnceLock::new();
        let auditing = Arc::default();
        let compile_wake = tokio::sync::Notify::new();
        let inner = Inner {
            db,
            directory,
            catalog,
            limits,
            plans,
            rates,
            identity,
            ledger,
            compile_wake,
            auditing,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Tells the caches and the running ledger, if there is one, that an account's row was changed.
    pub(super) fn account_changed(&self, account: AccountId) {
        self.inner.directory.forget_account(account);
        if let Some(ledger) = self.inner.ledger.get() {
            ledger.changed(account);
        }
    }

    /// Checks a credential: an API key from `x-api-key`, else what `Authorization: Bearer` holds, an
    /// API key or a login token.
    ///
    /// # Errors
    /// 401 for a missing, malformed, unknown, expired or revoked one (not told apart); 503 when
    /// the database can't be asked.
    pub async fn authenticate(
        &self,
        api_key: Option<&str>,
        bearer: Option<&str>,
    ) -> Result<Caller, Failure> {
        let Some(credential) = api_key.or(bearer) else {
            return Err(Failure::new(
                ErrorCode::Unauthenticated,
                "No API key was sent. Send `Authorization: Bearer sk-faces-…` or `x-api-key: sk-faces-…`.",
            ));
        };
        if api_key.is_none() && !credential.starts_with(KEY_PREFIX) {
            return Box::pin(self.authenticate_login(credential)).await;
        }
        let secret = ApiKeySecret::parse(credential).ok_or_else(refused)?;
        let known = self.inner.directory.key(&secret, clock::now()).await?.ok_or_else(refused)?;
        Ok(Caller::of(&known.key, known.budget))
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// 503 when it does not.
    pub(super) async fn ready(&self) -> Result<(), Failure> {
        Ok(self.inner.db.ping().await?)
    }
}

/// The one answer to every credential that can't be used.
pub(super) fn refused() -> Failure {
    Failure::new(
        ErrorCode::Unauthenticated,
        "Incorrect API key or login token: it is malformed, unknown, expired or revoked.",
    )
}
