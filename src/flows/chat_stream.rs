//! A chat stream's one end: receiver, translator, meter and money in one value.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;

use super::{
    Failure, Flows,
    billing::Billing,
    chat::Job,
    drains::Relay,
    stream_money::{Closing, StreamMoney},
};
use crate::{
    domain::clock,
    providers::{UpstreamBody, UpstreamResponse},
    wire::{ChatStream, ChatStreamOptions, SseDecoder, StreamStep, UpstreamFault},
};

/// One thing to send to the client, in order.
#[derive(Debug)]
pub enum ChatEvent {
    /// A `chat.completion.chunk` as JSON text.
    Chunk(Bytes),
    /// `[DONE]`: only after the settlement is durable (gate 2).
    Done,
    /// The stream failed; nothing follows. Never a fake finish.
    Failed(Failure),
}

/// A running chat stream.
///
/// Polled as a [`Stream`]. Dropped (the client left, and what [`super::drains`] does for it is
/// done), it cancels the upstream and its `Billing` settles what was metered.
#[derive(Debug)]
pub struct ChatSession {
    /// `None` once the upstream is done.
    body: Option<UpstreamBody>,
    decoder: SseDecoder,
    translator: ChatStream,
    chunks: VecDeque<Bytes>,
    tail: VecDeque<ChatEvent>,
    money: StreamMoney,
    input_tokens_estimate: u64,
    include_usage: bool,
}

impl ChatSession {
    /// Waits for the first event, so that a failure before it is a real HTTP status.
    ///
    /// # Errors
    /// The upstream's failure before its first event; the hold is released.
    ///
    /// # Cancel safety
    /// As [`ChatSession`]'s drop.
    pub(super) async fn start(
        flows: &Flows,
        response: UpstreamResponse,
        billing: Billing,
        job: &Job,
    ) -> Result<Self, Failure> {
        let model = &job.target.model;
        let options = ChatStreamOptions {
            model_echo: job.request.model(),
            include_usage: job.request.include_usage(),
            created: clock::now().seconds(),
            fallback_id: format!("chatcmpl-{}", job.trace.request_id()),
            context_tokens_max: model.context_tokens_max,
            unwrap_tool: job.unwrap_tool,
        };
        let mut session = Self {
            body: Some(response.body),
            decoder: SseDecoder::new(flows.inner.options.sse_record_bytes_max),
            translator: ChatStream::new(model.provider.format, options),
            chunks: VecDeque::new(),
            tail: VecDeque::new(),
            money: StreamMoney::new(
                billing,
                job.estimate.input_tokens_estimate,
                flows.inner.options.charge_partial_on_upstream_error,
            ),
            input_tokens_estimate: job.estimate.input_tokens_estimate,
            include_usage: job.request.include_usage(),
        };
        session.first_event().await?;
        Ok(session)
    }

    async fn first_event(&mut self) -> Result<(), Failure> {
        std::future::poll_fn(|cx| {
            while self.chunks.is_empty() && self.tail.is_empty() {
                if !ready!(self.poll_step(cx)) {
                    break;
                }
            }
            Poll::Ready(())
        })
        .await;
        match self.tail.front() {
            Some(ChatEvent::Failed(failure)) if self.chunks.is_empty() => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// Makes one step; `false` when there is nothing left to do.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.money.is_relaying() {
            let read = match &mut self.body {
                Some(body) => ready!(body.poll_next(cx)),
                None => None,
            };
            self.read(read);
            return Poll::Ready(true);
        }
        match ready!(self.money.poll_closing(cx)) {
            Some(closing) => self.close(closing),
            None => return Poll::Ready(false),
        }
        Poll::Ready(true)
    }

    fn read(&mut self, read: Option<Result<Bytes, crate::providers::ProviderError>>) {
        match read {
            Some(Ok(_)) if !self.money.may_release() => {
                self.end(Some(super::failure::ledger_unavailable()));
            }
            Some(Ok(chunk)) => {
                self.decoder.push(chunk);
                self.decode();
            }
            Some(Err(error)) => self.end(Some(error.into())),
            None => {
                let ended = self.translator.end_of_body(&mut self.chunks);
                self.end(ended.err().map(Failure::from));
            }
        }
    }

    fn decode(&mut self) {
        loop {
            match self.decoder.next() {
                Ok(Some(record)) => match self.translator.push(&record, &mut self.chunks) {
                    StreamStep::Continue => {}
                    StreamStep::Ended => return self.end(None),
                    StreamStep::Failed(fault) => return self.end(Some(fault.into())),
                },
                Ok(None) => return,
                Err(error) => return self.end(Some(UpstreamFault::from(error).into())),
            }
        }
    }

    fn end(&mut self, failure: Option<Failure>) {
        if let Some(body) = self.body.take()
            && failure.is_none()
        {
            // Its own end was seen: the connection can be used again.
            body.release();
        }
        self.money.end(self.translator.meter(), failure);
    }

    fn close(&mut self, closing: Closing) {
        let bill = match closing {
            Closing::Complete(bill) => bill,
            Closing::Failed(failure) => return self.tail.push_back(ChatEvent::Failed(failure)),
        };
        if self.include_usage {
            let (usage, _) = self.translator.meter().usage_reading(self.input_tokens_estimate);
            let money =
                bill.map(|bill| (bill.charge.to_json_number(), bill.balance.to_json_number()));
            let extra = money.as_ref().map(|(cost, balance)| {
                [("cost_usd", cost.as_ref()), ("balance_usd", balance.as_ref())]
            });
            let chunk = self
                .translator
                .usage_chunk(&usage, extra.as_ref().map_or(&[][..], |extra| &extra[..]));
            self.tail.push_back(ChatEvent::Chunk(chunk));
        }
        self.tail.push_back(ChatEvent::Done);
    }
}

impl Stream for ChatSession {
    type Item = ChatEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Poll::Ready(Some(ChatEvent::Chunk(chunk)));
            }
            if let Some(event) = self.tail.pop_front() {
                return Poll::Ready(Some(event));
            }
            if !ready!(self.poll_step(cx)) {
                return Poll::Ready(None);
            }
        }
    }
}

impl Relay for ChatSession {
    fn is_relaying(&self) -> bool {
        self.money.is_relaying()
    }
}

impl Drop for ChatSession {
    fn drop(&mut self) {
        self.money.client_left(self.translator.meter());
    }
}
