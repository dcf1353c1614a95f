//! `Idempotency-Key`: of all requests of an account with the same key, one is run and billed.
//!
//! A request with a key looks it up first, so that a repetition needs no credit, and claims it with
//! its hold; when two do that at once, the flush decides. Storage keeps a short JSON answer with
//! its settlement.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    Caller, Failure, Flows,
    billing::Billing,
    failure::{Details, Finished},
    trace::RequestTrace,
};
use crate::{
    domain::{
        ErrorCode, NanoUsd,
        ledger::{Finish, IdemClaim, IdemKey, IdemState, StoredResponse},
    },
    storage::ledger,
    telemetry::metrics,
};

/// How long a client should wait for the request that has its key.
const IN_PROGRESS_RETRY_AFTER_MS: u64 = 2_000;

impl Flows {
    /// Reads an `Idempotency-Key` of a request for `path` with this body.
    ///
    /// # Errors
    /// 422 when it is not a key.
    pub fn idempotency_claim(
        &self,
        value: &[u8],
        path: &str,
        body: &[u8],
    ) -> Result<IdemClaim, Failure> {
        let key = IdemKey::parse(value).ok_or_else(unusable_key)?;
        let mut hasher = Sha256::new();
        hasher.update(path.as_bytes());
        // No path has it, so path and body can't run into each other.
        hasher.update([0]);
        hasher.update(body);
        let ttl_ms = i64::try_from(self.inner.options.idempotency_ttl_ms).unwrap_or(i64::MAX);
        Ok(IdemClaim { key, fingerprint: hasher.finalize().into(), ttl_ms })
    }

    /// The answer that the same request got before; `None` when the request is to be run.
    ///
    /// # Errors
    /// 422 when the key was used for something else, 409 while its request runs or when its answer
    /// was not kept, 503 when the database can't be asked.
    ///
    /// # Cancel safety
    /// It only reads.
    pub(super) async fn answered_before(
        &self,
        caller: &Caller,
        claim: Option<&IdemClaim>,
        trace: &RequestTrace,
    ) -> Result<Option<StoredResponse>, Failure> {
        let Some(claim) = claim else { return Ok(None) };
        let db = &self.inner.platform.inner.db;
        let found = ledger::find_key(db, caller.account_id, claim.key.clone()).await?;
        let Some(record) = found else { return Ok(None) };
        if record.fingerprint != claim.fingerprint {
            return Err(reused());
        }
        match record.state {
            IdemState::InProgress => Err(in_progress()),
            IdemState::Done { response: Some(response), .. } => {
                metrics::traffic().replayed();
                trace.update(|line| {
                    line.cost = Some(NanoUsd::ZERO);
                    line.finish = Some(Finish::Complete.as_str());
                });
                Ok(Some(response))
            }
            IdemState::Done { response: None, usage, cost } => {
                Err(already_completed(Finished { usage, cost }))
            }
        }
    }

    /// Keeps a JSON answer for whoever asks with the same key again, when it is not too large.
    pub(super) fn keep_answer(&self, billing: &mut Billing, body: &Bytes) {
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        if bytes <= self.inner.options.idempotency_body_bytes_max {
            billing.keep_response(|| StoredResponse {
                status: 200,
                content_type: "application/json".to_owned(),
                body: body.clone(),
            });
        }
    }
}

/// A header that is no key.
pub fn unusable_key() -> Failure {
    let mut failure = Failure::new(
        ErrorCode::InvalidRequest,
        format!(
            "The header Idempotency-Key must be given once and be 1 to {} visible ASCII characters \
             without spaces. A UUID will do.",
            IdemKey::CHARS_MAX
        ),
    );
    failure.loc = vec!["header".to_owned(), "Idempotency-Key".to_owned()];
    failure
}

/// The key belongs to a request that is still running.
pub(super) fn in_progress() -> Failure {
    Failure::new(
        ErrorCode::IdempotencyInProgress,
        "A request with this Idempotency-Key is still running. Ask again when it has finished, or \
         use another key for another request.",
    )
    .retry_after(IN_PROGRESS_RETRY_AFTER_MS)
}

fn reused() -> Failure {
    let mut failure = Failure::new(
        ErrorCode::IdempotencyKeyReused,
        "This Idempotency-Key was used for a request with another body or path. Use a new key for \
         each new request.",
    );
    failure.loc = vec!["header".to_owned(), "Idempotency-Key".to_owned()];
    failure
}

/// The key's request was billed, and its answer is lost.
pub(super) fn already_completed(finished: Finished) -> Failure {
    let mut failure = Failure::new(
        ErrorCode::AlreadyCompleted,
        "The request with this Idempotency-Key has finished and was billed (see usage and \
         cost_usd); its answer was not kept, because it was streamed, large or cut short. Use a \
         new key to run it again.",
    );
    failure.details = Some(Box::new(Details::Finished(finished)));
    failure
}
