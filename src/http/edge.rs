//! What every request passes: its id, its place among those in flight, its log line, panics.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, ResponseError,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    headers,
    problem::{self, Dialect},
};
use crate::{
    domain::{ErrorCode, RequestId},
    flows::{Caller, Failure, RateNotes, RequestTrace, failure::INTERNAL_MESSAGE},
    telemetry::AccessLine,
};

/// What the edge of all workers shares.
#[derive(Debug)]
pub struct EdgeState {
    inflight: Arc<Semaphore>,
    inflight_max: u32,
    ready: AtomicBool,
    draining: AtomicBool,
}

impl EdgeState {
    /// Ready, with room for `inflight_requests_max` requests.
    #[must_use]
    pub fn new(inflight_requests_max: u32) -> Self {
        let permits = usize::try_from(inflight_requests_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            inflight: Arc::new(Semaphore::new(permits)),
            inflight_max: inflight_requests_max,
            ready: AtomicBool::new(true),
            draining: AtomicBool::new(false),
        }
    }

    /// From now on `/readyz` says 503: the server is about to stop.
    pub fn stop_being_ready(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// From now on new requests are refused, also on connections that are open.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Waits until nothing is in flight: every body has ended, every stream is settled.
    pub async fn idle(&self) {
        // An error would mean a closed semaphore, which is never closed; then nothing is in flight.
        drop(self.inflight.acquire_many(self.inflight_max).await);
    }

    /// Requests in flight now.
    #[must_use]
    pub fn inflight(&self) -> usize {
        usize::try_from(self.inflight_max)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.inflight.available_permits())
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if self.draining.load(Ordering::Acquire) {
            return Err(Failure::new(
                ErrorCode::ShuttingDown,
                "The server is shutting down. Try again shortly.",
            )
            .retry_after(FULL_RETRY_AFTER_MS));
        }
        Arc::clone(&self.inflight).try_acquire_owned().map_err(|_| {
            Failure::new(
                ErrorCode::Overloaded,
                "The server is serving as many requests as it may. Try again shortly.",
            )
            .retry_after(FULL_RETRY_AFTER_MS)
        })
    }

    /// Whether the server wants new requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// Response header with the request's id; OpenAI's SDKs show exactly this one.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same for Anthropic's SDKs.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// What a client should wait when the server is full.
const FULL_RETRY_AFTER_MS: u64 = 1_000;

/// `req_` and the 32 hex digits of a UUIDv7: unique, and sorted by time in a log.
fn new_request_id() -> String {
    format!("req_{}", RequestId::generate().0.simple())
}

/// The middleware of every route.
///
/// # Errors
/// Never: what fails inside is rendered here.
pub(super) async fn edge(
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let request_id = new_request_id();
    let is_probe = matches!(req.path(), "/healthz" | "/readyz");
    let entered = match req.app_data::<web::Data<EdgeState>>() {
        Some(state) if !is_probe => state.enter().map(Some),
        _ => Ok(None),
    };
    let (permit, refusal) = match entered {
        Ok(permit) => (permit, None),
        Err(failure) => (None, Some(failure)),
    };
    let line = AccessLine {
        request_id: request_id.clone(),
        method: req.method().as_str().to_owned(),
        route: req.match_pattern().unwrap_or_else(|| "unmatched".to_owned()),
        ..AccessLine::default()
    };
    let trace = RequestTrace::new(line, started, permit);
    req.extensions_mut().insert(trace.clone());
    let dialect = Dialect::of(req.request());
    let called = match refusal {
        Some(failure) => Ok(Ok(refuse(req, &failure))),
        None => AssertUnwindSafe(next.call(req)).catch_unwind().await,
    };
    let failure = match called {
        Ok(Ok(response)) => {
            let mut response = response.map_into_boxed_body();
            identify(response.headers_mut(), dialect, &request_id);
            let notes = response.request().extensions().get::<RateNotes>().copied();
            if let Some(notes) = notes {
                headers::write_rates(response.headers_mut(), &notes);
            }
            let status = response.status().as_u16();
            trace.update(|line| {
                line.status = status;
                line.first_byte = Some(started.elapsed());
            });
            return Ok(response);
        }
        Ok(Err(error)) => super::body::failure_of(&error),
        Err(_) => {
            log::error!(target: "faces::http", "request_id={request_id} a handler panicked");
            Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE)
        }
    };
    trace.update(|line| {
        line.status = failure.code.row().status;
        line.error = Some(failure.code);
    });
    Err(Problem { dialect, failure, request_id }.into())
}

/// A failure that left a handler without its request (a panic, an error of actix-web).
#[derive(Debug)]
struct Problem {
    dialect: Dialect,
    failure: Failure,
    request_id: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.failure.code.as_str())
    }
}

impl ResponseError for Problem {
    fn error_response(&self) -> HttpResponse {
        let mut response = problem::render(self.dialect, &self.failure, Some(&self.request_id));
        identify(response.headers_mut(), self.dialect, &self.request_id);
        response
    }
}

/// Puts the request's id where each kind of client looks for it.
fn identify(headers: &mut HeaderMap, dialect: Dialect, request_id: &str) {
    let Ok(value) = HeaderValue::from_str(request_id) else { return };
    if dialect == Dialect::Anthropic && !headers.contains_key(&REQUEST_ID) {
        headers.insert(REQUEST_ID, value.clone());
    }
    headers.insert(X_REQUEST_ID, value);
}

fn refuse(req: ServiceRequest, failure: &Failure) -> ServiceResponse<BoxBody> {
    let mut response = problem::respond(req.request(), failure);
    if failure.code == ErrorCode::ShuttingDown {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    req.into_response(response)
}

/// The request's trace. Every request that passed [`edge`] has one.
pub(super) fn trace(req: &HttpRequest) -> RequestTrace {
    let trace = req.extensions().get::<RequestTrace>().cloned();
    trace.unwrap_or_else(|| RequestTrace::new(AccessLine::default(), Instant::now(), None))
}

/// The request's id.
pub(super) fn request_id(req: &HttpRequest) -> Option<String> {
    req.extensions().get::<RequestTrace>().map(RequestTrace::request_id)
}

/// Writes the error's code on the request's line.
pub(super) fn trace_error(req: &HttpRequest, code: ErrorCode) {
    if let Some(trace) = req.extensions().get::<RequestTrace>() {
        trace.update(|line| line.error = Some(code));
    }
}

/// Writes who asked on the request's line.
pub(super) fn trace_caller(trace: &RequestTrace, caller: &Caller) {
    trace.update(|line| {
        line.account = Some(caller.account_id);
        line.key = caller.key_id;
    });
}
