//! `Idempotency-Key`: of all requests of an account with the same key, one is run and billed.

use super::Failure;
use crate::domain::ErrorCode;

/// How long a client should wait for the request that has its key.
const IN_PROGRESS_RETRY_AFTER_MS: u64 = 2_000;

/// The key belongs to a request that is still running.
pub(super) fn in_progress() -> Failure {
    Failure::new(
        ErrorCode::IdempotencyInProgress,
        "A request with this Idempotency-Key is still running. Ask again when it has finished, or \
         use another key for another request.",
    )
    .retry_after(IN_PROGRESS_RETRY_AFTER_MS)
}
