//! What a use case answers when it says no: everything a renderer needs, in no dialect.

use super::CallerBudget;
use crate::{
    accounts::{HoldError, SettleError},
    domain::{
        ErrorCode, NanoUsd, Usage, clock::UnixMicros, error_code::FundsReason, ledger::AccountRow,
    },
    providers::ProviderError,
    storage::StorageError,
    wire::{RequestError, UpstreamFault},
};

/// A refusal. `http` renders it in the route's dialect; nothing internal is in `message`.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Row of the error table.
    pub code: ErrorCode,
    /// What went wrong and what to do about it, for the caller.
    pub message: String,
    /// Path of the wrong field (`["body", "messages", "0"]`), for validation errors.
    pub loc: Vec<String>,
    /// FastAPI's word for the kind of validation error (`missing`, `string_type`, …).
    pub validation: &'static str,
    /// What limits the credit, for 402.
    pub funds: Option<Funds>,
    /// When waiting helps: for `Retry-After`.
    pub retry_after_ms: Option<u64>,
    /// End-to-end headers of the provider's answer that belong to the error (`retry-after-ms`, …).
    pub headers: Vec<(String, String)>,
    /// The provider's own error code, when it gave one.
    pub upstream_code: Option<String>,
    /// What few errors tell beyond that.
    pub details: Option<Box<Details>>,
}

/// What an error tells beyond its text.
#[derive(Debug, Clone)]
pub enum Details {
    /// What the finished request of an idempotency key used and cost.
    Finished(Finished),
    /// Words for programs, as registrations have them (`EMAIL_EXISTS`).
    Messages(Vec<&'static str>),
    /// An interview has no payer: the account's plan.
    NoPayer(String),
}

/// What a request that is over used and cost.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// Billed tokens.
    pub usage: Usage,
    /// What the customer paid.
    pub cost: NanoUsd,
}

/// The details of a 402.
#[derive(Debug, Clone, Copy)]
pub struct Funds {
    /// Why.
    pub reason: FundsReason,
    /// How many output tokens the balance or the budget would pay for, where that is the way out.
    pub max_affordable_tokens: Option<u64>,
    /// When the key's budget begins anew, where that is the way out.
    pub resets_at: Option<UnixMicros>,
}

impl Failure {
    /// A failure with a code and a message and nothing else.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            loc: Vec::new(),
            validation: "value_error",
            funds: None,
            retry_after_ms: None,
            headers: Vec::new(),
            upstream_code: None,
            details: None,
        }
    }

    /// A 422 that names the field.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        let mut failure = Self::new(ErrorCode::InvalidRequest, message);
        failure.loc = vec!["body".to_owned(), field.to_owned()];
        failure
    }

    /// A 402 with its reason.
    pub fn funds(reason: FundsReason, message: impl Into<String>) -> Self {
        let mut failure = Self::new(ErrorCode::InsufficientCredits, message);
        failure.funds = Some(Funds { reason, max_affordable_tokens: None, resets_at: None });
        if reason == FundsReason::CreditReserved {
            failure.retry_after_ms = Some(RESERVED_RETRY_AFTER_MS);
        }
        failure
    }

    /// The same, told to come back.
    #[must_use]
    pub const fn retry_after(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }
}

/// When running requests hold the credit, a typical one settles within seconds.
const RESERVED_RETRY_AFTER_MS: u64 = 2_000;
/// What a client should wait when the ledger or the database is away.
const UNAVAILABLE_RETRY_AFTER_MS: u64 = 1_000;

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let mut failure = Self::new(error.code(), error.message.clone());
        failure.validation = error.type_word();
        failure.loc = error.loc;
        failure
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        match error.code() {
            ErrorCode::StorageUnavailable => {
                log::error!(target: "faces::storage", "{}", crate::telemetry::chain(&error));
                Self::new(
                    ErrorCode::StorageUnavailable,
                    "The database can't be reached right now. Try again in a moment.",
                )
                .retry_after(UNAVAILABLE_RETRY_AFTER_MS)
            }
            ErrorCode::Conflict | ErrorCode::NotFound | ErrorCode::InvalidRequest => {
                Self::new(error.code(), error.to_string())
            }
            _ => {
                log::error!(target: "faces::storage", "{}", crate::telemetry::chain(&error));
                Self::new(ErrorCode::Internal, INTERNAL_MESSAGE)
            }
        }
    }
}

/// The only text of a 500: the details are in the log under the request's id.
pub const INTERNAL_MESSAGE: &str =
    "The server made a mistake. Tell its operator the request id of this response.";

const TOO_LARGE_MESSAGE: &str = "The model's provider sent more than this server accepts.";

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        let message = match &error {
            ProviderError::FirstByteTimeout => {
                "The model's provider did not begin to answer in time."
            }
            ProviderError::IdleTimeout => {
                "The model's provider stopped sending before its answer was complete."
            }
            ProviderError::TotalTimeout => {
                "The model's provider took too long to finish its answer."
            }
            ProviderError::Connect { .. } | ProviderError::Tls { .. } => {
                "The model's provider can't be reached."
            }
            ProviderError::Reset { .. } | ProviderError::Truncated => {
                "The model's provider broke off before its answer was complete."
            }
            ProviderError::TooLarge { .. } => TOO_LARGE_MESSAGE,
            ProviderError::QueueFull { .. } => {
                "Too many calls to this model's provider are running here."
            }
            ProviderError::ShuttingDown => "The server is shutting down.",
            ProviderError::Unreadable { .. } => {
                "The model's provider sent an answer that can't be read."
            }
            ProviderError::Bug { .. } => INTERNAL_MESSAGE,
        };
        let mut failure = Self::new(error.code(), message);
        if let ProviderError::QueueFull { retry_after_ms } = error {
            failure.retry_after_ms = Some(retry_after_ms);
        }
        failure
    }
}

