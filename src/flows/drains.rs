//! Reading on after the client has left, where leaving would not stop the provider's bill.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, future::LocalBoxFuture};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::trace::RequestTrace;
use crate::{
    providers::{Provider, SentMark},
    telemetry::metrics::{self, Running},
};

/// The places for calls that go on without their client. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Drains {
    places: Arc<Semaphore>,
    /// How long such a call may go on.
    timeout: Duration,
}

/// A place, for as long as a call goes on without its client.
struct Place {
    _permit: OwnedSemaphorePermit,
    _running: Running,
}

impl Drains {
    /// At most `drains_max` calls at once (0: none), each for at most `timeout`.
    pub(super) fn new(drains_max: u32, timeout: Duration) -> Self {
        let places = usize::try_from(drains_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), timeout }
    }

    /// These, for a provider that bills a cancelled call to its end; `None` for any other.
    pub(super) fn of(&self, provider: &Provider) -> Option<Self> {
        (!provider.cancel_stops_billing).then(|| self.clone())
    }

    /// A place for a call whose client has just left, until when it may go on.
    fn enter(&self, trace: &RequestTrace) -> Option<(Place, Instant)> {
        let deadline = trace.client_left() + self.timeout;
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            metrics::traffic().drain_refused();
            log::warn!(
                target: "faces::flows",
                "FACES_DRAINS_MAX calls go on without their client already: request {} is \
                 cancelled and billed by what was seen of it, and its provider may bill more",
                trace.request_id()
            );
            return None;
        };
        log::debug!(
            target: "faces::flows",
            "request {} goes on without its client",
            trace.request_id()
        );
        Some((Place { _permit: permit, _running: metrics::traffic().drain() }, deadline))
    }

    /// Reads `relay` to its end for nobody, so that its settlement has the whole usage. Without a
    /// place, or after the time, it is dropped: that cancels the upstream and bills what was
    /// metered.
    fn adopt(&self, trace: &RequestTrace, mut relay: impl Stream + Unpin + 'static) {
        let Some((place, deadline)) = self.enter(trace) else { return };
        let trace = trace.clone();
        tokio::task::spawn_local(async move {
            let rest = async { while relay.next().await.is_some() {} };
            if timeout_at(deadline, rest).await.is_err() {
                report_timeout(&trace);
            }
            drop(place);
        });
    }
}

/// Runs `work` as a task that goes on when the caller leaves, as far as `drains` allows. `None`
/// when the task was lost (its thread is ending).
///
/// # Cancel safety
/// Dropping the future is the client's leaving: `work` runs to its end without it. When its
/// request has not begun to go out, without a place, or after the time, `work` is dropped where it
/// stands.
pub(super) async fn outlive<T: 'static>(
    drains: Drains,
    trace: RequestTrace,
    sent: SentMark,
    mut work: LocalBoxFuture<'static, T>,
) -> Option<T> {
    let (mut reply, answer) = oneshot::channel();
    tokio::task::spawn_local(async move {
        tokio::select! {
            biased;
            () = reply.closed() => {}
            done = &mut work => {
                // A client that left just now takes its answer along: a stream's end of it drains.
                drop(reply.send(done));
                return;
            }
        }
        if !sent.is_set() {
            return;
        }
        let Some((place, deadline)) = drains.enter(&trace) else { return };
        let done = timeout_at(deadline, work).await;
        // A stream that has begun meanwhile needs the place.
        drop(place);
        if done.is_err() {
            report_timeout(&trace);
        }
    });
    answer.await.ok()
}

fn report_timeout(trace: &RequestTrace) {
    log::warn!(
        target: "faces::flows",
        "request {} went on for FACES_DRAIN_TIMEOUT_MS without its client: it is cancelled and \
         billed by what was seen of it, and its provider may bill more",
        trace.request_id()
    );
}

/// A stream of events whose upstream may have to be read to its end.
pub trait Relay: Stream + Unpin + 'static {
    /// Whether the upstream is still read: nothing is settled yet.
    fn is_relaying(&self) -> bool;
}

/// A relay on its way to its client.
///
/// Dropped (the client left), the relay is dropped too, which cancels its upstream and bills what
/// was metered; where cancelling does not stop the provider's bill, it is first read to its end.
#[derive(Debug)]
pub struct ClientStream<R: Relay> {
    /// `None` only within the drop.
    relay: Option<R>,
    /// `None` where cancelling stops the bill.
    drains: Option<Drains>,
    trace: RequestTrace,
    _running: Running,
}

impl<R: Relay> ClientStream<R> {
    pub(super) fn new(relay: R, drains: Option<Drains>, trace: RequestTrace) -> Self {
        Self { relay: Some(relay), drains, trace, _running: metrics::traffic().stream() }
    }
}

impl<R: Relay> Stream for ClientStream<R> {
    type Item = R::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.relay {
            Some(relay) => relay.poll_next_unpin(cx),
            None => Poll::Ready(None),
        }
    }
}

impl<R: Relay> Unpin for ClientStream<R> {}

impl<R: Relay> Drop for ClientStream<R> {
    fn drop(&mut self) {
        let (Some(relay), Some(drains)) = (self.relay.take(), &self.drains) else { return };
        if relay.is_relaying() {
            drains.adopt(&self.trace, relay);
        }
    }
}
