//! Answers of the chat format, told in the format that the client asked in.
//!
//! A request of the Messages or Responses format for a model that speaks another one is run as a
//! chat request ([`super::AsChat`]). Its answer comes here: whole ([`Retelling::whole`]) or chunk by
//! chunk ([`Teller`]).

use bytes::{Bytes, BytesMut};

use crate::domain::{ErrorCode, Usage};

use super::{
    UpstreamFault,
    anthropic::MessagesRequest,
    errors::ErrorBody,
    messages::{self, MessagesTeller},
    responses::{self, Echo, ResponsesTeller},
};

/// Most bytes of an answer that are kept while it streams: the Responses format repeats the whole
/// answer at its end, and calls that overlap wait for each other in the Messages format.
pub(super) const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The failure of an answer that is over [`KEPT_BYTES_MAX`].
pub(super) const fn too_large() -> ErrorBody<'static> {
    ErrorBody::new(
        ErrorCode::UpstreamFailed,
        "The model's answer is longer than this server can tell in this format.",
    )
}

/// The format in which one answer is told, with what it repeats of the request.
#[derive(Debug)]
pub struct Retelling(Format);

#[derive(Debug)]
enum Format {
    Messages { model: String },
    Responses(Box<Echo>),
}

impl Retelling {
    /// For a client of the Messages format.
    #[must_use]
    pub fn messages(request: &MessagesRequest) -> Self {
        Self(Format::Messages { model: request.model().to_owned() })
    }

    /// For a client of the Responses format.
    pub(super) const fn responses(echo: Box<Echo>) -> Self {
        Self(Format::Responses(echo))
    }

    /// A whole `chat.completion`, told.
    ///
    /// # Errors
    /// [`UpstreamFault::Malformed`] when it has no message.
    pub fn whole(&self, completion: &[u8], usage: &Usage) -> Result<Bytes, UpstreamFault> {
        match &self.0 {
            Format::Messages { model } => messages::message(model, completion, usage),
            Format::Responses(echo) => responses::response(echo, completion, usage),
        }
    }

    /// A teller for one stream.
    #[must_use]
    pub fn teller(&self) -> Teller {
        Teller(match &self.0 {
            Format::Messages { model } => Telling::Messages(Box::new(MessagesTeller::new(model))),
            Format::Responses(echo) => {
                Telling::Responses(Box::new(ResponsesTeller::new((**echo).clone())))
            }
        })
    }
}

/// Tells the chunks of one chat stream as the events of another format, as SSE records. After
/// [`Teller::failed`] nothing more is told.
#[derive(Debug)]
pub struct Teller(Telling);

#[derive(Debug)]
enum Telling {
    Messages(Box<MessagesTeller>),
    Responses(Box<ResponsesTeller>),
}

impl Teller {
    /// The records of a chunk: none, one or several. `json` is the chunk's text.
    #[must_use]
    pub fn chunk(&mut self, json: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        match &mut self.0 {
            Telling::Messages(teller) => teller.chunk(json, &mut out),
            Telling::Responses(teller) => teller.chunk(json, &mut out),
        }
        out.freeze()
    }

    /// The records of a good end (chat's `[DONE]`).
    #[must_use]
    pub fn end(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        match &mut self.0 {
            Telling::Messages(teller) => teller.end(&mut out),
            Telling::Responses(teller) => teller.end(&mut out),
        }
        out.freeze()
    }

    /// The records of a failure in the midst of the answer; never a fake end.
    #[must_use]
    pub fn failed(&mut self, error: &ErrorBody<'_>) -> Bytes {
        let mut out = BytesMut::new();
        match &mut self.0 {
            Telling::Messages(teller) => teller.failed(error, &mut out),
            Telling::Responses(teller) => teller.failed(error, &mut out),
        }
        out.freeze()
    }
}
