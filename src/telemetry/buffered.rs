//! Standard error for a log with a line per request.
//!
//! A `write` per line costs more than making the line. Lines are gathered and written together, at
//! the latest [`DELAY`] after they were made; a warning or an error is written at once with all
//! before it, and so is everything when the logger is flushed (at the end of the program).

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    thread::Thread,
    time::Duration,
};

/// How long a line may wait.
const DELAY: Duration = Duration::from_millis(50);
/// Bytes that wait at most; more are written at once.
const WAITING_BYTES_MAX: usize = 262_144;

/// Lines that wait for their `write`.
#[derive(Debug, Clone, Default)]
pub(super) struct BufferedStderr {
    waiting: Arc<Mutex<Vec<u8>>>,
    writer: Option<Thread>,
}

impl BufferedStderr {
    /// Starts the thread that writes what waits; it ends with the process.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start() -> io::Result<Self> {
        let buffered = Self::default();
        let waiting = buffered.clone();
        let thread = std::thread::Builder::new()
            .name("faces-log".to_owned())
            .spawn(move || waiting.pace_writes())?;
        Ok(Self { writer: Some(thread.thread().clone()), ..buffered })
    }

    /// Woken by the first line of an idle moment, writes it with those that came meanwhile.
    fn pace_writes(&self) -> ! {
        loop {
            std::thread::park();
            std::thread::sleep(DELAY);
            // A closed standard error is nobody's to report.
            drop(self.write_waiting());
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When standard error is closed; the lines are lost then.
    pub(super) fn write_waiting(&self) -> io::Result<()> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return Ok(());
        }
        let written = io::stderr().lock().write_all(&waiting);
        waiting.clear();
        written
    }
}

impl Write for BufferedStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_empty();
        waiting.extend_from_slice(line);
        let is_full = waiting.len() > WAITING_BYTES_MAX;
        drop(waiting);
        if is_full || is_urgent(line) {
            self.write_waiting()?;
        } else if is_first && let Some(writer) = &self.writer {
            writer.unpark();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_waiting()
    }
}

/// The level stands after the time.
fn is_urgent(line: &[u8]) -> bool {
    let head = line.get(..line.len().min(48)).unwrap_or(line);
    memchr::memmem::find(head, b"WARN").is_some() || memchr::memmem::find(head, b"ERROR").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_waits_and_an_urgent_one_takes_all_with_it() {
        let mut log = BufferedStderr::default();
        log.write_all(b"2026-11-23T15:00:00.000Z INFO  faces::access a test line of the log\n")
            .unwrap();
        assert!(!log.waiting.lock().unwrap().is_empty());
        log.write_all(b"2026-11-23T15:00:00.000Z WARN  faces::app a test line of the log\n")
            .unwrap();
        assert!(log.waiting.lock().unwrap().is_empty());
    }
}
