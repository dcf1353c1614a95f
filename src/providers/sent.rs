//! The moment from which on a provider may bill: when a request begins to go out to it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use awc::body::{BodySize, MessageBody};
use bytes::Bytes;

/// Whether a request has begun to go out to its provider. Not set while a place, a connection or
/// its TLS is waited for: whoever leaves until then has cost nothing. Clones are the same mark.
#[derive(Debug, Clone, Default)]
pub struct SentMark(Arc<AtomicBool>);

impl SentMark {
    /// Whether bytes of the request may have left.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A request's body. awc asks for it once it has a connection and has written the head, and not
/// before.
pub(super) struct MarkedBody {
    bytes: Bytes,
    mark: SentMark,
}

impl MarkedBody {
    pub(super) const fn new(bytes: Bytes, mark: SentMark) -> Self {
        Self { bytes, mark }
    }
}

impl MessageBody for MarkedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.bytes.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.mark.set();
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
    }
}
