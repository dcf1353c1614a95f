//! The edge: routes, credentials, bodies, headers, dialects of errors, SSE.
//!
//! Owns actix-web. One table of routes ([`routes`]); a handler reads the request, calls one use
//! case of `flows` and writes its answer; [`problem`] is the only renderer of errors, so every
//! route (404, 405, 413, a panic) answers in its own dialect.
//!
//! What never happens here: SQL, provider calls, decisions about money.
//!
//! How it fails: a [`crate::flows::Failure`] becomes a status before the first byte and an error
//! event after it; never a fake finish.
//!
//! Limits: request bodies (`body_bytes_max`, `login_body_bytes_max`), requests in flight (`inflight_requests_max`, 503 with
//! `Retry-After` beyond it), head and idle timeouts of connections; heartbeats every
//! `sse_heartbeat_ms`.
//!
//! Its behaviour is tested over real sockets in `tests/api`, `tests/stream` and `tests/sdk`.

mod api_keys;
mod auth;
mod billing;
mod body;
mod compile;
mod edge;
mod faces;
mod formats;
mod headers;
mod inference;
pub mod openapi;
mod operator;
mod peer;
mod preferences;
pub mod problem;
mod proxies;
mod reads;
pub mod routes;
mod server;
mod similar;
mod sources;
mod sse;

pub use edge::EdgeState;
pub use routes::HttpState;
pub use server::serve;
