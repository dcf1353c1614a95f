//! Use cases without HTTP: chat, native proxies, faces, accounts, administration.
//!
//! Owns the one place where `accounts` and `providers` meet: a request is one straight line
//! *resolve → compose → estimate → hold → dispatch → relay and meter → settle*, and each step is
//! one function of one room. Owns the caches of keys and faces (`directory`).
//!
//! What never happens here: HTTP types, SQL, wire parsing, ledger arithmetic.
//!
//! How it fails: every use case answers [`Failure`], which carries a code of the error table and
//! what a caller needs; rendering is `http`'s. A future that is dropped (the client left) cancels
//! the upstream and resolves the hold: `billing` and `stream_money` hold the rules. Where
//! cancelling does not stop the provider's bill, `drains` reads the upstream to its end first.
//!
//! Limits: body and record sizes, cache sizes and times, `hold_slice_tokens`, `drains_max` and
//! `drain_timeout_ms`, `idempotency_ttl_ms` and `idempotency_body_bytes_max`, `diff_faces_max`,
//! `centroid_statements_max`, `formula_evaluations_max` and the `embedding_*_max` from
//! `config::Limits`; requests and tokens per minute (`rates`); hashes of passwords, attempts to log
//! in and what is kept of them (`passwords`, `throttle`); concurrency is bounded at the edge (`http`)
//! and in the rooms below.
//!
//! Its rules are tested through the real server in `tests/api`, `tests/stream` and `tests/sdk`.

pub mod account;
pub mod admin;
mod audit;
mod billing;
mod budget;
pub mod call;
mod centroids;
mod chat;
pub mod chat_stream;
mod compile;
mod credits;
pub mod demo;
mod directory;
pub mod drains;
mod embeddings;
mod estimate;
mod face_stats;
pub mod failure;
mod fields;
pub mod formats;
mod formulas;
pub mod idempotency;
pub mod identity;
mod invoices;
mod key_uses;
mod keys;
pub mod llm;
pub mod models;
mod passwords;
pub mod personas;
mod plans;
mod platform;
mod preferences;
mod prices;
mod proxy;
pub mod proxy_stream;
mod rates;
mod resolve;
pub mod similar;
mod stream_money;
mod templates;
mod throttle;
mod tokens;
pub mod trace;
mod usage;
mod user_keys;

use std::{sync::Arc, time::Duration};

pub use audit::{Audit, AuditMode};
pub use billing::Bill;
pub use budget::CallerBudget;
pub use call::{Reply, ReplyNotes};
pub use compile::{Compiler, Upload};
pub use failure::Failure;
pub use identity::IdentityOptions;
pub use invoices::Invoice;
pub use plans::Wish;
pub use platform::Platform;
pub use proxy::NativeParts;
pub use rates::RateNotes;
pub use trace::RequestTrace;
pub use usage::UsageQuery;

use secrecy::SecretString;

use crate::{
    accounts::Accounts,
    config::TopUpMode,
    domain::{Access, AccountId, ErrorCode, KeyId, Scopes},
    providers::Providers,
    storage::keys::KeyInfo,
};

/// Handle to every use case of a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Flows {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    platform: Platform,
    accounts: Accounts,
    providers: Providers,
    prices: prices::PriceBook,
    options: FlowOptions,
    drains: drains::Drains,
    centroid_turns: centroids::Turns,
    embedder: embeddings::Embedder,
    files: compile::FileReader,
}