impl From<UpstreamFault> for Failure {
    fn from(fault: UpstreamFault) -> Self {
        match fault {
            UpstreamFault::Truncated => ProviderError::Truncated.into(),
            UpstreamFault::TooLarge => Self::new(ErrorCode::UpstreamFailed, TOO_LARGE_MESSAGE),
            UpstreamFault::ErrorEvent { code, message, .. } => Self::new(code, message),
            UpstreamFault::Malformed { .. } => Self::new(
                ErrorCode::UpstreamFailed,
                "The model's provider sent an answer that can't be read.",
            ),
        }
    }
}

impl From<SettleError> for Failure {
    fn from(error: SettleError) -> Self {
        log::error!(target: "faces::accounts", "{}", crate::telemetry::chain(&error));
        ledger_unavailable()
    }
}

/// A 500: what went wrong is in the log.
pub fn internal() -> Failure {
    Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE)
}

/// The ledger can't promise durability, so no end may be shown.
pub fn ledger_unavailable() -> Failure {
    Failure::new(
        ErrorCode::LedgerUnavailable,
        "Credits can't be booked right now, so nothing was started or the end is withheld. Try again in a moment.",
    )
    .retry_after(UNAVAILABLE_RETRY_AFTER_MS)
}

/// The words of a frozen account.
pub fn frozen() -> Failure {
    Failure::funds(
        FundsReason::AccountFrozen,
        "Insufficient credits: this account is frozen. Ask the server's operator to unfreeze it.",
    )
}

/// The words of an answer that was cut off because its credit ran out.
pub const CREDIT_EXHAUSTED_MESSAGE: &str = "The account's credit or its key's budget ran out while this answer was streaming, so the answer ends here. Top up, or raise the budget, to get longer answers.";

/// Turns a refused hold into its 402 (decided on the row of the account or of the key's budget) or
/// its 503.
pub fn refused_hold(
    error: HoldError,
    asked: NanoUsd,
    budget: Option<&CallerBudget>,
    affordable: impl Fn(NanoUsd) -> u64,
) -> Failure {
    let of = |account| budget.filter(|budget| budget.cap_id == account);
    match error {
        HoldError::Denied(row) => match of(row.account_id) {
            Some(budget) => budget.denied(&row, asked, affordable),
            None => denied(&row, asked, affordable),
        },
        // A lowered budget is blocked until it is where it was moved to.
        HoldError::Blocked(row) => match of(row.account_id) {
            Some(budget) => budget.denied(&row, asked, affordable),
            None => frozen(),
        },
        HoldError::NoAccount => Failure::new(
            ErrorCode::Unauthenticated,
            "The account of this key does not exist any more.",
        ),
        HoldError::Claimed => super::idempotency::in_progress(),
        HoldError::Overloaded { retry_after_ms } => Failure::new(
            ErrorCode::Overloaded,
            "The server is handling too many requests. Try again shortly.",
        )
        .retry_after(retry_after_ms),
        HoldError::ShuttingDown => {
            Failure::new(ErrorCode::ShuttingDown, "The server is shutting down.")
                .retry_after(UNAVAILABLE_RETRY_AFTER_MS)
        }
        HoldError::Unavailable | HoldError::OutcomeUnknown { .. } => {
            log::error!(target: "faces::accounts", "{}", crate::telemetry::chain(&error));
            ledger_unavailable()
        }
    }
}

fn denied(row: &AccountRow, asked: NanoUsd, affordable: impl Fn(NanoUsd) -> u64) -> Failure {
    let spendable = row.balance().0.saturating_add(row.overdraft_limit.0).max(0);
    if spendable >= asked.0 {
        return Failure::funds(
            FundsReason::CreditReserved,
            format!(
                "Insufficient credits right now: other running requests hold {} of the balance of {} USD. Try again when they have finished.",
                row.leased,
                row.balance()
            ),
        );
    }
    let tokens = affordable(NanoUsd(spendable));
    if tokens == 0 {
        return Failure::funds(
            FundsReason::InsufficientCredits,
            format!(
                "Insufficient credits: this request may cost up to {asked} USD and the balance is {} USD. Top up the account.",
                row.balance()
            ),
        );
    }
    let mut failure = Failure::funds(
        FundsReason::HoldExceedsBalance,
        format!(
            "Insufficient credits: this request may cost up to {asked} USD and the balance is {} USD. It pays for max_tokens={tokens}: ask for fewer tokens or top up.",
            row.balance()
        ),
    );
    if let Some(funds) = failure.funds.as_mut() {
        funds.max_affordable_tokens = Some(tokens);
    }
    failure
}
