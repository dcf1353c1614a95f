//! The moment from which on a provider may bill: when a request begins to go out to it; and the
//! moment when it is sent once more.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::{Context, Poll},
};

use awc::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::domain::clock::{self, UnixMicros};

/// Whether a request has begun to go out to its provider. Not set while a place, a connection or
/// its TLS is waited for: whoever leaves until then has cost nothing. Clones are the same mark.
#[derive(Debug, Clone, Default)]
pub struct SentMark(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    is_set: AtomicBool,
    /// Wall time, microseconds; 0 while there was one try only.
    repeated_at: AtomicI64,
}

impl SentMark {
    /// Whether bytes of the request may have left.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Acquire)
    }

    pub(super) fn set(&self) {
        self.0.is_set.store(true, Ordering::Release);
    }

    /// When the first try had failed without an answer and the second one began; `None` without a
    /// second one.
    #[must_use]
    pub fn repeated_at(&self) -> Option<UnixMicros> {
        let at = self.0.repeated_at.load(Ordering::Acquire);
        (at != 0).then_some(UnixMicros(at))
    }

    /// The second try begins now.
    pub(super) fn repeat(&self) {
        self.0.repeated_at.store(clock::now().0, Ordering::Release);
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