/// What use cases take from the configuration.
#[derive(Debug, Clone)]
pub struct FlowOptions {
    /// Markup on the provider's cost, basis points.
    pub markup_bps: i64,
    /// Whether output that an upstream failure cut short is charged to the customer.
    pub charge_partial_on_upstream_error: bool,
    /// Output tokens that a running stream holds at a time.
    pub hold_slice_tokens: u64,
    /// Largest JSON answer of a provider, bytes.
    pub upstream_body_bytes_max: u64,
    /// Largest SSE record of a provider, bytes.
    pub sse_record_bytes_max: usize,
    /// Most calls at once that go on without their client.
    pub drains_max: u32,
    /// How long each of them may.
    pub drain_timeout: Duration,
    /// How long an idempotency key is kept, ms.
    pub idempotency_ttl_ms: u64,
    /// Largest answer that is kept for one, bytes.
    pub idempotency_body_bytes_max: u64,
    /// Whether customers may add credit themselves.
    pub topup: TopUpMode,
    /// What a payment provider's events are signed with.
    pub webhook_secrets: Vec<SecretString>,
    /// The model that reads texts; `None`: the server's default.
    pub compile_model: Option<String>,
}

/// Who is calling, once the credential was checked.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account that pays.
    pub account_id: AccountId,
    /// The key that was used; `None` for a login.
    pub key_id: Option<KeyId>,
    /// The token epoch of a login's token; `None` for a key.
    pub login_epoch: Option<i64>,
    /// Usernames that the key may use; `None` is all.
    pub allowed_faces: Option<Vec<String>>,
    /// Models that the key may use; `None` is all.
    pub allowed_models: Option<Vec<String>>,
    /// What the key may spend; `None` is all that the account has.
    pub budget: Option<CallerBudget>,
    /// What the credential may do.
    pub scopes: Scopes,
}

impl Flows {
    /// Puts the rooms together and writes today's prices to the books.
    ///
    /// # Errors
    /// When the price list can't be written.
    pub async fn start(
        platform: Platform,
        accounts: Accounts,
        providers: Providers,
        options: FlowOptions,
    ) -> Result<Self, crate::storage::StorageError> {
        // A second set of flows over one platform would share its ledger, so the first stays.
        let _ = platform.inner.ledger.set(accounts.clone());
        let catalog = providers.catalog();
        let prices =
            prices::PriceBook::load(&platform.inner.db, catalog, options.markup_bps).await?;
        let drains = drains::Drains::new(options.drains_max, options.drain_timeout);
        let embedder = embeddings::Embedder::chosen(catalog);
        let files = compile::FileReader::new(&platform.inner.limits);
        let inner = Inner {
            platform,
            accounts,
            providers,
            prices,
            options,
            drains,
            centroid_turns: centroids::Turns::default(),
            embedder,
            files,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether requests can be served: the database answers and the ledger is writing.
    ///
    /// # Errors
    /// 503 when one of them does not.
    pub async fn ready(&self) -> Result<(), Failure> {
        if !self.inner.accounts.is_ready() {
            return Err(failure::ledger_unavailable());
        }
        self.inner.platform.ready().await
    }

    /// The use cases that need no running ledger or provider.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.inner.platform
    }
}

impl Caller {
    fn of(key: &KeyInfo, budget: Option<CallerBudget>) -> Self {
        Self {
            account_id: key.account_id,
            key_id: Some(key.id),
            login_epoch: None,
            allowed_faces: key.allowed_faces.clone(),
            allowed_models: key.allowed_models.clone(),
            budget,
            scopes: key.scopes,
        }
    }

    /// Refuses a route that asks for more than the credential may do.
    ///
    /// # Errors
    /// 403; the text names the scope that is missing.
    pub fn permit(&self, access: Access) -> Result<(), Failure> {
        if self.scopes.allow(access) {
            return Ok(());
        }
        // Clients sort 403s by the words `budget`, `face` and `model`: none may stand here.
        let message = match (access, access.scope()) {
            (Access::User, _) => {
                "This takes a login token (POST /auth/login), not an API key.".to_owned()
            }
            (_, Some(scope)) => format!("This API key lacks the scope `{scope}`."),
            (_, None) => "This API key has no scopes.".to_owned(),
        };
        Err(Failure::new(ErrorCode::Forbidden, message))
    }
}
