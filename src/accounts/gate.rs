//! What every thread may ask without a message: whether holds are granted and bytes released.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::telemetry::metrics;

/// The state of this instance as its threads see it. All reads are one or two atomic loads.
#[derive(Debug)]
pub(super) struct Gate {
    born: Instant,
    /// Milliseconds after `born` until which this instance counts itself as live; `u64::MAX` when
    /// nobody else can take over (SQLite).
    live_until_ms: AtomicU64,
    draining: AtomicBool,
    closing: AtomicBool,
    failing: AtomicBool,
    stopped: OnceLock<String>,
    waiting: AtomicU64,
    waiting_max: u64,
    ending: AtomicU64,
}

impl Gate {
    pub(super) fn new(waiting_max: u64) -> Self {
        Self {
            born: Instant::now(),
            live_until_ms: AtomicU64::new(u64::MAX),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            stopped: OnceLock::new(),
            waiting: AtomicU64::new(0),
            waiting_max,
            ending: AtomicU64::new(0),
        }
    }

    /// Keeps the instance live until `from + span`. `from` is read *before* the flush is sent, so
    /// that this deadline is never later than the database's.
    pub(super) fn live_until(&self, from: Instant, span: Duration) {
        let until = from.saturating_duration_since(self.born) + span;
        let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.live_until_ms.store(until_ms, Ordering::Release);
    }

    /// Whether this instance may still act on its holds.
    pub(super) fn is_live(&self) -> bool {
        if self.stopped.get().is_some() || self.closing.load(Ordering::Acquire) {
            return false;
        }
        let until = self.live_until_ms.load(Ordering::Acquire);
        until == u64::MAX || self.born.elapsed().as_millis() < u128::from(until)
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The instance is about to be closed: its holds are not its own any more, whenever the answer
    /// comes.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether the last flush got no answer: new holds are refused at once instead of queued.
    pub(super) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Release);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// For good. The first reason stays.
    pub(super) fn stop(&self, reason: String) {
        drop(self.stopped.set(reason));
        metrics::ledger().stopped();
    }

    pub(super) fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    /// A place in the queue of holds, or `None` when it is full.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(self));
        (before < self.waiting_max).then_some(place)
    }

    /// A hold ends: until it is durable a drain waits for it.
    pub(super) fn end(self: &Arc<Self>) -> Ending {
        self.ending.fetch_add(1, Ordering::AcqRel);
        Ending(Arc::clone(self))
    }

    /// Ends that are on their way.
    pub(super) fn ending(&self) -> u64 {
        self.ending.load(Ordering::Acquire)
    }

    /// Holds that wait for their verdict.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
    }
}

/// An end on its way to the database, wherever it waits; dropping it says that it is there, or
/// never will be.
#[derive(Debug)]
pub(super) struct Ending(Arc<Gate>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A hold's place in the queue; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place(Arc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_has_exactly_as_many_places_as_its_limit() {
        let gate = Arc::new(Gate::new(2));
        let first = gate.enter();
        let second = gate.enter();
        assert!(first.is_some() && second.is_some());
        assert!(gate.enter().is_none());
        drop(first);
        assert!(gate.enter().is_some());
        assert_eq!(gate.waiting(), 1);
    }

    #[test]
    fn an_instance_past_its_deadline_is_not_live_until_it_is_renewed() {
        let gate = Gate::new(1);
        assert!(gate.is_live());
        gate.live_until(gate.born, Duration::ZERO);
        assert!(!gate.is_live());
        gate.live_until(Instant::now(), Duration::from_secs(60));
        assert!(gate.is_live());
        gate.stop("first".to_owned());
        gate.stop("second".to_owned());
        assert!(!gate.is_live());
        assert_eq!(gate.stopped(), Some("first"));
    }
}
