//! What chat and the native proxies share: the upstream's first answer and the reply's notes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::{
    Failure, Flows,
    billing::{Bill, Billing},
    drains::{self, ClientStream, Relay},
    failure,
    trace::RequestTrace,
};
use crate::{
    domain::{ErrorCode, ledger::StoredResponse},
    providers::{Model, Provider, ProviderError, SentMark, UpstreamResponse},
    wire::{self, UpstreamFormat},
};

/// A billed request's answer.
#[derive(Debug)]
pub enum Reply<S: Relay> {
    /// A whole body; the settlement is durable.
    Json {
        /// The body.
        body: Bytes,
        /// For the response's headers.
        notes: ReplyNotes,
    },
    /// The answer that the same request got before, with the same idempotency key.
    Replayed(StoredResponse),
    /// A live stream; its first event has arrived.
    Stream {
        /// The stream and the guard of its money.
        session: ClientStream<S>,
        /// For the response's headers.
        notes: ReplyNotes,
    },
}

/// What the response's headers tell.
#[derive(Debug, Clone)]
pub struct ReplyNotes {
    /// The model that answers.
    pub model: Arc<Model>,
    /// The `max_tokens` that the balance allowed, when it was lowered.
    pub max_tokens: Option<u64>,
    /// Fields of the request that the target format has no place for.
    pub dropped: Vec<&'static str>,
    /// The provider's end-to-end headers.
    pub headers: Vec<(String, String)>,
    /// Cost and balance, where known before the body.
    pub bill: Option<Bill>,
}

/// Most bytes of a provider's error body that are read.
const ERROR_BODY_BYTES_MAX: u64 = 65_536;

/// Passes a successful head on; releases the hold and explains anything else.
///
/// A stream's head waits until the hold is durable (gate 1: a client sees nothing of the answer
/// before). A JSON answer is shown when its settlement is durable (gate 2), which is written after
/// its hold, so it does not wait twice.
///
/// # Errors
/// The provider's refusal or failure as a [`Failure`], or 503 when the hold is not known to be
/// durable; nothing is charged.
pub(super) async fn accepted(
    sent: Result<UpstreamResponse, ProviderError>,
    mut billing: Billing,
    model: &Model,
    stream: bool,
) -> Result<(UpstreamResponse, Billing), Failure> {
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            log::warn!(
                target: "faces::providers",
                "provider={} model={} failed: {}",
                model.provider.name, model.upstream_id, error
            );
            billing.void().await;
            return Err(error.into());
        }
    };
    if (200..300).contains(&response.status) {
        if !stream {
            return Ok((response, billing));
        }
        return match billing.durable().await {
            Ok(()) => Ok((response, billing)),
            Err(failure) => {
                billing.abandon();
                Err(failure)
            }
        };
    }
    billing.answered(response.status);
    // First the credit, then the words: the provider may take long over its body, and a client
    // that leaves meanwhile owes nothing for a request that was refused.
    billing.void().await;
    Err(refused(model.provider.format, response).await)
}

/// Reads a provider's error answer.
pub(super) async fn refused(format: UpstreamFormat, response: UpstreamResponse) -> Failure {
    let status = response.status;
    let mut headers: Vec<(String, String)> = response
        .headers
        .iter()
        .filter(|(name, _)| {
            matches!(name.as_str(), "retry-after" | "retry-after-ms" | "x-should-retry")
        })
        .cloned()
        .collect();
    // An error body that can't be read whole still has its status.
    let body = response.body.collect(ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
    let info = wire::read_upstream_error(format, status, &body);
    if info.code == ErrorCode::UpstreamAuth {
        log::error!(
            target: "faces::providers",
            "the provider refused the platform's credential with status {status}; check its key"
        );
    }
    let quota_words = ["insufficient_quota", "billing_error"];
    if status == 402
        || info.upstream_code.as_deref().is_some_and(|code| quota_words.contains(&code))
    {
        log::error!(
            target: "faces::providers",
            "the provider says that the platform's quota or credit is spent (status {status})"
        );
        // Waiting won't pay the platform's bill, and SDKs try a 429 again by themselves.
        headers.retain(|(name, _)| name != "x-should-retry");
        headers.push(("x-should-retry".to_owned(), "false".to_owned()));
    }
    let mut failure = Failure::new(info.code, info.message);
    failure.headers = headers;
    failure.upstream_code = info.upstream_code;
    if let Some(param) = info.param {
        failure.loc = vec!["body".to_owned(), param];
    }
    failure
}

impl Flows {
    /// Runs a call whose request is about to be sent, to its end even without its client where
    /// cancelling would not stop the provider's bill. `work` comes boxed: it is moved several times on
    /// its way, and is large.
    ///
    /// # Errors
    /// Those of `work`; 500 when its task was lost.
    ///
    /// # Cancel safety
    /// Dropped, it cancels `work`, or leaves it to itself as [`drains::outlive`] says.
    pub(super) async fn see_through<T: 'static>(
        &self,
        provider: &Provider,
        trace: &RequestTrace,
        sent: SentMark,
        work: LocalBoxFuture<'static, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(drains) = self.inner.drains.of(provider) else { return work.await };
        drains::outlive(drains, trace.clone(), sent, work)
            .await
            .unwrap_or_else(|| Err(Failure::new(ErrorCode::Internal, failure::INTERNAL_MESSAGE)))
    }

    /// Hands a relay to its client.
    pub(super) fn for_client<R: Relay>(
        &self,
        relay: R,
        provider: &Provider,
        trace: RequestTrace,
    ) -> ClientStream<R> {
        ClientStream::new(relay, self.inner.drains.of(provider), trace)
    }
}

/// Names what was asked for and what answers, for the access log.
pub(super) fn trace_target(trace: &RequestTrace, requested: &str, model: &Model) {
    let face = requested.split_once('@').map_or(requested, |(face, _)| face);
    trace.update(|line| {
        if face != model.id {
            line.face =
                Some(face.chars().take(crate::domain::model_name::FACE_NAME_CHARS_MAX).collect());
        }
        line.model = Some(model.id.clone());
    });
}
