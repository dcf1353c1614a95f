//! Errors of the room.

use crate::{
    domain::{ErrorCode, HoldId, ledger::AccountRow},
    storage::StorageError,
};

/// Why no hold was opened. Unless a variant says otherwise nothing is reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The credit does not suffice; the row of the moment says why
    /// ([`crate::accounts::denial_reason`]).
    #[error("the account's credit does not cover the request")]
    Denied(AccountRow),
    /// The account is frozen or closed.
    #[error("the account may not spend")]
    Blocked(AccountRow),
    /// There is no such account.
    #[error("the account does not exist")]
    NoAccount,
    /// Another request of the account has the idempotency key.
    #[error("the idempotency key belongs to another request")]
    Claimed,
    /// Too many holds wait already.
    #[error("too many requests wait for the ledger")]
    Overloaded {
        /// When to try again, ms.
        retry_after_ms: u64,
    },
    /// The ledger can't be written now.
    #[error("the ledger can't be written now")]
    Unavailable,
    /// The server drains.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// No answer in time. If the hold becomes durable later it is voided by itself.
    #[error("the ledger did not answer in time for hold {hold_id}")]
    OutcomeUnknown {
        /// The hold that was asked for.
        hold_id: HoldId,
    },
}

impl HoldError {
    /// The row of the table of error codes.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Denied(_) | Self::Blocked(_) => ErrorCode::InsufficientCredits,
            Self::NoAccount => ErrorCode::NotFound,
            Self::Claimed => ErrorCode::IdempotencyInProgress,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::Unavailable | Self::OutcomeUnknown { .. } => ErrorCode::LedgerUnavailable,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
        }
    }
}

/// The account does not have what the rest of an answer costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credit ended before the answer did")]
pub struct CreditExhausted;

/// Why a settlement is not known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// It was not written and this instance will not write it: the hold ends at its last
    /// checkpoint when it is recovered.
    #[error("the ledger stopped before the settlement was written")]
    Stopped,
    /// Not written yet; it stays queued and is written as soon as the database answers.
    #[error("the settlement is not durable yet")]
    Pending,
}

impl SettleError {
    /// The row of the table of error codes.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Stopped | Self::Pending => ErrorCode::LedgerUnavailable,
        }
    }
}

/// Why the room did not start or drain.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The database refused or did not answer.
    #[error("the ledger can't be reached")]
    Storage(#[from] StorageError),
    /// An actor of the room is gone.
    #[error("the ledger has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl AccountsError {
    /// The row of the table of error codes.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Storage(error) => error.code(),
            Self::Stopped { .. } => ErrorCode::LedgerUnavailable,
        }
    }
}
