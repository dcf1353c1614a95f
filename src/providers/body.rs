//! A response on its way from a provider's connection to its reader.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::ProviderError;

/// What the pump sends. The end is said explicitly, so that a pump that died can't be taken for a
/// response that ended.
#[derive(Debug)]
pub(super) enum Part {
    Chunk(Bytes),
    Failed(ProviderError),
    End,
}

/// A provider's response: its head, and its body as it comes.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// HTTP status. 3xx is not followed and comes as it is.
    pub status: u16,
    /// The headers that a client may see ([`super::forward_response_headers`]), names in lower
    /// case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: UpstreamBody,
}

impl UpstreamResponse {
    /// The first header of that (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The body of a provider's response, in the chunks in which it arrived.
///
/// Dropping it closes the provider's connection at once, also while the provider is silent. Read
/// it to its end (`None`) or [`Self::release`] it where the response is complete: only then the
/// connection is used again.
///
/// A body with a declared length that ends early is [`ProviderError::Truncated`]. A chunked body
/// that is cut off looks complete here (awc does not tell): who reads it proves completeness by
/// the format (`[DONE]`, `finish_reason`, `message_stop`, JSON that parses).
#[derive(Debug)]
pub struct UpstreamBody {
    parts: mpsc::Receiver<Part>,
    ended: bool,
    released: Arc<AtomicBool>,
}

impl UpstreamBody {
    pub(super) const fn new(parts: mpsc::Receiver<Part>, released: Arc<AtomicBool>) -> Self {
        Self { parts, ended: false, released }
    }

    /// Lets go of a body whose last event has been read (`[DONE]`, `message_stop`), without
    /// waiting for the bytes that end it: the worker reads those and keeps the connection for the
    /// next call. Where more follows than a moment's worth, the connection is closed after all.
    pub fn release(self) {
        self.released.store(true, Ordering::Release);
    }

    /// The next chunk (never empty); `None` at the end, and after an error.
    ///
    /// # Errors
    /// [`ProviderError`]: timeouts, a broken connection, a short body. The upstream call is over
    /// by then.
    ///
    /// # Cancel safety
    /// Dropping the future loses no chunk.
    pub async fn next(&mut self) -> Option<Result<Bytes, ProviderError>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Self::next`] for hand-written streams.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ProviderError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let part = std::task::ready!(self.parts.poll_recv(context));
        let item = match part {
            Some(Part::Chunk(chunk)) => return Poll::Ready(Some(Ok(chunk))),
            Some(Part::Failed(error)) => Some(Err(error)),
            Some(Part::End) => None,
            None => Some(Err(ProviderError::Reset { detail: "the worker stopped".to_owned() })),
        };
        self.ended = true;
        self.parts.close();
        Poll::Ready(item)
    }

    /// The whole rest of the body. A body of one chunk is not copied.
    ///
    /// # Errors
    /// As [`Self::next`]; [`ProviderError::TooLarge`] beyond `bytes_max`.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body: the upstream call is cancelled.
    pub async fn collect(mut self, bytes_max: u64) -> Result<Bytes, ProviderError> {
        let fits = |bytes: usize| u64::try_from(bytes).is_ok_and(|bytes| bytes <= bytes_max);
        let Some(first) = self.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        if !fits(first.len()) {
            return Err(ProviderError::TooLarge { bytes_max });
        }
        let Some(second) = self.next().await.transpose()? else {
            return Ok(first);
        };
        let mut whole = BytesMut::from(first);
        let mut chunk = Some(second);
        while let Some(bytes) = chunk {
            if !fits(whole.len().saturating_add(bytes.len())) {
                return Err(ProviderError::TooLarge { bytes_max });
            }
            whole.extend_from_slice(&bytes);
            chunk = self.next().await.transpose()?;
        }
        Ok(whole.freeze())
    }
}
