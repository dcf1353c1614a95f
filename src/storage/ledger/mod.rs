//! The ledger's transactions: flush, instances, recovery, audit.
//!
//! Owns every statement that moves money after a top-up: the flush ([`flush()`]: one transaction for
//! everything that waited), the rows of instances and leases, recovery of what a dead instance left
//! ([`recover`]), the accounts of keys' budgets ([`ensure_cap`]), idempotency keys ([`find_key`],
//! [`purge_keys`]), the audit of the books ([`audit()`]), and reading them for people ([`books`]).
//! The guards repeat each decision as a condition with a row count: a flush that would break an
//! invariant is rolled back whole and answered with [`FlushError`].
//!
//! What never happens here: a decision about a price, a wait, a retry (the writer of `accounts`
//! repeats a flush with the same number), an update of the operator's counters. The operator's
//! accounts (revenue, overrun, …) are debited or credited by every request of every instance, so
//! their balances are never kept on their rows: they are the sums of their transfers, which the
//! audit derives.
//!
//! Lock order, everywhere: instance row, accounts by id, leases, holds, idempotency keys.
//!
//! Limits: `flush_ops_max` bounds a batch, `HOLDS_PER_CHUNK` a step of recovery.
//! Invariants I1–I8 are those of [`crate::domain::ledger`]; they are tested beside `decide.rs` and
//! by `tests/store_suite` on both databases.

pub mod audit;
pub mod books;
mod caps;
mod cut;
mod decide;
mod flush;
mod idem;
mod instance;
#[cfg(test)]
pub(crate) mod memory;
mod payload;
mod recovery;
mod rows;
mod snapshot;
mod sql;
pub(super) mod sqlite_flush;
pub mod usage;
mod writes;

use std::sync::Arc;

pub use audit::{AuditMode, AuditReport, audit, audit_incremental};
pub use caps::{CapWindow, ensure_cap, read_caps, spent_by_keys};
pub(super) use flush::read_rows;
pub use idem::{find_key, purge_keys};
pub use instance::{close_instance, register_instance};
pub use recovery::{RecoveryReport, RecoveryScope, recover};
pub(super) use sql::fill;

use super::{Db, StorageError};
use crate::domain::{
    InstanceId,
    ledger::{FlushBatch, FlushReply},
};

/// The noun of this room's error messages.
const WHAT: &str = "ledger";

/// Why a flush was not applied. Nothing of it was written, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The database did not answer. Whether the flush happened is unknown: repeat it with the same
    /// number, which finds out.
    #[error("the flush got no answer; the same one may be sent again")]
    Retry(#[source] StorageError),
    /// This incarnation was fenced or closed by somebody: it must never write again.
    #[error("this instance was fenced: another one takes over its holds")]
    Fenced,
    /// The database knows another sequence number (or another flush with the same one).
    #[error("flush {sent} does not follow the durable flush {durable}")]
    OutOfSequence {
        /// The number that was sent.
        sent: i64,
        /// The number in the database.
        durable: i64,
    },
    /// A guard found other rows than the decision: a broken invariant.
    #[error("step `{step}` changed {changed} rows instead of {expected}")]
    Mismatch {
        /// Which step of the transaction.
        step: &'static str,
        /// Rows that had to change.
        expected: u64,
        /// Rows that would have changed.
        changed: u64,
    },
    /// The batch contradicts the books.
    #[error("{what}")]
    Contradiction {
        /// What, with its invariant.
        what: String,
    },
    /// A statement failed for a reason that repeating does not cure.
    #[error("the flush can't be written")]
    Failed(#[source] StorageError),
}

impl From<StorageError> for FlushError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable { .. }
            | StorageError::Contended { .. }
            | StorageError::OutcomeUnknown { .. } => Self::Retry(error),
            StorageError::Conflict { .. }
            | StorageError::Stale { .. }
            | StorageError::Missing { .. }
            | StorageError::OutOfRange { .. }
            | StorageError::Locked { .. }
            | StorageError::File { .. }
            | StorageError::UnsafeSetting { .. }
            | StorageError::Migration(_)
            | StorageError::Outdated { .. }
            | StorageError::ReadOnly { .. }
            | StorageError::Bug { .. } => Self::Failed(error),
        }
    }
}

impl From<sea_orm::DbErr> for FlushError {
    fn from(error: sea_orm::DbErr) -> Self {
        StorageError::on(WHAT)(error).into()
    }
}

/// Applies `batch` as flush number `seq` of `instance`, in one transaction: all or nothing.
///
/// Repeating a flush with the same number and content is harmless: when it had been committed, its
/// reply is read back (a hold that was denied then is denied again, with the row of now).
///
/// # Units
/// `ttl_ms`: how long the instance counts as live after this, by the database's clock.
///
/// # Errors
/// [`FlushError`]; only after [`FlushError::Retry`] may the flush have happened.
///
/// # Cancel safety
/// Dropping the future does not stop the transaction.
pub async fn flush(
    db: &Db,
    instance: InstanceId,
    seq: i64,
    ttl_ms: i64,
    batch: Arc<FlushBatch>,
) -> Result<FlushReply, FlushError> {
    let head = flush::FlushHead { instance, seq, ttl_ms };
    let job = Arc::clone(&batch);
    let sent = db.flush_thread(|thread| {
        thread.run(move |connection| sqlite_flush::flush(connection, head, &job))
    });
    if let Some(answer) = sent.flatten() {
        match answer.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(reply))) => return Ok(reply),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(StorageError::Unavailable { what: WHAT, source: None }.into()),
        }
    }
    db.run(WHAT, move |db| async move { Ok(flush::flush(&db, head, &batch).await) }).await?
}
