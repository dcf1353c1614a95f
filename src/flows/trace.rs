//! What a request leaves in the access log and the metrics, collected while it runs, and whether
//! its client is still there.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

use tokio::sync::OwnedSemaphorePermit;

use crate::telemetry::{
    AccessLine, log_access,
    metrics::{self, Running},
};

/// A handle to the request's one access-log line and its place among the requests in flight.
///
/// The line is written when the last clone is dropped: for a stream that is the end of its body,
/// whatever ended it, or the end of its upstream where that goes on without the client. Clones stay
/// on the worker's thread.
#[derive(Debug, Clone)]
pub struct RequestTrace(Rc<TraceInner>);

#[derive(Debug)]
struct TraceInner {
    line: RefCell<AccessLine>,
    started: Instant,
    left_at: Cell<Option<tokio::time::Instant>>,
    _permit: Option<OwnedSemaphorePermit>,
    _running: Running,
}

impl RequestTrace {
    /// Starts the line of a request.
    #[must_use]
    pub fn new(line: AccessLine, started: Instant, permit: Option<OwnedSemaphorePermit>) -> Self {
        let (line, left_at) = (RefCell::new(line), Cell::new(None));
        let running = metrics::traffic().request_in_flight();
        Self(Rc::new(TraceInner { line, started, left_at, _permit: permit, _running: running }))
    }

    /// Changes the line. Does nothing while another change is running (there is none: one thread,
    /// no await inside).
    pub fn update(&self, change: impl FnOnce(&mut AccessLine)) {
        if let Ok(mut line) = self.0.line.try_borrow_mut() {
            change(&mut line);
        }
    }

    /// Notes that the client has left while its upstream goes on; the first time counts and is
    /// returned.
    pub(super) fn client_left(&self) -> tokio::time::Instant {
        let left_at = self.0.left_at.get().unwrap_or_else(tokio::time::Instant::now);
        self.0.left_at.set(Some(left_at));
        left_at
    }

    /// Whether [`Self::client_left`] was called.
    pub(super) fn has_client_left(&self) -> bool {
        self.0.left_at.get().is_some()
    }

    /// The request's id, which is also in the response's `x-request-id`.
    #[must_use]
    pub fn request_id(&self) -> String {
        self.0.line.borrow().request_id.clone()
    }
}

impl Drop for TraceInner {
    fn drop(&mut self) {
        let mut line = std::mem::take(self.line.get_mut());
        line.duration = self.started.elapsed();
        log_access(&line);
        metrics::traffic().request(line);
    }
}
