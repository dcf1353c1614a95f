//! The audit of the books for the operator of a running server.

use std::sync::Arc;

use serde_json::Value;

use super::{Failure, Platform, failure::INTERNAL_MESSAGE};
pub use crate::storage::ledger::AuditMode;
use crate::{domain::ErrorCode, storage::ledger};

/// What an operator should wait while another audit runs.
const BUSY_RETRY_AFTER_MS: u64 = 10_000;

/// What an audit found.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Whether the books are right.
    pub clean: bool,
    /// Counts, sums and differences, as `faces audit --json` prints them.
    pub report: Value,
}

impl Platform {
    /// Derives the books again, one audit at a time: a full one reads everything.
    ///
    /// # Errors
    /// 503 while another one runs, or when the database can't be asked. A difference is no error.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the audit; the next one waits for its end.
    pub async fn audit(&self, mode: AuditMode) -> Result<Audit, Failure> {
        let internal = || Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE);
        let Ok(only) = Arc::clone(&self.inner.auditing).try_lock_owned() else {
            let message = "Another audit is running. Ask again when it has ended.";
            return Err(
                Failure::new(ErrorCode::Overloaded, message).retry_after(BUSY_RETRY_AFTER_MS)
            );
        };
        let db = self.inner.db.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "it is waited for below; when the caller has left, it must end before the next one begins"
        )]
        let running = tokio::spawn(async move {
            let report = match mode {
                AuditMode::Full => ledger::audit(&db).await,
                AuditMode::Incremental => ledger::audit_incremental(&db).await,
            };
            drop(only);
            report
        });
        let report = running.await.map_err(|_| internal())??;
        let clean = report.clean;
        let report = serde_json::to_value(report).map_err(|_| internal())?;
        Ok(Audit { clean, report })
    }
}
