//! What the server tells its operator: log lines, the access line, error chains.
//!
//! Owns env_logger and prometheus_client ([`metrics`], whose labels take values only from the code,
//! the table of routes and the catalog, never from a client). One event is one line on stderr: UTC time
//! in milliseconds, level, target, message, then `key=value` pairs. One request is one line of the target `faces::access`
//! ([`AccessLine`]), in logfmt.
//!
//! What never happens here: user text. Neither a prompt nor a body nor a key has a field, and what
//! a client chose itself (face, model, request id) is quoted and cut, so that no request can forge
//! a line. Nothing is formatted when its level is off.
//!
//! How it fails: a filter that can't be parsed stops the start ([`LogFilterError`], naming
//! `RUST_LOG`); a log line that can't be written is lost in silence, never the request.
//!
//! Lines to a file or pipe are written together, up to 50 ms after they were made; warnings and
//! errors at once (`buffered.rs`).
//!
//! Limits: a value of the access line has at most 128 characters (`access_line.rs`), an error
//! chain 16 links (`error_chain.rs`).
//!
//! Tested beside the code: exact lines, forged values, and that a disabled level formats nothing.

mod access_line;
mod buffered;
mod error_chain;
mod logging;
pub mod metrics;

pub use access_line::{ACCESS_TARGET, AccessLine, log_access};
pub use error_chain::{ErrorChain, chain};
pub use logging::{LogFilterError, flush, init};
