//! The handle of the room: bounds, dispatch, drain and observation.

use std::{
    cell::RefCell,
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr};
use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::{Semaphore, TryAcquireError, oneshot, watch},
    time::Instant,
};

use super::{
    Catalog, Endpoint, Provider, ProviderError, SentMark, SetupError, UpstreamResponse, tls,
    worker::{Call, ProviderWorker},
};
use crate::{
    config::Limits,
    telemetry::metrics::{self, AttemptEnd, ProviderMetrics},
};

/// When to come back after [`ProviderError::QueueFull`], ms (guess: calls end every few seconds).
const RETRY_AFTER_MS: u64 = 1_000;

/// One request to a provider.
#[derive(Debug)]
pub struct Dispatch {
    /// Who is asked. Of this pool's catalog.
    pub provider: Arc<Provider>,
    /// What is called.
    pub endpoint: Endpoint,
    /// The client's query string, without `?` (native proxies keep it).
    pub query: Option<String>,
    /// The client's headers that go along ([`super::forward_request_headers`]); content type,
    /// encoding and credentials are added here.
    pub headers: Vec<(String, String)>,
    /// The body, in the provider's format.
    pub body: Bytes,
    /// Whether the body asks for a stream (chooses the `accept` header).
    pub stream: bool,
    /// Set when the request begins to go out, and marked when it is sent once more.
    pub sent: SentMark,
}

/// The limits of [`Limits`] that this room applies.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolLimits {
    pub(super) inflight_max: usize,
    pub(super) connect_timeout: Duration,
    pub(super) first_byte_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) total_timeout: Duration,
    pub(super) channel_chunks: usize,
    pub(super) sandbox_delta_interval: Duration,
}

impl PoolLimits {
    fn new(limits: &Limits) -> Self {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX).max(1);
        Self {
            inflight_max: count(limits.upstream_inflight_max),
            connect_timeout: Duration::from_millis(limits.upstream_connect_timeout_ms),
            first_byte_timeout: Duration::from_millis(limits.upstream_first_byte_timeout_ms),
            idle_timeout: Duration::from_millis(limits.upstream_idle_timeout_ms),
            total_timeout: Duration::from_millis(limits.upstream_total_timeout_ms),
            channel_chunks: count(limits.stream_channel_chunks),
            sandbox_delta_interval: Duration::from_millis(limits.sandbox_delta_interval_ms),
        }
    }
}

/// What happened so far, counted on any thread.
#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    retried: AtomicU64,
}

impl Counters {
    fn of(&self, end: AttemptEnd) -> &AtomicU64 {
        match end {
            AttemptEnd::Success
            | AttemptEnd::Redirect
            | AttemptEnd::Refused
            | AttemptEnd::Failed => &self.completed,
            AttemptEnd::Timeout
            | AttemptEnd::ConnectError
            | AttemptEnd::Cut
            | AttemptEnd::Unusable
            | AttemptEnd::Full
            | AttemptEnd::Shutdown => &self.failed,
            AttemptEnd::Cancelled => &self.cancelled,
            AttemptEnd::Stale => &self.retried,
        }
    }
}

/// A provider's bound and counters, shared by all threads.
#[derive(Debug)]
pub(super) struct ProviderState {
    permits: Arc<Semaphore>,
    counters: Counters,
    pub(super) metrics: ProviderMetrics,
}

impl ProviderState {
    /// Counts how a try of a call that was let in ended.
    pub(super) fn ended(&self, end: AttemptEnd) {
        self.counters.of(end).fetch_add(1, Ordering::Relaxed);
        self.metrics.ended(end);
    }
}

/// A snapshot of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderSnapshot {
    /// Its name.
    pub name: String,
    /// Calls that run now.
    pub inflight: usize,
    /// Calls that were let in.
    pub started: u64,
    /// Calls whose response was read to its end.
    pub completed: u64,
    /// Calls that failed in transport.
    pub failed: u64,
    /// Calls whose caller left.
    pub cancelled: u64,
    /// Calls that were repeated because a pooled connection was stale.
    pub retried: u64,
}

