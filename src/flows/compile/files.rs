//! Reading the text of files apart from everything else: on threads of their own, few at once, and
//! for a bounded time.
//!
//! Formats such as PDF are read by libraries that were not written for hostile files. A panic
//! there ends its thread and becomes an answer; its words could be the file's, so only its place is
//! logged. A reader that goes on too long is told to stop, keeps its place until it does, and its
//! file is refused.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    config::Limits,
    domain::ErrorCode,
    faces::source::{FileError, FileKind, FileLimits, text_of},
    flows::{Failure, failure::INTERNAL_MESSAGE},
};

/// Name of the threads that read files.
const THREAD: &str = "faces-file";
/// Stack of such a thread, bytes: formats nest, and their readers recurse. Only what is used is
/// taken.
const STACK_BYTES: usize = 16 << 20;

/// Reads the text of files.
#[derive(Debug)]
pub(in crate::flows) struct FileReader {
    places: Arc<Semaphore>,
    limits: FileLimits,
    wait: Duration,
}

/// Tells a reader to stop when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl FileReader {
    pub(in crate::flows) fn new(limits: &Limits) -> Self {
        let places = usize::try_from(limits.upload_readers_max).unwrap_or(usize::MAX);
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            limits: FileLimits {
                pages_max: limits.upload_pages_max,
                unpacked_bytes_max: limits.upload_unpacked_bytes_max,
            },
            wait: Duration::from_millis(limits.upload_read_timeout_ms),
        }
    }

    /// The text of a file.
    ///
    /// # Errors
    /// What is wrong with the file; 503 when all readers are at work for as long as one may be.
    ///
    /// # Cancel safety
    /// Dropped, it tells the reader to stop.
    pub(in crate::flows) async fn text(
        &self,
        kind: FileKind,
        bytes: Bytes,
    ) -> Result<String, Failure> {
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(self.wait, place).await else {
            let busy = "The server is reading too many files. Try again shortly.";
            let retry_after_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
            return Err(Failure::new(ErrorCode::Overloaded, busy).retry_after(retry_after_ms));
        };
        tell_only_where_readers_panic();
        let stop = StopOnDrop(Arc::default());
        let (should_stop, limits) = (Arc::clone(&stop.0), self.limits);
        let (answer, read) = oneshot::channel();
        let reader = thread::Builder::new().name(THREAD.to_owned()).stack_size(STACK_BYTES);
        let started = reader.spawn(move || {
            let _place = place;
            let should_stop = || should_stop.load(Ordering::Relaxed);
            let text = || text_of(kind, &bytes, &limits, &should_stop);
            let text = panic::catch_unwind(AssertUnwindSafe(text));
            let damaged = |_| {
                Err(FileError::Unreadable {
                    format: name(kind),
                    reason: "it is damaged in a way that its reader can't handle",
                })
            };
            drop(answer.send(text.unwrap_or_else(damaged)));
        });
        if let Err(error) = started {
            log::error!(target: "faces::flows", "no thread for reading a file: {error}");
            return Err(Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE));
        }
        match tokio::time::timeout(self.wait, read).await {
            Ok(Ok(text)) => Ok(text?),
            Ok(Err(_)) => Err(Failure::new(ErrorCode::Internal, INTERNAL_MESSAGE)),
            Err(_) => Err(FileError::Stopped.into()),
        }
    }
}

const fn name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Plain => "text",
        FileKind::Pdf => "PDF",
        FileKind::Docx => ".docx",
    }
}

/// What a panic says could be the file's own words.
fn tell_only_where_readers_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                return before(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            log::warn!(target: "faces::flows", "the reader of a file panicked at {place}");
        }));
    });
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let code = match error {
            FileError::LegacyWord | FileError::Unknown => ErrorCode::UnsupportedFile,
            FileError::TooLarge { .. } => ErrorCode::BodyTooLarge,
            FileError::Media
            | FileError::Unreadable { .. }
            | FileError::Locked
            | FileError::NoText
            | FileError::TooManyPages { .. }
            | FileError::Stopped => ErrorCode::InvalidRequest,
        };
        let mut failure = Self::invalid("file", format!("file: {error}"));
        failure.code = code;
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(readers: u32, timeout_ms: u64) -> FileReader {
        FileReader::new(&Limits {
            upload_readers_max: readers,
            upload_read_timeout_ms: timeout_ms,
            ..Limits::default()
        })
    }

    #[tokio::test]
    async fn a_file_is_read_and_a_bad_one_is_refused() {
        let reader = reader(1, 10_000);
        let text = reader.text(FileKind::Plain, Bytes::from_static(b"Hello\r\n")).await;
        assert_eq!(text.unwrap(), "Hello");
        let bad = reader.text(FileKind::Pdf, Bytes::from_static(b"no pdf")).await.unwrap_err();
        assert_eq!((bad.code, bad.loc.join(".")), (ErrorCode::InvalidRequest, "body.file".into()));
    }

    #[tokio::test]
    async fn when_no_reader_is_free_a_file_is_refused_in_time() {
        let reader = reader(1, 20);
        let held = Arc::clone(&reader.places).acquire_owned().await.unwrap();
        let text = || reader.text(FileKind::Plain, Bytes::from_static(b"Hello"));
        assert_eq!(text().await.unwrap_err().code, ErrorCode::Overloaded);
        drop(held);
        assert!(text().await.is_ok());
    }
}
