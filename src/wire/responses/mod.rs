//! The Responses format: requests as chat requests, and the answers told back as responses.
//!
//! Nothing is stored: `store` is taken and always answered with `false`, and what would need a
//! stored response (`previous_response_id`, `conversation`, `background`, item references) is a
//! [`RequestError`](super::RequestError) of kind `Unsupported`, as are the tools that OpenAI runs
//! itself. What has no equivalent and is a mere preference is named in
//! [`AsChat::dropped`](super::AsChat).

mod input;
mod object;
mod request;
mod stream;

pub(super) use object::{Echo, response};
pub use request::to_chat;
pub(super) use stream::ResponsesTeller;

#[cfg(test)]
mod tests;