/// A snapshot of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvidersSnapshot {
    /// Whether new calls are refused.
    pub draining: bool,
    /// Worker actors that were started (one per dispatching thread).
    pub workers_started: u64,
    /// By provider, in the catalog's order.
    pub providers: Vec<ProviderSnapshot>,
}

/// The pool of upstream connections. Cheap to clone; usable from any thread that runs an actix
/// arbiter.
///
/// Each thread that dispatches gets its own worker actor with its own HTTP client at its
/// first dispatch, so a delta crosses no thread. Bounds are shared by all threads.
#[derive(Debug, Clone)]
pub struct Providers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    catalog: Arc<Catalog>,
    states: HashMap<String, Arc<ProviderState>>,
    tls: Arc<rustls::ClientConfig>,
    limits: PoolLimits,
    draining: AtomicBool,
    /// Set once, by [`Providers::cut`].
    cut: watch::Sender<bool>,
    workers_started: AtomicU64,
}

thread_local! {
    /// This thread's workers, by the pool they belong to (tests run several pools on a thread).
    static WORKERS: RefCell<Vec<(Weak<Inner>, Addr<ProviderWorker>)>> =
        const { RefCell::new(Vec::new()) };
}

impl Providers {
    /// Prepares the pool: reads the certificates, opens no connection, starts no actor.
    ///
    /// # Errors
    /// [`SetupError`] when `ca_file` is not usable or TLS can't be set up.
    pub fn start(
        catalog: Arc<Catalog>,
        limits: &Limits,
        ca_file: Option<&Path>,
    ) -> Result<Self, SetupError> {
        let tls = tls::client_config(ca_file)?;
        let limits = PoolLimits::new(limits);
        let state = |name: &str| ProviderState {
            permits: Arc::new(Semaphore::new(limits.inflight_max)),
            counters: Counters::default(),
            metrics: metrics::traffic().provider(name),
        };
        let states =
            catalog.providers().map(|it| (it.name.clone(), Arc::new(state(&it.name)))).collect();
        let inner = Inner {
            catalog,
            states,
            tls,
            limits,
            draining: AtomicBool::new(false),
            cut: watch::Sender::new(false),
            workers_started: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The catalog that the pool serves.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.inner.catalog
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// A request whose pooled connection turns out to be closed is sent once more over a new one,
    /// and only while no byte of a response has come; never after a timeout. Statuses of 400 and
    /// above are responses, not errors. `connect` and TLS have `upstream_connect_timeout_ms` each.
    ///
    /// # Errors
    /// [`ProviderError`]; [`ProviderError::may_have_been_billed`] tells whether the provider may
    /// have worked.
    ///
    /// # Cancel safety
    /// Dropping the future before the head cancels the call and closes its connection at once;
    /// the provider may have begun (and may bill) if [`Dispatch::sent`] is set by then.
    pub async fn dispatch(&self, dispatch: Dispatch) -> Result<UpstreamResponse, ProviderError> {
        let (call, answer) = self.admit(dispatch)?;
        let worker = self.worker()?;
        call.state.counters.started.fetch_add(1, Ordering::Relaxed);
        #[expect(
            clippy::disallowed_methods,
            reason = "the provider's permits bound the messages in the mailbox"
        )]
        worker.do_send(call);
        match answer.await {
            Ok(answer) => answer,
            // The worker is gone (its thread is ending): the request may have been sent.
            Err(_) => Err(ProviderError::Reset { detail: "the worker stopped".to_owned() }),
        }
    }

