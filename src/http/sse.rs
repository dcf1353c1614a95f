//! Streams to clients: events through actix-web-lab's responder, native bytes as they are.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    http::header::{self, HeaderName, HeaderValue},
};
use actix_web_lab::sse;
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use super::{
    edge, headers,
    problem::{self, Dialect},
};
use crate::{
    flows::{
        ReplyNotes,
        chat_stream::{ChatEvent, ChatSession},
        drains::ClientStream,
        proxy_stream::{ProxyEvent, ProxySession},
    },
    wire::Teller,
};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const HEARTBEAT: &[u8] = b": keep-alive\n\n";

/// Answers with a chat stream: `data:` records, comment heartbeats, `[DONE]` at a good end.
///
/// Never sends `id:` or `retry:`: OpenAI's Python SDK can't read them (openai-python#2722).
pub(super) fn chat(
    req: &HttpRequest,
    session: ClientStream<ChatSession>,
    notes: &ReplyNotes,
    heartbeat: Duration,
) -> HttpResponse {
    let trace = edge::trace(req);
    let events = session.map(move |event| match event {
        ChatEvent::Chunk(json) => data(json),
        ChatEvent::Done => sse::Event::Data(sse::Data::new("[DONE]")),
        ChatEvent::Failed(failure) => {
            trace.update(|line| line.error = Some(failure.code));
            data(problem::chat_stream_data(&failure))
        }
    });
    let mut response =
        sse::Sse::from_infallible_stream(events).with_keep_alive(heartbeat).respond_to(req);
    finish_head(&mut response, notes);
    response
}

/// JSON texts are UTF-8: made by us, or checked when they were taken from upstream.
fn data(json: Bytes) -> sse::Event {
    let text = ByteString::try_from(json).unwrap_or_default();
    sse::Event::Data(sse::Data::new(text))
}

/// Answers with a native stream: the provider's records, untouched.
pub(super) fn native(
    req: &HttpRequest,
    session: ClientStream<ProxySession>,
    notes: &ReplyNotes,
    heartbeat: Duration,
) -> HttpResponse {
    let trace = edge::trace(req);
    let dialect = Dialect::of(req);
    let request_id = trace.request_id();
    let bytes = session.map(move |event| match event {
        ProxyEvent::Bytes(bytes) => bytes,
        ProxyEvent::Failed(failure) => {
            trace.update(|line| line.error = Some(failure.code));
            problem::stream_event(dialect, &failure, Some(&request_id))
        }
    });
    records(bytes, notes, heartbeat)
}

/// Answers with a chat stream, told in the format of the route.
pub(super) fn retold(
    req: &HttpRequest,
    session: ClientStream<ChatSession>,
    mut teller: Teller,
    notes: &ReplyNotes,
    heartbeat: Duration,
) -> HttpResponse {
    let trace = edge::trace(req);
    let dialect = Dialect::of(req);
    let request_id = trace.request_id();
    let bytes = session.filter_map(move |event| {
        let bytes = match event {
            ChatEvent::Chunk(json) => teller.chunk(&json),
            ChatEvent::Done => teller.end(),
            ChatEvent::Failed(failure) => {
                trace.update(|line| line.error = Some(failure.code));
                problem::retold_events(dialect, &failure, &request_id, &mut teller)
            }
        };
        std::future::ready((!bytes.is_empty()).then_some(bytes))
    });
    records(bytes, notes, heartbeat)
}

/// Answers with whole records.
fn records(
    bytes: impl Stream<Item = Bytes> + Unpin + 'static,
    notes: &ReplyNotes,
    heartbeat: Duration,
) -> HttpResponse {
    let mut response = HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_ENCODING, "identity"))
        .streaming(Heartbeats::new(bytes, heartbeat));
    finish_head(&mut response, notes);
    response
}

fn finish_head(response: &mut HttpResponse, notes: &ReplyNotes) {
    headers::write_notes(response, notes);
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// A stream of whole SSE records with a comment after each silence of `period`.
struct Heartbeats<S> {
    records: S,
    period: Duration,
    silence: Pin<Box<Sleep>>,
}

impl<S> Heartbeats<S> {
    fn new(records: S, period: Duration) -> Self {
        Self { records, period, silence: Box::pin(tokio::time::sleep(period)) }
    }
}

impl<S: Stream<Item = Bytes> + Unpin> Stream for Heartbeats<S> {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let deadline = Instant::now() + self.period;
        if let Poll::Ready(record) = self.records.poll_next_unpin(cx) {
            self.silence.as_mut().reset(deadline);
            return Poll::Ready(record.map(Ok));
        }
        if self.silence.as_mut().poll(cx).is_ready() {
            self.silence.as_mut().reset(deadline);
            return Poll::Ready(Some(Ok(Bytes::from_static(HEARTBEAT))));
        }
        Poll::Pending
    }
}
