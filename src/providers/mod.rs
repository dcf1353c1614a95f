//! Providers: which models there are, and every byte that goes to or comes from an upstream.
//!
//! Owns the catalog (models, prices, limits, providers; [`Catalog`]), the pool of upstream
//! connections ([`Providers`], one [`awc`] client per thread inside a worker actor), the
//! certificates, the built-in [`sandbox`] and the lists of headers that may cross.
//! What never happens here: no accounts, no database, no reading of the environment, no billing,
//! no interpretation of a response beyond its HTTP framing (that is `wire`).
//!
//! HTTP/1.1 only, on purpose: one connection carries one stream, so closing it cancels exactly
//! that stream and no other, no provider's limit on concurrent streams and no shared flow-control
//! window stands between two customers, and a declared length can be checked. The cost is one
//! connection per running call.
//!
//! Fails with [`SetupError`] at start (every message names place and fix) and [`ProviderError`]
//! in a call. What awc does not tell is made explicit: a short body is `Truncated`, a body with
//! neither length nor chunks and a compressed body are `Unreadable` (we ask for `identity`,
//! because usage is read from the bytes). A chunked body that is cut off looks complete here: the
//! caller proves completeness by the format.
//!
//! Limits: `upstream_inflight_max` per provider, connect, first-byte, idle and total timeouts, and
//! `stream_channel_chunks` between the connection and a slow reader. Dropping a dispatch or a body
//! closes the connection at once.
//!
//! Invariants are tested in `tests/` beside this file, over real sockets.

mod body;
mod catalog;
mod endpoint;
mod error;
mod headers;
mod model;
mod models_file;
mod pool;
pub mod sandbox;
mod sent;
#[cfg(test)]
mod test_upstream;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod worker;

pub use body::{UpstreamBody, UpstreamResponse};
pub use catalog::{Catalog, CatalogOptions, key_variables};
pub use endpoint::Endpoint;
pub use error::{ProviderError, SetupError};
pub use headers::{ANTHROPIC_VERSION_DEFAULT, forward_request_headers, forward_response_headers};
pub use model::{HiddenReasoning, Model, ModelKind, Provider, ProviderKind};
pub use pool::{Dispatch, ProviderSnapshot, Providers, ProvidersSnapshot};
pub use sent::SentMark;