    fn admit(&self, dispatch: Dispatch) -> Result<(Call, Answer), ProviderError> {
        if self.inner.draining.load(Ordering::Acquire) {
            return Err(ProviderError::ShuttingDown);
        }
        let state = self
            .inner
            .states
            .get(&dispatch.provider.name)
            .ok_or(ProviderError::Bug { what: "a provider of another catalog" })?;
        let permit =
            Arc::clone(&state.permits).try_acquire_owned().map_err(|error| match error {
                TryAcquireError::Closed => ProviderError::ShuttingDown,
                TryAcquireError::NoPermits if self.inner.draining.load(Ordering::Acquire) => {
                    ProviderError::ShuttingDown
                }
                TryAcquireError::NoPermits => {
                    state.metrics.ended(AttemptEnd::Full);
                    ProviderError::QueueFull { retry_after_ms: RETRY_AFTER_MS }
                }
            })?;
        let (reply, answer) = oneshot::channel();
        Ok((Call { dispatch, reply, state: Arc::clone(state), permit }, answer))
    }

    /// This thread's worker, started when there is none (or when it died).
    fn worker(&self) -> Result<Addr<ProviderWorker>, ProviderError> {
        if actix::Arbiter::try_current().is_none() {
            return Err(ProviderError::Bug { what: "a dispatch outside an actix arbiter" });
        }
        let own = Arc::downgrade(&self.inner);
        WORKERS.with_borrow_mut(|workers| {
            workers.retain(|(pool, worker)| pool.strong_count() > 0 && worker.connected());
            if let Some((_, worker)) = workers.iter().find(|(pool, _)| pool.ptr_eq(&own)) {
                return Ok(worker.clone());
            }
            let worker =
                ProviderWorker::new(&self.inner.tls, self.inner.limits, self.inner.cut.subscribe())
                    .start();
            self.inner.workers_started.fetch_add(1, Ordering::Relaxed);
            workers.push((own, worker.clone()));
            Ok(worker)
        })
    }

    /// Refuses new calls and waits until the running ones have ended, at most `grace`. Returns
    /// how many still run then (0: drained). Whoever holds their bodies may still read them.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting; new calls stay refused.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.inner.draining.store(true, Ordering::Release);
        let deadline = Instant::now() + grace;
        let all = u32::try_from(self.inner.limits.inflight_max).unwrap_or(u32::MAX);
        for state in self.inner.states.values() {
            let drained = tokio::time::timeout_at(deadline, state.permits.acquire_many(all)).await;
            if let Ok(Ok(permits)) = drained {
                drop(permits);
                state.permits.close();
            }
        }
        self.inner.states.values().map(|state| self.inflight(state)).sum()
    }

    /// Ends every running call with [`ProviderError::ShuttingDown`], so that whoever reads its body
    /// can tell the client and settle; refuses new calls.
    pub fn cut(&self) {
        self.inner.draining.store(true, Ordering::Release);
        self.inner.cut.send_replace(true);
    }

    fn inflight(&self, state: &ProviderState) -> usize {
        self.inner.limits.inflight_max.saturating_sub(state.permits.available_permits())
    }

    /// What the pool is doing. Counters are read one by one: they may be off by the calls that
    /// begin or end meanwhile.
    #[must_use]
    pub fn observe(&self) -> ProvidersSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut providers: Vec<ProviderSnapshot> = self
            .inner
            .states
            .iter()
            .map(|(name, state)| ProviderSnapshot {
                name: name.clone(),
                inflight: self.inflight(state),
                started: read(&state.counters.started),
                completed: read(&state.counters.completed),
                failed: read(&state.counters.failed),
                cancelled: read(&state.counters.cancelled),
                retried: read(&state.counters.retried),
            })
            .collect();
        providers.sort_by(|left, right| left.name.cmp(&right.name));
        ProvidersSnapshot {
            draining: self.inner.draining.load(Ordering::Acquire),
            workers_started: read(&self.inner.workers_started),
            providers,
        }
    }
}

type Answer = oneshot::Receiver<Result<UpstreamResponse, ProviderError>>;
